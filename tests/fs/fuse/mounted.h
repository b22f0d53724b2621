#ifndef TESTS_FS_FUSE_MOUNTED_H_
#define TESTS_FS_FUSE_MOUNTED_H_

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fs/fuse/fuse_mount.h"
#include "fs/volume/mapped_volume.h"
#include "fs/volume/remote_volume.h"
#include "gtest/gtest.h"
#include "tests/fs/volume/awkward_channel.h"
#include "transport/api/source.h"
#include "transport/base/unique_fd.h"
#include "transport/local/memory_source.h"

namespace oxmem::fs {

inline constexpr uint64_t kMountedBytes = uint64_t{4} << 20;

// An empty directory that goes when the test does.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/oxmem-test-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TemporaryDirectory() { rmdir(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline bool CanMount() { return geteuid() == 0 && UniqueFd(open("/dev/fuse", O_RDWR)).valid(); }

enum class Over {
  kMappedMemory,
  kChannel,
  kAwkwardChannel,  // aligned, with few and small requests, not memory of this host
};

inline std::unique_ptr<Volume> MemoryVolume(const transport::MemorySource& memory, Over over) {
  if (over == Over::kAwkwardChannel) {
    return std::make_unique<RemoteVolume>(std::make_unique<AwkwardChannel>(
        memory.OpenChannel(),
        AwkwardChannel::Habits{
            .alignment_bytes = 64, .largest_request_bytes = 65536, .depth = 16}));
  }
  std::unique_ptr<Volume> volume = std::make_unique<RemoteVolume>(memory.OpenChannel());
  if (over == Over::kChannel) return volume;
  auto mapped = MappedVolume::Create(std::move(volume));
  EXPECT_TRUE(mapped.ok()) << mapped.status();
  return *std::move(mapped);
}

// A mount of 4 MiB of memory, served by a process of its own: a process that used a mount which it
// serves itself could not be killed. The server ends with the test.
class Mounted {
 public:
  explicit Mounted(MountOptions options, Over over = Over::kMappedMemory,
                   std::size_t reactors = 1) {
    options.directory = directory_.path();
    options.device_name = "mem:?size=4M";
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    server_ = fork();
    if (server_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(ends[0]);
      Serve(ends[1], options, over, reactors);
      _exit(0);
    }
    close(ends[1]);
    control_.Reset(ends[0]);
    error_ = Receive();
  }
  ~Mounted() {
    control_.Reset();
    waitpid(server_, nullptr, 0);
    umount2(directory().c_str(), MNT_DETACH);
  }

  // Empty if it is mounted.
  const std::string& error() const { return error_; }
  const std::string& directory() const { return directory_.path(); }
  std::string file() const { return directory_.path() + "/data"; }
  UniqueFd Open(int flags) const {
    UniqueFd fd(open(file().c_str(), flags | O_CLOEXEC));
    EXPECT_TRUE(fd.valid()) << std::strerror(errno);
    return fd;
  }

  // What FuseMount::Shutdown said; empty if it was clean.
  std::string Shutdown() {
    EXPECT_EQ(send(control_.get(), "shutdown", 8, 0), 8);
    return Receive();
  }
  // The server says when its mount has ended.
  bool WaitUntilEnded() {
    EXPECT_EQ(send(control_.get(), "wait", 4, 0), 4);
    return Receive() == "ended";
  }
  void Kill() {
    kill(server_, SIGKILL);
    waitpid(server_, nullptr, 0);
  }

 private:
  std::string Receive() {
    char text[4096];
    const ssize_t bytes = recv(control_.get(), text, sizeof text, 0);
    return bytes <= 0 ? "the server is gone"
                      : std::string(text, static_cast<std::size_t>(bytes) - 1);
  }

  static void Answer(int control, std::string text) {
    send(control, text.c_str(), text.size() + 1, MSG_NOSIGNAL);
  }

  static void Serve(int control, const MountOptions& options, Over over, std::size_t reactors) {
    auto source = transport::ParseSource("mem:?size=4M");
    auto memory = transport::MemorySource::Create(*source);
    std::vector<std::vector<std::unique_ptr<Volume>>> volumes(reactors);
    for (auto& own : volumes) own.push_back(MemoryVolume(*memory, over));
    auto mount = FuseMount::Create(options, {{"data", "mem:?size=4M"}}, std::move(volumes));
    absl::Status status = mount.ok() ? (*mount)->Start() : mount.status();
    Answer(control, std::string(status.message()));
    char command[16];
    while (status.ok()) {
      const ssize_t bytes = recv(control, command, sizeof command, 0);
      if (bytes <= 0) return;
      if (command[0] == 's') {
        Answer(control, std::string((*mount)->Shutdown().message()));
      } else {
        pollfd ended{.fd = (*mount)->ended_fd(), .events = POLLIN, .revents = 0};
        Answer(control, poll(&ended, 1, 20000) == 1 ? "ended" : "still there");
      }
    }
  }

  TemporaryDirectory directory_;
  pid_t server_ = 0;
  UniqueFd control_;
  std::string error_;
};

}  // namespace oxmem::fs

#endif  // TESTS_FS_FUSE_MOUNTED_H_
