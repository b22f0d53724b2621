#ifndef TESTS_APPS_COMMON_LOOP_THREAD_H_
#define TESTS_APPS_COMMON_LOOP_THREAD_H_

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <memory>
#include <thread>

#include "apps/common/event_loop.h"
#include "transport/base/check.h"

namespace oxmem::apps {

// An event loop that runs in a thread of its own from Start until Stop or the end of its life.
class LoopThread {
 public:
  LoopThread() : stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    auto loop = EventLoop::Create();
    OXMEM_CHECK(loop.ok() && stop_.valid());
    loop_ = *std::move(loop);
    OXMEM_CHECK(loop_->Watch(stop_.get(), EPOLLIN, [this](uint32_t) { loop_->Stop(); }).ok());
  }
  ~LoopThread() { Stop(); }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  // To set things up on before Start.
  EventLoop* loop() { return loop_.get(); }

  void Start() {
    thread_ = std::thread([this] { OXMEM_CHECK(loop_->Run().ok()); });
  }
  void Stop() {
    if (!thread_.joinable()) return;
    OXMEM_CHECK(eventfd_write(stop_.get(), 1) == 0);
    thread_.join();
  }

 private:
  std::unique_ptr<EventLoop> loop_;
  UniqueFd stop_;
  std::thread thread_;
};

}  // namespace oxmem::apps

#endif  // TESTS_APPS_COMMON_LOOP_THREAD_H_
