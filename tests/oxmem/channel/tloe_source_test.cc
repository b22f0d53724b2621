#include "oxmem/channel/tloe_source.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/api/source.h"

namespace oxmem::channel {
namespace {

using testing::HasSubstr;

absl::StatusOr<TloeSource> Parse(const std::string& text) {
  const absl::StatusOr<transport::Source> source = transport::ParseSource(text);
  if (!source.ok()) return source.status();
  return ParseTloeSource(*source);
}

std::string ErrorOf(const std::string& text) {
  const absl::StatusOr<TloeSource> parsed = Parse(text);
  EXPECT_FALSE(parsed.ok()) << text;
  return std::string(parsed.status().message());
}

TEST(TloeSource, EthernetHasItsDefaults) {
  const auto source = Parse("tloe://eth1/04:3f:72:dd:0b:05?size=8G");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_FALSE(source->udp);
  EXPECT_EQ(source->interface, "eth1");
  EXPECT_EQ(source->mac, "04:3f:72:dd:0b:05");
  EXPECT_EQ(source->own_mac, "");
  EXPECT_EQ(source->ether_type, 0xaaaa);
  EXPECT_EQ(source->receive, link::PacketReceive::kAuto);
  EXPECT_EQ(source->max_frame_bytes, 0u);
  EXPECT_FALSE(source->virtual_channel.has_value());
  EXPECT_EQ(source->options.size_bytes, uint64_t{8} << 30);
}

TEST(TloeSource, TheLinkIsChosenByName) {
  const std::string uri = "tloe://eth1/04:3f:72:dd:0b:05?size=8G&link=";
  EXPECT_EQ(Parse(uri + "auto")->receive, link::PacketReceive::kAuto);
  EXPECT_EQ(Parse(uri + "packet")->receive, link::PacketReceive::kBatch);
  EXPECT_EQ(Parse(uri + "ring")->receive, link::PacketReceive::kRing);
  EXPECT_THAT(ErrorOf(uri + "carrier-pigeon"), HasSubstr("link"));
}

TEST(TloeSource, KeysOfTheOtherMediumAreErrors) {
  EXPECT_THAT(ErrorOf("tloe://eth1/04:3f:72:dd:0b:05?size=8G&hops=1"), HasSubstr("hops"));
  EXPECT_THAT(ErrorOf("tloe+udp://10.0.0.1:4000?size=8G&link=ring"), HasSubstr("link"));
  EXPECT_THAT(ErrorOf("tloe+udp://10.0.0.1:4000?size=8G&ethertype=1"), HasSubstr("ethertype"));
}

TEST(TloeSource, ARangePastTheEndOfAddressesIsAnError) {
  EXPECT_THAT(ErrorOf("tloe://eth1/04:3f:72:dd:0b:05?size=8G&base=0xffffffffffff0000"),
              HasSubstr("past 2^64"));
  EXPECT_THAT(ErrorOf("tloe://eth1/04:3f:72:dd:0b:05?size=8G&base=4"), HasSubstr("multiple of 8"));
}

TEST(TloeSource, AnEndpointWithoutInterfaceOrAddressIsAnErrorWithAnExample) {
  EXPECT_THAT(ErrorOf("tloe://eth1?size=8G"), HasSubstr("as in tloe://"));
}

}  // namespace
}  // namespace oxmem::channel
