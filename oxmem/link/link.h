#ifndef OXMEM_LINK_LINK_H_
#define OXMEM_LINK_LINK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "transport/base/clock.h"
#include "transport/base/counter.h"

namespace oxmem::link {

// Who a frame goes to or comes from: a MAC address, or an IP address and port. Compared and hashed
// as bytes; what they mean is the link's business.
struct Address {
  std::array<uint8_t, 24> bytes{};
  friend bool operator==(const Address&, const Address&) = default;
  friend auto operator<=>(const Address&, const Address&) = default;

  template <typename H>
  friend H AbslHashValue(H state, const Address& address) {
    return H::combine_contiguous(std::move(state), address.bytes.data(), address.bytes.size());
  }
};

struct OutgoingFrame {
  Address to;
  std::span<const std::byte> bytes;  // TLoE header to mask; the link puts its own header before it
};

struct IncomingFrame {
  Address from;
  std::span<const std::byte> bytes;
};

struct LinkStats {
  Counter frames_sent;
  Counter frames_received;
  Counter bytes_sent;
  Counter bytes_received;
  Counter send_drops;     // frames the kernel did not take; the protocol above resends
  Counter receive_drops;  // frames the kernel dropped because this side was slow
};

// Carries TLoE frames between hosts, unreliably, like the Ethernet it stands for. Used by one
// thread; stats() and the constants may be read by any.
class Link {
 public:
  virtual ~Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Sends all of them; the bytes are free on return. A frame that the kernel cannot take now is
  // counted in send_drops and lost, as on a wire. An error means that the link itself is broken
  // (the interface is gone or down) and says so; later calls may work again.
  virtual absl::Status Send(std::span<const OutgoingFrame> frames) = 0;

  // Takes up to frames.size() received frames and returns their number. Their bytes are valid until
  // the next Receive. Never blocks.
  virtual std::size_t Receive(std::span<IncomingFrame> frames) = 0;

  // Readable, for poll or epoll, while frames wait to be received; perhaps also until the Receive
  // that returns none has let go of the last ones, so an owner receives until then before it
  // sleeps.
  virtual int fd() const = 0;

  // TLoE header to mask of the longest frame that fits.
  virtual std::size_t max_frame_bytes() const = 0;

  // The same on the way to one peer, which may be shorter where peers are reached over different
  // networks. Asks the system: for the beginning of a connection, not for every frame.
  virtual std::size_t max_frame_bytes_to(const Address&) const { return max_frame_bytes(); }

  // "eth1", "udp 127.0.0.1:4000".
  virtual const std::string& name() const = 0;
  virtual std::string FormatAddress(const Address& address) const = 0;
  virtual const Address& local_address() const = 0;
  virtual const LinkStats& stats() const = 0;

  // OK, or what is wrong with the link itself: down, gone.
  virtual absl::Status health() const = 0;

 protected:
  Link() = default;
};

}  // namespace oxmem::link

#endif  // OXMEM_LINK_LINK_H_
