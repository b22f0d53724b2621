#include "tests/contract/local_transports.h"

#include <utility>

#include "transport/local/memory_channel.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

// A channel that needs nothing beside itself.
class PlainHarness final : public Harness {
 public:
  explicit PlainHarness(std::unique_ptr<Channel> channel) : channel_(std::move(channel)) {}
  Channel& channel() override { return *channel_; }

 private:
  std::unique_ptr<Channel> channel_;
};

}  // namespace

Transport MemoryTransport() {
  return {"mem", [](const HarnessOptions& options, std::string*) -> std::unique_ptr<Harness> {
            const auto memory = CreateMemory(options.size_bytes, HugePages::kNo);
            return std::make_unique<PlainHarness>(std::make_unique<MemoryChannel>(
                *memory, MemoryChannelOptions{.depth = 64, .read_only = options.read_only}));
          }};
}

}  // namespace oxmem::transport
