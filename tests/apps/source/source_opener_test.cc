#include "apps/source/source_opener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "transport/api/blocking.h"

namespace oxmem::apps {
namespace {

using ::testing::HasSubstr;

// Writes through one channel of the source and reads through another.
void ExpectSameMemory(const std::string& text, uint64_t offset) {
  const auto source = transport::ParseSource(text);
  ASSERT_TRUE(source.ok()) << source.status();
  const auto opener = SourceOpener::Create(*source);
  ASSERT_TRUE(opener.ok()) << opener.status();
  auto first = (*opener)->Open();
  auto second = (*opener)->Open();
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  std::array<std::byte, 256> written;
  written.fill(std::byte{0x42});
  ASSERT_TRUE(transport::BlockingWrite(*first->channel, offset, written).ok());
  std::array<std::byte, 256> read{};
  ASSERT_TRUE(transport::BlockingRead(*second->channel, offset, read).ok());
  EXPECT_EQ(read, written);
}

std::string ErrorOf(const std::string& text) {
  const auto opened = OpenSource(text);
  return opened.ok() ? "" : std::string(opened.status().message());
}

TEST(SourceOpener, ChannelsOfOneSourceMeetInTheSameMemory) {
  ExpectSameMemory("mem:?size=1M", 1000);
  ExpectSameMemory("stripe:(mem:?size=1M,mem:?size=1M)?chunk=4K", 5000);
  ExpectSameMemory("mirror:(mem:?size=1M,mem:?size=1M)", 5000);
  ExpectSameMemory("delay:(stripe:(mem:?size=1M,mem:?size=1M))?latency=1us", 70000);
}

TEST(SourceOpener, EqualPartsAreDifferentMemory) {
  auto opened = OpenSource("stripe:(mem:?size=1M,mem:?size=1M)?chunk=4K");
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->channel->limits().size_bytes, 2u << 20);
  const std::array<std::byte, 16> written = {std::byte{1}};
  ASSERT_TRUE(transport::BlockingWrite(*opened->channel, 0, written).ok());
  std::array<std::byte, 16> read{};
  ASSERT_TRUE(transport::BlockingRead(*opened->channel, 4096, read).ok());
  EXPECT_EQ(read[0], std::byte{0});
  ASSERT_EQ(opened->facts().size(), 2u);
  EXPECT_EQ(opened->facts()[1].second, "mem 1M");
}

TEST(SourceOpener, WhatUnequalPartsCannotGiveIsSaid) {
  const auto not_used = [](const std::string& text) {
    const auto opened = OpenSource(text);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? FactOf(opened->facts(), kNotUsed) : "";
  };
  EXPECT_EQ(not_used("stripe:(mem:?size=1M,mem:?size=1M)"), "");
  EXPECT_EQ(not_used("mirror:(mem:?size=1M,mem:?size=1M)"), "");
  EXPECT_EQ(not_used("stripe:(mem:?size=3M,mem:?size=1M,mem:?size=2M)"),
            "2M of part 1, 1M of part 3");
  EXPECT_EQ(not_used("mirror:(mem:?size=1M,mem:?size=3M)"), "2M of part 2");
  EXPECT_EQ(not_used("stripe:(mem:?size=65K,mem:?size=65K)"), "1K of part 1, 1K of part 2");
  EXPECT_EQ(not_used("delay:(stripe:(mem:?size=3M,mem:?size=1M))"), "within part 1: 2M of part 1");
  EXPECT_EQ(not_used("mirror:(stripe:(mem:?size=3M,mem:?size=1M),mem:?size=2M)"),
            "within part 1: 2M of part 1");
  EXPECT_EQ(not_used("mirror:(stripe:(mem:?size=3M,mem:?size=1M),mem:?size=3M)"),
            "1M of part 2; within part 1: 2M of part 1");
}

TEST(SourceOpener, MistakesAreFoundBeforeAnythingIsOpened) {
  EXPECT_THAT(ErrorOf("ftp://x"), HasSubstr("unknown scheme \"ftp\" (known: mem, tloe"));
  EXPECT_THAT(ErrorOf("stripe:(mem:,ftp://x)"), HasSubstr("unknown scheme \"ftp\""));
  EXPECT_THAT(ErrorOf("stripe:(mem:,mem:)?colour=red"), HasSubstr("unknown option \"colour\""));
  EXPECT_THAT(ErrorOf("mirror:"), HasSubstr("mirror"));
  EXPECT_THAT(ErrorOf("tloe://v0/02:00:00:00:00:01"), HasSubstr("size"));
}

}  // namespace
}  // namespace oxmem::apps
