#include "oxmem/link/mac_address.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace oxmem::link {
namespace {

TEST(MacAddress, IsReadInEveryUsualForm) {
  const MacAddress mac = {{0x04, 0x3f, 0x72, 0xdd, 0x0b, 0x05}};
  for (const char* text : {"04:3f:72:dd:0b:05", "04:3F:72:DD:0B:05", "04-3f-72-dd-0b-05"}) {
    const auto parsed = ParseMacAddress(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, mac);
  }
  EXPECT_EQ(FormatMacAddress(mac), "04:3f:72:dd:0b:05");
  EXPECT_EQ(MacOfAddress(AddressOfMac(mac)), mac);
}

TEST(MacAddress, WhatIsNoneIsRefusedAndQuoted) {
  for (const char* text : {"", "04", "04:3f:72:dd:0b", "04:3f:72:dd:0b:05:06", "04:3f:72:dd:0b:0g",
                           "043f72dd0b05", "04:3f-72:dd:0b:05", "04 3f 72 dd 0b 05",
                           "04:3f:72:dd:0b:5 ", "4:3f:72:dd:0b:005", "04:3f:72:dd:0b:+5"}) {
    const auto parsed = ParseMacAddress(text);
    ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(parsed.status().message()),
                testing::HasSubstr(std::string("\"") + text + "\""));
  }
}

TEST(MacAddress, AGroupAddressIsRefused) {
  for (const char* text : {"ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"}) {
    EXPECT_THAT(std::string(ParseMacAddress(text).status().message()), testing::HasSubstr("group"));
  }
}

}  // namespace
}  // namespace oxmem::link
