#include "oxmem/tilelink/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include "oxmem/tilelink/swap_copy.h"
#include "tests/oxmem/tilelink/words.h"

namespace oxmem::tilelink {
namespace {

struct Known {
  Channel channel;
  int opcode;
  bool address;
  bool data;
  bool mask;
  bool sink;
};

// Figures 10 to 14, written down a second time.
const Known kKnown[] = {
    {Channel::kA, 0, true, true, false, false},   {Channel::kA, 1, true, true, true, false},
    {Channel::kA, 2, true, true, false, false},   {Channel::kA, 3, true, true, false, false},
    {Channel::kA, 4, true, false, false, false},  {Channel::kA, 5, true, false, false, false},
    {Channel::kA, 6, true, false, false, false},  {Channel::kA, 7, true, false, false, false},
    {Channel::kB, 0, true, true, false, false},   {Channel::kB, 1, true, true, true, false},
    {Channel::kB, 2, true, true, false, false},   {Channel::kB, 3, true, true, false, false},
    {Channel::kB, 4, true, false, false, false},  {Channel::kB, 5, true, false, false, false},
    {Channel::kB, 6, true, false, false, false},  {Channel::kB, 7, true, false, false, false},
    {Channel::kC, 0, true, false, false, false},  {Channel::kC, 1, true, true, false, false},
    {Channel::kC, 2, true, false, false, false},  {Channel::kC, 4, true, false, false, false},
    {Channel::kC, 5, true, true, false, false},   {Channel::kC, 6, true, false, false, false},
    {Channel::kC, 7, true, true, false, false},   {Channel::kD, 0, false, false, false, false},
    {Channel::kD, 1, false, true, false, false},  {Channel::kD, 2, false, false, false, false},
    {Channel::kD, 4, false, false, false, true},  {Channel::kD, 5, false, true, false, true},
    {Channel::kD, 6, false, false, false, false}, {Channel::kE, 0, false, false, false, true},
};

const Known* Find(Channel channel, int opcode) {
  for (const Known& known : kKnown)
    if (known.channel == channel && known.opcode == opcode) return &known;
  return nullptr;
}

Message Of(Channel channel, int opcode) {
  Message message;
  message.channel = channel;
  message.opcode = static_cast<uint8_t>(opcode);
  return message;
}

std::string NameOf(const Message& message) {
  return std::string(1, LetterOf(message.channel)) + std::to_string(message.opcode) + " size " +
         std::to_string(message.size);
}

TEST(Message, ExactlyTheOpcodesOfTheSpecificationAreKnown) {
  for (int channel = 0; channel < 8; ++channel) {
    for (int opcode = 0; opcode < 8; ++opcode) {
      const Message message = Of(static_cast<Channel>(channel), opcode);
      const Known* known = Find(message.channel, opcode);
      EXPECT_EQ(IsKnown(message), known != nullptr) << channel << " " << opcode;
      if (known == nullptr) continue;
      EXPECT_EQ(HasAddress(message), known->address) << NameOf(message);
      EXPECT_EQ(HasData(message), known->data) << NameOf(message);
      EXPECT_EQ(HasMask(message), known->mask) << NameOf(message);
      EXPECT_EQ(HasSink(message), known->sink) << NameOf(message);
    }
  }
}

TEST(Message, AnOpcodeOfMoreThanThreeBitsIsUnknown) {
  EXPECT_FALSE(IsKnown(Of(Channel::kA, 8)));
  EXPECT_FALSE(IsKnown(Of(Channel::kA, 255)));
}

TEST(Message, FlitsFollowTheSpecificationForEverySize) {
  for (int size = 0; size < 16; ++size) {
    Message put = MakeA(OpcodeA::kPutFullData, static_cast<uint8_t>(size), 0, 0);
    Message partial = MakeA(OpcodeA::kPutPartialData, static_cast<uint8_t>(size), 0, 0);
    Message answer = MakeD(OpcodeD::kAccessAckData, static_cast<uint8_t>(size), 0);
    const std::size_t bytes = std::size_t{1} << size;
    const std::size_t data = (bytes + 7) / 8;
    EXPECT_EQ(DataBytes(put), bytes);
    EXPECT_EQ(FlitsOf(put), 2 + data);
    EXPECT_EQ(FlitsOf(partial), 2 + data + (bytes + 63) / 64);
    EXPECT_EQ(FlitsOf(answer), 1 + data);
  }
  EXPECT_EQ(FlitsOf(MakeA(OpcodeA::kGet, 12, 0, 0)), 2u);
  EXPECT_EQ(FlitsOf(MakeD(OpcodeD::kAccessAck, 12, 0)), 1u);
  EXPECT_EQ(FlitsOf(MakeD(OpcodeD::kGrant, 12, 0)), 2u);
  EXPECT_EQ(FlitsOf(Of(Channel::kE, 0)), 1u);
}

struct Sample {
  Message message;
  std::vector<std::byte> data;
  std::vector<uint64_t> mask;
};

Sample RandomSample(const Known& known, int size, std::mt19937_64& random) {
  Sample sample;
  Message& message = sample.message;
  message = Of(known.channel, known.opcode);
  if (known.sink) message.sink = static_cast<uint32_t>(random()) & kMaxSink;
  if (known.channel == Channel::kE) return sample;
  message.size = static_cast<uint8_t>(size);
  message.param = random() & 15;
  message.domain = random() & 255;
  message.denied = random() & 1;
  message.corrupt = random() & 1;
  message.source = static_cast<uint32_t>(random()) & kMaxSource;
  if (known.address) message.address = random() >> size << size;
  if (!known.data) return sample;
  sample.data.resize(std::size_t{1} << size);
  for (auto& byte : sample.data) byte = static_cast<std::byte>(random());
  if (known.mask)
    for (std::size_t i = 0; i < (sample.data.size() + 63) / 64; ++i)
      sample.mask.push_back(random());
  return sample;
}

bool MaskBit(const Sample& sample, std::size_t i) {
  return (sample.mask[i / 64] >> (i % 64) & 1) != 0;
}

TEST(Codec, EveryMessageOfEverySizeComesBackInBothOrders) {
  std::mt19937_64 random(1);
  for (const Known& known : kKnown) {
    for (int size = 0; size < 16; ++size) {
      for (const DataOrder order : {DataOrder::kSpec, DataOrder::kMemory}) {
        const Sample sample = RandomSample(known, size, random);
        SCOPED_TRACE(NameOf(sample.message));
        const std::size_t flits = FlitsOf(sample.message);
        std::vector<std::byte> wire(flits * 8);
        ASSERT_EQ(EncodeMessage(sample.message, {sample.data, sample.mask}, order, wire), flits);
        const auto decoded = DecodeMessage(wire);
        ASSERT_TRUE(decoded.has_value());
        EXPECT_EQ(decoded->message, sample.message);
        EXPECT_EQ(decoded->flit_count, flits);
        if (sample.data.empty()) {
          EXPECT_TRUE(decoded->payload.flits.empty());
          continue;
        }
        std::vector<std::byte> data(sample.data.size());
        CopyData(decoded->message, decoded->payload, order, data);
        ASSERT_EQ(data, sample.data);
        if (!known.mask) continue;
        std::vector<std::byte> memory(data.size(), std::byte{0x5a});
        CopyMaskedData(decoded->message, decoded->payload, order, memory);
        for (std::size_t i = 0; i < memory.size(); ++i)
          ASSERT_EQ(memory[i], MaskBit(sample, i) ? sample.data[i] : std::byte{0x5a}) << i;
      }
    }
  }
}

TEST(Codec, SpecOrderPutsTheLowestAddressLastInItsFlit) {
  const auto data = Counting(16, 0);
  std::vector<std::byte> wire(4 * 8);
  const Message put = MakeA(OpcodeA::kPutFullData, 4, 0, 0);
  EncodeMessage(put, {data, {}}, DataOrder::kSpec, wire);
  EXPECT_EQ(WordsOf(wire)[2], 0x0706050403020100u);
  EXPECT_EQ(WordsOf(wire)[3], 0x0f0e0d0c0b0a0908u);
  EncodeMessage(put, {data, {}}, DataOrder::kMemory, wire);
  EXPECT_EQ(WordsOf(wire)[2], 0x0001020304050607u);
  EXPECT_EQ(WordsOf(wire)[3], 0x08090a0b0c0d0e0fu);
}

TEST(Codec, TheWrongOrderReversesEveryEightBytes) {
  const auto data = Counting(16, 0);
  std::vector<std::byte> wire(3 * 8);
  const Message answer = MakeD(OpcodeD::kAccessAckData, 4, 0);
  EncodeMessage(answer, {data, {}}, DataOrder::kSpec, wire);
  const auto decoded = DecodeMessage(wire);
  ASSERT_TRUE(decoded.has_value());
  std::vector<std::byte> memory(16);
  CopyData(decoded->message, decoded->payload, DataOrder::kMemory, memory);
  std::vector<std::byte> reversed(data);
  std::reverse(reversed.begin(), reversed.begin() + 8);
  std::reverse(reversed.begin() + 8, reversed.end());
  EXPECT_EQ(memory, reversed);
}

TEST(Codec, DataBelowEightBytesLiesInTheLaneOfItsAddress) {
  const auto data = Counting(2, 0xa0);
  for (const uint64_t lane : {0, 2, 4, 6}) {
    std::vector<std::byte> wire(3 * 8);
    const Message put = MakeA(OpcodeA::kPutFullData, 1, 0, 0x1000 + lane);
    EncodeMessage(put, {data, {}}, DataOrder::kSpec, wire);
    EXPECT_EQ(WordsOf(wire)[2], uint64_t{0xa1a0} << (8 * lane));
    EncodeMessage(put, {data, {}}, DataOrder::kMemory, wire);
    EXPECT_EQ(WordsOf(wire)[2], uint64_t{0xa0a1} << 48) << "memory as it lies has no lanes";
  }
}

TEST(Codec, AnAnswerBelowEightBytesTakesTheLaneOfItsRequest) {
  const auto data = Counting(1, 0x77);
  std::vector<std::byte> wire(2 * 8);
  Message answer = MakeD(OpcodeD::kAccessAckData, 0, 9);
  answer.address = 0x2005;
  EncodeMessage(answer, {data, {}}, DataOrder::kSpec, wire);
  EXPECT_EQ(WordsOf(wire)[1], uint64_t{0x77} << 40);
  auto decoded = DecodeMessage(wire);
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->message.address, 0u);
  decoded->message.address = 0x2005;
  std::vector<std::byte> memory(1);
  CopyData(decoded->message, decoded->payload, DataOrder::kSpec, memory);
  EXPECT_EQ(memory, data);
}

TEST(Codec, MaskBitsBelowEightBytesNameLanes) {
  const auto data = Counting(4, 0x10);
  const std::vector<uint64_t> mask = {0b1010};
  std::vector<std::byte> wire(4 * 8);
  const Message put = MakeA(OpcodeA::kPutPartialData, 2, 0, 0x1004);
  EncodeMessage(put, {data, mask}, DataOrder::kSpec, wire);
  EXPECT_EQ(WordsOf(wire)[2], uint64_t{0b1010} << 4);
  EXPECT_EQ(WordsOf(wire)[3], 0x1312111000000000u);
  const auto decoded = DecodeMessage(wire);
  ASSERT_TRUE(decoded.has_value());
  std::vector<std::byte> memory(4, std::byte{0});
  CopyMaskedData(decoded->message, decoded->payload, DataOrder::kSpec, memory);
  EXPECT_THAT(memory,
              testing::ElementsAre(std::byte{0}, std::byte{0x11}, std::byte{0}, std::byte{0x13}));
}

TEST(Codec, MasksAreInterleavedEvery64Bytes) {
  const auto data = Counting(128, 0);
  const std::vector<uint64_t> mask = {0x1111111111111111, 0xfedcba9876543210};
  std::vector<std::byte> wire((2 + 18) * 8);
  EncodeMessage(MakeA(OpcodeA::kPutPartialData, 7, 0, 0), {data, mask}, DataOrder::kSpec, wire);
  const auto words = WordsOf(wire);
  EXPECT_EQ(words[2], mask[0]);
  EXPECT_EQ(words[3], 0x0706050403020100u);
  EXPECT_EQ(words[11], mask[1]);
  EXPECT_EQ(words[12], 0x4746454443424140u);
}

TEST(Codec, MaskBitsBeyondTheDataAreNotSent) {
  const auto data = Counting(8, 0);
  const std::vector<uint64_t> mask = {~uint64_t{0}};
  std::vector<std::byte> wire(4 * 8);
  EncodeMessage(MakeA(OpcodeA::kPutPartialData, 3, 0, 0), {data, mask}, DataOrder::kSpec, wire);
  EXPECT_EQ(WordsOf(wire)[2], 0xffu);
}

TEST(Codec, UnalignedAddressesOfSmallAccessesStayInsideTheirFlit) {
  // Older software sends addresses that are not aligned to the size.
  const auto wire = BytesOf({0x1002000000000000, 0x1007, 0x1122334455667788});
  const auto decoded = DecodeMessage(wire);
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->message.address, 0x1007u);
  std::vector<std::byte> memory(4);
  CopyData(decoded->message, decoded->payload, DataOrder::kSpec, memory);
  EXPECT_EQ(memory[0], std::byte{0x44});
  EXPECT_EQ(memory[3], std::byte{0x11});
}

TEST(Codec, ReservedChannelsAndOpcodesDoNotDecode) {
  for (const uint64_t word :
       {uint64_t{0}, uint64_t{6} << 60, uint64_t{7} << 60, uint64_t{3} << 60 | uint64_t{3} << 57,
        uint64_t{4} << 60 | uint64_t{3} << 57, uint64_t{4} << 60 | uint64_t{7} << 57}) {
    EXPECT_FALSE(DecodeMessage(BytesOf({word, 0, 0, 0})).has_value()) << std::hex << word;
  }
}

TEST(Codec, ReservedBitsAreIgnored) {
  const auto decoded =
      DecodeMessage(BytesOf({0x8105003ffc000007 | uint64_t{1} << 60 | uint64_t{4} << 57, 0x40}));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->message, MakeA(OpcodeA::kGet, 5, 7, 0x40));
}

TEST(SwapCopy, ReversesEveryEightBytesAtEveryLengthAndPlace) {
  const auto source = Counting(600, 1);
  for (std::size_t length = 0; length <= 512; length += 8) {
    for (std::size_t shift = 0; shift < 9; ++shift) {
      std::vector<std::byte> copy(700, std::byte{0xee});
      SwapCopy(source.data() + shift, copy.data() + 1, length);
      EXPECT_EQ(copy[0], std::byte{0xee});
      EXPECT_EQ(copy[length + 1], std::byte{0xee});
      for (std::size_t i = 0; i < length; ++i)
        ASSERT_EQ(copy[1 + i], source[shift + (i ^ 7)]) << length << " " << shift << " " << i;
    }
  }
}

// Exact allocations, so that a read past the end is seen by the address sanitizer; without it the
// result alone is checked.
TEST(Codec, AMessageThatRunsPastTheEndDoesNotDecode) {
  std::mt19937_64 random(2);
  for (const Known& known : kKnown) {
    for (const int size : {0, 3, 6, 7, 10}) {
      const Sample sample = RandomSample(known, size, random);
      const std::size_t length = FlitsOf(sample.message) * 8;
      std::vector<std::byte> wire(length);
      EncodeMessage(sample.message, {sample.data, sample.mask}, DataOrder::kSpec, wire);
      for (std::size_t cut = 0; cut < length; cut += cut < 64 ? 1 : 61) {
        const auto exact = std::make_unique<std::byte[]>(cut);
        std::copy_n(wire.begin(), cut, exact.get());
        EXPECT_FALSE(DecodeMessage({exact.get(), cut}).has_value())
            << NameOf(sample.message) << " cut to " << cut;
      }
    }
  }
}

TEST(CodecDeathTest, EncodingChecksWhatItIsGiven) {
  std::vector<std::byte> room(64);
  const auto encode = [&room](const Message& message, std::span<const std::byte> data) {
    EncodeMessage(message, {data, {}}, DataOrder::kSpec, room);
  };
  EXPECT_DEATH(encode(Of(Channel::kD, 3), {}), "IsKnown");
  EXPECT_DEATH(encode(MakeA(OpcodeA::kGet, 3, kMaxSource + 1, 0), {}), "kMaxSource");
  EXPECT_DEATH(encode(MakeA(OpcodeA::kPutFullData, 3, 0, 0), {}), "DataBytes");
  const auto data = Counting(64, 0);
  EXPECT_DEATH(encode(MakeA(OpcodeA::kPutFullData, 6, 0, 0), data), "to.size");
  EXPECT_DEATH(encode(MakeA(OpcodeA::kPutPartialData, 4, 0, 0), std::span(data).first(16)),
               "groups");
}

}  // namespace
}  // namespace oxmem::tilelink
