// Calls that wait, as read(2) waits: signals end them or do not, as their handlers say, and their
// threads can be cancelled.
#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "tests/e2e/nex/interrupted.h"
#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

class Waiting : public VerbsTest {
 protected:
  void SetUp() override {
    if (!kSignalsComeAtOnce) GTEST_SKIP();
    VerbsTest::SetUp();
  }
};

TEST_F(Waiting, ForACompletionGoesOnAfterASignalIfTheHandlerSaysSo) {
  ibv_comp_channel* channel = ibv_create_comp_channel(context_);
  ASSERT_NE(nullptr, channel);
  const auto wait = [channel] {
    ibv_cq* cq = nullptr;
    void* about = nullptr;
    return ibv_get_cq_event(channel, &cq, &about) == 0;
  };
  EXPECT_EQ(-1, Interrupted::ErrorOf(SA_RESTART, wait));
  EXPECT_EQ(EINTR, Interrupted::ErrorOf(0, wait));
  EXPECT_EQ(0, ibv_destroy_comp_channel(channel));
}

TEST_F(Waiting, ForAnAsynchronousEventGoesOnAfterASignalIfTheHandlerSaysSo) {
  const auto wait = [this] {
    ibv_async_event event;
    return ibv_get_async_event(context_, &event) == 0;
  };
  EXPECT_EQ(-1, Interrupted::ErrorOf(SA_RESTART, wait));
  EXPECT_EQ(EINTR, Interrupted::ErrorOf(0, wait));
}

TEST_F(Waiting, ToOpenAFileGoesOnOrEndsLikewise) {
  const std::string path =
      std::filesystem::temp_directory_path() / ("nex-fifo-" + std::to_string(getpid()));
  ASSERT_EQ(0, mkfifo(path.c_str(), 0600));
  const auto wait = [&path] { return open(path.c_str(), O_RDONLY | O_CLOEXEC) >= 0; };
  EXPECT_EQ(-1, Interrupted::ErrorOf(SA_RESTART, wait));
  EXPECT_EQ(EINTR, Interrupted::ErrorOf(0, wait));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace oxmem::nex
