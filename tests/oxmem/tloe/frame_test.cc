#include "oxmem/tloe/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "tests/oxmem/tilelink/words.h"

namespace oxmem::tloe {
namespace {

using tilelink::BytesOf;
using tilelink::DataOrder;
using tilelink::MakeA;
using tilelink::MakeD;
using tilelink::Message;
using tilelink::OpcodeA;
using tilelink::OpcodeD;
using tilelink::WordsOf;

FrameHeader HeaderOfAppendixA(uint8_t channel, uint8_t credit) {
  FrameHeader header;
  header.sequence = SequenceNumber::FromWire(0x2e50d);
  header.acknowledged = SequenceNumber::FromWire(0x56d4b);
  header.credit_channel = channel;
  header.credit_exponent = credit;
  return header;
}

TEST(FrameHeader, EncodesTheExamplesOfAppendixA) {
  EXPECT_EQ(EncodeFrameHeader(HeaderOfAppendixA(2, 8)), 0x0002e50d15b52e48u);
  EXPECT_EQ(EncodeFrameHeader(HeaderOfAppendixA(3, 2)), 0x0002e50d15b52e62u);
  EXPECT_EQ(EncodeFrameHeader(HeaderOfAppendixA(4, 6)), 0x0002e50d15b52e86u);
}

TEST(FrameHeader, EveryFieldComesBackAndTouchesNoOther) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    FrameHeader header;
    header.virtual_channel = random() & 7;
    header.type = static_cast<FrameType>(random() & 3);
    header.sequence = SequenceNumber::FromWire(random());
    header.acknowledged = SequenceNumber::FromWire(random());
    header.ack = random() & 1;
    header.credit_channel = random() & 7;
    header.credit_exponent = random() & 31;
    const uint64_t word = EncodeFrameHeader(header);
    EXPECT_EQ(DecodeFrameHeader(word), header);
    EXPECT_EQ(word & 0x01c0000000000100u, 0u) << "reserved bits";
    EXPECT_EQ(DecodeFrameHeader(word | 0x01c0000000000100u), header);
  }
}

TEST(FrameHeader, TypesOfTheSecondProtocolAreWhereSoftwarePutsThem) {
  EXPECT_EQ(DecodeFrameHeader(0x04000000fffffc3c).type, FrameType::kOpen);
  EXPECT_EQ(DecodeFrameHeader(0x0200000500001200).type, FrameType::kAckOnly);
  EXPECT_EQ(DecodeFrameHeader(0x0600000000000000).type, FrameType::kClose);
}

std::vector<std::byte> Room() { return std::vector<std::byte>(9000, std::byte{0xee}); }

void Add(FrameBuilder& builder, const Message& message, std::span<const std::byte> data = {}) {
  tilelink::EncodeMessage(message, {data, {}}, DataOrder::kSpec,
                          builder.Append(tilelink::FlitsOf(message)));
}

std::span<const std::byte> Finish(FrameBuilder& builder, std::span<std::byte> room,
                                  const FrameHeader& header) {
  const std::size_t length = builder.length();
  EXPECT_EQ(builder.Finish(), length);
  StoreBigEndian(room.data(), EncodeFrameHeader(header));
  return room.first(length);
}

TEST(FrameBuilder, AnEmptyFrameHasFiveFlitsOfPadding) {
  auto room = Room();
  FrameBuilder builder;
  builder.Begin(room, 64, SIZE_MAX);
  const auto frame = Finish(builder, room, FrameHeader{});
  EXPECT_EQ(frame.size(), kMinFrameBytes);
  EXPECT_EQ(frame.size(), 56u);  // 70 on Ethernet
  EXPECT_THAT(WordsOf(frame), testing::ElementsAre(0x200, 0, 0, 0, 0, 0, 0));
}

TEST(FrameBuilder, AShortMessageIsPaddedAndNamedInTheMask) {
  auto room = Room();
  FrameBuilder builder;
  builder.Begin(room, 64, SIZE_MAX);
  Add(builder, MakeD(OpcodeD::kAccessAck, 5, 0x10f3355));
  const auto frame = Finish(builder, room, HeaderOfAppendixA(2, 8));
  EXPECT_THAT(WordsOf(frame),
              testing::ElementsAre(0x0002e50d15b52e48u, 0x40050000010f3355u, 0, 0, 0, 0, 1));
}

TEST(FrameBuilder, ALongMessageIsNotPadded) {
  auto room = Room();
  FrameBuilder builder;
  builder.Begin(room, 64, SIZE_MAX);
  Add(builder, MakeA(OpcodeA::kPutFullData, 6, 0x10f3355, 0x7ba80000130ec440),
      tilelink::Counting(64, 0x40));
  const auto words = WordsOf(Finish(builder, room, HeaderOfAppendixA(3, 2)));
  ASSERT_EQ(words.size(), 12u);
  EXPECT_EQ(words[1], 0x10060000010f3355u);
  EXPECT_EQ(words[10], 0x7f7e7d7c7b7a7978u);
  EXPECT_EQ(words[11], 1u);
}

TEST(FrameBuilder, NothingStartsBeyondFlit63) {
  auto room = Room();
  FrameBuilder builder;
  builder.Begin(room, 64, SIZE_MAX);
  for (int i = 0; i < 32; ++i) {
    ASSERT_TRUE(builder.Fits(2)) << i;
    Add(builder, MakeA(OpcodeA::kGet, 3, 0, 0));
  }
  EXPECT_FALSE(builder.Fits(1));
}

TEST(FrameBuilder, AMessageThatRunsPastFlit63IsTheLast) {
  auto room = Room();
  FrameBuilder builder;
  builder.Begin(room, 64, SIZE_MAX);
  Add(builder, MakeD(OpcodeD::kAccessAck, 3, 0));
  ASSERT_TRUE(builder.Fits(1 + 512));
  Add(builder, MakeD(OpcodeD::kAccessAckData, 12, 0), tilelink::Counting(4096, 0));
  EXPECT_FALSE(builder.Fits(1));
  const auto parsed = ParseFrame(Finish(builder, room, FrameHeader{}));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->mask, 0b11u);
}

TEST(FrameBuilder, AMessageThatEndsWithFlit62LeavesRoomForOneMore) {
  auto room = Room();
  FrameBuilder builder;
  builder.Begin(room, 64, SIZE_MAX);
  builder.Append(63);
  EXPECT_TRUE(builder.Fits(1));
  builder.Append(1);
  EXPECT_FALSE(builder.Fits(1));
}

TEST(FrameBuilder, StaysWithinTheBufferTheFlitLimitAndTheLastStart) {
  auto room = Room();
  FrameBuilder builder;
  builder.Begin(std::span(room).first(kFrameOverheadBytes + 10 * 8), 64, SIZE_MAX);
  EXPECT_TRUE(builder.Fits(10));
  EXPECT_FALSE(builder.Fits(11));
  builder.Begin(room, 64, 65);
  EXPECT_TRUE(builder.Fits(65));
  EXPECT_FALSE(builder.Fits(66));
  builder.Begin(room, 1, SIZE_MAX);
  EXPECT_TRUE(builder.Fits(500));
  builder.Append(2);
  EXPECT_FALSE(builder.Fits(1));
  builder.Begin(room, 3, SIZE_MAX);
  builder.Append(2);
  EXPECT_TRUE(builder.Fits(1));
  builder.Append(1);
  EXPECT_FALSE(builder.Fits(1));
}

// Nothing if one of them is malformed.
std::optional<std::size_t> CountOf(const std::vector<uint64_t>& words, MessageArray* messages) {
  const auto bytes = BytesOf(words);
  const auto parsed = ParseFrame(bytes);
  if (!parsed) return std::nullopt;
  const MessageCount count = DecodeMessages(*parsed, messages);
  return count.all_well_formed() ? std::optional(count.messages) : std::nullopt;
}

constexpr uint64_t kGet = 0x1803000000000001;
constexpr uint64_t kAck = 0x4003000000000001;

TEST(ParseFrame, LengthsThatAreNoFrameAreRefused) {
  const std::vector<std::byte> zeros(64);
  for (std::size_t length = 0; length <= 64; ++length)
    EXPECT_EQ(ParseFrame(std::span(zeros).first(length)).has_value(),
              length >= 16 && length % 8 == 0)
        << length;
}

TEST(ParseFrame, TheShorterFramesOfHardwareAreAccepted) {
  MessageArray messages;
  EXPECT_EQ(CountOf({0x200, kAck, 0, 0, 0, 1}, &messages), 1u);
}

TEST(ParseFrame, AMaskThatNamesFlitsThatAreNotThereIsRefused) {
  EXPECT_TRUE(ParseFrame(BytesOf({0, kAck, 0, 0, 0, 0, 0b10000})).has_value());
  EXPECT_FALSE(ParseFrame(BytesOf({0, kAck, 0, 0, 0, 0, 0b100000})).has_value());
  EXPECT_FALSE(ParseFrame(BytesOf({0, 1})).has_value());
}

TEST(DecodeMessages, PaddingMayLieAnywhereAndIsNotLookedAt) {
  MessageArray messages;
  ASSERT_EQ(CountOf({0, 0xdead, kAck, ~uint64_t{0}, kGet, 0x40, 7, 0b01010}, &messages), 2u);
  EXPECT_EQ(messages[0].message, MakeD(OpcodeD::kAccessAck, 3, 1));
  EXPECT_EQ(messages[1].message, MakeA(OpcodeA::kGet, 3, 1, 0x40));
}

TEST(DecodeMessages, AMessageMayNotRunIntoTheNext) {
  MessageArray messages;
  EXPECT_EQ(CountOf({0, kGet, kAck, kAck, 0, 0, 0b011}, &messages), std::nullopt);
  EXPECT_EQ(CountOf({0, kGet, kAck, kAck, 0, 0, 0b101}, &messages), 2u);
}

TEST(DecodeMessages, AMessageMayNotRunPastTheEnd) {
  MessageArray messages;
  EXPECT_EQ(CountOf({0, 0, 0, 0, 0, kGet, 0b10000}, &messages), std::nullopt);
  EXPECT_EQ(CountOf({0, 0x4206000000000000, 1, 2, 3, 4, 5, 6, 7, 1}, &messages), std::nullopt);
  EXPECT_EQ(CountOf({0, 0x4206000000000000, 1, 2, 3, 4, 5, 6, 7, 8, 1}, &messages), 1u);
}

TEST(DecodeMessages, AStartWithoutAMessageIsRefused) {
  MessageArray messages;
  EXPECT_EQ(CountOf({0, kAck, 0, 0, 0, 0, 0b11}, &messages), std::nullopt);
  EXPECT_EQ(CountOf({0, uint64_t{6} << 60, 0, 0, 0, 0, 1}, &messages), std::nullopt);
}

TEST(DecodeMessages, OfAMalformedMessageTheHeaderIsRead) {
  MessageArray messages;
  const auto bytes =
      BytesOf({0, kGet, kAck, uint64_t{6} << 60, uint64_t{3} << 60 | 3ull << 57, 0, 0b1111});
  const MessageCount count = DecodeMessages(*ParseFrame(bytes), &messages);
  ASSERT_EQ(count.messages, 3u);
  EXPECT_EQ(count.malformed, 2u);
  EXPECT_EQ(count.unreadable, 1u);
  EXPECT_TRUE(messages[0].malformed) << "no room for the address";
  EXPECT_EQ(messages[0].message, MakeA(OpcodeA::kGet, 3, 1, 0));
  EXPECT_EQ(messages[0].flit_count, 1u);
  EXPECT_FALSE(messages[1].malformed);
  EXPECT_TRUE(messages[2].malformed) << "an opcode that does not exist on channel C";
}

TEST(DecodeMessages, SixtyFourMessagesFillAFrame) {
  std::vector<uint64_t> words(66, kAck);
  words[65] = ~uint64_t{0};
  MessageArray messages;
  EXPECT_EQ(CountOf(words, &messages), 64u);
}

// Section A.2 is drawn with an older layout: source and sink lie six bits further left, and Get has
// a mask flit. Its mask and message starts hold all the same.
TEST(AppendixA2, ThePrintedFrameDecodesToItsFiveMessages) {
  const auto bytes = BytesOf({0x0002e50d15b52e62,
                              0x1006000000000000 | uint64_t{0x10f3355} << 6,
                              0x7ba80000130ec440,
                              0x4746454443424140,
                              0x4f4e4d4c4b4a4948,
                              0x5756555453525150,
                              0x5f5e5d5c5b5a5958,
                              0x6766656463626160,
                              0x6f6e6d6c6b6a6968,
                              0x7776757473727170,
                              0x7f7e7d7c7b7a7978,
                              0x2204000000000000 | uint64_t{0x5a335d} << 6,
                              0x7ba80000130ec480,
                              0x000000000000fffc,
                              0x8786858483828180,
                              0x8f8e8d8c8b8a8988,
                              0x1805000000000000 | uint64_t{0x10f3356} << 6,
                              0x7ba80000130ec490,
                              0x00000000ffffffff,
                              0x4005000000000000 | uint64_t{0x337578} << 6,
                              0x5000000000000000 | uint64_t{0x11a536} << 6,
                              0x00000000000c8401});
  const auto parsed = ParseFrame(bytes);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->header, HeaderOfAppendixA(3, 2));
  MessageArray messages;
  ASSERT_EQ(DecodeMessages(*parsed, &messages).messages, 5u);
  std::vector<std::string> seen;
  for (std::size_t i = 0; i < 5; ++i)
    seen.push_back(tilelink::LetterOf(messages[i].message.channel) +
                   std::to_string(messages[i].message.opcode) + "/" +
                   std::to_string(messages[i].message.size));
  EXPECT_THAT(seen, testing::ElementsAre("A0/6", "B1/4", "A4/5", "D0/5", "E0/0"));
  EXPECT_EQ(messages[2].message.address, 0x7ba80000130ec490u);
}

// The same five messages in the layout of section 3.2.
TEST(AppendixA2, TheFiveMessagesPackAsPrinted) {
  auto room = Room();
  FrameBuilder builder;
  builder.Begin(room, 64, SIZE_MAX);
  Add(builder, MakeA(OpcodeA::kPutFullData, 6, 0x10f3355, 0x7ba80000130ec440),
      tilelink::Counting(64, 0x40));
  Message partial = MakeA(OpcodeA::kPutPartialData, 4, 0x5a335d, 0x7ba80000130ec480);
  partial.channel = tilelink::Channel::kB;
  const auto data = tilelink::Counting(16, 0x80);
  const std::vector<uint64_t> mask = {0xfffc};
  tilelink::EncodeMessage(partial, {data, mask}, DataOrder::kSpec, builder.Append(5));
  Add(builder, MakeA(OpcodeA::kGet, 5, 0x10f3356, 0x7ba80000130ec490));
  Add(builder, MakeD(OpcodeD::kAccessAck, 5, 0x337578));
  Message grant_ack;
  grant_ack.channel = tilelink::Channel::kE;
  grant_ack.sink = 0x11a536;
  Add(builder, grant_ack);
  const auto words = WordsOf(Finish(builder, room, HeaderOfAppendixA(3, 2)));
  EXPECT_THAT(words,
              testing::ElementsAre(0x0002e50d15b52e62, 0x10060000010f3355, 0x7ba80000130ec440,
                                   0x4746454443424140, 0x4f4e4d4c4b4a4948, 0x5756555453525150,
                                   0x5f5e5d5c5b5a5958, 0x6766656463626160, 0x6f6e6d6c6b6a6968,
                                   0x7776757473727170, 0x7f7e7d7c7b7a7978, 0x22040000005a335d,
                                   0x7ba80000130ec480, 0xfffc, 0x8786858483828180,
                                   0x8f8e8d8c8b8a8988, 0x18050000010f3356, 0x7ba80000130ec490,
                                   0x4005000000337578, 0x500000000011a536, 0b1101000010000000001));
}

}  // namespace
}  // namespace oxmem::tloe
