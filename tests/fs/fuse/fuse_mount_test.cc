// What a program sees of a mounted file, in every mode.
#include "fs/fuse/fuse_mount.h"

#include <dirent.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <thread>

#include "fs/fuse/mount_point.h"
#include "tests/fs/fuse/mounted.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

struct Mode {
  std::string name;
  Dax dax;
  Over over;
  std::size_t reactors;
  std::optional<Duration> spin;
  FileMode expected;
};

const Mode kModes[] = {
    {"Passthrough", Dax::kAlways, Over::kMappedMemory, 1, {}, FileMode::kPassthrough},
    {"Direct", Dax::kNever, Over::kMappedMemory, 1, {}, FileMode::kDirect},
    {"DirectChannel", Dax::kNever, Over::kChannel, 1, {}, FileMode::kDirect},
    {"PageCache", Dax::kAuto, Over::kAwkwardChannel, 1, {}, FileMode::kPageCache},
    {"DirectAwkward", Dax::kNever, Over::kAwkwardChannel, 1, {}, FileMode::kDirect},
    {"TwoReactors", Dax::kNever, Over::kMappedMemory, 2, {}, FileMode::kDirect},
    {"Sleeping", Dax::kNever, Over::kMappedMemory, 1, Duration(), FileMode::kDirect},
    {"SleepingAwkward", Dax::kNever, Over::kAwkwardChannel, 1, Duration(), FileMode::kDirect},
    {"Spinning", Dax::kNever, Over::kChannel, 1, Duration::Microseconds(200), FileMode::kDirect},
};

class FuseMountTest : public testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
    MountOptions options;
    options.dax = GetParam().dax;
    options.spin = GetParam().spin;
    options.umask = 022;
    mounted_ = std::make_unique<Mounted>(options, GetParam().over, GetParam().reactors);
    ASSERT_EQ(mounted_->error(), "");
  }
  bool passthrough() const { return GetParam().expected == FileMode::kPassthrough; }
  std::unique_ptr<Mounted> mounted_;
};

std::string GetText(const std::string& file, const char* name) {
  char text[256];
  const ssize_t n = getxattr(file.c_str(), name, text, sizeof text);
  return n < 0 ? std::strerror(errno) : std::string(text, static_cast<std::size_t>(n));
}

TEST_P(FuseMountTest, SaysWhichModeItHas) {
  EXPECT_EQ(GetText(mounted_->file(), "user.oxmem.dax"), FileModeName(GetParam().expected));
  EXPECT_EQ(GetText(mounted_->file(), "user.oxmem.size"), "4194304");
  EXPECT_EQ(GetText(mounted_->file(), "user.oxmem.health"), "ok");
  EXPECT_EQ(GetText(mounted_->file(), "user.other"), std::strerror(ENODATA));
  char names[1024];
  EXPECT_GT(listxattr(mounted_->file().c_str(), names, sizeof names), 0);
}

TEST_P(FuseMountTest, ReadsBackWhatWasWritten) {
  const UniqueFd fd = mounted_->Open(O_RDWR);
  std::vector<char> out(300000);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(i * 7 + i / 256);
  ASSERT_EQ(pwrite(fd.get(), out.data(), out.size(), 12345), ssize_t(out.size()));
  std::vector<char> in(out.size());
  ASSERT_EQ(pread(fd.get(), in.data(), in.size(), 12345), ssize_t(in.size()));
  EXPECT_EQ(in, out);
  EXPECT_EQ(fsync(fd.get()), 0);
  EXPECT_EQ(fdatasync(fd.get()), 0);
}

TEST_P(FuseMountTest, EndOfFileIsWhereTheRegionEnds) {
  const UniqueFd fd = mounted_->Open(O_RDWR);
  char bytes[100] = {};
  EXPECT_EQ(pread(fd.get(), bytes, 100, kMountedBytes), 0);
  EXPECT_EQ(pread(fd.get(), bytes, 100, kMountedBytes - 40), 40);
  EXPECT_EQ(pwrite(fd.get(), bytes, 100, kMountedBytes - 100), 100);
  EXPECT_EQ(pwrite(fd.get(), bytes, 1, kMountedBytes), -1);
  // The kernel writes to sealed memory by itself, and that is its word for it.
  EXPECT_EQ(errno, passthrough() ? EPERM : ENOSPC);
  struct stat attributes;
  ASSERT_EQ(fstat(fd.get(), &attributes), 0);
  EXPECT_EQ(attributes.st_size, off_t(kMountedBytes));
}

TEST_P(FuseMountTest, SizeStaysWhateverIsTruncated) {
  UniqueFd fd = mounted_->Open(O_RDWR);
  ASSERT_EQ(pwrite(fd.get(), "kept", 4, 100), 4);
  EXPECT_EQ(ftruncate(fd.get(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(truncate(mounted_->file().c_str(), 5), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(truncate(mounted_->file().c_str(), 0), 0) << "the kernel sends it as an O_TRUNC";
  EXPECT_EQ(ftruncate(fd.get(), kMountedBytes), 0);
  fd = mounted_->Open(O_RDWR | O_TRUNC);
  char bytes[4];
  ASSERT_EQ(pread(fd.get(), bytes, 4, 100), 4);
  EXPECT_EQ(std::string(bytes, 4), "kept");
}

TEST_P(FuseMountTest, TruncatingOpenKeepsTheMappedStoresOfOthers) {
  const UniqueFd fd = mounted_->Open(O_RDWR);
  void* map = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(map, MAP_FAILED) << std::strerror(errno);
  std::memcpy(static_cast<char*>(map) + 5000, "dirty", 5);
  const UniqueFd truncating = mounted_->Open(O_WRONLY | O_TRUNC);
  EXPECT_EQ(std::memcmp(static_cast<char*>(map) + 5000, "dirty", 5), 0);
  ASSERT_EQ(msync(map, 8192, MS_SYNC), 0);
  char bytes[5];
  ASSERT_EQ(pread(fd.get(), bytes, 5, 5000), 5);
  EXPECT_EQ(std::memcmp(bytes, "dirty", 5), 0);
  munmap(map, 8192);
}

TEST_P(FuseMountTest, MappingsReadAndWrite) {
  const UniqueFd fd = mounted_->Open(O_RDWR);
  ASSERT_EQ(pwrite(fd.get(), "before", 6, 70000), 6);
  auto* map = static_cast<char*>(
      mmap(nullptr, kMountedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  ASSERT_NE(map, MAP_FAILED) << std::strerror(errno);
  EXPECT_EQ(std::memcmp(map + 70000, "before", 6), 0);
  std::memcpy(map + kMountedBytes - 7, "the end", 7);
  ASSERT_EQ(msync(map, kMountedBytes, MS_SYNC), 0);
  char bytes[7];
  ASSERT_EQ(pread(fd.get(), bytes, 7, kMountedBytes - 7), 7);
  EXPECT_EQ(std::memcmp(bytes, "the end", 7), 0);
  munmap(map, kMountedBytes);
  map = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get(), 0));
  ASSERT_NE(map, MAP_FAILED);
  map[0] = 'p';
  munmap(map, 4096);
  ASSERT_EQ(pread(fd.get(), bytes, 1, 0), 1);
  EXPECT_EQ(bytes[0], 0);
}

TEST_P(FuseMountTest, PunchedAndZeroedRangesReadAsZeros) {
  const UniqueFd fd = mounted_->Open(O_RDWR);
  const std::vector<char> full(1 << 20, 'x');
  ASSERT_EQ(pwrite(fd.get(), full.data(), full.size(), 0), ssize_t(full.size()));
  const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  ASSERT_EQ(fallocate(fd.get(), punch, 1000, 9000), 0) << std::strerror(errno);
  ASSERT_EQ(fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, 300000, 500000), 0);
  std::vector<char> in(full.size());
  ASSERT_EQ(pread(fd.get(), in.data(), in.size(), 0), ssize_t(in.size()));
  for (std::size_t i = 0; i < in.size(); ++i) {
    const bool zero = (i >= 1000 && i < 10000) || (i >= 300000 && i < 800000);
    ASSERT_EQ(in[i], zero ? 0 : 'x') << i;
  }
  EXPECT_EQ(fallocate(fd.get(), 0, 0, kMountedBytes), 0);
  EXPECT_EQ(fallocate(fd.get(), 0, 0, kMountedBytes + 1), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(fallocate(fd.get(), FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST_P(FuseMountTest, SeekingFindsDataEverywhere) {
  const UniqueFd fd = mounted_->Open(O_RDONLY);
  EXPECT_EQ(lseek(fd.get(), 5000, SEEK_DATA), 5000);
  EXPECT_EQ(lseek(fd.get(), 5000, SEEK_HOLE), off_t(kMountedBytes));
  EXPECT_EQ(lseek(fd.get(), kMountedBytes, SEEK_DATA), -1);
  EXPECT_EQ(errno, ENXIO);
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_END), off_t(kMountedBytes));
}

TEST_P(FuseMountTest, FreeSpaceIsNone) {
  struct statvfs statistics;
  ASSERT_EQ(statvfs(mounted_->file().c_str(), &statistics), 0);
  EXPECT_EQ(statistics.f_blocks * statistics.f_frsize, kMountedBytes);
  EXPECT_EQ(statistics.f_bavail, 0u);
}

TEST_P(FuseMountTest, DirectoryHasItsFilesAndTakesNoOthers) {
  std::set<std::string> names;
  DIR* directory = opendir(mounted_->directory().c_str());
  ASSERT_NE(directory, nullptr);
  while (const dirent* entry = readdir(directory)) names.insert(entry->d_name);
  closedir(directory);
  EXPECT_EQ(names, (std::set<std::string>{".", "..", "data"}));
  const std::string other = mounted_->directory() + "/other";
  EXPECT_EQ(open(other.c_str(), O_CREAT | O_RDWR, 0600), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(mkdir(other.c_str(), 0700), -1);
  EXPECT_EQ(unlink(mounted_->file().c_str()), -1);
  EXPECT_EQ(rename(mounted_->file().c_str(), other.c_str()), -1);
  EXPECT_EQ(open(other.c_str(), O_RDONLY), -1);
  EXPECT_EQ(errno, ENOENT);
}

TEST_P(FuseMountTest, ANameThatIsTooLongIsCalledSo) {
  const std::string longest = mounted_->directory() + "/" + std::string(255, 'x');
  const std::string longer = longest + "x";
  struct stat attributes;
  EXPECT_EQ(stat(longest.c_str(), &attributes), -1);
  EXPECT_EQ(errno, ENOENT);
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(stat(longer.c_str(), &attributes), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);
  }
  EXPECT_EQ(open(longer.c_str(), O_CREAT | O_RDWR, 0600), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
  EXPECT_EQ(mkdir(longer.c_str(), 0700), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
  EXPECT_EQ(rename(mounted_->file().c_str(), longer.c_str()), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
}

TEST_P(FuseMountTest, TimesBefore1970AreKept) {
  const timespec times[2] = {{-5, 7}, {-3000000000, 9}};
  ASSERT_EQ(utimensat(AT_FDCWD, mounted_->file().c_str(), times, 0), 0);
  struct stat attributes;
  ASSERT_EQ(stat(mounted_->file().c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_atim.tv_sec, -5);
  EXPECT_EQ(attributes.st_atim.tv_nsec, 7);
  EXPECT_EQ(attributes.st_mtim.tv_sec, -3000000000);
  EXPECT_EQ(attributes.st_mtim.tv_nsec, 9);
}

TEST_P(FuseMountTest, OwnerModeAndTimesAreKept) {
  const std::string file = mounted_->file();
  ASSERT_EQ(chmod(file.c_str(), 0640), 0);
  ASSERT_EQ(chown(file.c_str(), 12, 34), 0);
  const timespec times[2] = {{1000, 5}, {2000, 6}};
  ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
  struct stat attributes;
  ASSERT_EQ(stat(file.c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode, mode_t(S_IFREG | 0640));
  EXPECT_EQ(attributes.st_uid, 12u);
  EXPECT_EQ(attributes.st_gid, 34u);
  EXPECT_EQ(attributes.st_mtim.tv_sec, 2000);
  EXPECT_EQ(attributes.st_atim.tv_nsec, 5);
}

TEST_P(FuseMountTest, WritingChangesTheTime) {
  const timespec old_times[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, mounted_->file().c_str(), old_times, 0), 0);
  const UniqueFd fd = mounted_->Open(O_WRONLY);
  ASSERT_EQ(pwrite(fd.get(), "x", 1, 0), 1);
  struct stat attributes;
  ASSERT_EQ(fstat(fd.get(), &attributes), 0);
  EXPECT_GT(attributes.st_mtim.tv_sec, 1000);
  // An older time can be set again, and stays until the next write.
  ASSERT_EQ(utimensat(AT_FDCWD, mounted_->file().c_str(), old_times, 0), 0);
  ASSERT_EQ(fchmod(fd.get(), 0600), 0);
  ASSERT_EQ(stat(mounted_->file().c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mtim.tv_sec, 1000);
}

TEST_P(FuseMountTest, LocksAndPollWork) {
  const UniqueFd one = mounted_->Open(O_RDWR);
  const UniqueFd two = mounted_->Open(O_RDWR);
  ASSERT_EQ(flock(one.get(), LOCK_EX), 0);
  EXPECT_EQ(flock(two.get(), LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  ASSERT_EQ(flock(one.get(), LOCK_UN), 0);
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_len = 10;
  ASSERT_EQ(fcntl(one.get(), F_OFD_SETLK, &range), 0);
  EXPECT_EQ(fcntl(two.get(), F_OFD_SETLK, &range), -1);
  pollfd ready{.fd = one.get(), .events = POLLIN | POLLOUT, .revents = 0};
  EXPECT_EQ(poll(&ready, 1, 0), 1);
}

TEST_P(FuseMountTest, ManyThreadsOfDirectWritesKeepTheirBytes) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([this, t] {
      const UniqueFd fd = mounted_->Open(O_RDWR | O_DIRECT);
      void* memory = nullptr;
      ASSERT_EQ(posix_memalign(&memory, 4096, 65536), 0);
      const off_t base = t * 524288;
      for (int round = 0; round < 8; ++round) {
        std::memset(memory, t * 8 + round, 65536);
        ASSERT_EQ(pwrite(fd.get(), memory, 65536, base + round * 65536), 65536);
        std::memset(memory, 0, 65536);
        ASSERT_EQ(pread(fd.get(), memory, 65536, base + round * 65536), 65536);
        EXPECT_EQ(static_cast<char*>(memory)[65535], static_cast<char>(t * 8 + round));
      }
      std::free(memory);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(FuseMountTest, UnmountsCleanlyWhenNobodyUsesIt) {
  EXPECT_EQ(mounted_->Shutdown(), "");
  EXPECT_FALSE(FindMount(mounted_->directory()).ok());
}

TEST_P(FuseMountTest, ShutdownWritesBackAndNamesWhoHoldsIt) {
  const UniqueFd fd = mounted_->Open(O_RDWR);
  EXPECT_NE(mounted_->Shutdown().find(std::to_string(getpid())), std::string::npos);
  char byte;
  EXPECT_EQ(pread(fd.get(), &byte, 1, 0), passthrough() ? 1 : -1);
}

TEST_P(FuseMountTest, EndsWhenSomebodyElseUnmounts) {
  ASSERT_TRUE(Unmount(mounted_->directory(), UnmountMode::kClean).ok());
  EXPECT_TRUE(mounted_->WaitUntilEnded());
}

TEST(FuseMount, AlwaysDaxNamesWhyItCannotBe) {
  if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
  MountOptions options;
  options.dax = Dax::kAlways;
  const Mounted mounted(options, Over::kAwkwardChannel);
  EXPECT_NE(mounted.error().find("data: "), std::string::npos) << mounted.error();
  EXPECT_NE(mounted.error().find("memory of this host"), std::string::npos);
  EXPECT_FALSE(FindMount(mounted.directory()).ok()) << "nothing stays mounted";
}

TEST(FuseMount, KilledServerLeavesAMountThatANewOneReplaces) {
  if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
  Mounted mounted({});
  ASSERT_EQ(mounted.error(), "");
  mounted.Kill();
  struct stat attributes;
  EXPECT_EQ(stat(mounted.file().c_str(), &attributes), -1);
  EXPECT_EQ(errno, ENOTCONN);
  EXPECT_TRUE(FindMount(mounted.directory()).ok());
  EXPECT_TRUE(PrepareMountPoint(mounted.directory()).ok());
  EXPECT_FALSE(FindMount(mounted.directory()).ok());
}

TEST(FuseMount, ReadOnlyMountTakesNoWrites) {
  if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
  MountOptions options;
  options.read_only = true;
  const Mounted mounted(options, Over::kChannel);
  ASSERT_EQ(mounted.error(), "");
  EXPECT_EQ(open(mounted.file().c_str(), O_RDWR), -1);
  EXPECT_EQ(errno, EROFS);
  const UniqueFd fd = mounted.Open(O_RDONLY);
  char byte;
  EXPECT_EQ(pread(fd.get(), &byte, 1, 0), 1);
}

TEST(MountPoint, SaysWhatIsWrongWithIt) {
  const TemporaryDirectory directory;
  const auto message = [](const auto& result) { return std::string(result.status().message()); };
  EXPECT_NE(message(PrepareMountPoint(directory.path() + "/none")).find("no such directory"),
            std::string::npos);
  EXPECT_NE(message(PrepareMountPoint("/proc")).find("mounted there already"), std::string::npos);
  EXPECT_NE(message(PrepareMountPoint("/etc")).find("not empty"), std::string::npos);
  EXPECT_NE(message(PrepareMountPoint("/etc/passwd")).find("not a directory"), std::string::npos);
  EXPECT_NE(message(FindMount(directory.path())).find("nothing is mounted"), std::string::npos);
  EXPECT_NE(message(FindMount("/proc")).find("not ours"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Modes, FuseMountTest, testing::ValuesIn(kModes),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace oxmem::fs
