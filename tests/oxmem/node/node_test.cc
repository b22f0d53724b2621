#include "oxmem/node/node.h"

#include <array>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "oxmem/link/memory_link.h"
#include "oxmem/tilelink/codec.h"
#include "oxmem/tloe/frame.h"
#include "tests/support/capture.h"
#include "tests/support/data.h"
#include "transport/base/byte_order.h"

namespace oxmem::node {
namespace {

using tilelink::Channel;

// A node with one region, and a peer that sends whatever bytes it likes.
class NodeTest : public testing::Test {
 protected:
  NodeTest() : peer_(network_.Attach()), memory_(4096, std::byte{0x5a}) {
    auto link = network_.Attach();
    address_ = link->local_address();
    RegionMap regions;
    EXPECT_TRUE(regions.Add({.name = "data", .base = 0, .memory = memory_}).ok());
    node_ = std::make_unique<Node>(NodeConfig{}, std::move(link), std::move(regions));
  }

  void Send(std::span<const std::byte> frame) {
    const link::OutgoingFrame outgoing{address_, frame};
    EXPECT_TRUE(peer_->Send({&outgoing, 1}).ok());
    node_->Poll(now_);
  }
  // The messages of all frames that the node has sent.
  std::vector<tilelink::Message> Answers() {
    std::vector<tilelink::Message> answers;
    std::array<link::IncomingFrame, 16> frames;
    while (const std::size_t count = peer_->Receive(frames)) {
      for (std::size_t i = 0; i < count; ++i) {
        const auto parsed = tloe::ParseFrame(frames[i].bytes);
        if (!parsed.has_value()) continue;
        tloe::MessageArray messages;
        const tloe::MessageCount found = tloe::DecodeMessages(*parsed, &messages);
        for (std::size_t j = 0; j < found.messages; ++j) answers.push_back(messages[j].message);
      }
    }
    return answers;
  }

  Instant now_ = Instant::FromNanoseconds(1'000'000'000);
  link::MemoryNetwork network_;
  std::unique_ptr<link::Link> peer_;
  link::Address address_;
  std::vector<std::byte> memory_;
  std::unique_ptr<Node> node_;
};

// The first frame of OmniXtend 1.0.3: a Get of 8 bytes and the credits for its answer, between
// header and mask in `flits` flits.
std::vector<std::byte> Beginning(std::size_t flits) {
  std::vector<std::byte> frame(tloe::kFrameOverheadBytes + flits * tilelink::kFlitBytes);
  tloe::FrameHeader header;
  header.sequence = tloe::SequenceNumber::FromWire(0);
  header.acknowledged = header.sequence.Previous();
  header.ack = true;
  header.credit_channel = static_cast<uint8_t>(Channel::kD);
  header.credit_exponent = 5;
  StoreBigEndian(frame.data(), tloe::EncodeFrameHeader(header));
  tilelink::Message get;
  get.channel = Channel::kA;
  get.opcode = static_cast<uint8_t>(tilelink::OpcodeA::kGet);
  get.size = 3;
  get.address = 64;
  get.source = 7;
  tilelink::EncodeMessage(get, {}, tilelink::DataOrder::kSpec, std::span(frame).subspan(8));
  StoreBigEndian(frame.data() + frame.size() - 8, uint64_t{1});
  return frame;
}

// Software sends five flits at least, hardware four, and padding is nobody's duty.
TEST_F(NodeTest, AFrameMayBeAsShortAsWhatItCarries) {
  for (const std::size_t flits : {2, 3, 4, 5, 6}) {
    SCOPED_TRACE(flits);
    peer_ = network_.Attach();
    Send(Beginning(flits));
    const auto answers = Answers();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].opcode, static_cast<uint8_t>(tilelink::OpcodeD::kAccessAckData));
    EXPECT_EQ(answers[0].source, 7u);
  }
  EXPECT_EQ(node_->stats().malformed.value(), 0u);
  Send(std::vector<std::byte>(8));
  EXPECT_EQ(node_->stats().malformed.value(), 1u);
}

TEST_F(NodeTest, FramesOfHardwareAreNoneOfThemMalformed) {
  const auto frames = test::ReadCapture(test::DataPath("omnixtend/OmniXtend202010.cap"));
  ASSERT_EQ(frames.size(), 20u);
  for (const auto& frame : frames) {
    peer_ = network_.Attach();  // both directions are in it: each frame as a peer of its own
    Send(frame.payload);
  }
  EXPECT_EQ(node_->stats().malformed.value(), 0u);
}

}  // namespace
}  // namespace oxmem::node
