// A program of its own: it counts every allocation.

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "oxmem/tloe/engine.h"
#include "tests/oxmem/tloe/counting_new.h"

namespace oxmem::tloe {
namespace {

using tilelink::MakeA;
using tilelink::MakeD;
using tilelink::OpcodeA;
using tilelink::OpcodeD;

class Traffic {
 public:
  explicit Traffic(Protocol protocol)
      : initiator_(ConfigOf(protocol, Role::kInitiator)),
        responder_(ConfigOf(protocol, Role::kResponder)) {
    initiator_.Open(now_);
    for (int i = 0; i < 20; ++i) Round(0);
  }

  bool open() const {
    return initiator_.state() == State::kOpen && responder_.state() == State::kOpen;
  }
  uint64_t resends() const { return initiator_.stats().resends.value(); }

  // Requests, answers a moment later, a fifth of the frames lost, deadlines kept. Users leave some
  // of the messages to the receive buffer.
  void Round(int requests) {
    for (int i = 0; i < requests; ++i) {
      initiator_.Enqueue(MakeA(OpcodeA::kGet, 10, 1, 0), {});
      initiator_.Enqueue(MakeA(OpcodeA::kPutFullData, 10, 2, 0), {data_, {}});
    }
    Carry(initiator_, responder_);
    for (int i = 0; i < 4 && !responder_hoards; ++i)
      while (const auto* request = responder_.PeekMessage()) {
        const bool get = request->message.opcode == static_cast<uint8_t>(OpcodeA::kGet);
        const auto answer = MakeD(get ? OpcodeD::kAccessAckData : OpcodeD::kAccessAck, 10, 1);
        if (!responder_.Enqueue(
                answer,
                {get ? std::span<const std::byte>(data_) : std::span<const std::byte>(), {}}))
          break;
        responder_.NextMessage();
      }
    Carry(responder_, initiator_);
    while (!initiator_hoards && initiator_.NextMessage() != nullptr) {
    }
    now_ = now_ + Duration::Milliseconds(1);
    if (initiator_.next_deadline() <= now_) initiator_.OnDeadline(now_);
    if (responder_.next_deadline() <= now_) responder_.OnDeadline(now_);
  }

  bool lossy = false;
  bool initiator_hoards = false;  // takes no messages
  bool responder_hoards = false;

 private:
  static EngineConfig ConfigOf(Protocol protocol, Role role) {
    EngineConfig config;
    config.protocol = protocol;
    config.role = role;
    return config;
  }

  void Carry(Engine& from, Engine& to) {
    for (auto frame = from.NextFrame(now_); !frame.empty(); frame = from.NextFrame(now_)) {
      if (lossy && random_() % 5 == 0) continue;
      to.OnFrame(now_, frame);
      to.Retain();
    }
  }

  Instant now_ = Instant::FromNanoseconds(1000000000);
  Engine initiator_;
  Engine responder_;
  std::vector<std::byte> data_ = std::vector<std::byte>(1024);
  // Not one in five by count: a burst of five would lose the same frame each time it is sent again.
  std::minstd_rand random_{1};
};

class EngineAllocations : public testing::TestWithParam<Protocol> {};
INSTANTIATE_TEST_SUITE_P(, EngineAllocations, testing::Values(Protocol::k103, Protocol::k11),
                         [](const auto& test) {
                           return test.param == Protocol::k11 ? "v11" : "v103";
                         });

TEST_P(EngineAllocations, TheCounterCounts) {
  const long before = test::Allocations();
  const std::vector<int> some(1);
  EXPECT_GT(test::Allocations(), before);
}

TEST_P(EngineAllocations, ThereAreNoneInSteadyState) {
  Traffic traffic(GetParam());
  ASSERT_TRUE(traffic.open());
  // The receive buffers grow on first use, to what the granted credits can fill.
  traffic.responder_hoards = true;
  for (int i = 0; i < 300; ++i) traffic.Round(30);
  traffic.responder_hoards = false;
  traffic.initiator_hoards = true;
  for (int i = 0; i < 300; ++i) traffic.Round(30);
  traffic.initiator_hoards = false;
  traffic.lossy = true;
  for (int i = 0; i < 100; ++i) traffic.Round(30);
  const long before = test::Allocations();
  for (int i = 0; i < 1000; ++i) traffic.Round(30);
  EXPECT_EQ(test::Allocations(), before);
  EXPECT_TRUE(traffic.open());
  EXPECT_GT(traffic.resends(), 0u);
}

}  // namespace
}  // namespace oxmem::tloe
