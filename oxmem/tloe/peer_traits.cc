#include "oxmem/tloe/peer_traits.h"

#include <cstdint>

namespace oxmem::tloe {
namespace {

using tilelink::DataOrder;

constexpr PeerTraits kSpecTraits = {
    .data_order = DataOrder::kSpec,
    .accepts_gaps = false,
    .enforce_credits = true,
    .resend = true,
    .single_acks = false,
    .answer_carries_request_number = false,
    .lone_acks = true,
    .one_message_per_frame = false,
    .grant_all = true,
    .credit_frames = true,
    .await_all_credits = false,
    .max_window_frames = SIZE_MAX,
    .max_frame_flits = SIZE_MAX,
    .largest_answer_size = 15,
    .ack_every = 16,
};

constexpr PeerTraits MemoryNodeTraits() {
  PeerTraits traits = kSpecTraits;
  traits.data_order = DataOrder::kMemory;
  traits.accepts_gaps = true;
  traits.enforce_credits = false;
  traits.single_acks = true;
  traits.one_message_per_frame = true;
  traits.credit_frames = false;
  traits.max_window_frames = 64;
  return traits;
}

constexpr PeerTraits OmnixtendCTraits() {
  PeerTraits traits = kSpecTraits;
  traits.await_all_credits = true;
  traits.one_message_per_frame = true;
  traits.max_window_frames = 4;
  traits.max_frame_flits = 65;
  // It forgets the mask when it computes the length of a frame, so from 64 bytes on the mask takes
  // the place of the last data. Shorter answers are padded anyway.
  traits.largest_answer_size = 5;
  traits.ack_every = 1;
  return traits;
}

// Initiators that take part in nothing of sections 4 and 5 but the numbers themselves.
constexpr PeerTraits OxmemNbdTraits() {
  PeerTraits traits = kSpecTraits;
  traits.data_order = DataOrder::kMemory;
  traits.accepts_gaps = true;
  traits.enforce_credits = false;
  traits.one_message_per_frame = true;
  traits.grant_all = false;
  traits.credit_frames = false;
  return traits;
}

constexpr PeerTraits OxmemFuseTraits() {
  PeerTraits traits = OxmemNbdTraits();
  traits.resend = false;
  traits.answer_carries_request_number = true;
  traits.lone_acks = false;
  return traits;
}

constexpr PeerTraits kMemoryNodeTraits = MemoryNodeTraits();
constexpr PeerTraits kOmnixtendCTraits = OmnixtendCTraits();
constexpr PeerTraits kOxmemNbdTraits = OxmemNbdTraits();
constexpr PeerTraits kOxmemFuseTraits = OxmemFuseTraits();

}  // namespace

const PeerTraits& TraitsOf(PeerProfile profile) {
  switch (profile) {
    case PeerProfile::kAuto:
    case PeerProfile::kSpec:
      return kSpecTraits;
    case PeerProfile::kMemoryNode:
      return kMemoryNodeTraits;
    case PeerProfile::kOmnixtendC:
      return kOmnixtendCTraits;
    case PeerProfile::kOxmemNbd:
      return kOxmemNbdTraits;
    case PeerProfile::kOxmemFuse:
      return kOxmemFuseTraits;
  }
  return kSpecTraits;
}

}  // namespace oxmem::tloe
