#ifndef TESTS_FS_FUSE_MOUNTED_H_
#define TESTS_FS_FUSE_MOUNTED_H_

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fs/fuse/fuse_mount.h"
#include "fs/volume/mapped_volume.h"
#include "fs/volume/remote_volume.h"
#include "gtest/gtest.h"
#include "tests/fs/volume/awkward_channel.h"
#include "transport/api/source.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"
#include "transport/local/memory_source.h"
#include "transport/local/unix_socket.h"

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
  kStuckChannel,    // starts writes and never ends them
  kSlowChannel,     // begins writes late; not memory of this host
  kSlowNoEvent,     // the same, and has to be asked
};

// Takes writes and does nothing with them; says so on a descriptor.
class StuckVolume final : public ForwardingVolume {
 public:
  StuckVolume(std::unique_ptr<Volume> beneath, int stuck_fd)
      : ForwardingVolume(std::move(beneath)), stuck_fd_(stuck_fd), event_fd_(eventfd(0, 0)) {}

  void Start(IoOp& op) override {
    if (op.kind != IoKind::kWrite) return beneath().Start(op);
    stuck_.push_back(&op);
    EXPECT_EQ(eventfd_write(stuck_fd_, 1), 0);
  }
  void Cancel(IoOp& op) override {
    stuck_.erase(std::find(stuck_.begin(), stuck_.end(), &op));
    op.Finish(transport::Code::kTimedOut, 0);
  }
  int event_fd() const override { return event_fd_.get(); }
  std::size_t in_flight() const override { return beneath().in_flight() + stuck_.size(); }

 private:
  int stuck_fd_;
  UniqueFd event_fd_;
  std::vector<IoOp*> stuck_;
};

// Begins its writes late, so that others overtake them.
class SlowVolume final : public ForwardingVolume {
 public:
  SlowVolume(std::unique_ptr<Volume> beneath, bool with_event)
      : ForwardingVolume(std::move(beneath)), event_fd_(with_event ? eventfd(0, 0) : -1) {}

  void Start(IoOp& op) override {
    if (op.kind != IoKind::kWrite) return beneath().Start(op);
    late_.push_back({Now() + kDelay, &op});
  }
  void Cancel(IoOp& op) override {
    if (std::erase_if(late_, [&op](const Late& late) { return late.op == &op; }) == 0) {
      return beneath().Cancel(op);
    }
    op.Finish(transport::Code::kTimedOut, 0);
  }
  bool Poll() override {
    bool moved = false;
    while (!late_.empty() && late_.front().due <= Now()) {
      IoOp* const op = late_.front().op;
      late_.erase(late_.begin());
      beneath().Start(*op);
      moved = true;
    }
    return beneath().Poll() || moved;
  }
  int event_fd() const override { return event_fd_.get(); }
  Instant next_deadline() const override {
    const Instant next = beneath().next_deadline();
    return late_.empty() ? next : std::min(next, late_.front().due);
  }
  std::size_t in_flight() const override { return beneath().in_flight() + late_.size(); }

 private:
  static constexpr Duration kDelay = Duration::Milliseconds(50);
  struct Late {
    Instant due;
    IoOp* op = nullptr;
  };
  UniqueFd event_fd_;
  std::vector<Late> late_;
};

inline std::unique_ptr<Volume> MemoryVolume(const transport::MemorySource& memory, Over over) {
  if (over == Over::kSlowChannel || over == Over::kSlowNoEvent) {
    return std::make_unique<SlowVolume>(MemoryVolume(memory, Over::kAwkwardChannel),
                                        over == Over::kSlowChannel);
  }
  if (over == Over::kAwkwardChannel) {
    return std::make_unique<RemoteVolume>(std::make_unique<AwkwardChannel>(
        memory.OpenChannel(),
        AwkwardChannel::Habits{
            .alignment_bytes = 64, .largest_request_bytes = 65536, .depth = 16}));
  }
  std::unique_ptr<Volume> volume = std::make_unique<RemoteVolume>(memory.OpenChannel());
  if (over != Over::kMappedMemory) return volume;
  auto mapped = MappedVolume::Create(std::move(volume));
  EXPECT_TRUE(mapped.ok()) << mapped.status();
  return *std::move(mapped);
}

// A mount of 4 MiB of memory, served by a process of its own: a process that used a mount which it
// serves itself could not be killed. It must not even inherit an open file or a mapping, or what
// another thread of the test is in the midst of, so servers are children of a process that was
// forked before the first file was opened. They all end with the test.
class Mounted {
 public:
  explicit Mounted(MountOptions options, Over over = Over::kMappedMemory, std::size_t reactors = 1)
      : options_(std::move(options)),
        over_(over),
        memory_(*transport::MemorySource::Create(*transport::ParseSource("mem:?size=4M"))) {
    options_.directory = directory_.path();
    options_.device_name = "mem:?size=4M";
    StartNursery();
    StartServer(reactors, {});
  }
  ~Mounted() {
    control_.Reset();
    AwaitEnd();
    umount2(directory().c_str(), MNT_DETACH);
    orders_.Reset();
    waitpid(nursery_, nullptr, 0);
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
    (void)StatusOfServer();
  }
  // The server stops and leaves the mount.
  void Leave() {
    EXPECT_EQ(send(control_.get(), "leave", 5, 0), 5);
    EXPECT_EQ(Receive(), "left");
    AwaitEnd();
  }
  // What keeps the mount alive without its server.
  LiveMount Life() {
    EXPECT_EQ(send(control_.get(), "life", 4, 0), 4);
    return ReceiveLife(control_.get());
  }
  // Another server, after the end of the first; what it said.
  std::string Continue(LiveMount live, std::size_t reactors = 1) {
    StartServer(reactors, std::move(live));
    return error_;
  }
  MountOptions& options() { return options_; }
  // Of the next server.
  void SetOver(Over over) { over_ = over; }
  // Until a server over a stuck channel has read a write.
  void WaitUntilStuck() {
    eventfd_t count = 0;
    EXPECT_EQ(eventfd_read(stuck_fd_.get(), &count), 0);
  }

 private:
  // What a server is to be; the end of its control socket comes with it, and a life behind it if it
  // is to go on with one.
  struct Order {
    std::size_t reactors = 0;  // 0: say how the server ended
    Over over = Over::kMappedMemory;
    bool read_only = false;
    bool goes_on = false;
  };

  void StartNursery() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    nursery_ = fork();
    if (nursery_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(ends[0]);
      KeepNursery(ends[1]);
      _exit(0);
    }
    close(ends[1]);
    orders_.Reset(ends[0]);
  }

  void KeepNursery(int orders) {
    for (;;) {
      Order order;
      std::size_t length = 0;
      UniqueFd control;
      const auto bytes = std::as_writable_bytes(std::span(&order, 1));
      if (transport::ReceivePacket(orders, bytes, &length, &control) !=
          transport::Received::kPacket) {
        return;
      }
      if (order.reactors == 0) {
        int status = 0;
        waitpid(server_, &status, 0);
        send(orders, &status, sizeof status, 0);
        continue;
      }
      std::optional<LiveMount> life;
      if (order.goes_on) life = ReceiveLife(orders);
      server_ = fork();
      if (server_ != 0) {
        send(orders, &server_, sizeof server_, 0);
        continue;
      }
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(orders);
      over_ = order.over;
      options_.read_only = order.read_only;
      Serve(control.get(), order.reactors, std::move(life));
      _exit(testing::Test::HasFailure() ? 1 : 0);
    }
  }

  void StartServer(std::size_t reactors, std::optional<LiveMount> life) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    control_.Reset(ends[0]);
    const UniqueFd other(ends[1]);
    const Order order{.reactors = reactors,
                      .over = over_,
                      .read_only = options_.read_only,
                      .goes_on = life.has_value()};
    SendOrder(order, other.get());
    if (life.has_value()) SendLife(orders_.get(), *std::move(life));
    EXPECT_EQ(recv(orders_.get(), &server_, sizeof server_, 0), ssize_t{sizeof server_});
    error_ = Receive();
  }

  void SendOrder(const Order& order, int fd) {
    EXPECT_TRUE(transport::SendPacket(orders_.get(), std::as_bytes(std::span(&order, 1)), fd).ok());
  }

  // How it ended, as waitpid says it.
  int StatusOfServer() {
    int status = -1;
    SendOrder({}, -1);
    EXPECT_EQ(recv(orders_.get(), &status, sizeof status, 0), ssize_t{sizeof status});
    server_ = 0;
    return status;
  }

  // The server has nothing more to do; it must have come to a good end.
  void AwaitEnd() {
    if (server_ == 0) return;
    EXPECT_EQ(StatusOfServer(), 0);
  }

  std::string Receive() {
    char text[4096];
    const ssize_t bytes = recv(control_.get(), text, sizeof text, 0);
    return bytes <= 0 ? "the server is gone"
                      : std::string(text, static_cast<std::size_t>(bytes) - 1);
  }
  static UniqueFd ReceiveFd(int socket) {
    UniqueFd fd;
    std::byte byte;
    std::size_t length = 0;
    EXPECT_EQ(transport::ReceivePacket(socket, {&byte, 1}, &length, &fd),
              transport::Received::kPacket);
    return fd;
  }
  static LiveMount ReceiveLife(int socket) {
    LiveMount live;
    for (UniqueFd fd; (fd = ReceiveFd(socket)).valid();) {
      if (!live.record.valid()) {
        live.record = std::move(fd);
      } else if (!live.attributes.valid()) {
        live.attributes = std::move(fd);
      } else {
        live.fuse_fds.push_back(std::move(fd));
      }
    }
    return live;
  }
  static void SendFds(int socket, std::vector<int> fds) {
    fds.push_back(-1);
    const std::byte byte{};
    for (const int fd : fds) EXPECT_TRUE(transport::SendPacket(socket, {&byte, 1}, fd).ok());
  }
  static void SendLife(int socket, LiveMount life) {
    std::vector<int> fds = {life.record.get(), life.attributes.get()};
    for (const UniqueFd& fd : life.fuse_fds) fds.push_back(fd.get());
    SendFds(socket, std::move(fds));
  }

  static void Answer(int control, std::string text) {
    send(control, text.c_str(), text.size() + 1, MSG_NOSIGNAL);
  }

  absl::StatusOr<std::unique_ptr<FuseMount>> TakeOver(
      const std::vector<MountFile>& files,
      std::vector<std::vector<std::unique_ptr<Volume>>> volumes, LiveMount live) {
    std::vector<UniqueFd> fuse_fds = std::move(live.fuse_fds);
    OXMEM_ASSIGN_OR_RETURN(auto mount, FuseMount::PrepareTakeOver(
                                           options_, files, std::move(volumes), std::move(live)));
    OXMEM_RETURN_IF_ERROR(mount->TakeOver(std::move(fuse_fds)));
    return mount;
  }

  void Serve(int control, std::size_t reactors, std::optional<LiveMount> live) {
    std::vector<std::vector<std::unique_ptr<Volume>>> volumes(reactors);
    for (auto& own : volumes) {
      own.push_back(MemoryVolume(memory_, over_));
      if (over_ != Over::kStuckChannel) continue;
      own[0] = std::make_unique<StuckVolume>(std::move(own[0]), stuck_fd_.get());
    }
    std::vector<MountFile> files = {{"data", "mem:?size=4M"}};
    auto mount = live.has_value() ? TakeOver(files, std::move(volumes), *std::move(live))
                                  : FuseMount::Create(options_, files, std::move(volumes));
    absl::Status status = mount.ok() ? (*mount)->Start() : mount.status();
    Answer(control, std::string(status.message()));
    char text[16];
    while (status.ok()) {
      const ssize_t bytes = recv(control, text, sizeof text, 0);
      if (bytes <= 0) return;
      const std::string command(text, static_cast<std::size_t>(bytes));
      if (command == "shutdown") {
        Answer(control, std::string((*mount)->Shutdown().message()));
      } else if (command == "life") {
        std::vector<int> fds = (*mount)->fuse_fds();
        fds.insert(fds.begin(), {(*mount)->record_fd(), (*mount)->attributes_fd()});
        SendFds(control, std::move(fds));
      } else if (command == "leave") {
        (*mount)->Leave();
        Answer(control, "left");
        return;
      } else {
        pollfd ended{.fd = (*mount)->ended_fd(), .events = POLLIN, .revents = 0};
        Answer(control, poll(&ended, 1, 20000) == 1 ? "ended" : "still there");
      }
    }
  }

  TemporaryDirectory directory_;
  MountOptions options_;
  Over over_;
  transport::MemorySource memory_;
  UniqueFd stuck_fd_{eventfd(0, EFD_CLOEXEC)};
  pid_t nursery_ = 0;
  UniqueFd orders_;  // for the nursery
  pid_t server_ = 0;
  UniqueFd control_;
  std::string error_;
};

}  // namespace oxmem::fs

#endif  // TESTS_FS_FUSE_MOUNTED_H_
