#ifndef TESTS_FS_VOLUME_VOLUME_SUPPORT_H_
#define TESTS_FS_VOLUME_VOLUME_SUPPORT_H_

#include <poll.h>

#include <cstddef>
#include <vector>

#include "fs/volume/volume.h"
#include "gtest/gtest.h"

namespace oxmem::fs {

// One operation of a test, with a buffer of its own.
class TestOp final : public IoListener {
 public:
  TestOp(IoKind kind, uint64_t offset, std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {
    op_.Prepare(kind, offset, bytes_.size(), bytes_.data(), this);
  }
  static TestOp Read(uint64_t offset, uint64_t length) {
    return TestOp(IoKind::kRead, offset, std::vector<std::byte>(length, std::byte{0xee}));
  }
  static TestOp Write(uint64_t offset, uint64_t length, int fill) {
    return TestOp(IoKind::kWrite, offset, std::vector<std::byte>(length, std::byte(fill)));
  }
  static TestOp Zero(uint64_t offset, uint64_t length) {
    return TestOp(IoKind::kZero, offset, std::vector<std::byte>(length));
  }
  static TestOp Flush() { return TestOp(IoKind::kFlush, 0, {}); }

  IoOp& op() { return op_; }
  bool done() const { return done_ != 0; }
  transport::Code code() const { return op_.code; }
  std::vector<std::byte> Bytes() const {
    return std::vector<std::byte>(op_.data, op_.data + op_.length);
  }

 private:
  void OnIoDone(IoOp&) override { EXPECT_EQ(++done_, 1) << "an operation ended twice"; }

  std::vector<std::byte> bytes_;
  IoOp op_;
  int done_ = 0;
};

// Drives the volume as a front-end would until nothing is under way.
inline void Drain(Volume& volume) {
  while (volume.in_flight() != 0) {
    if (volume.Poll() || !volume.Arm()) continue;
    const bool can_wake = volume.event_fd() >= 0 || !volume.next_deadline().is_never();
    ASSERT_TRUE(can_wake) << "operations are under way and nothing will ever move them";
    pollfd wait{.fd = volume.event_fd(), .events = POLLIN, .revents = 0};
    poll(&wait, 1, PollTimeoutMs(Now(), volume.next_deadline()));
  }
}

inline transport::Code RunOp(Volume& volume, TestOp& op) {
  volume.Start(op.op());
  Drain(volume);
  EXPECT_TRUE(op.done());
  return op.code();
}

inline std::vector<std::byte> Filled(std::size_t count, int value) {
  return std::vector<std::byte>(count, std::byte(value));
}

}  // namespace oxmem::fs

#endif  // TESTS_FS_VOLUME_VOLUME_SUPPORT_H_
