// Files that stay open while the process that serves them is replaced, in every mode.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/fs/fuse/mounted.h"

namespace oxmem::fs {
namespace {

struct Mode {
  std::string name;
  Dax dax;
  Over over;
  std::size_t reactors;
  std::size_t next_reactors;
};

const Mode kModes[] = {
    {"Passthrough", Dax::kAlways, Over::kMappedMemory, 1, 1},
    {"Direct", Dax::kNever, Over::kMappedMemory, 1, 1},
    {"DirectChannel", Dax::kNever, Over::kChannel, 1, 1},
    {"PageCache", Dax::kAuto, Over::kAwkwardChannel, 1, 1},
    {"MoreReactors", Dax::kNever, Over::kChannel, 1, 3},
    {"FewerReactors", Dax::kNever, Over::kChannel, 3, 1},
};

class FuseTakeOverTest : public testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
    MountOptions options;
    options.dax = GetParam().dax;
    mounted_ = std::make_unique<Mounted>(options, GetParam().over, GetParam().reactors);
    ASSERT_EQ(mounted_->error(), "");
  }
  void WriteAndRead(const UniqueFd& fd, off_t at, char byte) {
    std::vector<char> bytes(100000, byte);
    ASSERT_EQ(pwrite(fd.get(), bytes.data(), bytes.size(), at), ssize_t{100000});
    bytes.assign(bytes.size(), 0);
    ASSERT_EQ(pread(fd.get(), bytes.data(), bytes.size(), at), ssize_t{100000});
    EXPECT_EQ(bytes, std::vector<char>(100000, byte));
  }
  std::unique_ptr<Mounted> mounted_;
};

TEST_P(FuseTakeOverTest, OpenFilesGoOnAfterTheServerWasKilled) {
  const UniqueFd before = mounted_->Open(O_RDWR);
  WriteAndRead(before, 1000, 'a');
  auto* map = static_cast<char*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, before.get(), 1 << 20));
  ASSERT_NE(map, MAP_FAILED);
  map[0] = 'm';
  ASSERT_EQ(fchmod(before.get(), 0640), 0);
  LiveMount live = mounted_->Life();
  mounted_->Kill();
  ASSERT_EQ(mounted_->Continue(std::move(live), GetParam().next_reactors), "");
  char byte = 0;
  EXPECT_EQ(pread(before.get(), &byte, 1, 1001), 1);
  EXPECT_EQ(byte, 'a') << "what was written before is there";
  WriteAndRead(before, 200000, 'b');
  const UniqueFd after = mounted_->Open(O_RDWR);
  WriteAndRead(after, 300001, 'c');
  map[1] = 'n';
  EXPECT_EQ(msync(map, 4096, MS_SYNC), 0);
  const UniqueFd direct = mounted_->Open(O_RDONLY);
  char pair[2] = {};
  EXPECT_EQ(pread(direct.get(), pair, 2, 1 << 20), 2);
  EXPECT_EQ(std::string(pair, 2), "mn");
  struct stat attributes {};
  EXPECT_EQ(fstat(after.get(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 0777, 0640u);
  munmap(map, 4096);
}

TEST_P(FuseTakeOverTest, OpenFilesGoOnAfterTheServerHasLeft) {
  const UniqueFd before = mounted_->Open(O_RDWR);
  WriteAndRead(before, 1000, 'a');
  LiveMount live = mounted_->Life();
  mounted_->Leave();
  ASSERT_EQ(mounted_->Continue(std::move(live), GetParam().next_reactors), "");
  WriteAndRead(before, 200000, 'b');
  EXPECT_EQ(mounted_->Shutdown().find("was in use") == std::string::npos, false);
}

TEST_P(FuseTakeOverTest, ACallMadeMeanwhileWaitsForTheNextServer) {
  const UniqueFd before = mounted_->Open(O_RDWR);
  LiveMount live = mounted_->Life();
  mounted_->Kill();
  ssize_t written = 0;
  std::thread writer([&] { written = pwrite(before.get(), "late", 4, 77); });
  ASSERT_EQ(mounted_->Continue(std::move(live), GetParam().next_reactors), "");
  writer.join();
  EXPECT_EQ(written, 4);
  char text[4] = {};
  EXPECT_EQ(pread(before.get(), text, 4, 77), 4);
  EXPECT_EQ(std::string(text, 4), "late");
}

INSTANTIATE_TEST_SUITE_P(Modes, FuseTakeOverTest, testing::ValuesIn(kModes),
                         [](const auto& test) { return test.param.name; });

// A request that the dead process had read: the kernel gives it to the next one.
TEST(FuseTakeOver, WhatTheDeadServerHadReadIsAnsweredByTheNext) {
  if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
  for (const bool killed : {true, false}) {
    MountOptions options;
    options.dax = Dax::kNever;
    Mounted mounted(options, Over::kStuckChannel);
    ASSERT_EQ(mounted.error(), "");
    const UniqueFd fd = mounted.Open(O_RDWR);
    LiveMount live = mounted.Life();
    ssize_t written = 0;
    std::thread writer([&] { written = pwrite(fd.get(), "stuck", 5, 99); });
    mounted.WaitUntilStuck();
    killed ? mounted.Kill() : mounted.Leave();
    mounted.SetOver(Over::kChannel);
    ASSERT_EQ(mounted.Continue(std::move(live)), "");
    writer.join();
    EXPECT_EQ(written, 5);
    char text[5] = {};
    EXPECT_EQ(pread(fd.get(), text, 5, 99), 5);
    EXPECT_EQ(std::string(text, 5), "stuck");
  }
}

TEST(FuseTakeOver, OtherFilesOrOptionsAreRefusedAndTheMountStays) {
  if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
  Mounted mounted({});
  ASSERT_EQ(mounted.error(), "");
  LiveMount live = mounted.Life();
  LiveMount again = mounted.Life();
  mounted.Kill();
  mounted.options().read_only = true;
  EXPECT_NE(mounted.Continue(std::move(live)).find("its options are rw"), std::string::npos);
  mounted.options().read_only = false;
  EXPECT_EQ(mounted.Continue(std::move(again)), "");
  mounted.Open(O_RDWR);
}

}  // namespace
}  // namespace oxmem::fs
