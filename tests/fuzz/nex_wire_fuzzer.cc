// Bytes of a hostile peer: every decoder of nex, a queue pair machine that reads them as its
// stream, one of datagrams, and the greeting. What was decoded must encode to the same bytes.
#include <infiniband/verbs.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "rdma/nex/cm/dialogue.h"
#include "rdma/nex/cm/lookup.h"
#include "rdma/nex/cm/message.h"
#include "rdma/nex/datagram.h"
#include "rdma/nex/handshake.h"
#include "rdma/nex/qp/queue_pair.h"
#include "rdma/nex/region_table.h"
#include "rdma/nex/wire.h"

namespace oxmem::nex {
namespace {

constexpr std::uint32_t kAccess = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                                  IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;

class OneReceive : public ReceiveSource {
 public:
  explicit OneReceive(const ibv_sge& sge) : sge_(sge) {}
  bool Take(ReceiveWork* work) override {
    *work = {};
    work->domain = 1;
    work->sge_count = 1;
    work->sges[0] = sge_;
    return taken_++ < 4;
  }
  std::uint32_t Await() override { return 4; }
  std::uint32_t domain() const override { return 1; }

 private:
  const ibv_sge sge_;
  int taken_ = 0;
};

template <std::size_t kSize, typename Decode, typename Encode>
void RoundTrip(std::span<const std::byte> bytes, Decode decode, Encode encode) {
  if (bytes.size() < kSize) return;
  const auto front = bytes.first<kSize>();
  const auto value = decode(front);
  if (!value) return;
  std::array<std::byte, kSize> again;
  encode(*value, again);
  if (std::memcmp(again.data(), front.data(), kSize) != 0) std::abort();
}

void Stream(std::span<const std::byte> bytes, bool reliable) {
  std::vector<std::byte> memory(4096);
  std::uint32_t next = 0x12345600;
  RegionTable regions(8, [&next] { return next += 0x100; });
  Region* region = regions.Add(1, memory.data(), 0x1000, memory.size(), kAccess);
  OneReceive receives({0x1000, 4096, region->key.load()});
  QpIdentity identity;
  identity.domain = 1;
  identity.reliable = reliable;
  identity.type = reliable ? IBV_QPT_RC : IBV_QPT_UC;
  identity.max_inline = 16;
  identity.send_depth = 4;
  QueuePair machine(identity, &regions, &receives, nullptr);
  QueuePair::Parameters parameters;
  parameters.access = kAccess;
  machine.Configure(parameters);
  machine.SetSending(true, Instant());
  machine.Attach();
  ibv_sge sge{0x1000, 64, region->key.load()};
  ibv_send_wr wr{};
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.opcode = reliable ? IBV_WR_RDMA_READ : IBV_WR_SEND;
  machine.Post(wr, nullptr, Instant());
  bool good = true;
  for (int cut = 0; good && !bytes.empty(); ++cut) {
    IoBatch out;
    good = machine.FillOutput(&out, true);
    const std::size_t written = out.bytes;
    out.Release();
    if (written > 0) machine.OnWritten(written);
    const std::size_t take = std::min<std::size_t>(bytes.size(), cut % 3 == 0 ? 7 : 48);
    good = good && machine.OnBytes(bytes.first(take), Instant());
    bytes = bytes.subspan(take);
    machine.completions().clear();
  }
  machine.Detach(Instant());
}

// A datagram queue pair whose receive takes some of the packet, all of it, or lies elsewhere.
void Packet(std::span<const std::byte> bytes) {
  if (bytes.size() < kDatagramHeaderBytes) return;
  const auto header = DecodeDatagram(bytes.first<kDatagramHeaderBytes>());
  if (!header) return;
  const auto payload = bytes.subspan(kDatagramHeaderBytes);
  std::vector<std::byte> memory(128);
  std::uint32_t next = 0x12345600;
  RegionTable regions(8, [&next] { return next += 0x100; });
  Region* region = regions.Add(1, memory.data(), 0x1000, memory.size(), kAccess);
  const auto length = static_cast<std::uint32_t>(64 + header->immediate % 128);
  OneReceive receives({0x1000, length, region->key.load()});
  QpIdentity identity;
  identity.domain = 1;
  identity.type = IBV_QPT_UD;
  DatagramQp machine(identity);
  machine.OnPacket(*header, payload, header->queue_key, regions, receives);
  if (payload.size() > kMaxDatagramBytes) return;
  if (machine.completions().size() != 1) std::abort();
  const ibv_wc& wc = machine.completions()[0].wc;
  const bool fits = kGrhBytes + payload.size() <= length;
  const bool inside = length <= memory.size();  // an entry is checked whole
  if ((wc.status == IBV_WC_SUCCESS) != (fits && inside)) std::abort();
  if (wc.status == IBV_WC_SUCCESS && !payload.empty() &&
      std::memcmp(memory.data() + kGrhBytes, payload.data(), payload.size()) != 0) {
    std::abort();
  }
}

// Both sides of an opening that hear anything at all.
void Greet(std::span<const std::byte> bytes) {
  Handshake accepting(1, 2, 3, "secret");
  Handshake connecting(2, 1, 4, "secret");
  while (bytes.size() >= kGreetingBytes) {
    const auto greeting = DecodeGreeting(bytes.first<kGreetingBytes>());
    bytes = bytes.subspan(kGreetingBytes);
    if (!greeting) continue;
    const auto welcome = accepting.OnHello(*greeting);
    if (welcome && welcome->peer_nonce != greeting->nonce) std::abort();
    (void)accepting.OnConfirm(*greeting);
    const auto confirm = connecting.OnWelcome(*greeting);
    if (confirm && confirm->peer_nonce != greeting->nonce) std::abort();
  }
}

// Both sides of a connection of the connection manager that hear anything at all, from a peer that
// is where it says, at any time, with a program that does anything at all. The first byte of each
// step says what happens, the others are a message.
void Converse(std::span<const std::byte> bytes, bool accepting, CmService service) {
  using State = CmDialogue::State;
  CmDialogue dialogue;
  if (accepting) {
    dialogue.SetAccepting(service);
  } else {
    dialogue.SetService(service);
    if (!dialogue.Connect()) std::abort();
    dialogue.OnConnected(Instant());
  }
  bool asked = !accepting, answered = false, over = false;
  Instant now;
  while (!bytes.empty()) {
    const auto step = static_cast<std::uint8_t>(bytes.front());
    bytes = bytes.subspan(1);
    now = now + Duration::Seconds(step >> 3);
    CmNews news = dialogue.OnDeadline(now);
    if (step % 8 == 0 && dialogue.Accept(now) && !asked) std::abort();
    if (step % 8 == 1 && dialogue.Reject() && !asked) std::abort();
    if (step % 8 == 2) (void)dialogue.Disconnect();
    if (step % 8 == 3) news = dialogue.OnEnd();
    if (step % 8 > 3) {
      CmMessage message;
      message.type = static_cast<CmMessageType>(1 + step % 5);
      message.service = step % 64 == 63 ? CmService::kXrc : service;
      std::array<std::byte, kCmMessageBytes> wire;
      EncodeCm(message, wire);
      const std::size_t take = std::min<std::size_t>(bytes.size(), step % 16 == 15 ? 24 : 0);
      std::copy_n(bytes.begin(), take, wire.begin());
      bytes = bytes.subspan(take);
      const auto decoded = DecodeCm(wire);
      if (decoded && news == CmNews::kNothing) news = dialogue.OnMessage(*decoded, {}, now);
      if (!decoded && news == CmNews::kNothing) news = dialogue.OnEnd();
    }
    if (news != CmNews::kNothing && over) std::abort();
    if (news == CmNews::kRequest && (asked || !accepting)) std::abort();
    if (news != CmNews::kNothing && news != CmNews::kRequest && !asked) std::abort();
    if (news == CmNews::kResponse && (answered || accepting)) std::abort();
    asked = asked || news == CmNews::kRequest;
    answered = answered || news == CmNews::kResponse;
    over = dialogue.state() == State::kDone;
  }
}

}  // namespace
}  // namespace oxmem::nex

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace oxmem::nex;  // NOLINT: a fuzzer's only function
  const auto bytes = std::as_bytes(std::span(data, size));
  RoundTrip<kHeaderBytes>(bytes, DecodeHeader, EncodeHeader);
  RoundTrip<kGreetingBytes>(bytes, DecodeGreeting, EncodeGreeting);
  RoundTrip<kDatagramHeaderBytes>(bytes, DecodeDatagram, EncodeDatagram);
  RoundTrip<kCmMessageBytes>(bytes, DecodeCm, EncodeCm);
  RoundTrip<kCmLookupBytes>(bytes, DecodeLookup, EncodeLookup);
  if (bytes.size() != kCmLookupBytes && DecodeLookup(bytes)) std::abort();
  Stream(bytes, true);
  Stream(bytes, false);
  Packet(bytes);
  Greet(bytes);
  for (const CmService service : {CmService::kReliable, CmService::kDatagram}) {
    Converse(bytes, true, service);
    Converse(bytes, false, service);
  }
  return 0;
}
