#include "apps/common/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace oxmem::apps {
namespace {

TEST(EventLoop, CallsBackForAReadyDescriptorUntilItIsUnwatched) {
  auto loop = EventLoop::Create();
  ASSERT_TRUE(loop.ok());
  const UniqueFd event(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  int calls = 0;
  ASSERT_TRUE((*loop)
                  ->Watch(event.get(), EPOLLIN,
                          [&](uint32_t) {
                            if (++calls == 3) (*loop)->Unwatch(event.get());
                          })
                  .ok());
  (*loop)->After(Duration::Milliseconds(20), [&] { (*loop)->Stop(); });
  ASSERT_TRUE((*loop)->Run().ok());
  EXPECT_EQ(calls, 3);
}

TEST(EventLoop, ACallbackMayUnwatchAnotherDescriptorOfTheSameRound) {
  auto loop = EventLoop::Create();
  ASSERT_TRUE(loop.ok());
  const UniqueFd first(eventfd(1, EFD_CLOEXEC));
  const UniqueFd second(eventfd(1, EFD_CLOEXEC));
  int calls = 0;
  const auto unwatch_both = [&](uint32_t) {
    ++calls;
    (*loop)->Unwatch(first.get());
    (*loop)->Unwatch(second.get());
  };
  ASSERT_TRUE((*loop)->Watch(first.get(), EPOLLIN, unwatch_both).ok());
  ASSERT_TRUE((*loop)->Watch(second.get(), EPOLLIN, unwatch_both).ok());
  (*loop)->After(Duration::Milliseconds(20), [&] { (*loop)->Stop(); });
  ASSERT_TRUE((*loop)->Run().ok());
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, TimersRepeatUntilCancelledAndOneShotsRunOnce) {
  auto loop = EventLoop::Create();
  ASSERT_TRUE(loop.ok());
  int repeated = 0;
  int once = 0;
  EventLoop::TimerId id{};
  id = (*loop)->Every(Duration::Milliseconds(1), [&] {
    if (++repeated == 5) (*loop)->Cancel(id);
  });
  (*loop)->After(Duration::Milliseconds(1), [&] { ++once; });
  (*loop)->After(Duration::Milliseconds(60), [&] { (*loop)->Stop(); });
  ASSERT_TRUE((*loop)->Run().ok());
  EXPECT_EQ(repeated, 5);
  EXPECT_EQ(once, 1);
}

}  // namespace
}  // namespace oxmem::apps
