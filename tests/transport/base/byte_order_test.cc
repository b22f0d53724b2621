#include "transport/base/byte_order.h"

#include <array>
#include <limits>

#include "gtest/gtest.h"

namespace oxmem {
namespace {

template <typename... Values>
std::array<std::byte, sizeof...(Values)> Bytes(Values... values) {
  return {static_cast<std::byte>(values)...};
}

TEST(ByteSwap, ReversesTheBytesOfEveryWidth) {
  EXPECT_EQ(ByteSwap(uint8_t{0x12}), 0x12);
  EXPECT_EQ(ByteSwap(uint16_t{0x1234}), 0x3412);
  EXPECT_EQ(ByteSwap(uint32_t{0x12345678}), 0x78563412u);
  EXPECT_EQ(ByteSwap(uint64_t{0x0123456789abcdef}), 0xefcdab8967452301u);
}

TEST(ByteOrder, LoadsAndStoresAtAnyAlignment) {
  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::array<std::byte, 16> buffer{};
    StoreBigEndian(buffer.data() + shift, uint64_t{0x0102030405060708});
    for (std::size_t i = 0; i < 8; ++i) {
      EXPECT_EQ(buffer[shift + i], static_cast<std::byte>(i + 1));
    }
    EXPECT_EQ(LoadBigEndian<uint64_t>(buffer.data() + shift), 0x0102030405060708u);
    EXPECT_EQ(LoadLittleEndian<uint64_t>(buffer.data() + shift), 0x0807060504030201u);
    EXPECT_EQ(LoadBigEndian<uint32_t>(buffer.data() + shift), 0x01020304u);
    EXPECT_EQ(LoadBigEndian<uint16_t>(buffer.data() + shift), 0x0102u);
    EXPECT_EQ(LoadBigEndian<uint8_t>(buffer.data() + shift), 1u);
    StoreLittleEndian(buffer.data() + shift, uint32_t{0xa1b2c3d4});
    EXPECT_EQ(buffer[shift], std::byte{0xd4});
    EXPECT_EQ(buffer[shift + 3], std::byte{0xa1});
    EXPECT_EQ(buffer[shift + 4], std::byte{5}) << "the byte behind is left alone";
  }
}

TEST(ByteReader, ReadsOffTheFrontAndNeverPastTheEnd) {
  const auto bytes = Bytes(1, 2, 3, 4, 5, 6, 7);
  ByteReader reader(bytes);
  EXPECT_EQ(reader.ReadBigEndian<uint16_t>(), 0x0102);
  EXPECT_EQ(reader.remaining(), 5u);
  EXPECT_EQ(reader.ReadBigEndian<uint64_t>(), std::nullopt);
  EXPECT_EQ(reader.remaining(), 5u) << "what did not fit left the reader where it was";
  EXPECT_EQ(reader.ReadBigEndian<uint32_t>(), 0x03040506u);
  EXPECT_EQ(reader.ReadBigEndian<uint16_t>(), std::nullopt);
  EXPECT_EQ(reader.rest().size(), 1u);
  EXPECT_EQ(reader.ReadBigEndian<uint8_t>(), 7);
  EXPECT_EQ(reader.ReadBigEndian<uint8_t>(), std::nullopt);
}

TEST(ByteReader, ReadBytesGivesAViewOrNothing) {
  const auto bytes = Bytes(1, 2, 3);
  ByteReader reader(bytes);
  EXPECT_FALSE(reader.ReadBytes(4).has_value());
  EXPECT_FALSE(reader.ReadBytes(std::numeric_limits<std::size_t>::max()).has_value());
  const auto first = reader.ReadBytes(2);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->data(), bytes.data());
  EXPECT_TRUE(reader.ReadBytes(0).has_value());
  EXPECT_EQ(reader.remaining(), 1u);
}

TEST(ByteWriter, WritesWhatAReaderReads) {
  std::array<std::byte, 15> buffer{};
  ByteWriter writer(buffer);
  writer.WriteBigEndian(uint8_t{1});
  writer.WriteBigEndian(uint16_t{2});
  writer.WriteBigEndian(uint64_t{3});
  writer.WriteBytes(Bytes(9, 9));
  writer.WriteBytes({});
  EXPECT_EQ(writer.remaining(), 2u);
  ByteReader reader(buffer);
  EXPECT_EQ(reader.ReadBigEndian<uint8_t>(), 1);
  EXPECT_EQ(reader.ReadBigEndian<uint16_t>(), 2);
  EXPECT_EQ(reader.ReadBigEndian<uint64_t>(), 3u);
  EXPECT_EQ(reader.ReadBigEndian<uint16_t>(), 0x0909);
}

TEST(ByteWriterDeathTest, RunningOutOfRoomStopsTheProgram) {
  std::array<std::byte, 3> buffer{};
  EXPECT_DEATH(ByteWriter(buffer).WriteBigEndian(uint32_t{1}), "does not hold");
  EXPECT_DEATH(ByteWriter(buffer).WriteBytes(Bytes(1, 2, 3, 4)), "does not hold");
}

}  // namespace
}  // namespace oxmem
