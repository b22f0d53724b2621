#include "apps/mount/keeper_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/status.h"
#include "transport/local/unix_socket.h"

namespace oxmem::apps {
namespace {

constexpr Duration kSilence = Duration::Seconds(60);        // of a successor
constexpr Duration kLeavePatience = Duration::Seconds(15);  // for a server to stop serving
constexpr Duration kLendPatience = Duration::Seconds(10);   // for one to come
constexpr Duration kRetry = Duration::Seconds(1);
// A server that dies as soon as it serves is not started again for ever.
constexpr std::size_t kMostRestarts = 5;
constexpr Duration kRestartPeriod = Duration::Seconds(60);

class KeeperProcess {
 public:
  KeeperProcess(UniqueFd socket, pid_t server, const KeeperPlan& plan)
      : server_(std::move(socket)), server_pid_(server), plan_(plan) {}

  void Run();

 private:
  bool Open();
  bool AwaitThings();
  std::string Listen();
  Instant NextDeadline() const;
  void Wait();
  void OnServer();
  void TakeNews(KeeperMessage message);
  void OnServerEnd(bool left);
  void OnConnection();
  void Offer();
  void OnSuccessor();
  void OnTime();
  void AskServerToLeave();
  void HandOver();
  void TryRestart();
  void DropSuccessor();
  bool MountIsGone() const;
  // It is there for a successor, and not for the mount's life.
  bool lent() const { return plan_.patience == Duration(); }

  UniqueFd server_;  // the socket; closed when the server is gone or says nothing more
  const pid_t server_pid_;
  UniqueFd server_life_;  // readable when the server has ended
  const KeeperPlan& plan_;
  KeptMount kept_;
  bool survives_its_server_ = false;
  std::string path_;
  UniqueFd listening_;
  UniqueFd successor_;
  bool successor_takes_ = false;
  bool serving_ = false;  // the server, or nobody
  bool ended_ = false;
  bool followed_ = false;  // by another keeper, which has the path now
  Instant orphan_deadline_ = Instant::Never();
  Instant successor_deadline_ = Instant::Never();
  Instant leave_deadline_ = Instant::Never();
  Instant restart_at_ = Instant::Never();
  Instant listen_at_ = Instant::Never();  // again: there was no descriptor for who came
};

bool KeeperProcess::Open() {
  server_life_.Reset(static_cast<int>(syscall(SYS_pidfd_open, server_pid_, 0)));
  return server_life_.valid();
}

bool KeeperProcess::AwaitThings() {
  for (;;) {
    absl::StatusOr<KeeperMessage> message = ReceiveWord(server_.get(), Instant::Never());
    if (!message.ok() || message->word == KeeperWord::kBye) return false;
    if (message->word == KeeperWord::kEnd) {
      survives_its_server_ = !message->text.empty() && message->text[0] == '1';
      path_ = message->text.substr(std::min<std::size_t>(1, message->text.size()));
      return SendWord(server_.get(), KeeperWord::kKept, Listen()).ok();
    }
    if (!Store(*std::move(message), &kept_).ok()) return false;
  }
}

// The reason if it cannot. The keeper before this one may still be at the path, and goes from there
// without a moment in which nobody is.
std::string KeeperProcess::Listen() {
  if (path_.empty()) return "there is no directory for sockets";
  const std::string first = absl::StrCat(path_, ".", getpid());
  unlink(first.c_str());
  auto listening = transport::ListenUnix(first, 0600, 8);
  if (!listening.ok()) return std::string(listening.status().message());
  if (std::rename(first.c_str(), path_.c_str()) != 0) {
    unlink(first.c_str());
    return absl::StrCat("cannot make ", path_);
  }
  listening_ = *std::move(listening);
  return "";
}

void KeeperProcess::Run() {
  if (!Open() || !AwaitThings()) return;
  serving_ = true;
  if (lent()) successor_deadline_ = Now() + kLendPatience;
  while (!ended_) Wait();
  if (!path_.empty() && listening_.valid() && !followed_) unlink(path_.c_str());
}

Instant KeeperProcess::NextDeadline() const {
  return std::min(
      {orphan_deadline_, successor_deadline_, leave_deadline_, restart_at_, listen_at_});
}

void KeeperProcess::Wait() {
  std::array<pollfd, 5> fds = {{
      {.fd = server_.get(), .events = POLLIN, .revents = 0},
      {.fd = serving_ ? server_life_.get() : -1, .events = POLLIN, .revents = 0},
      {.fd = successor_.valid() || !listen_at_.is_never() ? -1 : listening_.get(),
       .events = POLLIN,
       .revents = 0},
      {.fd = successor_.get(), .events = POLLIN, .revents = 0},
      // While somebody serves, every request would wake us.
      {.fd = serving_ ? -1 : kept_.mount.fuse_fds[0].get(), .events = 0, .revents = 0},
  }};
  if (poll(fds.data(), fds.size(), PollTimeoutMs(Now(), NextDeadline())) < 0) return;
  if (fds[0].revents != 0) OnServer();
  if (fds[1].revents != 0 && serving_) OnServerEnd(/*left=*/false);
  if (fds[2].revents != 0) OnConnection();
  if (fds[3].revents != 0) OnSuccessor();
  if (fds[4].revents != 0 && MountIsGone()) ended_ = true;
  OnTime();
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

void KeeperProcess::OnServer() {
  absl::StatusOr<KeeperMessage> message = ReceiveWord(server_.get(), Now());
  if (!message.ok()) {
    if (absl::IsUnavailable(message.status())) server_.Reset();  // its end comes by its life
    return;
  }
  TakeNews(*std::move(message));
}

void KeeperProcess::TakeNews(KeeperMessage message) {
  if (message.word == KeeperWord::kBye) {
    ended_ = true;
  } else if (message.word == KeeperWord::kLeft && serving_) {
    OnServerEnd(/*left=*/true);
  } else if (message.word == KeeperWord::kRecord) {
    (void)Store(std::move(message), &kept_);
  }
}

void KeeperProcess::OnServerEnd(bool left) {
  // What it said last may still be there.
  while (!left && server_.valid() && !ended_ && serving_) {
    absl::StatusOr<KeeperMessage> message = ReceiveWord(server_.get(), Now());
    if (!message.ok()) break;
    TakeNews(*std::move(message));
  }
  if (ended_ || !serving_) return;
  serving_ = false;
  leave_deadline_ = Instant::Never();
  if (MountIsGone() || (!left && !survives_its_server_)) {
    ended_ = true;
    return;
  }
  orphan_deadline_ = Now() + plan_.patience;
  if (successor_takes_) {
    HandOver();
  } else if (plan_.restart != nullptr) {
    restart_at_ = Now();
  }
  if (left && !successor_takes_) {
    ended_ = true;
    return;
  }
  if (left) (void)SendWord(server_.get(), KeeperWord::kLeft);
  server_.Reset();
}

void KeeperProcess::OnConnection() {
  UniqueFd socket(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) listen_at_ = Now() + kRetry;
    return;
  }
  const auto peer = transport::CredentialsOfPeer(socket.get());
  if (!peer.has_value() || (peer->uid != geteuid() && peer->uid != 0)) return;
  successor_ = std::move(socket);
  Offer();
}

void KeeperProcess::Offer() {
  successor_deadline_ = Now() + kSilence;
  const auto send = [this](KeeperWord word, int fd) {
    return SendWord(successor_.get(), word, "", fd).ok();
  };
  bool sent = send(KeeperWord::kRecord, kept_.mount.record.get()) &&
              send(KeeperWord::kAttributes, kept_.mount.attributes.get());
  for (const UniqueFd& fd : kept_.memory) sent = sent && send(KeeperWord::kMemory, fd.get());
  for (const UniqueFd& fd : kept_.listening) {
    sent = sent && send(KeeperWord::kListening, fd.get());
  }
  sent = sent && send(serving_ ? KeeperWord::kServing : KeeperWord::kOrphaned, -1);
  if (!sent) DropSuccessor();
}

void KeeperProcess::OnSuccessor() {
  const absl::StatusOr<KeeperMessage> message = ReceiveWord(successor_.get(), Now());
  if (!message.ok()) {
    if (absl::IsUnavailable(message.status())) DropSuccessor();
    return;
  }
  switch (message->word) {
    case KeeperWord::kTake:
      successor_takes_ = true;
      serving_ ? AskServerToLeave() : HandOver();
      return;
    case KeeperWord::kTaken:
      ended_ = followed_ = !serving_;
      return;
    case KeeperWord::kLetGo:
      ended_ = !serving_;
      if (!ended_) DropSuccessor();
      return;
    case KeeperWord::kRecord:
    case KeeperWord::kAttributes:
    case KeeperWord::kMemory:
    case KeeperWord::kListening:
    case KeeperWord::kFuse:
    case KeeperWord::kEnd:
    case KeeperWord::kKept:
    case KeeperWord::kServing:
    case KeeperWord::kOrphaned:
    case KeeperWord::kLeave:
    case KeeperWord::kLeft:
    case KeeperWord::kBye:
      DropSuccessor();
  }
}

void KeeperProcess::AskServerToLeave() {
  if (!SendWord(server_.get(), KeeperWord::kLeave).ok()) return;  // it is about to end anyway
  // Where the kernel does not give requests twice, they must all be answered first.
  if (survives_its_server_) leave_deadline_ = Now() + kLeavePatience;
}

void KeeperProcess::HandOver() {
  successor_deadline_ = Now() + kSilence;
  for (const UniqueFd& fd : kept_.mount.fuse_fds) {
    if (!SendWord(successor_.get(), KeeperWord::kFuse, "", fd.get()).ok()) return DropSuccessor();
  }
  if (!SendWord(successor_.get(), KeeperWord::kEnd).ok()) DropSuccessor();
}

void KeeperProcess::DropSuccessor() {
  successor_.Reset();
  successor_takes_ = false;
  successor_deadline_ = Instant::Never();
  if (!serving_ && plan_.restart != nullptr) restart_at_ = Now() + kRetry;
  if (serving_ && lent()) ended_ = true;
}

void KeeperProcess::OnTime() {
  const Instant now = Now();
  // A successor that is at it keeps the mount from being given up.
  if (now >= orphan_deadline_ && !successor_takes_) ended_ = true;
  if (now >= successor_deadline_) DropSuccessor();
  if (now >= leave_deadline_) {
    leave_deadline_ = Instant::Never();
    syscall(SYS_pidfd_send_signal, server_life_.get(), SIGKILL, nullptr, 0);
  }
  if (now >= listen_at_) listen_at_ = Instant::Never();
  if (now >= restart_at_ && !ended_) TryRestart();
}

void KeeperProcess::TryRestart() {
  restart_at_ = Instant::Never();
  if (successor_.valid()) return;
  KeeperPlan next = plan_;
  const Instant now = Now();
  std::erase_if(next.restarts, [now](Instant at) { return now - at > kRestartPeriod; });
  if (next.restarts.size() >= kMostRestarts) {
    ended_ = true;
    return;
  }
  next.restarts.push_back(now);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return;
  UniqueFd theirs(ends[1]);
  successor_.Reset(ends[0]);
  const pid_t pid = fork();
  if (pid == 0) {
    // Nothing of this process's may live on in that one.
    kept_ = KeptMount();
    successor_.Reset();
    listening_.Reset();
    server_life_.Reset();
    plan_.restart(std::move(theirs), next);
    _exit(1);
  }
  if (pid < 0) return DropSuccessor();
  Offer();
}

bool KeeperProcess::MountIsGone() const {
  pollfd mount{.fd = kept_.mount.fuse_fds[0].get(), .events = 0, .revents = 0};
  return poll(&mount, 1, 0) == 1 && (mount.revents & POLLERR) != 0;
}

// Nothing of the process that forked it: no descriptor, no terminal, no directory.
void LeaveEverythingBut(int fd) {
  setsid();
  prctl(PR_SET_NAME, "oxmem-keeper");
  prctl(PR_SET_PDEATHSIG, 0);
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    dup2(null.get(), standard);
  }
  if (fd > STDERR_FILENO + 1) {
    close_range(STDERR_FILENO + 1, static_cast<unsigned>(fd) - 1, 0);
  }
  close_range(static_cast<unsigned>(fd) + 1, ~0u, 0);
  (void)!chdir("/");
}

}  // namespace

void RunKeeper(UniqueFd socket, pid_t server, const KeeperPlan& plan) {
  LeaveEverythingBut(socket.get());
  KeeperProcess(std::move(socket), server, plan).Run();
  _exit(0);
}

}  // namespace oxmem::apps
