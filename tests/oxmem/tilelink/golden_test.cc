// The encoding examples of OmniXtend 1.0.3, appendix A: the words as the figures print them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "oxmem/tilelink/codec.h"
#include "tests/oxmem/tilelink/words.h"

namespace oxmem::tilelink {
namespace {

constexpr uint64_t kAddress = 0x7ba80000130ec440;
constexpr uint32_t kSource = 0x10f3355;

struct Example {
  std::string name;
  Message message;
  std::vector<std::byte> data;
  std::vector<uint64_t> mask;
  std::vector<uint64_t> words;  // of the message, without header, padding and mask of the frame
};

void PrintTo(const Example& example, std::ostream* out) { *out << example.name; }

Message OnB(OpcodeB opcode, uint8_t size, uint32_t source, uint64_t address) {
  Message message = MakeA(static_cast<OpcodeA>(opcode), size, source, address);
  message.channel = Channel::kB;
  return message;
}

Message WithSink(Message message, uint32_t sink) {
  message.sink = sink;
  return message;
}

Message GrantAck(uint32_t sink) {
  Message message;
  message.channel = Channel::kE;
  message.sink = sink;
  return message;
}

const std::vector<uint64_t> kSixtyFour = {
    0x4746454443424140, 0x4f4e4d4c4b4a4948, 0x5756555453525150, 0x5f5e5d5c5b5a5958,
    0x6766656463626160, 0x6f6e6d6c6b6a6968, 0x7776757473727170, 0x7f7e7d7c7b7a7978};

std::vector<uint64_t> Join(std::vector<uint64_t> head, const std::vector<uint64_t>& tail) {
  head.insert(head.end(), tail.begin(), tail.end());
  return head;
}

std::vector<Example> Examples() {
  return {
      {"A11GetOnA",
       MakeA(OpcodeA::kGet, 5, kSource, kAddress),
       {},
       {},
       {0x18050000010f3355, kAddress}},
      {"A12PutFullDataOnA",
       MakeA(OpcodeA::kPutFullData, 6, kSource, kAddress),
       Counting(64, 0x40),
       {},
       Join({0x10060000010f3355, kAddress}, kSixtyFour)},
      {"A13PutPartialDataOnB",
       OnB(OpcodeB::kPutPartialData, 4, kSource, kAddress),
       Counting(16, 0x40),
       {0xfffc},
       {0x22040000010f3355, kAddress, 0xfffc, 0x4746454443424140, 0x4f4e4d4c4b4a4948}},
      {"A14AccessAckOnD", MakeD(OpcodeD::kAccessAck, 5, kSource), {}, {}, {0x40050000010f3355}},
      {"A15AccessAckDataOnD",
       MakeD(OpcodeD::kAccessAckData, 5, kSource),
       Counting(32, 0x40),
       {},
       {0x42050000010f3355, 0x4746454443424140, 0x4f4e4d4c4b4a4948, 0x5756555453525150,
        0x5f5e5d5c5b5a5958}},
      {"A16GrantOnD",
       WithSink(MakeD(OpcodeD::kGrant, 6, kSource), 0x6a6b2d),
       {},
       {},
       {0x48060000010f3355, 0x6a6b2d}},
      {"A17GrantDataOnD",
       WithSink(MakeD(OpcodeD::kGrantData, 6, kSource), 0x6a6b2d),
       Counting(64, 0x40),
       {},
       Join({0x4a060000010f3355, 0x6a6b2d}, kSixtyFour)},
      {"A18GrantAckOnE", GrantAck(kSource), {}, {}, {0x50000000010f3355}},
  };
}

class AppendixA : public testing::TestWithParam<Example> {};
INSTANTIATE_TEST_SUITE_P(, AppendixA, testing::ValuesIn(Examples()),
                         [](const auto& test) { return test.param.name; });

TEST_P(AppendixA, EncodesToThePrintedWords) {
  const Example& example = GetParam();
  std::vector<std::byte> bytes(8 * 1024, std::byte{0xee});
  const std::size_t flits =
      EncodeMessage(example.message, {example.data, example.mask}, DataOrder::kSpec, bytes);
  EXPECT_EQ(flits, FlitsOf(example.message));
  EXPECT_THAT(WordsOf(std::span(bytes).first(flits * 8)), testing::ElementsAreArray(example.words));
  EXPECT_EQ(bytes[flits * 8], std::byte{0xee});
}

TEST_P(AppendixA, ThePrintedWordsDecode) {
  const Example& example = GetParam();
  const auto bytes = BytesOf(example.words);
  const auto decoded = DecodeMessage(bytes);
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->message, example.message);
  EXPECT_EQ(decoded->flit_count, example.words.size());
  std::vector<std::byte> data(DataBytes(decoded->message));
  ASSERT_EQ(data.size(), example.data.size());
  if (!data.empty()) CopyData(decoded->message, decoded->payload, DataOrder::kSpec, data);
  EXPECT_EQ(data, example.data);
}

TEST(AppendixAPutPartialData, TheBytesThatA13MasksAreNotWritten) {
  const auto bytes =
      BytesOf({0x22040000010f3355, kAddress, 0xfffc, 0x4746454443424140, 0x4f4e4d4c4b4a4948});
  const auto decoded = DecodeMessage(bytes);
  ASSERT_TRUE(decoded.has_value());
  std::vector<std::byte> memory(16, std::byte{0x99});
  CopyMaskedData(decoded->message, decoded->payload, DataOrder::kSpec, memory);
  auto expected = Counting(16, 0x40);
  expected[0] = expected[1] = std::byte{0x99};
  EXPECT_EQ(memory, expected);
}

}  // namespace
}  // namespace oxmem::tilelink
