#include "apps/serve/region_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace oxmem::apps {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  const auto spec = ParseRegionSpec(text);
  return spec.ok() ? "" : std::string(spec.status().message());
}

TEST(RegionSpec, ANameAndASizeAreEnough) {
  const auto spec = ParseRegionSpec("data=8G");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->name, "data");
  EXPECT_EQ(spec->backing.size_bytes, uint64_t{8} << 30);
  EXPECT_EQ(spec->backing.kind, node::BackingKind::kMemfd);
  EXPECT_FALSE(spec->base.has_value());
  EXPECT_FALSE(spec->read_only);
}

TEST(RegionSpec, TakesEveryKey) {
  const auto spec = ParseRegionSpec("a.b-c_1=64K,base=0x10000,backing=file:/tmp/a=b,ro");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->base, 0x10000u);
  EXPECT_EQ(spec->backing.kind, node::BackingKind::kFile);
  EXPECT_EQ(spec->backing.path, "/tmp/a=b");
  EXPECT_TRUE(spec->read_only);
  EXPECT_TRUE(spec->backing.read_only);
}

TEST(RegionSpec, ErrorsQuoteTheRegionAndSayWhatIsWrong) {
  EXPECT_THAT(ErrorOf("data=0"), HasSubstr("region \"data=0\": the size must not be zero"));
  EXPECT_THAT(ErrorOf("data"), HasSubstr("wants NAME=SIZE"));
  EXPECT_THAT(ErrorOf("data="), HasSubstr("wants NAME=SIZE"));
  EXPECT_THAT(ErrorOf("=1G"), HasSubstr("wants NAME=SIZE"));
  EXPECT_THAT(ErrorOf("../x=1G"), HasSubstr("wants NAME=SIZE"));
  EXPECT_THAT(ErrorOf(std::string(65, 'x') + "=1G"), HasSubstr("wants NAME=SIZE"));
  EXPECT_THAT(ErrorOf("data=1Q"), HasSubstr("\"1Q\" is not a size"));
  EXPECT_THAT(ErrorOf("data=99999999999999999999"), HasSubstr("past 2^64"));
  EXPECT_THAT(ErrorOf("data=1G,colour=red"), HasSubstr("known: base, backing, ro"));
  EXPECT_THAT(ErrorOf("data=1G,"), HasSubstr("unknown key \"\""));
  EXPECT_THAT(ErrorOf("data=1G,base=zz"), HasSubstr("base: \"zz\""));
  EXPECT_THAT(ErrorOf("data=1G,backing=tape"), HasSubstr("memfd, anonymous, huge, file:PATH"));
}

}  // namespace
}  // namespace oxmem::apps
