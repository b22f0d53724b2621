#include "apps/common/runtime_directory.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <string>

#include "tests/apps/common/temporary_directory.h"

namespace oxmem::apps {
namespace {

mode_t ModeOf(const std::string& path) {
  struct stat attributes {};
  EXPECT_EQ(stat(path.c_str(), &attributes), 0);
  return attributes.st_mode & 07777;
}

TEST(RuntimeDirectory, IsForAllToLookIntoWhateverTheUmaskOfWhoMakesIt) {
  const TemporaryDirectory above;
  const std::string path = above.path() + "/run";
  ASSERT_EQ(setenv("OXMEM_RUNTIME_DIR", path.c_str(), 1), 0);
  const mode_t before = umask(077);
  EXPECT_EQ(MakeRuntimeDirectory().value_or(""), path);
  umask(before);
  EXPECT_EQ(ModeOf(path), mode_t{0755});
}

TEST(RuntimeDirectory, OneThatIsThereKeepsItsMode) {
  const TemporaryDirectory own;
  ASSERT_EQ(setenv("OXMEM_RUNTIME_DIR", own.path().c_str(), 1), 0);
  ASSERT_EQ(chmod(own.path().c_str(), 0710), 0);
  EXPECT_EQ(MakeRuntimeDirectory().value_or(""), own.path());
  EXPECT_EQ(ModeOf(own.path()), mode_t{0710});
}

}  // namespace
}  // namespace oxmem::apps
