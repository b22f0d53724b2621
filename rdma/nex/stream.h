#ifndef RDMA_NEX_STREAM_H_
#define RDMA_NEX_STREAM_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "rdma/nex/config.h"
#include "rdma/nex/handshake.h"
#include "rdma/nex/qp/queue_pair.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {

// The TCP connection of one queue pair: greeting, then the machine's bytes both ways. Never
// blocks. Used with the queue pair's lock held. It has no buffers of its own: what is received
// goes where it belongs, or through a buffer that the reading thread has for all streams.
//
//   closed --Connect--> connecting --writable--> greeting --WELCOME--> open
//   closed --Accept(HELLO)-----------------------> greeting --CONFIRM--> open
//   closed --OpenToSelf----------------------------------------------> open
class Stream {
 public:
  // A payload of so many bytes is long: it is received straight to where it goes. Shorter ones come
  // through the buffer, many at a time, together with the headers around them.
  static constexpr std::uint64_t kLongBytes = 16384;

  enum class State : std::uint8_t { kClosed, kConnecting, kGreeting, kOpen };
  State state() const { return state_; }
  int fd() const { return fd_.get(); }
  const Handshake& handshake() const { return handshake_; }
  int write_fd() const { return self_.valid() ? self_.get() : fd_.get(); }

  // False: this connection came to nothing and is closed.
  bool Connect(const Gid& from, const Gid& to, std::uint16_t port, const Handshake& handshake);
  bool Accept(UniqueFd fd, const Handshake& handshake, const Greeting& hello);
  bool OpenToSelf();

  // Moves bytes until nothing more can be moved at once, an acknowledgement is urgent, or this
  // stream has had its share; then unfinished() is true. False: the stream is closed now.
  // `ended`: the end of the stream has been announced, so reading must go on until it is found.
  bool Read(QueuePair& machine, bool ended);
  // Sleeps until there is something to read, at most until nothing came for `quiet`. True if there
  // is something.
  bool WaitForMore(Duration quiet) const;
  bool unfinished() const { return unfinished_; }
  // Does nothing while the socket is full, until OnWritable.
  bool Write(QueuePair& machine, bool acknowledge);
  void OnWritable() { blocked_ = false; }
  bool wants_write() const { return blocked_ || state_ == State::kConnecting; }
  // For a full socket: asks the system, without disturbing the socket, whether it has room or
  // something to read. False: neither.
  bool CheckFull();

  // Whether there is something to read, without disturbing the socket, as a look in vain would.
  bool Readable() const;

  // `gently`: what was written still reaches the peer.
  void Close(bool gently);
  // How long what was written may stay unacknowledged by the peer's host; 0: for ever.
  void SetDeathTimeout(Duration timeout);
  // Asks the peer's host, while there is nothing to write, whether it is there: without an answer
  // for as long the stream ends. A peer that is slow, or stopped, has a host that answers.
  void WatchHost(bool on);

 private:
  bool ReadGreeting(QueuePair& machine);
  bool ReadOpen(QueuePair& machine, bool ended);
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
  bool watches_host_ = false;
  bool unfinished_ = false;
  // How much is read at once where a header is expected: a header behind a long payload, then
  // more and more until the next one.
  std::size_t ahead_ = kHeaderBytes;
  Instant last_read_;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_STREAM_H_
