// Asynchronous writes past the page cache beside reads into it.
#include "fs/fuse/write_order.h"

#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <array>
#include <cstdlib>
#include <thread>

#include "tests/fs/fuse/mounted.h"

namespace oxmem::fs {
namespace {

constexpr std::size_t kPage = 4096;

// One write of the kernel's asynchronous interface.
class AsynchronousWrite {
 public:
  AsynchronousWrite() { EXPECT_EQ(syscall(SYS_io_setup, 1, &context_), 0); }
  ~AsynchronousWrite() { syscall(SYS_io_destroy, context_); }
  AsynchronousWrite(const AsynchronousWrite&) = delete;
  AsynchronousWrite& operator=(const AsynchronousWrite&) = delete;

  void Begin(int fd, std::span<const char> bytes, off_t offset) {
    iocb request{};
    request.aio_fildes = static_cast<uint32_t>(fd);
    request.aio_lio_opcode = IOCB_CMD_PWRITE;
    request.aio_buf = reinterpret_cast<uintptr_t>(bytes.data());
    request.aio_nbytes = bytes.size();
    request.aio_offset = offset;
    iocb* requests = &request;
    EXPECT_EQ(syscall(SYS_io_submit, context_, 1, &requests), 1);
  }
  int64_t End() {
    io_event event{};
    EXPECT_EQ(syscall(SYS_io_getevents, context_, 1, 1, &event, nullptr), 1);
    return event.res;
  }

 private:
  aio_context_t context_ = 0;
};

struct Mode {
  std::string name;
  Dax dax;
  Over over;
  std::size_t reactors;
};

class WriteOrderTest : public testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
    MountOptions options;
    options.dax = GetParam().dax;
    mounted_ = std::make_unique<Mounted>(options, GetParam().over, GetParam().reactors);
    ASSERT_EQ(mounted_->error(), "");
    direct_ = mounted_->Open(O_RDWR | O_DIRECT);
    cached_ = mounted_->Open(O_RDWR);
    mapping_ = static_cast<char*>(
        mmap(nullptr, kMountedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, cached_.get(), 0));
    ASSERT_NE(mapping_, MAP_FAILED);
    page_.reset(static_cast<char*>(std::aligned_alloc(kPage, kPage)));
  }
  void TearDown() override {
    if (mapping_ != nullptr) munmap(mapping_, kMountedBytes);
  }
  std::span<char> page() { return {page_.get(), kPage}; }

  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::unique_ptr<Mounted> mounted_;
  UniqueFd direct_;
  UniqueFd cached_;
  char* mapping_ = nullptr;
  std::unique_ptr<char, Free> page_;
};

TEST_P(WriteOrderTest, AMappingThatIsReadMeanwhileHasTheNewBytesAndKeepsThem) {
  AsynchronousWrite write;
  for (int round = 1; round <= 3; ++round) {
    const off_t offset = round * 65536;
    std::memset(page_.get(), round, kPage);
    write.Begin(direct_.get(), page(), offset);
    volatile const char* const place = mapping_ + offset;
    (void)*place;  // brings the page into the cache
    EXPECT_EQ(write.End(), int64_t{kPage});
    EXPECT_EQ(*place, round);
    // A store carries the whole page back.
    mapping_[offset + 1] = 99;
    ASSERT_EQ(msync(mapping_, kMountedBytes, MS_SYNC), 0);
    ASSERT_EQ(pread(direct_.get(), page_.get(), kPage, offset), ssize_t{kPage});
    EXPECT_EQ(page_.get()[0], round);
    EXPECT_EQ(page_.get()[1], 99);
  }
}

TEST_P(WriteOrderTest, ReadsThatAreReadAheadSeeItToo) {
  AsynchronousWrite write;
  char byte = 0;
  for (int round = 1; round <= 3; ++round) {
    const off_t base = round * 1048576;
    std::memset(page_.get(), round, kPage);
    write.Begin(direct_.get(), page(), base + 65536);
    ASSERT_EQ(pread(cached_.get(), &byte, 1, base), 1);
    ASSERT_EQ(mapping_[base], 0);
    EXPECT_EQ(write.End(), int64_t{kPage});
    ASSERT_EQ(pread(cached_.get(), &byte, 1, base + 65536), 1);
    EXPECT_EQ(byte, round);
    EXPECT_EQ(mapping_[base + 65536], round);
  }
}

// With one reactor, too, nobody who waits is in the way of what is waited for.
TEST_P(WriteOrderTest, OtherPagesAreReadMeanwhile) {
  AsynchronousWrite write;
  std::memset(page_.get(), 7, kPage);
  const Instant begin = Now();
  write.Begin(direct_.get(), page(), 0);
  ASSERT_EQ(madvise(mapping_, kMountedBytes, MADV_RANDOM), 0);
  EXPECT_EQ(mapping_[2097152], 0);
  const Duration read = Now() - begin;
  EXPECT_EQ(write.End(), int64_t{kPage});
  EXPECT_LT(read, Now() - begin);
  EXPECT_EQ(mapping_[0], 7);
}

TEST_P(WriteOrderTest, AMountGoesWhileReadsWait) {
  AsynchronousWrite write;
  write.Begin(direct_.get(), page(), 0);
  std::thread reader([this] {
    char byte = 0;
    (void)!pread(cached_.get(), &byte, 1, 0);
    (void)*const_cast<volatile const char*>(mapping_);
  });
  EXPECT_NE(mounted_->Shutdown(), "");  // it is in use
  reader.join();
  write.End();
}

// The kernel gives both again, in no order.
TEST(WriteOrder, HoldsForWhatADeadServerHadRead) {
  if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
  for (int round = 0; round < 12; ++round) {
    MountOptions options;
    options.dax = Dax::kNever;
    Mounted mounted(options, Over::kStuckChannel);
    ASSERT_EQ(mounted.error(), "");
    const UniqueFd direct = mounted.Open(O_RDWR | O_DIRECT);
    const UniqueFd fd = mounted.Open(O_RDWR);
    auto* mapping = static_cast<char*>(
        mmap(nullptr, kMountedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    ASSERT_NE(mapping, MAP_FAILED);
    ASSERT_EQ(madvise(mapping, kMountedBytes, MADV_RANDOM), 0);
    alignas(kPage) static std::array<char, kPage> page;
    page.fill(7);
    LiveMount live = mounted.Life();
    AsynchronousWrite write;
    const off_t offset = round * 8192;
    write.Begin(direct.get(), page, offset);
    mounted.WaitUntilStuck();
    std::thread reader([&] { (void)*const_cast<volatile const char*>(mapping + offset); });
    usleep(20'000);  // until it waits; if it comes later the test sees less
    mounted.Kill();
    mounted.SetOver(round % 2 == 0 ? Over::kChannel : Over::kSlowChannel);
    EXPECT_EQ(mounted.Continue(std::move(live), 1 + static_cast<std::size_t>(round) % 3), "");
    reader.join();
    EXPECT_EQ(write.End(), int64_t{kPage});
    EXPECT_EQ(mapping[offset], 7) << "round " << round;
    munmap(mapping, kMountedBytes);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Modes, WriteOrderTest,
    testing::Values(Mode{"PageCache", Dax::kAuto, Over::kSlowChannel, 1},
                    Mode{"PageCacheThree", Dax::kAuto, Over::kSlowChannel, 3},
                    Mode{"PageCacheNoEvent", Dax::kAuto, Over::kSlowNoEvent, 1},
                    Mode{"PageCacheThreeNoEvent", Dax::kAuto, Over::kSlowNoEvent, 3},
                    Mode{"Direct", Dax::kNever, Over::kSlowChannel, 1},
                    Mode{"DirectThree", Dax::kNever, Over::kSlowChannel, 3},
                    Mode{"DirectThreeNoEvent", Dax::kNever, Over::kSlowNoEvent, 3}),
    [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace oxmem::fs
