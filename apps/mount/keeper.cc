#include "apps/mount/keeper.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/common/runtime_directory.h"
#include "apps/mount/keeper_command.h"
#include "apps/mount/keeper_process.h"
#include "fs/fuse/mount_point.h"
#include "transport/base/log.h"
#include "transport/base/status.h"
#include "transport/local/unix_socket.h"

namespace oxmem::apps {
namespace {

constexpr Duration kPatience = Duration::Seconds(5);
// A keeper may have to be started first, on a machine that has other things to do.
constexpr Duration kKeptPatience = Duration::Seconds(20);
// The server before us may still be waiting for answers.
constexpr Duration kTakePatience = Duration::Seconds(60);

absl::Status MakeSockets(UniqueFd* own, UniqueFd* other) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return ErrnoStatus(errno, "a socket to the keeper");
  }
  own->Reset(ends[0]);
  other->Reset(ends[1]);
  return absl::OkStatus();
}

absl::Status DoesNotAnswer(const std::string& path) {
  return absl::DeadlineExceededError(
      absl::StrCat("the keeper of the mount, which listens at ", path,
                   ", does not answer: is it stopped? If it is killed, the process that serves the "
                   "mount starts another one"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Keeper>> Keeper::Start(const KeeperPlan& plan) {
  UniqueFd own;
  UniqueFd other;
  OXMEM_RETURN_IF_ERROR(MakeSockets(&own, &other));
  const pid_t server = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "the keeper of the mount");
  if (pid == 0) RunKeeper(std::move(other), server, plan);
  return std::unique_ptr<Keeper>(new Keeper(std::move(own), pid));
}

absl::StatusOr<std::unique_ptr<Keeper>> Keeper::StartAnew(const KeeperPlan& plan) {
  UniqueFd own;
  UniqueFd other;
  OXMEM_RETURN_IF_ERROR(MakeSockets(&own, &other));
  OXMEM_ASSIGN_OR_RETURN(const pid_t pid, SpawnKeeper(other.get(), plan));
  return std::unique_ptr<Keeper>(new Keeper(std::move(own), pid));
}

Keeper::~Keeper() {
  // Without its socket the keeper is gone, or has the mount.
  if (socket_.valid()) {
    (void)SendWord(socket_.get(), KeeperWord::kBye);
    const Instant deadline = Now() + kPatience;
    while (ReceiveWord(socket_.get(), deadline).ok()) {
    }
    socket_.Reset();
  }
  waitpid(pid_, nullptr, WNOHANG);
}

absl::Status Keeper::Keep(const Things& things) {
  const int socket = socket_.get();
  OXMEM_RETURN_IF_ERROR(SendWord(socket, KeeperWord::kRecord, "", things.record));
  OXMEM_RETURN_IF_ERROR(SendWord(socket, KeeperWord::kAttributes, "", things.attributes));
  for (const int fd : things.memory) {
    OXMEM_RETURN_IF_ERROR(SendWord(socket, KeeperWord::kMemory, "", fd));
  }
  for (const int fd : things.listening) {
    OXMEM_RETURN_IF_ERROR(SendWord(socket, KeeperWord::kListening, "", fd));
  }
  for (const int fd : things.fuse_fds) {
    OXMEM_RETURN_IF_ERROR(SendWord(socket, KeeperWord::kFuse, "", fd));
  }
  OXMEM_RETURN_IF_ERROR(SendWord(socket, KeeperWord::kEnd,
                                 (things.survives_its_server ? "1" : "0") + things.socket_path));
  OXMEM_ASSIGN_OR_RETURN(const KeeperMessage answer, ReceiveWord(socket, Now() + kKeptPatience));
  if (answer.word != KeeperWord::kKept) return absl::InternalError(answer.text);
  // The keeper could not listen: this server's death is survived, but nobody can replace it.
  deaf_ = answer.text;
  return absl::OkStatus();
}

absl::Status Keeper::Update(int record) {
  return SendWord(socket_.get(), KeeperWord::kRecord, "", record);
}

Keeper::Heard Keeper::Hear() {
  const absl::StatusOr<KeeperMessage> message = ReceiveWord(socket_.get(), Now());
  if (message.ok()) {
    return message->word == KeeperWord::kLeave ? Heard::kLeave : Heard::kNothing;
  }
  if (!absl::IsUnavailable(message.status())) return Heard::kNothing;
  Bury();
  return Heard::kEnded;
}

// What is still left of it may hold the path.
void Keeper::Bury() {
  socket_.Reset();
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool Keeper::SayLeft() {
  absl::Status heard = SendWord(socket_.get(), KeeperWord::kLeft);
  const Instant deadline = Now() + kTakePatience;
  while (heard.ok()) {
    const absl::StatusOr<KeeperMessage> answer = ReceiveWord(socket_.get(), deadline);
    heard = answer.status();
    if (!heard.ok() || answer->word != KeeperWord::kLeft) continue;
    socket_.Reset();
    return true;
  }
  Bury();
  return false;
}

absl::StatusOr<std::unique_ptr<Predecessor>> Predecessor::Ask(UniqueFd socket) {
  std::unique_ptr<Predecessor> predecessor(new Predecessor(std::move(socket)));
  const Instant deadline = Now() + kPatience;
  for (;;) {
    OXMEM_ASSIGN_OR_RETURN(KeeperMessage message,
                           ReceiveWord(predecessor->socket_.get(), deadline));
    if (message.word == KeeperWord::kServing || message.word == KeeperWord::kOrphaned) {
      predecessor->serving_ = message.word == KeeperWord::kServing;
      return predecessor;
    }
    OXMEM_RETURN_IF_ERROR(Store(std::move(message), &predecessor->kept_));
  }
}

absl::StatusOr<std::unique_ptr<Predecessor>> Predecessor::AskAt(const std::string& path) {
  // A keeper that has just handed over is followed by another one at the same path.
  const Instant deadline = Now() + kPatience;
  for (;;) {
    auto socket = transport::ConnectUnix(path);
    if (!socket.ok()) {
      const int error = ErrnoOf(socket.status());
      if (error == ENOENT || error == ECONNREFUSED) return absl::NotFoundError(path);
      return error == EAGAIN ? DoesNotAnswer(path) : socket.status();
    }
    auto predecessor = Ask(*std::move(socket));
    if (absl::IsDeadlineExceeded(predecessor.status())) return DoesNotAnswer(path);
    if (!absl::IsUnavailable(predecessor.status()) || Now() > deadline) return predecessor;
    usleep(1000);
  }
}

absl::StatusOr<std::vector<UniqueFd>> Predecessor::Take() {
  OXMEM_RETURN_IF_ERROR(SendWord(socket_.get(), KeeperWord::kTake));
  const Instant deadline = Now() + kTakePatience;
  for (;;) {
    OXMEM_ASSIGN_OR_RETURN(KeeperMessage message, ReceiveWord(socket_.get(), deadline));
    if (message.word == KeeperWord::kEnd) return std::move(kept_.mount.fuse_fds);
    OXMEM_RETURN_IF_ERROR(Store(std::move(message), &kept_));
  }
}

void Predecessor::Taken() { (void)SendWord(socket_.get(), KeeperWord::kTaken); }

void Predecessor::LetGo() {
  (void)SendWord(socket_.get(), KeeperWord::kLetGo);
  const Instant deadline = Now() + kPatience;
  while (ReceiveWord(socket_.get(), deadline).ok()) {
  }
}

absl::StatusOr<std::string> KeeperPath(const std::string& directory) {
  OXMEM_ASSIGN_OR_RETURN(const fs::OurMount mount, fs::FindMount(directory));
  return KeeperPathOf(mount.device);
}

absl::StatusOr<std::string> KeeperPathOf(const std::string& device) {
  OXMEM_ASSIGN_OR_RETURN(const std::string runtime, MakeRuntimeDirectory());
  return absl::StrCat(runtime, "/mount-", device, ".keeper");
}

}  // namespace oxmem::apps
