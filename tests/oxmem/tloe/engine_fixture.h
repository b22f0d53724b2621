#ifndef TESTS_OXMEM_TLOE_ENGINE_FIXTURE_H_
#define TESTS_OXMEM_TLOE_ENGINE_FIXTURE_H_

#include <gtest/gtest.h>

#include <bit>
#include <deque>
#include <memory>
#include <vector>

#include "oxmem/tloe/frame.h"
#include "tests/oxmem/tloe/engine_pair.h"

namespace oxmem::tloe {

inline EngineConfig ConfigOf(Protocol protocol) {
  EngineConfig config;
  config.protocol = protocol;
  return config;
}

inline FrameHeader HeaderOf(const Bytes& frame) { return ParseFrame(frame)->header; }

inline std::size_t MessagesIn(const Bytes& frame) {
  return static_cast<std::size_t>(std::popcount(ParseFrame(frame)->mask));
}

class EngineTest : public testing::Test {
 protected:
  void Connect(const EngineConfig& config = {}) {
    pair = std::make_unique<EnginePair>(config);
    pair->Connect();
    ASSERT_EQ(pair->initiator.state(), State::kOpen);
    ASSERT_EQ(pair->responder.state(), State::kOpen);
    pair->RunUntil(pair->now + Duration::Milliseconds(50));
  }
  bool Get(uint32_t source = 0) {
    return pair->initiator.Enqueue(tilelink::MakeA(tilelink::OpcodeA::kGet, 6, source, 0), {});
  }
  bool Put(uint8_t size) {
    return pair->initiator.Enqueue(tilelink::MakeA(tilelink::OpcodeA::kPutFullData, size, 0, 0),
                                   {Bytes(std::size_t{1} << size), {}});
  }
  std::vector<Bytes> Frames() { return TakeFrames(pair->initiator, pair->now); }
  FrameVerdict Deliver(const Bytes& frame) {
    return pair->responder.OnFrame(pair->now, kept_.emplace_back(frame));
  }
  std::vector<Bytes> Answers() { return TakeFrames(pair->responder, pair->now); }
  FrameVerdict Return(const Bytes& frame) {
    return pair->initiator.OnFrame(pair->now, kept_.emplace_back(frame));
  }
  void Wait(Duration time) { pair->now = pair->now + time; }

  std::unique_ptr<EnginePair> pair;

 private:
  std::deque<Bytes> kept_;  // an engine reads a frame until its messages are taken
};

}  // namespace oxmem::tloe

#endif  // TESTS_OXMEM_TLOE_ENGINE_FIXTURE_H_
