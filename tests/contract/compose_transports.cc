#include "tests/contract/compose_transports.h"

#include <functional>
#include <utility>

#include "tests/contract/async_channel.h"
#include "transport/compose/fault_channel.h"
#include "transport/compose/mirrored_channel.h"
#include "transport/compose/paced_channel.h"
#include "transport/compose/striped_channel.h"
#include "transport/local/memory_channel.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

constexpr Duration kTimeout = Duration::Milliseconds(300);

using ChannelPtr = std::unique_ptr<Channel>;

ChannelPtr Memory(uint64_t size, bool read_only, uint32_t depth = 32) {
  return std::make_unique<MemoryChannel>(
      *CreateMemory(size, HugePages::kNo),
      MemoryChannelOptions{.depth = depth, .read_only = read_only});
}

ChannelPtr Async(ChannelPtr below) { return std::make_unique<AsyncChannel>(std::move(below)); }

ChannelPtr Stripe(std::vector<ChannelPtr> legs, uint64_t chunk) {
  return *StripedChannel::Create(std::move(legs), chunk);
}

ChannelPtr Mirror(std::vector<ChannelPtr> legs, MirrorOptions options) {
  return *MirroredChannel::Create(std::move(legs), std::move(options));
}

ChannelPtr Delay(ChannelPtr below, Duration latency, Duration jitter) {
  return std::make_unique<PacedChannel>(std::move(below), "delay",
                                        PacedOptions{.latency = latency, .jitter = jitter});
}

// A channel with the shims whose peers the harness can cut.
class ComposedHarness final : public Harness {
 public:
  // Memory behind a shim that this harness cuts.
  ChannelPtr CuttableMemory(uint64_t size, bool read_only) {
    auto channel =
        std::make_unique<FaultChannel>(Memory(size, read_only), FaultOptions{.timeout = kTimeout});
    cuttable_.push_back(channel.get());
    return channel;
  }
  void Own(ChannelPtr channel) { channel_ = std::move(channel); }

  Channel& channel() override { return *channel_; }
  bool CutPeer() override {
    for (FaultChannel* channel : cuttable_) channel->CutPeer();
    return !cuttable_.empty();
  }
  void RestorePeer() override {
    for (FaultChannel* channel : cuttable_) channel->RestorePeer();
  }
  Duration request_timeout() override { return kTimeout; }

 private:
  ChannelPtr channel_;
  std::vector<FaultChannel*> cuttable_;
};

using Build = std::function<ChannelPtr(ComposedHarness& harness, const HarnessOptions& options)>;

Transport Composed(const std::string& name, Build build) {
  return {name, [build](const HarnessOptions& options, std::string*) -> std::unique_ptr<Harness> {
            auto harness = std::make_unique<ComposedHarness>();
            harness->Own(build(*harness, options));
            return harness;
          }};
}

std::vector<ChannelPtr> Legs(ChannelPtr a, ChannelPtr b, ChannelPtr c = nullptr) {
  std::vector<ChannelPtr> legs;
  legs.push_back(std::move(a));
  legs.push_back(std::move(b));
  if (c != nullptr) legs.push_back(std::move(c));
  return legs;
}

ChannelPtr BuildStripe2(ComposedHarness& harness, const HarnessOptions& options) {
  const uint64_t half = options.size_bytes / 2;
  return Stripe(Legs(harness.CuttableMemory(half, options.read_only),
                     harness.CuttableMemory(half, options.read_only)),
                4096);
}

// Chunks so small that most requests have many parts, and a leg that is larger than is used.
ChannelPtr BuildStripeTiny(ComposedHarness&, const HarnessOptions& options) {
  const uint64_t quarter = options.size_bytes / 4;
  std::vector<ChannelPtr> legs;
  for (int i = 0; i < 4; ++i) {
    legs.push_back(Async(Memory(quarter + 24 * static_cast<uint64_t>(i), options.read_only, 3)));
  }
  return Stripe(std::move(legs), 64);
}

ChannelPtr BuildMirror2(ComposedHarness& harness, const HarnessOptions& options) {
  return Mirror(Legs(harness.CuttableMemory(options.size_bytes, options.read_only),
                     harness.CuttableMemory(options.size_bytes, options.read_only)),
                {});
}

ChannelPtr BuildMirrorSpread(ComposedHarness&, const HarnessOptions& options) {
  return Mirror(Legs(Async(Memory(options.size_bytes, options.read_only)),
                     Delay(Memory(options.size_bytes, options.read_only),
                           Duration::Microseconds(20), Duration::Microseconds(50)),
                     Memory(options.size_bytes + 5, options.read_only)),
                {.read = MirrorOptions::Read::kSpread});
}

ChannelPtr BuildDelay(ComposedHarness& harness, const HarnessOptions& options) {
  return Delay(harness.CuttableMemory(options.size_bytes, options.read_only),
               Duration::Microseconds(10), Duration::Microseconds(100));
}

ChannelPtr BuildRate(ComposedHarness&, const HarnessOptions& options) {
  return std::make_unique<PacedChannel>(
      Async(Memory(options.size_bytes, options.read_only)), "rate",
      PacedOptions{.bytes_per_second = uint64_t{1} << 30, .requests_per_second = 100000});
}

ChannelPtr BuildFault(ComposedHarness& harness, const HarnessOptions& options) {
  return harness.CuttableMemory(options.size_bytes, options.read_only);
}

ChannelPtr BuildFaultShort(ComposedHarness&, const HarnessOptions& options) {
  return std::make_unique<FaultChannel>(Async(Memory(options.size_bytes, options.read_only)),
                                        FaultOptions{.short_submit = 0.5});
}

ChannelPtr BuildStripeOfMirrors(ComposedHarness& harness, const HarnessOptions& options) {
  HarnessOptions half = options;
  half.size_bytes /= 2;
  return Stripe(Legs(BuildMirror2(harness, half), BuildMirrorSpread(harness, half)), 16384);
}

}  // namespace

std::vector<Transport> ComposedTransports() {
  return {
      Composed("stripe2", BuildStripe2),
      Composed("stripeTiny", BuildStripeTiny),
      Composed("mirror2", BuildMirror2),
      Composed("mirrorSpread", BuildMirrorSpread),
      Composed("delay", BuildDelay),
      Composed("rate", BuildRate),
      Composed("fault", BuildFault),
      Composed("faultShort", BuildFaultShort),
      Composed("stripeOfMirrors", BuildStripeOfMirrors),
  };
}

}  // namespace oxmem::transport
