#include "transport/local/local_wire.h"

#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace oxmem::transport {
namespace {

std::vector<std::byte> Bytes(std::string_view text) {
  std::vector<std::byte> bytes;
  for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
  return bytes;
}

// Every byte of the documented layout.
TEST(LocalWire, EncodesAsTheDocumentSays) {
  using std::string_literals::operator""s;
  EXPECT_EQ(EncodeLocalMessage(LocalHello{.read_only = true, .region = "ab"}),
            Bytes("oxml\1\0\1\0\1\1\0\2ab"s));
  EXPECT_EQ(
      EncodeLocalMessage(LocalOffer{
          .persistent = true, .size_bytes = 0x0102030405060708, .offset = 0x1000, .text = "r"}),
      Bytes("oxml\2\0\1\0\0\2\1\2\3\4\5\6\7\10\0\0\0\0\0\0\20\0\0\1r"s));
  EXPECT_EQ(EncodeLocalMessage(LocalFlush{9}), Bytes("oxml\3\0\0\0\0\0\0\0\11"s));
  EXPECT_EQ(EncodeLocalMessage(LocalFlushed{9, 5}), Bytes("oxml\4\0\0\0\0\0\0\0\11\0\5"s));
}

TEST(LocalWire, EveryMessageComesBack) {
  for (const LocalMessage& message :
       {LocalMessage(LocalHello{1, 7, true, "data"}), LocalMessage(LocalHello{}),
        LocalMessage(LocalOffer{1, 13, true, true, ~uint64_t{0}, 4096, "text"}),
        LocalMessage(LocalOffer{}), LocalMessage(LocalFlush{~uint64_t{0}}),
        LocalMessage(LocalFlushed{3, 65535})}) {
    const auto packet = EncodeLocalMessage(message);
    ASSERT_LE(packet.size(), kMaxLocalMessageBytes);
    EXPECT_EQ(DecodeLocalMessage(packet), message);
    for (std::size_t length = 0; length < packet.size(); ++length) {
      EXPECT_FALSE(DecodeLocalMessage(std::span(packet).first(length)).has_value()) << length;
    }
    auto longer = packet;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(DecodeLocalMessage(longer).has_value());
  }
}

TEST(LocalWire, RefusesWhatIsNotAMessage) {
  auto packet = EncodeLocalMessage(LocalFlush{1});
  packet[0] = std::byte{'x'};
  EXPECT_FALSE(DecodeLocalMessage(packet).has_value()) << "magic";
  packet = EncodeLocalMessage(LocalFlush{1});
  for (const int type : {0, 5, 255}) {
    packet[4] = static_cast<std::byte>(type);
    EXPECT_FALSE(DecodeLocalMessage(packet).has_value()) << "type " << type;
  }
  EXPECT_FALSE(DecodeLocalMessage(EncodeLocalMessage(LocalHello{2, 1, false, ""})).has_value())
      << "versions the wrong way round";
}

TEST(LocalWire, ALongTextIsCutAndALongerOneIsRefused) {
  const std::string text(5000, 'a');
  const auto packet = EncodeLocalMessage(LocalOffer{.text = text});
  ASSERT_LE(packet.size(), kMaxLocalMessageBytes);
  const auto message = DecodeLocalMessage(packet);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(std::get<LocalOffer>(*message).text, text.substr(0, kMaxLocalTextBytes));
  auto hello = EncodeLocalMessage(LocalHello{.region = std::string(kMaxLocalTextBytes, 'r')});
  EXPECT_TRUE(DecodeLocalMessage(hello).has_value());
  hello[10] = std::byte{4};  // one more than the most: 0x0401
  hello[11] = std::byte{1};
  hello.push_back(std::byte{'r'});
  EXPECT_FALSE(DecodeLocalMessage(hello).has_value());
}

}  // namespace
}  // namespace oxmem::transport
