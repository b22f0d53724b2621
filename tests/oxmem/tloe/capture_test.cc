// Frames other implementations sent: hardware of OmniXtend 1.0.3, and the software endpoints.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "oxmem/tloe/frame.h"
#include "tests/support/capture.h"
#include "tests/support/data.h"
#include "transport/base/byte_order.h"

namespace oxmem::tloe {
namespace {

using tilelink::Channel;
using tilelink::DataOrder;
using tilelink::DecodedMessage;

std::vector<test::CapturedFrame> Capture(const std::string& name) {
  return test::ReadCapture(test::DataPath("omnixtend/" + name));
}

// Takes the frame apart and puts it together again from the decoded values alone. Messages keep
// their positions, as some senders leave padding before them.
std::vector<std::byte> Rebuild(std::span<const std::byte> bytes, DataOrder order) {
  const auto parsed = ParseFrame(bytes);
  if (!parsed) return {};
  MessageArray messages;
  const MessageCount count = DecodeMessages(*parsed, &messages);
  if (!count.all_well_formed()) return {};
  std::vector<std::byte> rebuilt(bytes.size());
  StoreBigEndian(rebuilt.data(), EncodeFrameHeader(parsed->header));
  uint64_t mask = 0;
  for (std::size_t i = 0; i < count.messages; ++i) {
    const DecodedMessage& decoded = messages[i];
    const auto start = static_cast<std::size_t>(decoded.payload.flits.data() +
                                                decoded.payload.flits.size() - bytes.data()) -
                       decoded.flit_count * 8;
    mask |= uint64_t{1} << (start / 8 - 1);
    std::vector<std::byte> data(tilelink::DataBytes(decoded.message));
    if (!data.empty()) tilelink::CopyData(decoded.message, decoded.payload, order, data);
    tilelink::EncodeMessage(decoded.message, {data, {}}, order, std::span(rebuilt).subspan(start));
  }
  StoreBigEndian(rebuilt.data() + rebuilt.size() - 8, mask);
  return rebuilt;
}

TEST(HardwareCapture, EveryFrameComesBackByteForByte) {
  const auto frames = Capture("OmniXtend202010.cap");
  ASSERT_EQ(frames.size(), 20u);
  for (const auto& frame : frames) {
    EXPECT_EQ(frame.ether_type, 0);
    for (const DataOrder order : {DataOrder::kSpec, DataOrder::kMemory})
      EXPECT_EQ(Rebuild(frame.payload, order), frame.payload);
  }
}

TEST(HardwareCapture, DecodesToAcquiresGrantsAndReads) {
  std::map<std::string, int> seen;
  for (const auto& frame : Capture("OmniXtend202010.cap")) {
    const auto parsed = ParseFrame(frame.payload);
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(parsed->header.type, FrameType::kNormal);
    EXPECT_TRUE(parsed->header.ack);
    EXPECT_LE(parsed->header.credit_channel, 5);
    MessageArray messages;
    const MessageCount count = DecodeMessages(*parsed, &messages);
    ASSERT_TRUE(count.all_well_formed());
    if (count.messages == 0) ++seen["credits"];
    for (std::size_t i = 0; i < count.messages; ++i) {
      const auto& message = messages[i].message;
      ++seen[tilelink::LetterOf(message.channel) + std::to_string(message.opcode)];
      EXPECT_FALSE(message.denied);
      EXPECT_FALSE(message.corrupt);
      if (message.channel == Channel::kE) continue;
      EXPECT_TRUE(message.size == 3 || message.size == 6);
      EXPECT_EQ(message.address % (uint64_t{1} << message.size), 0u);
    }
  }
  EXPECT_EQ(seen, (std::map<std::string, int>{
                      {"A4", 4}, {"A6", 2}, {"D1", 4}, {"D5", 2}, {"E0", 1}, {"credits", 7}}));
}

TEST(HardwareCapture, EveryFrameTakesANumberOfItsOwn) {
  // Two links: within one direction of one link numbers go up by one, credit frames included.
  std::map<std::pair<std::byte, uint32_t>, int> numbers;
  for (const auto& frame : Capture("OmniXtend202010.cap")) {
    const auto parsed = ParseFrame(frame.payload);
    ASSERT_TRUE(parsed.has_value());
    ++numbers[{frame.source[0], parsed->header.sequence.wire()}];
  }
  for (const auto& [number, times] : numbers) EXPECT_EQ(times, 1) << number.second;
}

class SoftwareCapture : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(, SoftwareCapture,
                         testing::Values("dax-memnode", "dax-omx", "nbd-memnode", "omx-ms",
                                         "raw-memnode"),
                         [](const auto& test) {
                           std::string name = test.param;
                           name.erase(name.find('-'), 1);
                           return name;
                         });

TEST_P(SoftwareCapture, EveryFrameDecodes) {
  const auto frames = Capture(std::string(GetParam()) + ".pcap");
  ASSERT_FALSE(frames.empty());
  for (const auto& frame : frames) {
    EXPECT_EQ(frame.ether_type, 0xaaaa);
    const auto parsed = ParseFrame(frame.payload);
    ASSERT_TRUE(parsed.has_value());
    EXPECT_LE(static_cast<int>(parsed->header.type), 3);
    MessageArray messages;
    EXPECT_TRUE(DecodeMessages(*parsed, &messages).all_well_formed());
  }
}

}  // namespace
}  // namespace oxmem::tloe
