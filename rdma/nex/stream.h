#ifndef RDMA_NEX_STREAM_H_
#define RDMA_NEX_STREAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "rdma/nex/config.h"
#include "rdma/nex/handshake.h"
#include "rdma/nex/qp/queue_pair.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {

// The TCP connection of one queue pair: greeting, then the machine's bytes both ways. Never
// blocks. Used with the queue pair's lock held. One read buffer of kBufferBytes a stream.
//
//   closed --Connect--> connecting --writable--> greeting --WELCOME--> open
//   closed --Accept(HELLO)-----------------------> greeting --CONFIRM--> open
//   closed --OpenToSelf----------------------------------------------> open
class Stream {
 public:
  static constexpr std::size_t kBufferBytes = 16384;

  enum class State : std::uint8_t { kClosed, kConnecting, kGreeting, kOpen };
  State state() const { return state_; }
  int fd() const { return fd_.get(); }
  int write_fd() const { return self_.valid() ? self_.get() : fd_.get(); }

  // False: this connection came to nothing and is closed.
  bool Connect(const Gid& from, const Gid& to, std::uint16_t port, const Handshake& handshake);
  bool Accept(UniqueFd fd, const Handshake& handshake, const Greeting& hello);
  bool OpenToSelf();

  // Moves bytes until nothing more can be moved at once. False: the stream is closed now.
  bool Read(QueuePair& machine, Instant now);
  bool Write(QueuePair& machine, bool acknowledge);
  bool wants_write() const { return blocked_ || state_ == State::kConnecting; }

  // `gently`: what was written still reaches the peer.
  void Close(bool gently);
  void SetDeathTimeout(Duration timeout);

 private:
  bool ReadGreeting(QueuePair& machine);
  bool ReadOpen(QueuePair& machine, Instant now);
  bool ReadDirect(QueuePair& machine, Instant now, bool* more);
  bool SendGreeting(const Greeting& greeting);
  bool FinishConnect();
  bool Opened(QueuePair& machine);

  State state_ = State::kClosed;
  UniqueFd fd_;
  UniqueFd self_;  // the other end of a stream to oneself
  Handshake handshake_;
  std::array<std::byte, kGreetingBytes> greeting_;
  std::size_t greeting_have_ = 0;
  bool blocked_ = false;
  std::unique_ptr<std::byte[]> buffer_;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_STREAM_H_
