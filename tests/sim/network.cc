#include "tests/sim/network.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "transport/base/check.h"
#include "transport/base/unique_fd.h"

namespace oxmem::sim {

// A frame that has arrived stays in the inbox until the Receive after the one that took it.
class SimLink final : public link::Link {
 public:
  SimLink(Network* network, const link::Address& address, std::size_t max_frame_bytes)
      : network_(network),
        address_(address),
        max_frame_bytes_(max_frame_bytes),
        name_("sim" + std::to_string(address.bytes[0])),
        event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    OXMEM_CHECK(event_.valid());
  }
  ~SimLink() override { network_->Detach(this); }

  absl::Status Send(std::span<const link::OutgoingFrame> frames) override {
    if (!up_) return absl::UnavailableError(name_ + ": link is down");
    for (const link::OutgoingFrame& frame : frames) {
      OXMEM_CHECK(frame.bytes.size() <= max_frame_bytes_);
      stats_.frames_sent.Increment();
      stats_.bytes_sent.Add(frame.bytes.size());
      network_->Send(*this, frame);
    }
    return absl::OkStatus();
  }

  std::size_t Receive(std::span<link::IncomingFrame> frames) override {
    inbox_.erase(inbox_.begin(), inbox_.begin() + static_cast<std::ptrdiff_t>(taken_));
    taken_ = 0;
    while (taken_ < frames.size() && taken_ < inbox_.size()) {
      const Arrived& arrived = inbox_[taken_];
      frames[taken_++] = {arrived.from, arrived.bytes};
      stats_.frames_received.Increment();
      stats_.bytes_received.Add(arrived.bytes.size());
    }
    if (taken_ == inbox_.size()) SetReadable(false);
    return taken_;
  }

  int fd() const override { return event_.get(); }
  std::size_t max_frame_bytes() const override { return max_frame_bytes_; }
  const std::string& name() const override { return name_; }
  std::string FormatAddress(const link::Address& address) const override {
    return "sim" + std::to_string(address.bytes[0]);
  }
  const link::Address& local_address() const override { return address_; }
  const link::LinkStats& stats() const override { return stats_; }
  absl::Status health() const override {
    return up_ ? absl::OkStatus() : absl::UnavailableError(name_ + ": link is down");
  }

  void SetUp(bool up) { up_ = up; }
  void Deliver(const link::Address& from, std::vector<std::byte> bytes) {
    if (!up_) return;
    inbox_.push_back({from, std::move(bytes)});
    SetReadable(true);
  }

 private:
  struct Arrived {
    link::Address from;
    std::vector<std::byte> bytes;
  };

  void SetReadable(bool readable) {
    if (readable == readable_) return;
    readable_ = readable;
    uint64_t value = 1;
    const ssize_t done = readable ? write(event_.get(), &value, sizeof value)
                                  : read(event_.get(), &value, sizeof value);
    OXMEM_CHECK(done == sizeof value);
  }

  Network* network_;
  link::Address address_;
  std::size_t max_frame_bytes_;
  std::string name_;
  UniqueFd event_;
  bool readable_ = false;
  bool up_ = true;
  std::deque<Arrived> inbox_;
  std::size_t taken_ = 0;
  link::LinkStats stats_;
};

Network::Network(uint64_t seed) : random_(seed) {}
Network::~Network() { OXMEM_CHECK(links_.empty()); }

std::unique_ptr<link::Link> Network::Attach(std::size_t max_frame_bytes) {
  link::Address address;
  if (!reused_.empty()) {
    address = reused_.back();
    reused_.pop_back();
  } else {
    address.bytes[0] = static_cast<uint8_t>(next_address_++);
  }
  auto link = std::make_unique<SimLink>(this, address, max_frame_bytes);
  links_.push_back(link.get());
  directions_[link.get()] = {now_, now_};
  return link;
}

void Network::SetUp(const link::Link& link, bool up) {
  for (SimLink* candidate : links_)
    if (candidate == &link) candidate->SetUp(up);
}

void Network::Detach(SimLink* link) {
  std::erase(links_, link);
  directions_.erase(link);
}

Instant Network::next_arrival() const {
  return flights_.empty() ? Instant::Never() : flights_.top().arrival;
}

void Network::AdvanceTo(Instant until) {
  while (!flights_.empty() && flights_.top().arrival <= until) {
    // The queue hands out constant elements only; the copy is of what is popped.
    Flight flight = flights_.top();
    flights_.pop();
    now_ = std::max(now_, flight.arrival);
    for (SimLink* link : links_)
      if (link->local_address() == flight.to) link->Deliver(flight.from, flight.bytes);
  }
  now_ = std::max(now_, until);
}

void Network::Clear() {
  while (!flights_.empty()) flights_.pop();
}

void Network::Send(SimLink& from, const link::OutgoingFrame& frame) {
  Direction& direction = directions_[&from];
  direction.free_at = std::max(direction.free_at, now_);
  if (random_.Chance(faults_.stall))
    direction.free_at =
        direction.free_at + Duration::Nanoseconds(static_cast<int64_t>(random_.Below(
                                static_cast<uint64_t>(faults_.stall_time.nanoseconds()) + 1)));
  if (faults_.bytes_per_second != 0)
    direction.free_at =
        direction.free_at + Duration::Nanoseconds(static_cast<int64_t>(
                                frame.bytes.size() * 1000000000 / faults_.bytes_per_second));
  if (frame.bytes.size() > faults_.longest_frame || random_.Chance(faults_.loss)) return;
  const int copies = random_.Chance(faults_.duplication) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    Instant arrival = direction.free_at + faults_.delay;
    if (i > 0 || random_.Chance(faults_.reorder)) {
      arrival = arrival + Duration::Nanoseconds(static_cast<int64_t>(random_.Below(
                              static_cast<uint64_t>(faults_.reorder_delay.nanoseconds()) + 1)));
    } else {
      arrival = std::max(arrival, direction.last_arrival);
      direction.last_arrival = arrival;
    }
    Launch(from.local_address(), frame.to, frame.bytes, arrival);
  }
}

void Network::Launch(const link::Address& from, const link::Address& to,
                     std::span<const std::byte> bytes, Instant arrival) {
  Flight flight{arrival, order_++, from, to, {bytes.begin(), bytes.end()}};
  if (random_.Chance(faults_.corruption)) {
    if (faults_.frame_check) return;
    Corrupt(&flight.bytes);
  }
  flights_.push(std::move(flight));
}

// A few bits, a run of bytes, or the end of the frame.
void Network::Corrupt(std::vector<std::byte>* bytes) {
  if (bytes->empty()) return;
  switch (random_.Below(4)) {
    case 0:
      bytes->resize(random_.Below(bytes->size() + 1));
      return;
    case 1: {
      const std::size_t start = random_.Below(bytes->size());
      const std::size_t count = std::min<std::size_t>(bytes->size() - start, 1 + random_.Below(16));
      for (std::size_t i = 0; i < count; ++i)
        (*bytes)[start + i] = static_cast<std::byte>(random_.Next());
      return;
    }
    case 2:
      // The header, where a change does most.
      (*bytes)[random_.Below(std::min<std::size_t>(bytes->size(), 8))] ^=
          static_cast<std::byte>(1 << random_.Below(8));
      return;
    default:
      for (uint64_t i = 0; i < 1 + random_.Below(4); ++i)
        (*bytes)[random_.Below(bytes->size())] ^= static_cast<std::byte>(1 << random_.Below(8));
      return;
  }
}

}  // namespace oxmem::sim
