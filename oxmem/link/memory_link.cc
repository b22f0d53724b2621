#include "oxmem/link/memory_link.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "transport/base/byte_order.h"
#include "transport/base/check.h"
#include "transport/base/mutex.h"
#include "transport/base/unique_fd.h"

namespace oxmem::link {
namespace {

using Bytes = std::vector<std::byte>;

// Frames on the way to one link. Slots keep their capacity, so that a warm queue does not allocate.
class Inbox {
 public:
  explicit Inbox(std::size_t frames)
      : slots_(frames), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    OXMEM_CHECK(wake_.valid());
  }

  void Put(const Address& from, std::span<const std::byte> frame) {
    const MutexLock lock(&mutex_);
    if (count_ == slots_.size()) {
      ++dropped_;
      return;
    }
    Slot& slot = slots_[(first_ + count_) % slots_.size()];
    slot.from = from;
    slot.bytes.assign(frame.begin(), frame.end());
    if (count_++ == 0) Signal();
  }

  // Swaps waiting frames into `taken`; returns how many, and adds what was dropped to `dropped`.
  std::size_t Take(std::span<IncomingFrame> frames, std::vector<Bytes>& taken, uint64_t& dropped) {
    const MutexLock lock(&mutex_);
    const std::size_t count = std::min({frames.size(), taken.size(), count_});
    for (std::size_t i = 0; i < count; ++i) {
      Slot& slot = slots_[first_];
      taken[i].swap(slot.bytes);
      frames[i] = {slot.from, taken[i]};
      first_ = (first_ + 1) % slots_.size();
    }
    count_ -= count;
    if (count != 0 && count_ == 0) Unsignal();
    dropped += std::exchange(dropped_, 0);
    return count;
  }

  int fd() const { return wake_.get(); }

 private:
  struct Slot {
    Address from;
    Bytes bytes;
  };

  void Signal() { OXMEM_CHECK(eventfd_write(wake_.get(), 1) == 0); }
  void Unsignal() {
    eventfd_t value = 0;
    OXMEM_CHECK(eventfd_read(wake_.get(), &value) == 0);
  }

  Mutex mutex_;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  std::size_t first_ ABSL_GUARDED_BY(mutex_) = 0;
  std::size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  const UniqueFd wake_;  // readable while count_ is not 0
};

struct Endpoint {
  explicit Endpoint(std::size_t frames) : inbox(frames) {}
  Inbox inbox;
  std::atomic<bool> up{true};
};

Address AddressOf(uint32_t number) {
  Address address;
  StoreBigEndian(reinterpret_cast<std::byte*>(address.bytes.data()), number);
  return address;
}

std::string NameOf(const Address& address) {
  return absl::StrCat(
      "memory ", LoadBigEndian<uint32_t>(reinterpret_cast<const std::byte*>(address.bytes.data())));
}

}  // namespace

struct MemoryNetwork::Shared {
  explicit Shared(const MemoryNetworkOptions& o) : options(o) {}

  std::shared_ptr<Endpoint> Find(const Address& address) {
    const MutexLock lock(&mutex);
    const auto found = endpoints.find(address);
    return found == endpoints.end() ? nullptr : found->second;
  }

  const MemoryNetworkOptions options;
  Mutex mutex;
  std::map<Address, std::shared_ptr<Endpoint>> endpoints ABSL_GUARDED_BY(mutex);
  uint32_t last_number ABSL_GUARDED_BY(mutex) = 0;
};

namespace {

constexpr std::size_t kReceiveBatch = 64;

class MemoryLink final : public Link {
 public:
  MemoryLink(std::shared_ptr<MemoryNetwork::Shared> shared, std::shared_ptr<Endpoint> endpoint,
             const Address& address)
      : shared_(std::move(shared)),
        endpoint_(std::move(endpoint)),
        address_(address),
        name_(NameOf(address)),
        taken_(kReceiveBatch) {}

  ~MemoryLink() override {
    const MutexLock lock(&shared_->mutex);
    shared_->endpoints.erase(address_);
  }

  absl::Status Send(std::span<const OutgoingFrame> frames) override {
    absl::Status status = health();
    if (!status.ok()) {
      stats_.send_drops.Add(frames.size());
      return status;
    }
    for (const OutgoingFrame& frame : frames) {
      if (frame.bytes.size() > max_frame_bytes()) {
        stats_.send_drops.Increment();
        status = absl::InvalidArgumentError(absl::StrCat("a frame of ", frame.bytes.size(),
                                                         " bytes was not sent: ", name_,
                                                         " takes at most ", max_frame_bytes()));
        continue;
      }
      stats_.frames_sent.Increment();
      stats_.bytes_sent.Add(frame.bytes.size());
      const std::shared_ptr<Endpoint> to = shared_->Find(frame.to);
      if (to != nullptr && to->up.load(std::memory_order_relaxed)) {
        to->inbox.Put(address_, frame.bytes);
      }
    }
    return status;
  }

  std::size_t Receive(std::span<IncomingFrame> frames) override {
    uint64_t dropped = 0;
    const std::size_t count = endpoint_->inbox.Take(frames, taken_, dropped);
    stats_.receive_drops.Add(dropped);
    stats_.frames_received.Add(count);
    for (const IncomingFrame& frame : frames.first(count)) {
      stats_.bytes_received.Add(frame.bytes.size());
    }
    return count;
  }

  int fd() const override { return endpoint_->inbox.fd(); }
  std::size_t max_frame_bytes() const override { return shared_->options.max_frame_bytes; }
  const std::string& name() const override { return name_; }
  std::string FormatAddress(const Address& address) const override { return NameOf(address); }
  const Address& local_address() const override { return address_; }
  const LinkStats& stats() const override { return stats_; }
  absl::Status health() const override {
    if (endpoint_->up.load(std::memory_order_relaxed)) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat(name_, " is down"));
  }

 private:
  const std::shared_ptr<MemoryNetwork::Shared> shared_;
  const std::shared_ptr<Endpoint> endpoint_;
  const Address address_;
  const std::string name_;
  LinkStats stats_;
  std::vector<Bytes> taken_;
};

}  // namespace

MemoryNetwork::MemoryNetwork(const MemoryNetworkOptions& options)
    : shared_(std::make_shared<Shared>(options)) {}

MemoryNetwork::~MemoryNetwork() = default;

std::unique_ptr<Link> MemoryNetwork::Attach() {
  auto endpoint = std::make_shared<Endpoint>(shared_->options.queue_frames);
  Address address;
  {
    const MutexLock lock(&shared_->mutex);
    address = AddressOf(++shared_->last_number);
    shared_->endpoints[address] = endpoint;
  }
  return std::make_unique<MemoryLink>(shared_, std::move(endpoint), address);
}

void MemoryNetwork::SetUp(const Link& link, bool up) {
  const std::shared_ptr<Endpoint> endpoint = shared_->Find(link.local_address());
  OXMEM_CHECK(endpoint != nullptr);
  endpoint->up.store(up, std::memory_order_relaxed);
}

std::pair<std::unique_ptr<Link>, std::unique_ptr<Link>> MakeMemoryLinkPair(
    const MemoryNetworkOptions& options) {
  MemoryNetwork network(options);
  auto a = network.Attach();
  auto b = network.Attach();
  return {std::move(a), std::move(b)};
}

}  // namespace oxmem::link
