#include "oxmem/node/backing.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace oxmem::node {
namespace {

using testing::HasSubstr;

class BackingTest : public testing::Test {
 protected:
  BackingTest() {
    std::string pattern = testing::TempDir() + "oxmem-backing-XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~BackingTest() override {
    unlink(Path().c_str());
    rmdir(folder_.c_str());
  }
  std::string Path() const { return folder_ + "/memory"; }
  BackingSpec File(uint64_t size) const {
    return {.kind = BackingKind::kFile, .size_bytes = size, .path = Path()};
  }
  std::string folder_;
};

TEST_F(BackingTest, EveryKindReadsAsZeroAndKeepsWhatIsWritten) {
  for (const BackingSpec& spec :
       {BackingSpec{.kind = BackingKind::kAnonymous, .size_bytes = 12288},
        BackingSpec{.kind = BackingKind::kMemfd, .size_bytes = 12288}, File(12288)}) {
    auto backing = Backing::Create(spec);
    ASSERT_TRUE(backing.ok()) << backing.status();
    ASSERT_EQ(backing->memory().size(), 12288u);
    EXPECT_EQ(backing->memory()[12287], std::byte{0});
    backing->memory()[12287] = std::byte{7};
    EXPECT_EQ(backing->memory()[12287], std::byte{7});
    EXPECT_EQ(backing->fd() >= 0, spec.kind != BackingKind::kAnonymous);
  }
}

TEST_F(BackingTest, AFileKeepsItsContents) {
  {
    auto backing = Backing::Create(File(8192));
    ASSERT_TRUE(backing.ok());
    std::memcpy(backing->memory().data() + 5000, "kept", 4);
    EXPECT_TRUE(backing->Sync().ok());
    EXPECT_TRUE(backing->persistent());
  }
  auto again = Backing::Create(File(8192));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(std::memcmp(again->memory().data() + 5000, "kept", 4), 0);
}

TEST_F(BackingTest, AFileThatIsTooShortIsRefusedAndNotGrown) {
  { ASSERT_TRUE(Backing::Create(File(4096)).ok()); }
  const auto larger = Backing::Create(File(8192));
  EXPECT_THAT(std::string(larger.status().message()), HasSubstr("less than the region's 8K"));
  struct stat status;
  ASSERT_EQ(stat(Path().c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 4096);
}

TEST_F(BackingTest, TheSpaceOfAFileIsTakenAtTheBeginning) {
  constexpr uint64_t kSize = uint64_t{1} << 20;
  struct stat status;
  ASSERT_TRUE(Backing::Create(File(kSize)).ok());
  ASSERT_EQ(stat(Path().c_str(), &status), 0);
  EXPECT_GE(static_cast<uint64_t>(status.st_blocks) * 512, kSize);
  // The holes of a file that was there before, too.
  ASSERT_EQ(truncate(Path().c_str(), 0), 0);
  ASSERT_EQ(truncate(Path().c_str(), kSize), 0);
  ASSERT_TRUE(Backing::Create(File(kSize)).ok());
  ASSERT_EQ(stat(Path().c_str(), &status), 0);
  EXPECT_GE(static_cast<uint64_t>(status.st_blocks) * 512, kSize);
}

TEST_F(BackingTest, AMemfdCannotBeShrunkByWhomItIsHandedTo) {
  auto backing = Backing::Create({.kind = BackingKind::kMemfd, .size_bytes = 8192});
  ASSERT_TRUE(backing.ok());
  EXPECT_NE(ftruncate(backing->fd(), 0), 0);
}

TEST_F(BackingTest, WhatCannotBeMappedIsAnErrorThatSaysSo) {
  EXPECT_FALSE(Backing::Create({.size_bytes = 0}).ok());
  EXPECT_FALSE(Backing::Create({.size_bytes = UINT64_MAX}).ok());
  EXPECT_THAT(std::string(Backing::Create({.kind = BackingKind::kHugePages, .size_bytes = 4096})
                              .status()
                              .message()),
              HasSubstr("multiple of 2M"));
  BackingSpec nowhere{.kind = BackingKind::kFile, .size_bytes = 4096, .path = "/nowhere/x"};
  EXPECT_THAT(std::string(Backing::Create(nowhere).status().message()), HasSubstr("/nowhere/x"));
}

TEST(ParseBacking, KnowsTheKindsAndListsThem) {
  for (const char* text : {"anonymous", "huge", "memfd", "file:/a/b"}) {
    BackingSpec spec;
    ASSERT_TRUE(ParseBacking(text, &spec).ok());
    EXPECT_EQ(FormatBacking(spec), text);
  }
  BackingSpec spec;
  EXPECT_THAT(std::string(ParseBacking("disk", &spec).message()),
              HasSubstr("memfd, anonymous, huge, file:PATH"));
  EXPECT_FALSE(ParseBacking("file:", &spec).ok());
}

}  // namespace
}  // namespace oxmem::node
