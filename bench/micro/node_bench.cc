// A node and its requesters in one thread, on a network in memory: what a 64-byte read costs both
// ends and the network between them, by the number of connections, the number of regions and their
// size. Connections take turns, and every read goes to another place of another region; only
// caches may make a difference.

#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "oxmem/channel/tloe_channel.h"
#include "oxmem/link/memory_link.h"
#include "oxmem/node/node.h"

namespace oxmem {
namespace {

// Pages that exist only once they are touched.
class Memory {
 public:
  explicit Memory(std::size_t size) {
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) std::abort();
    bytes_ = {static_cast<std::byte*>(at), size};
  }
  ~Memory() { munmap(bytes_.data(), bytes_.size()); }
  Memory(const Memory&) = delete;
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

class World {
 public:
  World(int connections, int regions, uint64_t region_bytes)
      : regions_(static_cast<uint64_t>(regions)),
        region_bytes_(region_bytes),
        memory_(regions_ * region_bytes) {
    node::RegionMap map;
    for (int i = 0; i < regions; ++i) {
      const uint64_t base = static_cast<uint64_t>(i) * region_bytes;
      if (!map.Add({.name = absl::StrCat("region", i),
                    .base = base,
                    .memory = memory_.bytes().subspan(base, region_bytes)})
               .ok()) {
        std::abort();
      }
    }
    auto link = network_.Attach();
    const link::Address address = link->local_address();
    node_ = std::make_unique<node::Node>(
        node::NodeConfig{.max_connections = static_cast<std::size_t>(connections)}, std::move(link),
        std::move(map));
    for (int i = 0; i < connections; ++i) {
      channel::Options options;
      options.size_bytes = memory_.bytes().size();
      options.depth = 4;
      auto started =
          channel::TloeChannel::Start(network_.Attach(), address, std::move(options), now_);
      if (!started.ok()) std::abort();
      channels_.push_back(*std::move(started));
      while (!channels_.back()->connected()) Step(*channels_.back());
    }
  }

  void ReadOnce() {
    channel::TloeChannel& channel = *channels_[turn_++ % channels_.size()];
    // The same few pages of every region, so that it is not the machine's memory that is measured.
    const uint64_t offset =
        random_() % regions_ * region_bytes_ + random_() % (kSpread / buffer_.size()) * 64;
    const transport::Request request{.op = transport::Op::kRead,
                                     .offset = offset,
                                     .length = buffer_.size(),
                                     .buffer = buffer_.data()};
    channel.SubmitAt(now_, {&request, 1});
    transport::Completion completion;
    while (channel.PollAt(now_, {&completion, 1}) == 0) {
      node_->Poll(now_);
      now_ = now_ + Duration::Nanoseconds(500);
    }
    if (completion.code != transport::Code::kOk) std::abort();
  }

 private:
  static constexpr uint64_t kSpread = 4096;

  void Step(channel::TloeChannel& channel) {
    node_->Poll(now_);
    channel.PollAt(now_, {});
    now_ = now_ + Duration::Microseconds(10);
  }

  const uint64_t regions_;
  const uint64_t region_bytes_;
  Memory memory_;
  link::MemoryNetwork network_;
  std::unique_ptr<node::Node> node_;
  std::vector<std::unique_ptr<channel::TloeChannel>> channels_;
  Instant now_ = Instant::FromNanoseconds(1'000'000'000);
  std::mt19937_64 random_{1};
  std::size_t turn_ = 0;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(64);
};

void Run(benchmark::State& state, int connections, int regions, uint64_t region_bytes) {
  World world(connections, regions, region_bytes);
  for (auto _ : state) world.ReadOnce();
  state.SetItemsProcessed(state.iterations());
}

void BM_ReadByConnections(benchmark::State& state) {
  Run(state, static_cast<int>(state.range(0)), 1, 1 << 20);
}
BENCHMARK(BM_ReadByConnections)->Arg(1)->Arg(16)->Arg(64)->Arg(256);

void BM_ReadByRegions(benchmark::State& state) {
  Run(state, 1, static_cast<int>(state.range(0)), 1 << 20);
}
BENCHMARK(BM_ReadByRegions)->Arg(1)->Arg(16)->Arg(256)->Arg(4096);

void BM_ReadByRegionSize(benchmark::State& state) {
  Run(state, 1, 1, uint64_t{1} << state.range(0));
}
BENCHMARK(BM_ReadByRegionSize)->Arg(20)->Arg(30)->Arg(40);

}  // namespace
}  // namespace oxmem
