#include "rdma/nex/stream.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <memory>

#include "rdma/nex/debug.h"
#include "rdma/nex/program_memory.h"

namespace oxmem::nex {
namespace {

constexpr std::size_t kBufferBytes = 65536;
constexpr std::size_t kReadShare = std::size_t{4} << 20;

// One buffer for all streams that a thread reads: its contents are used up by every read.
std::byte* ReadBuffer() {
  thread_local std::unique_ptr<std::byte[]> buffer;
  if (buffer == nullptr) buffer.reset(new std::byte[kBufferBytes]);
  return buffer.get();
}

// What the system has taken and not sent yet is no more than this: the bytes of several long
// messages would leave the caches before they are received. What is on its way is not limited.
constexpr int kUnsentBytes = 128 << 10;

void Prepare(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kUnsentBytes, sizeof kUnsentBytes);
}

// The system takes one piece faster than several, so a few bytes in several are put together.
constexpr std::size_t kGatherBytes = 1024;

ssize_t Receive(int fd, IoBatch& batch) {
  if (batch.piece_count == 1) {
    return recv(fd, batch.pieces[0].iov_base, batch.pieces[0].iov_len, MSG_DONTWAIT);
  }
  msghdr message{};
  message.msg_iov = batch.pieces.data();
  message.msg_iovlen = static_cast<std::size_t>(batch.piece_count);
  return recvmsg(fd, &message, MSG_DONTWAIT);
}

ssize_t Send(int fd, IoBatch& batch) {
  constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
  if (batch.piece_count == 1) {
    return send(fd, batch.pieces[0].iov_base, batch.pieces[0].iov_len, kFlags);
  }
  if (batch.bytes <= kGatherBytes) {
    std::array<std::byte, kGatherBytes> together;
    if (CopyFromProgram(batch, together.data())) {
      return send(fd, together.data(), batch.bytes, kFlags);
    }
  }
  msghdr message{};
  message.msg_iov = batch.pieces.data();
  message.msg_iovlen = static_cast<std::size_t>(batch.piece_count);
  return sendmsg(fd, &message, kFlags);
}

}  // namespace

bool Stream::Connect(const Gid& from, const Gid& to, std::uint16_t port,
                     const Handshake& handshake) {
  Close(false);
  handshake_ = handshake;
  greeting_have_ = 0;
  fd_.Reset(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd_.valid()) {
    if (errno == EMFILE || errno == ENFILE) Complain(kNoDescriptors);
    return false;
  }
  Prepare(fd_.get());
  // The peer sees the address that the queue pair announced.
  const sockaddr_in6 local = AddressOf(from, 0);
  const sockaddr_in6 remote = AddressOf(to, port);
  state_ = State::kConnecting;
  if (bind(fd_.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) == 0 &&
      (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&remote), sizeof remote) == 0 ||
       errno == EINPROGRESS)) {
    return true;
  }
  Close(false);
  return false;
}

bool Stream::Accept(UniqueFd fd, const Handshake& handshake, const Greeting& hello) {
  Close(false);
  handshake_ = handshake;
  greeting_have_ = 0;
  fd_ = std::move(fd);
  Prepare(fd_.get());
  state_ = State::kGreeting;
  const auto welcome = handshake_.OnHello(hello);
  if (welcome && SendGreeting(*welcome)) return true;
  Close(true);
  return false;
}

bool Stream::OpenToSelf() {
  Close(false);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) return false;
  fd_.Reset(ends[0]);
  self_.Reset(ends[1]);
  state_ = State::kOpen;
  return true;
}

bool Stream::SendGreeting(const Greeting& greeting) {
  std::array<std::byte, kGreetingBytes> bytes;
  EncodeGreeting(greeting, bytes);
  // The first bytes of a connection always fit into its empty buffer.
  return send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

bool Stream::FinishConnect() {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) return false;
  sockaddr_in6 peer;
  size = sizeof peer;
  if (getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&peer), &size) != 0) {
    return errno == ENOTCONN;  // not yet
  }
  state_ = State::kGreeting;
  return SendGreeting(handshake_.Hello());
}

bool Stream::Opened(QueuePair& machine) {
  state_ = State::kOpen;
  machine.Attach();
  return true;
}

bool Stream::ReadGreeting(QueuePair& machine) {
  const ssize_t got =
      recv(fd_.get(), greeting_.data() + greeting_have_, kGreetingBytes - greeting_have_, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (got <= 0) return false;
  greeting_have_ += static_cast<std::size_t>(got);
  if (greeting_have_ < kGreetingBytes) return true;
  const auto greeting = DecodeGreeting(std::span<const std::byte, kGreetingBytes>(greeting_));
  if (!greeting) return false;
  if (handshake_.accepting()) return handshake_.OnConfirm(*greeting) && Opened(machine);
  const auto confirm = handshake_.OnWelcome(*greeting);
  return confirm && SendGreeting(*confirm) && Opened(machine);
}

bool Stream::ReadOpen(QueuePair& machine, bool ended) {
  std::byte* const buffer = ReadBuffer();
  // A bound keeps one busy stream from starving the others.
  for (std::size_t moved = 0; moved < kReadShare;) {
    IoBatch batch;
    const std::uint64_t left = machine.payload_left();
    if (left > 0 && machine.payload_size() >= kLongBytes) {
      machine.DirectTargets(~std::uint64_t{0}, &batch);
    }
    const std::size_t direct = batch.bytes;
    if (direct > 0) ahead_ = kHeaderBytes;
    // A long payload is likely to be followed by another, which can go straight to its place only
    // if no more than its header is read before it.
    if (!batch.full() && (direct == 0 || direct == left)) {
      batch.Add(buffer, std::min(ahead_, kBufferBytes));
    }
    if (direct == 0) ahead_ = std::min(2 * ahead_, kBufferBytes);
    const ssize_t result = Receive(fd_.get(), batch);
    const int error = errno;
    const std::size_t wanted = batch.bytes;
    batch.Release();
    if (result == 0) return false;
    if (result < 0 && error == EFAULT && direct > 0) {
      machine.OnDirectRefused();
      continue;
    }
    if (result < 0) return error == EAGAIN || error == EINTR;
    const auto got = static_cast<std::size_t>(result);
    const Instant now = last_read_ = Now();
    if (direct > 0 && !machine.OnDirect(std::min(got, direct), now)) return false;
    if (got > direct && !machine.OnBytes({buffer, got - direct}, now)) return false;
    // A short read emptied the socket; asking again would only be told so. Within a payload it may
    // have come to memory that is no longer there.
    if (got < wanted && got >= direct && !ended) return true;
    moved += got;
    if (machine.ack_urgent()) break;
  }
  unfinished_ = true;
  return true;
}

bool Stream::Read(QueuePair& machine, bool ended) {
  bool good = true;
  unfinished_ = false;
  if (state_ == State::kConnecting) good = FinishConnect();
  if (good && state_ == State::kGreeting) good = ReadGreeting(machine);
  if (good && state_ == State::kOpen) {
    if (!machine.attached()) machine.Attach();
    good = ReadOpen(machine, ended);
  }
  if (!good) Close(false);
  return good;
}

bool Stream::Write(QueuePair& machine, bool acknowledge) {
  if (state_ == State::kConnecting && !FinishConnect()) {
    Close(false);
    return false;
  }
  if (state_ != State::kOpen || blocked_) return true;
  if (!machine.attached()) machine.Attach();
  for (;;) {
    IoBatch batch;
    if (!machine.FillOutput(&batch, acknowledge)) {
      Close(true);
      return false;
    }
    if (batch.bytes == 0) {
      batch.Release();
      return true;
    }
    const std::size_t wanted = batch.bytes;
    ssize_t sent = Send(write_fd(), batch);
    if (sent < 0 && errno == EFAULT && batch.piece_count > 1) {
      // What cannot be read may lie behind what can.
      batch.piece_count = 1;
      sent = Send(write_fd(), batch);
    }
    const int error = errno;
    batch.Release();
    if (sent > 0) machine.OnWritten(static_cast<std::size_t>(sent));
    if (sent < 0 && error == EFAULT) {
      if (machine.OnOutputRefused()) return true;
      Close(true);
      return false;
    }
    if (sent < 0 && error != EAGAIN && error != EINTR) {
      // What the peer wrote before it went is still read; reading then finds the end.
      return true;
    }
    if (sent < 0 ? error != EINTR : static_cast<std::size_t>(sent) < wanted) {
      blocked_ = true;
      // What was sent in part: the socket is full, or what follows is no longer there.
      if (sent > 0) CheckFull();
      if (blocked_) return true;
    }
  }
}

bool Stream::WaitForMore(Duration quiet) const {
  const Duration left = last_read_ + quiet - Now();
  if (left <= Duration()) return false;
  const timespec timeout{.tv_sec = 0, .tv_nsec = left.nanoseconds()};
  pollfd waiting{fd_.get(), POLLIN, 0};
  return ppoll(&waiting, 1, &timeout, nullptr) == 1;
}

bool Stream::CheckFull() {
  pollfd fds[2] = {{fd_.get(), POLLIN, 0}, {write_fd(), POLLOUT, 0}};
  if (poll(fds, 2, 0) == 0) return false;
  if (fds[1].revents != 0) blocked_ = false;
  return true;
}

bool Stream::Readable() const {
  pollfd look{fd_.get(), POLLIN, 0};
  return poll(&look, 1, 0) != 0;
}

void Stream::SetDeathTimeout(Duration timeout) {
  if (!fd_.valid() || timeout.nanoseconds() <= 0) return;
  const auto ms = static_cast<unsigned>(
      std::clamp<std::int64_t>(timeout.nanoseconds() / 1000000, 1000, 600000));
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
  // The time above ends a stream whose questions are not answered, too.
  const int seconds = std::max(static_cast<int>(ms) / 4000, 1);
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
}

void Stream::WatchHost(bool on) {
  if (on == watches_host_) return;
  const int value = on ? 1 : 0;
  setsockopt(fd_.get(), SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value);
  watches_host_ = on;
}

void Stream::Close(bool gently) {
  if (gently && fd_.valid()) shutdown(fd_.get(), SHUT_WR);
  fd_.Reset();
  self_.Reset();
  state_ = State::kClosed;
  blocked_ = unfinished_ = watches_host_ = false;
}

}  // namespace oxmem::nex
