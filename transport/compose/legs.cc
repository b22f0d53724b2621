#include "transport/compose/legs.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::transport {
namespace {

class SeveralRegistrations final : public MemoryRegistration {
 public:
  explicit SeveralRegistrations(std::vector<MemoryHandle> handles) : handles_(std::move(handles)) {}

 private:
  std::vector<MemoryHandle> handles_;
};

}  // namespace

absl::StatusOr<Legs> Legs::Create(std::vector<std::unique_ptr<Channel>> channels) {
  OXMEM_CHECK(!channels.empty());
  Legs legs;
  for (const auto& channel : channels) {
    const int fd = channel->event_fd();
    if (fd < 0) continue;
    if (!legs.epoll_.valid()) {
      legs.epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
      if (!legs.epoll_.valid()) return ErrnoStatus(errno, "cannot create an epoll descriptor");
    }
    epoll_event event{.events = EPOLLIN, .data = {}};
    if (epoll_ctl(legs.epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot wait for ", channel->name()));
    }
  }
  legs.channels_ = std::move(channels);
  return legs;
}

bool Legs::Arm() {
  for (const auto& channel : channels_) {
    if (!channel->Arm()) return false;
  }
  return true;
}

Instant Legs::next_deadline() const {
  Instant earliest = Instant::Never();
  for (const auto& channel : channels_) earliest = std::min(earliest, channel->next_deadline());
  return earliest;
}

void Legs::Close() {
  for (const auto& channel : channels_) channel->Close();
}

absl::StatusOr<MemoryHandle> Legs::Register(std::span<std::byte> memory) {
  std::vector<MemoryHandle> handles;
  for (const auto& channel : channels_) {
    OXMEM_ASSIGN_OR_RETURN(MemoryHandle handle, channel->Register(memory));
    handles.push_back(std::move(handle));
  }
  return std::make_unique<SeveralRegistrations>(std::move(handles));
}

Limits Legs::CommonLimits() const {
  Limits common;
  common.size_bytes = std::numeric_limits<uint64_t>::max();
  common.largest_request_bytes = std::numeric_limits<uint64_t>::max();
  common.zero = common.prefetch = common.persistent = true;
  common.atomics = AtomicOps::All();
  for (const auto& channel : channels_) {
    const Limits& leg = channel->limits();
    common.size_bytes = std::min(common.size_bytes, leg.size_bytes);
    common.alignment_bytes = std::lcm(common.alignment_bytes, leg.alignment_bytes);
    common.largest_request_bytes =
        std::min(common.largest_request_bytes, leg.largest_request_bytes);
    common.depth += leg.depth;
    common.read_only = common.read_only || leg.read_only;
    common.zero = common.zero && leg.zero;
    common.prefetch = common.prefetch && leg.prefetch;
    common.needs_registration = common.needs_registration || leg.needs_registration;
    common.persistent = common.persistent && leg.persistent;
    common.atomics = common.atomics.Intersect(leg.atomics);
  }
  return common;
}

void Legs::SumReconnects(ChannelStats& into) const {
  uint64_t sum = 0;
  for (const auto& channel : channels_) sum += channel->stats().reconnects.value();
  into.reconnects.Set(sum);
}

void Legs::SumWireStats(ChannelStats& into) const {
  for (Counter ChannelStats::*const counter :
       {&ChannelStats::frames_sent, &ChannelStats::frames_received, &ChannelStats::wire_bytes_sent,
        &ChannelStats::wire_bytes_received, &ChannelStats::resends, &ChannelStats::naks_sent,
        &ChannelStats::naks_received, &ChannelStats::duplicates, &ChannelStats::malformed,
        &ChannelStats::credit_stalls, &ChannelStats::window_stalls}) {
    uint64_t sum = 0;
    for (const auto& channel : channels_) sum += (channel->stats().*counter).value();
    (into.*counter).Set(sum);
  }
}

std::string Legs::Name(const std::string& kind) const {
  std::string name = absl::StrCat(kind, " (");
  for (std::size_t i = 0; i < channels_.size(); ++i) {
    absl::StrAppend(&name, i == 0 ? "" : ", ", channels_[i]->name());
  }
  return absl::StrCat(name, ")");
}

absl::Status Legs::FirstTrouble() const {
  for (const auto& channel : channels_) OXMEM_RETURN_IF_ERROR(channel->health());
  return absl::OkStatus();
}

}  // namespace oxmem::transport
