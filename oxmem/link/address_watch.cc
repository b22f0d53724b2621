#include "oxmem/link/address_watch.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "oxmem/link/packet_filter.h"
#include "transport/base/byte_order.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

constexpr uint16_t kExperimentalEtherType = 0x88b5;
constexpr std::array<char, 6> kMagic = {'o', 'x', 'm', 'e', 'm', 1};
constexpr MacAddress kBroadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
constexpr std::size_t kHeaderBytes = 14;
constexpr std::size_t kLeastFrameBytes = 60;
// Lost broadcasts are rare; three questions within the wait are enough.
constexpr int kQuestions = 3;

}  // namespace

absl::StatusOr<AddressWatch> AddressWatch::Open(const std::string& interface, const MacAddress& mac,
                                                uint16_t ether_type) {
  AddressWatch watch;
  watch.fd_.Reset(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!watch.fd_.valid()) return ErrnoStatus(errno, "opening a packet socket");
  OXMEM_ASSIGN_OR_RETURN(watch.interface_, FindInterface(watch.fd(), interface));
  if (getrandom(&watch.instance_, sizeof watch.instance_, 0) != sizeof watch.instance_) {
    return ErrnoStatus(errno, "getrandom");
  }
  watch.mac_ = mac;
  watch.ether_type_ = ether_type;
  OXMEM_RETURN_IF_ERROR(Annotate(watch.Bind(), interface));
  return watch;
}

absl::Status AddressWatch::Bind() {
  PacketFilter filter;
  filter.RequireMac(0, kBroadcast);
  filter.RequireMac(6, mac_);
  filter.RequireHalf(12, kExperimentalEtherType);
  OXMEM_RETURN_IF_ERROR(filter.Attach(fd()));
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(kExperimentalEtherType);
  address.sll_ifindex = interface_.index;
  if (bind(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoStatus(errno, "binding");
  }
  return absl::OkStatus();
}

void AddressWatch::Send(Kind kind) {
  std::array<std::byte, kLeastFrameBytes> frame{};
  std::memcpy(frame.data(), kBroadcast.bytes.data(), kBroadcast.bytes.size());
  std::memcpy(frame.data() + 6, mac_.bytes.data(), mac_.bytes.size());
  StoreBigEndian<uint16_t>(frame.data() + 12, kExperimentalEtherType);
  std::byte* const payload = frame.data() + kHeaderBytes;
  std::memcpy(payload, kMagic.data(), kMagic.size());
  payload[6] = static_cast<std::byte>(kind);
  StoreBigEndian<uint16_t>(payload + 8, ether_type_);
  StoreBigEndian<uint64_t>(payload + 10, instance_);
  // A network that does not take it is said by the link itself.
  (void)send(fd(), frame.data(), frame.size(), MSG_DONTWAIT);
}

bool AddressWatch::Decode(std::span<const std::byte> payload, Heard* heard) const {
  if (payload.size() < kPayloadBytes ||
      std::memcmp(payload.data(), kMagic.data(), kMagic.size()) != 0 ||
      LoadBigEndian<uint16_t>(payload.data() + 8) != ether_type_) {
    return false;
  }
  const auto kind = static_cast<uint8_t>(payload[6]);
  if (kind != kAsks && kind != kHeld) return false;
  heard->kind = static_cast<Kind>(kind);
  heard->instance = LoadBigEndian<uint64_t>(payload.data() + 10);
  return heard->instance != instance_;
}

bool AddressWatch::Receive(Heard* heard) {
  std::array<std::byte, kLeastFrameBytes> frame;
  for (;;) {
    const ssize_t length = recv(fd(), frame.data(), frame.size(), MSG_DONTWAIT);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return false;
    const auto bytes = std::span<const std::byte>(frame).first(static_cast<std::size_t>(length));
    if (bytes.size() > kHeaderBytes && Decode(bytes.subspan(kHeaderBytes), heard)) return true;
  }
}

absl::Status AddressWatch::Claim(Duration wait) {
  const Instant until = Now() + wait;
  Instant next_question;
  for (Instant now = Now(); now < until; now = Now()) {
    if (now >= next_question) {
      Send(kAsks);
      next_question = now + wait / kQuestions;
    }
    Heard heard;
    while (Receive(&heard)) {
      if (heard.kind == kHeld || heard.instance < instance_) {
        return absl::AlreadyExistsError(absl::StrCat(
            FormatMacAddress(mac_), " on ", interface_.name, " is already served by a node of ",
            "another host or namespace on this network (stop it, or answer on another address, as "
            "in tloe://",
            interface_.name, "/02:00:00:00:00:01)"));
      }
      Send(kAsks);  // the other one has to see that it was second
    }
    pollfd waiting = {.fd = fd(), .events = POLLIN, .revents = 0};
    poll(&waiting, 1, PollTimeoutMs(now, std::min(until, next_question)));
  }
  return absl::OkStatus();
}

bool AddressWatch::Poll() {
  bool shared = false;
  bool asked = false;
  Heard heard;
  while (Receive(&heard)) {
    shared = shared || heard.kind == kHeld;
    asked = asked || heard.kind == kAsks;
  }
  if (asked) Send(kHeld);
  return shared;
}

}  // namespace oxmem::link
