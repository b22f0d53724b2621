#include "tests/contract/local_transports.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "tests/transport/local/node_fixture.h"
#include "transport/base/status.h"
#include "transport/local/memory_channel.h"
#include "transport/local/memory_source.h"
#include "transport/local/shared_channel.h"

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

// A node that serves one region on a thread; losing it is ending it.
class SharedHarness final : public Harness {
 public:
  SharedHarness(const HarnessOptions& options, bool with_file)
      : options_(options), with_file_(with_file) {
    StartNode();
    auto opened = SharedChannel::Open(
        {.target = {.paths = {path_}}, .depth = 64, .timeout = Duration::Milliseconds(300)});
    EXPECT_TRUE(opened.ok()) << opened.status();
    if (opened.ok()) channel_ = *std::move(opened);
  }
  Channel& channel() override { return *channel_; }
  bool CutPeer() override {
    node_.reset();
    // Until it has noticed, the channel goes on with memory that it has mapped, as it should.
    const Instant give_up = Now() + Duration::Seconds(5);
    while (channel_->health().ok() && Now() < give_up) channel_->Poll({});
    return true;
  }
  void RestorePeer() override { StartNode(); }
  Duration request_timeout() override { return Duration::Milliseconds(300); }

 private:
  void StartNode() {
    LocalRegion region{
        .name = "data", .size_bytes = options_.size_bytes, .read_only = options_.read_only};
    if (with_file_) {
      file_.Reset(open(folder_.File("data").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      EXPECT_EQ(ftruncate(file_.get(), static_cast<off_t>(options_.size_bytes)), 0);
      region.fd = file_.get();
      region.persistent = true;
      region.sync = [this] {
        return fdatasync(file_.get()) == 0 ? absl::OkStatus() : ErrnoStatus(errno, "fdatasync");
      };
    } else {
      memory_ = *CreateMemory(options_.size_bytes, HugePages::kNo);
      region.fd = memory_->fd();
    }
    node_ = Serve({.path = path_}, {std::move(region)});
  }

  const HarnessOptions options_;
  const bool with_file_;
  TemporaryFolder folder_;
  const std::string path_ = folder_.File("node.sock");
  UniqueFd file_;
  std::shared_ptr<MappedMemory> memory_;
  std::unique_ptr<RunningServer> node_;
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

Transport SharedTransport() {
  return {"shared", [](const HarnessOptions& options, std::string*) -> std::unique_ptr<Harness> {
            return std::make_unique<SharedHarness>(options, /*with_file=*/false);
          }};
}

Transport SharedFileTransport() {
  return {"sharedFile",
          [](const HarnessOptions& options, std::string*) -> std::unique_ptr<Harness> {
            return std::make_unique<SharedHarness>(options, /*with_file=*/true);
          }};
}

}  // namespace oxmem::transport
