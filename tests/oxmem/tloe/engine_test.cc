#include "oxmem/tloe/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/oxmem/tloe/engine_pair.h"

namespace oxmem::tloe {
namespace {

using tilelink::MakeA;
using tilelink::MakeD;
using tilelink::OpcodeA;
using tilelink::OpcodeD;

EngineConfig ConfigOf(Protocol protocol) {
  EngineConfig config;
  config.protocol = protocol;
  return config;
}

class EngineBothProtocols : public testing::TestWithParam<Protocol> {};
INSTANTIATE_TEST_SUITE_P(, EngineBothProtocols, testing::Values(Protocol::k103, Protocol::k11),
                         [](const auto& test) {
                           return test.param == Protocol::k11 ? "v11" : "v103";
                         });

TEST_P(EngineBothProtocols, OpensAndGrantsEveryChannel) {
  EnginePair pair(ConfigOf(GetParam()));
  EXPECT_EQ(pair.initiator.state(), State::kIdle);
  EXPECT_EQ(pair.responder.state(), State::kIdle);
  pair.Connect();
  EXPECT_EQ(pair.initiator.state(), State::kOpen);
  EXPECT_EQ(pair.responder.state(), State::kOpen);
  EXPECT_TRUE(pair.initiator.idle());
  EXPECT_TRUE(pair.responder.idle());
  for (int i = 0; i < tilelink::kChannelCount; ++i) {
    const auto channel = tilelink::ChannelAt(static_cast<std::size_t>(i));
    EXPECT_TRUE(pair.initiator.CanEnqueue(channel, 1)) << tilelink::LetterOf(channel);
    EXPECT_TRUE(pair.responder.CanEnqueue(channel, 1)) << tilelink::LetterOf(channel);
  }
}

TEST_P(EngineBothProtocols, CarriesRequestsAndAnswers) {
  EnginePair pair(ConfigOf(GetParam()));
  pair.Connect();
  Bytes data(1024);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7);
  ASSERT_TRUE(pair.initiator.Enqueue(MakeA(OpcodeA::kPutFullData, 10, 5, 0x4000), {data, {}}));
  ASSERT_TRUE(pair.initiator.Enqueue(MakeA(OpcodeA::kGet, 6, 6, 0x40), {}));
  pair.Exchange();
  ASSERT_EQ(pair.at_responder.size(), 2u);
  EXPECT_EQ(pair.at_responder[0].message, MakeA(OpcodeA::kPutFullData, 10, 5, 0x4000));
  EXPECT_EQ(pair.at_responder[0].data, data);
  EXPECT_EQ(pair.at_responder[1].message, MakeA(OpcodeA::kGet, 6, 6, 0x40));
  ASSERT_TRUE(pair.responder.Enqueue(MakeD(OpcodeD::kAccessAck, 10, 5), {}));
  pair.RunUntil(pair.now + Duration::Seconds(5));
  ASSERT_EQ(pair.at_initiator.size(), 1u);
  EXPECT_EQ(pair.at_initiator[0].message, MakeD(OpcodeD::kAccessAck, 10, 5));
  EXPECT_TRUE(pair.initiator.idle());
  EXPECT_TRUE(pair.responder.idle());
  EXPECT_EQ(pair.initiator.state(), State::kOpen);
  EXPECT_EQ(pair.responder.state(), State::kOpen);
  EXPECT_EQ(pair.initiator.stats().resends.value(), 0u);
  EXPECT_EQ(pair.responder.stats().resends.value(), 0u);
}

TEST_P(EngineBothProtocols, ALostFrameIsSentAgain) {
  EnginePair pair(ConfigOf(GetParam()));
  pair.Connect();
  int seen = 0;
  pair.drop = [&](const Engine& from, const Bytes&) {
    return &from == &pair.initiator && seen++ == 0;
  };
  ASSERT_TRUE(pair.initiator.Enqueue(MakeA(OpcodeA::kGet, 6, 1, 0), {}));
  pair.Exchange();
  EXPECT_TRUE(pair.at_responder.empty());
  pair.RunUntil(pair.now + Duration::Seconds(1));
  ASSERT_EQ(pair.at_responder.size(), 1u);
  // 1.0.3 sends the acknowledgement before it again too, which nobody acknowledged.
  EXPECT_EQ(pair.initiator.stats().resends.value(), GetParam() == Protocol::k11 ? 1u : 2u);
}

}  // namespace
}  // namespace oxmem::tloe
