// Files that stay open while the process that serves them is replaced, in every mode.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
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

// A write that may have to wait. It is made by another process: the next server is forked
// meanwhile, and a fork of a process whose threads come and go may leave a lock in the child that
// nobody gives back there, one of the address sanitizer's for example.
class Writer {
 public:
  Writer(const UniqueFd& fd, const std::string& text, off_t at) : length_(text.size()) {
    child_ = fork();
    if (child_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // It must not be the one who keeps the mount alive.
    const auto own = static_cast<unsigned>(fd.get());
    if (own > 3 && close_range(3, own - 1, 0) != 0) _exit(2);
    if (close_range(own + 1, ~0U, 0) != 0) _exit(2);
    const ssize_t written = pwrite(fd.get(), text.data(), text.size(), at);
    _exit(written == static_cast<ssize_t>(length_) ? 0 : 1);
  }
  ~Writer() {
    if (child_ > 0) kill(child_, SIGKILL);
    Join();
  }
  // Whether everything was written.
  bool Join() {
    int status = -1;
    if (child_ > 0) waitpid(std::exchange(child_, 0), &status, 0);
    return status == 0;
  }

 private:
  std::size_t length_;
  pid_t child_;
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
  Writer writer(before, "late", 77);
  ASSERT_EQ(mounted_->Continue(std::move(live), GetParam().next_reactors), "");
  EXPECT_TRUE(writer.Join());
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
    Writer writer(fd, "stuck", 99);
    mounted.WaitUntilStuck();
    killed ? mounted.Kill() : mounted.Leave();
    mounted.SetOver(Over::kChannel);
    ASSERT_EQ(mounted.Continue(std::move(live)), "");
    EXPECT_TRUE(writer.Join());
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

TEST(FuseTakeOver, WhatWouldAgreeOnSomethingElseWithTheKernelIsRefusedBefore) {
  if (!CanMount()) GTEST_SKIP() << "mounting needs root and /dev/fuse";
  Mounted mounted({});
  ASSERT_EQ(mounted.error(), "");
  const LiveMount live = mounted.Life();
  const auto record = ReadMountRecord(live.record.get());
  ASSERT_TRUE(record.ok()) << record.status();
  const std::vector<MountFile> files = {{"data", "mem:?size=4M"}};
  EXPECT_TRUE(FuseMount::CheckTakeOver(*record, mounted.options(), files, {}).ok());
  for (std::size_t i = 0; i < record->init_answer.size(); ++i) {
    MountRecord other = *record;
    other.init_answer[i] ^= std::byte{1};
    const absl::Status status = FuseMount::CheckTakeOver(other, mounted.options(), files, {});
    EXPECT_NE(std::string(status.message()).find("agrees on something else"), std::string::npos);
  }
  MountRecord broken = *record;
  broken.init_request.resize(40);
  EXPECT_FALSE(FuseMount::CheckTakeOver(broken, mounted.options(), files, {}).ok());
}

}  // namespace
}  // namespace oxmem::fs
