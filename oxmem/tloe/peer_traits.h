#ifndef OXMEM_TLOE_PEER_TRAITS_H_
#define OXMEM_TLOE_PEER_TRAITS_H_

#include <cstddef>
#include <cstdint>

#include "oxmem/tilelink/codec.h"
#include "oxmem/tloe/config.h"

namespace oxmem::tloe {

// How a peer wants to be treated; docs/wire-format.md says why.
struct PeerTraits {
  tilelink::DataOrder data_order;
  // It never sends a frame again: a missing number is gone, the next frame counts as in order.
  bool accepts_gaps;
  // Its credits give back what was used; false: they are not looked at.
  bool enforce_credits;
  // It acknowledges what it received, so frames are kept and sent again until then.
  bool resend;
  // An acknowledgement names one frame, the one the answer belongs to, and not those before it.
  bool single_acks;
  // It matches answers by the acknowledged number, which must be its request's.
  bool answer_carries_request_number;
  // It takes a lone acknowledgement for what it is; false: for an answer, so none are sent, and its
  // frames without messages get a frame each.
  bool lone_acks;
  bool one_message_per_frame;
  // It begins to talk only when it has credits of all five channels; else it is granted only A.
  bool grant_all;
  // Frames with nothing but credits are fine at any time; false: only in the opening.
  bool credit_frames;
  // It opens with credits of all five channels, and the connection is open when they are there.
  bool await_all_credits;
  std::size_t max_window_frames;
  std::size_t max_frame_flits;
  // log2 of the data of the longest answer it sends unharmed.
  uint8_t largest_answer_size;
  // Frames after which an acknowledgement does not wait.
  int ack_every;
};

// kAuto gives those of kSpec.
const PeerTraits& TraitsOf(PeerProfile profile);

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_PEER_TRAITS_H_
