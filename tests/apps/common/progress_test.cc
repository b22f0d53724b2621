#include "apps/common/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

#include "transport/base/unique_fd.h"

namespace oxmem::apps {
namespace {

// What a progress writes into a pipe that it is told is a terminal, or not.
std::string Written(bool is_terminal, int columns) {
  std::array<int, 2> ends;
  EXPECT_EQ(pipe(ends.data()), 0);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  {
    Progress progress(writing.get(), is_terminal, columns);
    progress.Show(0.5, "half of it");
  }
  writing.Reset();
  std::array<char, 1024> bytes;
  const ssize_t count = read(reading.get(), bytes.data(), bytes.size());
  return std::string(bytes.data(), static_cast<std::size_t>(count));
}

TEST(Progress, IsQuietInAPipe) { EXPECT_EQ(Written(false, 80), ""); }

TEST(Progress, ShowsABarAndTakesItAway) {
  const std::string text = Written(true, 80);
  EXPECT_THAT(text, testing::HasSubstr("[============            ]  50% half of it"));
  EXPECT_THAT(text, testing::EndsWith("\r\x1b[K"));
}

TEST(Progress, NeverWrapsALine) {
  const std::string text = Written(true, 20);
  EXPECT_THAT(text, testing::HasSubstr("\r\x1b[K[============      \r\x1b[K"));
}

}  // namespace
}  // namespace oxmem::apps
