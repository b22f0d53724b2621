#include "rdma/nex/stream.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace oxmem::nex {
namespace {

// Payloads of this size are received straight to where they go; smaller ones through the buffer.
constexpr std::uint64_t kDirectBytes = 4096;

void SetNoDelay(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

}  // namespace

bool Stream::Connect(const Gid& from, const Gid& to, std::uint16_t port,
                     const Handshake& handshake) {
  Close(false);
  handshake_ = handshake;
  greeting_have_ = 0;
  fd_.Reset(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd_.valid()) return false;
  SetNoDelay(fd_.get());
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
  SetNoDelay(fd_.get());
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
  buffer_ = std::make_unique<std::byte[]>(kBufferBytes);
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
  buffer_ = std::make_unique<std::byte[]>(kBufferBytes);
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

bool Stream::ReadDirect(QueuePair& machine, Instant now, bool* more) {
  IoBatch batch;
  machine.DirectTargets(machine.payload_left(), &batch);
  if (batch.bytes == 0) {
    batch.Release();
    return true;
  }
  msghdr message{};
  message.msg_iov = batch.pieces.data();
  message.msg_iovlen = static_cast<std::size_t>(batch.piece_count);
  const ssize_t got = recvmsg(fd_.get(), &message, MSG_DONTWAIT);
  const int error = errno;
  batch.Release();
  if (got == 0) return false;
  if (got < 0) {
    *more = error == EINTR;
    return error == EAGAIN || error == EINTR;
  }
  return machine.OnDirect(static_cast<std::size_t>(got), now);
}

bool Stream::ReadOpen(QueuePair& machine, Instant now) {
  // A bound keeps one busy stream from starving the others; epoll reports what is left.
  for (int rounds = 0; rounds < 64; ++rounds) {
    bool more = true;
    if (machine.payload_left() >= kDirectBytes && !machine.failed()) {
      const std::uint64_t before = machine.payload_left();
      if (!ReadDirect(machine, now, &more)) return false;
      if (!more) return true;
      if (machine.payload_left() != before) continue;
      if (!machine.failed() && before >= kDirectBytes) {
        // Dropped payload has no target and goes through the buffer below.
      }
    }
    const ssize_t got = recv(fd_.get(), buffer_.get(), kBufferBytes, MSG_DONTWAIT);
    if (got == 0) return false;
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    const auto bytes = std::span<const std::byte>(buffer_.get(), static_cast<std::size_t>(got));
    if (!machine.OnBytes(bytes, now)) return false;
    // A short read emptied the socket; asking again would only be told so.
    if (static_cast<std::size_t>(got) < kBufferBytes && machine.payload_left() < kDirectBytes) {
      return true;
    }
  }
  return true;
}

bool Stream::Read(QueuePair& machine, Instant now) {
  bool good = true;
  if (state_ == State::kConnecting) good = FinishConnect();
  if (good && state_ == State::kGreeting) good = ReadGreeting(machine);
  if (good && state_ == State::kOpen) {
    if (!machine.attached()) machine.Attach();
    good = ReadOpen(machine, now);
  }
  if (!good) Close(false);
  return good;
}

bool Stream::Write(QueuePair& machine, bool acknowledge) {
  if (state_ == State::kConnecting && !FinishConnect()) {
    Close(false);
    return false;
  }
  if (state_ != State::kOpen) return true;
  if (!machine.attached()) machine.Attach();
  blocked_ = false;
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
    msghdr message{};
    message.msg_iov = batch.pieces.data();
    message.msg_iovlen = static_cast<std::size_t>(batch.piece_count);
    const ssize_t sent = sendmsg(write_fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    const int error = errno;
    const std::size_t wanted = batch.bytes;
    batch.Release();
    if (sent > 0) machine.OnWritten(static_cast<std::size_t>(sent));
    if (sent < 0 && error == EFAULT) {
      // The program unmapped registered memory: nothing sensible can follow on this stream.
      Close(true);
      return false;
    }
    if (sent < 0 && error != EAGAIN && error != EINTR) {
      // What the peer wrote before it went is still read; reading then finds the end.
      return true;
    }
    if (sent < 0 || static_cast<std::size_t>(sent) < wanted) {
      blocked_ = error != EINTR || sent >= 0;
      if (blocked_) return true;
    }
  }
}

void Stream::SetDeathTimeout(Duration timeout) {
  if (!fd_.valid() || timeout.nanoseconds() <= 0) return;
  const auto ms = static_cast<unsigned>(
      std::clamp<std::int64_t>(timeout.nanoseconds() / 1000000, 1000, 600000));
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

void Stream::Close(bool gently) {
  if (gently && fd_.valid()) shutdown(fd_.get(), SHUT_WR);
  fd_.Reset();
  self_.Reset();
  state_ = State::kClosed;
  blocked_ = false;
  buffer_.reset();
}

}  // namespace oxmem::nex
