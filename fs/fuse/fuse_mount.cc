#include "fs/fuse/fuse_mount.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fs/fuse/apart.h"
#include "fs/fuse/held_stderr.h"
#include "fs/fuse/holders.h"
#include "fs/fuse/init_reply.h"
#include "fs/fuse/libfuse_log.h"
#include "fs/fuse/mount_point.h"
#include "fs/fuse/passthrough.h"
#include "spdlog/spdlog.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

constexpr Duration kHandshakePatience = Duration::Seconds(10);
constexpr Duration kWriteBackPatience = Duration::Seconds(60);
constexpr Duration kEndPatience = Duration::Seconds(5);

// Commas and backslashes separate mount options.
std::string EscapeOption(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == ',' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::vector<std::string> SessionArguments(const MountOptions& options) {
  std::string list = absl::StrCat(
      "subtype=oxmem,nosuid,nodev,default_permissions,fsname=", EscapeOption(options.device_name),
      options.read_only ? ",ro" : "", options.allow_other ? ",allow_other" : "",
      options.no_exec ? ",noexec" : "");
  return {"-o", std::move(list)};
}

// The signal that wakes a reactor out of read: it only has to interrupt.
void CatchWakeSignal() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, nullptr);
}

FileTable::File FileOf(const MountFile& file, const Volume& volume) {
  const VolumeInfo& info = volume.info();
  return {.name = file.name,
          .source = file.source,
          .provider = volume.name(),
          .size_bytes = info.size_bytes,
          .block_bytes = info.block_bytes,
          .read_only = info.read_only,
          .persistent = info.persistent};
}

absl::StatusOr<std::vector<std::byte>> ReadInitRequest(int fd) {
  pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
  const int timeout_ms = static_cast<int>(kHandshakePatience.nanoseconds() / 1000000);
  if (poll(&ready, 1, timeout_ms) <= 0) {
    return absl::DeadlineExceededError("the kernel sent no FUSE_INIT within 10 s");
  }
  std::vector<std::byte> request(sizeof(fuse_in_header) + sizeof(fuse_write_in) + kLargestIoBytes);
  const ssize_t bytes = read(fd, request.data(), request.size());
  if (bytes < 0) return ErrnoStatus(errno, "reading FUSE_INIT");
  request.resize(static_cast<std::size_t>(bytes));
  return request;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FuseMount>> FuseMount::Create(
    MountOptions options, std::vector<MountFile> files,
    std::vector<std::vector<std::unique_ptr<Volume>>> volumes) {
  OXMEM_CHECK(!volumes.empty());
  OXMEM_ASSIGN_OR_RETURN(const MountPoint point, PrepareMountPoint(options.directory));
  options.directory = point.path;
  OXMEM_CHECK(volumes[0].size() == files.size());
  std::vector<FileTable::File> table;
  for (std::size_t i = 0; i < files.size(); ++i) {
    table.push_back(FileOf(files[i], *volumes[0][i]));
  }
  OXMEM_ASSIGN_OR_RETURN(auto file_table, FileTable::Create(std::move(table), options));
  std::unique_ptr<FuseMount> mount(new FuseMount(std::move(options), std::move(file_table)));
  OXMEM_RETURN_IF_ERROR(mount->MakeReactors(std::move(volumes)));
  OXMEM_RETURN_IF_ERROR(mount->Mount());
  OXMEM_RETURN_IF_ERROR(Annotate(mount->Handshake(), mount->options_.directory));
  return mount;
}

absl::Status FuseMount::MakeReactors(std::vector<std::vector<std::unique_ptr<Volume>>> volumes) {
  ended_fd_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!ended_fd_.valid()) return ErrnoStatus(errno, "eventfd");
  for (auto& own : volumes) {
    OXMEM_CHECK(own.size() == files_->size());
    OXMEM_ASSIGN_OR_RETURN(auto reactor, Reactor::Create(options_, files_.get(), std::move(own)));
    reactors_.push_back(std::move(reactor));
  }
  return absl::OkStatus();
}

absl::Status FuseMount::MakeSessions() {
  LibfuseLog log;
  const std::vector<std::string> arguments = SessionArguments(options_);
  for (auto& reactor : reactors_) {
    OXMEM_RETURN_IF_ERROR(Annotate(reactor->MakeSession(arguments), log.last()));
  }
  return absl::OkStatus();
}

absl::Status FuseMount::Mount() {
  OXMEM_RETURN_IF_ERROR(MakeSessions());
  LibfuseLog log;
  fuse_session* session = reactors_[0]->session();
  HeldStderr held;
  if (fuse_session_mount(session, options_.directory.c_str()) != 0) {
    std::string why = held.Take();
    if (why.empty()) why = log.last();
    const bool unrunnable = absl::StrContains(why, "failed to exec") ||
                            absl::StrContains(why, "posix_spawn");  // since 3.17
    if (why.empty() || unrunnable) {
      why = "fusermount3 cannot be run (is the package fuse3 installed?)";
    }
    return absl::FailedPreconditionError(absl::StrCat(options_.directory, ": ", why));
  }
  mounted_ = true;
  if (const auto mount = FindMount(options_.directory); mount.ok()) options_.device = mount->device;
  return reactors_[0]->Attach(fuse_session_fd(session));
}

absl::Status FuseMount::Handshake() {
  const int fd = reactors_[0]->fuse_fd();
  OXMEM_ASSIGN_OR_RETURN(auto request, ReadInitRequest(fd));
  OXMEM_ASSIGN_OR_RETURN(const InitReply reply, InitReply::FromRequest(request));
  OXMEM_RETURN_IF_ERROR(reactors_[0]->Initialize(request, reply, true));
  for (std::size_t i = 1; i < reactors_.size(); ++i) {
    OXMEM_ASSIGN_OR_RETURN(UniqueFd clone, CloneFuseFd(fd));
    OXMEM_RETURN_IF_ERROR(reactors_[i]->Attach(clone.Release()));
    OXMEM_RETURN_IF_ERROR(reactors_[i]->Initialize(request, reply, false));
  }
  OXMEM_RETURN_IF_ERROR(ChooseModes(reply.kernel_has_passthrough()));
  survives_its_server_ = reply.kernel_has_resend();
  return WriteRecord(std::move(request));
}

absl::Status FuseMount::ChooseModes(bool kernel_has_passthrough) {
  for (std::size_t i = 0; i < files_->size(); ++i) {
    if (options_.dax == Dax::kNever) {
      files_->SetMode(i, FileMode::kDirect, "dax=never");
      continue;
    }
    const VolumeInfo& info = reactors_[0]->volume(i).info();
    absl::Status possible = PassthroughPossible(info, kernel_has_passthrough);
    if (possible.ok()) possible = reactors_[0]->BackingOf(i).status();
    if (possible.ok()) {
      files_->SetMode(i, FileMode::kPassthrough, "");
    } else if (options_.dax == Dax::kAlways) {
      return absl::FailedPreconditionError(absl::StrCat("dax=always: ", files_->file(i).name, ": ",
                                                        std::string(possible.message())));
    } else {
      files_->SetMode(i, FileMode::kPageCache, std::string(possible.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status FuseMount::Start() {
  CatchWakeSignal();
  for (auto& reactor : reactors_) {
    std::vector<Reactor*> peers;
    for (auto& other : reactors_) {
      if (other != reactor) peers.push_back(other.get());
    }
    reactor->SetPeers(std::move(peers), &lead_, &order_);
  }
  running_ = reactors_.size();
  if (taken_over_) {
    AskAgain();
    for (auto& reactor : reactors_) reactor->ExpectResent();
  }
  if (owners_changed_) ForgetAttributes();
  for (auto& reactor : reactors_) {
    threads_.emplace_back([this, own = reactor.get()] {
      own->Run();
      if (running_.fetch_sub(1) != 1) return;
      const uint64_t one = 1;
      (void)!write(ended_fd_.get(), &one, sizeof one);
    });
  }
  if (!taken_over_ || read_ahead_changed_) {
    const absl::Status set = SetReadAhead();
    if (!set.ok()) spdlog::debug("read-ahead stays as it is: {}", std::string(set.message()));
  }
  for (std::size_t i = 0; i < files_->size(); ++i) {
    const FileTable::File& file = files_->file(i);
    if (files_->stale(i)) LookUpAgain(absl::StrCat(place(), "/", file.name));
    spdlog::info("{}/{}: {} ({} bytes), {}{}", options_.directory, file.name, file.provider,
                 file.size_bytes, FileModeName(file.mode),
                 file.mode_reason.empty() ? "" : " (" + file.mode_reason + ")");
  }
  return absl::OkStatus();
}

std::string FuseMount::place() const {
  return PlaceOf(options_.device, options_.directory).value_or(options_.directory);
}

absl::Status FuseMount::UnmountHere(UnmountMode mode) const {
  const auto where = PlaceOf(options_.device, options_.directory);
  if (where.has_value()) return Unmount(*where, mode);
  // Something else may be mounted at that directory now.
  return ErrnoStatus(EINVAL, absl::StrCat(options_.directory, " (not mounted here any more)"));
}

absl::Status FuseMount::SetReadAhead() const {
  const std::string path = absl::StrCat(
      "/sys/class/bdi/", absl::StrReplaceAll(options_.device, {{"-", ":"}}), "/read_ahead_kb");
  std::ofstream file(path);
  file << options_.read_ahead_bytes / 1024 << std::endl;
  if (file) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(options_.directory, ": ", path, " cannot be written"));
}

absl::Status FuseMount::Shutdown() {
  if (!mounted_ || running_ == 0) return absl::OkStatus();
  absl::Status status = UnmountHere(UnmountMode::kClean);
  if (status.ok()) {
    mounted_ = false;
    if (WaitForEnd(kEndPatience)) {
      Join();
      return absl::OkStatus();
    }
    StopServing();
    return absl::AbortedError(
        absl::StrCat(options_.directory,
                     " is still mounted in another mount namespace (a container's, perhaps); "
                     "whoever uses it there gets errors from now on"));
  }
  const std::string who = HoldersOf(place());
  WriteBack();
  const absl::Status detached = UnmountHere(UnmountMode::kDetach);
  mounted_ = !detached.ok();
  StopServing();
  OXMEM_RETURN_IF_ERROR(detached);
  if (ErrnoOf(status) != EBUSY) return status;
  return ErrnoStatus(EBUSY, absl::StrCat(options_.directory, " was in use and is detached",
                                         who.empty() ? "" : ": ", who));
}

// File by file: a syncfs of FUSE begins to write and does not wait (Linux 6.18).
void FuseMount::WriteBack() const {
  std::vector<std::string> paths;
  const std::string directory = place();
  for (std::size_t i = 0; i < files_->size(); ++i) {
    paths.push_back(absl::StrCat(directory, "/", files_->file(i).name));
  }
  const auto sync = [&paths] {
    int error = 0;
    for (const std::string& path : paths) {
      const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (fd < 0 || fsync(fd) != 0) error = errno;
    }
    return error;
  };
  const int error = Apart(sync, Now() + kWriteBackPatience);
  if (error != 0) {
    spdlog::warn("{}: not everything could be written back: {}", options_.directory,
                 std::strerror(error));
  }
}

void FuseMount::StopServing() {
  for (auto& reactor : reactors_) reactor->Stop();
  Join();
  // Closes the last descriptors, on which whoever still has a file open would wait for ever.
  reactors_.clear();
}

bool FuseMount::WaitForEnd(Duration patience) const {
  pollfd ended{.fd = ended_fd_.get(), .events = POLLIN, .revents = 0};
  return poll(&ended, 1, static_cast<int>(patience.nanoseconds() / 1000000)) > 0;
}

void FuseMount::Join() {
  if (threads_.empty()) return;
  // The signal may come just before the read that it is to interrupt, so it comes again.
  while (!WaitForEnd(Duration::Milliseconds(20))) {
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      if (reactors_[i]->waits_in_read()) pthread_kill(threads_[i].native_handle(), SIGUSR1);
    }
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

FuseMount::~FuseMount() {
  const bool serving = !threads_.empty();
  if (mounted_ && (!serving || running_ != 0)) {
    const absl::Status status = UnmountHere(UnmountMode::kDetach);
    if (!status.ok()) spdlog::debug("{}", std::string(status.message()));
  }
  for (auto& reactor : reactors_) reactor->Stop();
  Join();
}

}  // namespace oxmem::fs
