#include "transport/base/memory_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "transport/base/unique_fd.h"

namespace oxmem {
namespace {

constexpr uint64_t kPage = 4096;

class MemoryGuardTest : public testing::Test {
 protected:
  MemoryGuardTest() {
    std::string path = testing::TempDir() + "guardXXXXXX";
    fd_.Reset(mkstemp(path.data()));
    EXPECT_TRUE(fd_.valid());
    unlink(path.c_str());
    Cut(kSize);
    void* at = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    memory_ = {static_cast<std::byte*>(at), kSize};
    for (std::size_t i = 0; i < kSize; ++i) memory_[i] = static_cast<std::byte>(i / kPage + 1);
  }
  ~MemoryGuardTest() override { munmap(memory_.data(), memory_.size()); }

  void Cut(uint64_t size) { EXPECT_EQ(ftruncate(fd_.get(), static_cast<off_t>(size)), 0); }
  std::byte Read(uint64_t offset) const {
    return *static_cast<const volatile std::byte*>(memory_.data() + offset);
  }

  static constexpr uint64_t kSize = 512 * kPage;
  UniqueFd fd_;
  std::span<std::byte> memory_;
};

TEST_F(MemoryGuardTest, WhatIsThereIsAdmitted) {
  MemoryGuard guard(memory_, fd_.get(), 0, kPage);
  EXPECT_TRUE(guard.Admits(0, kSize));
  EXPECT_TRUE(guard.Holds(0, kSize));
  EXPECT_TRUE(guard.health().ok());
}

TEST_F(MemoryGuardTest, AFileThatWasCutIsNotAdmittedBehindItsEndAndIsBefore) {
  MemoryGuard guard(memory_, fd_.get(), 0, kPage);
  Cut(5000);
  EXPECT_FALSE(guard.Admits(8 * kPage, kPage));
  EXPECT_TRUE(guard.Admits(0, 5000));
  EXPECT_FALSE(guard.Admits(4096, 1000)) << "its last page is there, and zero behind the end";
  EXPECT_FALSE(guard.Admits(0, kSize));
  EXPECT_EQ(guard.health().message(), "it was cut to 5000 of 2097152 bytes");
}

TEST_F(MemoryGuardTest, AnAccessThatWasUnderWayGoesOnAndIsFoundOut) {
  MemoryGuard guard(memory_, fd_.get(), 0, kPage);
  ASSERT_TRUE(guard.Admits(0, kSize));
  Cut(10 * kPage);
  // More pages than the guard remembers one by one.
  for (uint64_t page = 0; page < kSize / kPage; ++page) {
    const auto expected = page < 10 ? static_cast<std::byte>(page + 1) : std::byte{0};
    ASSERT_EQ(Read(page * kPage), expected);
  }
  memory_[20 * kPage] = std::byte{1};
  EXPECT_FALSE(guard.Holds(20 * kPage, 1));
  guard.Look();
  EXPECT_TRUE(guard.Holds(0, 10 * kPage)) << "the end of the file explains all of them";
}

TEST_F(MemoryGuardTest, LookingFindsACutThatNobodyTouched) {
  MemoryGuard guard(memory_, fd_.get(), 0, kPage);
  Cut(kSize - 100);
  guard.Look();
  EXPECT_FALSE(guard.Holds(kSize - 8, 8));
  EXPECT_TRUE(guard.Holds(0, kSize - 100));
  Cut(kSize);
  guard.Look();
  EXPECT_FALSE(guard.Holds(kSize - 8, 8)) << "what was there does not come back";
}

TEST_F(MemoryGuardTest, ThreadsMayMeetTheHoleTogether) {
  MemoryGuard guard(memory_, fd_.get(), 0, kPage);
  Cut(kPage);
  std::vector<std::thread> threads;
  std::atomic<int> refused = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (uint64_t page = 1; page < 64; ++page) refused += guard.Admits(page * kPage, 8) ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused, 8 * 63);
  EXPECT_TRUE(guard.Admits(0, kPage));
}

TEST_F(MemoryGuardTest, MemoryOfNoGuardEndsTheProcessAsBefore) {
  { const MemoryGuard guard(memory_, fd_.get(), 0, kPage); }
  EXPECT_EXIT(
      {
        Cut(kPage);
        Read(8 * kPage);
      },
      [](int status) { return status != 0; }, "");
}

}  // namespace
}  // namespace oxmem
