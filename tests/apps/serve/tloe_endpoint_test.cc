#include "apps/serve/tloe_endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "apps/source/source_opener.h"
#include "transport/api/blocking.h"
#include "transport/base/check.h"

namespace oxmem::apps {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// A node with one region on a free port of the loopback interface.
class UdpNode {
 public:
  UdpNode() {
    auto spec = ParseRegionSpec("data=1M");
    auto store = RegionStore::Create({*spec});
    OXMEM_CHECK(store.ok());
    store_ = std::make_unique<RegionStore>(*std::move(store));
    // Ports are tried until one is free: the kernel's own choice cannot be told to a peer.
    for (int port = 20000; port < 30000 && endpoint_ == nullptr; ++port) {
      const auto listen = transport::ParseSource(absl::StrCat("tloe+udp://127.0.0.1:", port));
      auto endpoint = Endpoint::Open(*listen, *store_, EndpointOptions());
      if (endpoint.ok()) endpoint_ = *std::move(endpoint);
    }
    OXMEM_CHECK(endpoint_ != nullptr && endpoint_->Start().ok());
  }
  Endpoint& endpoint() { return *endpoint_; }

 private:
  std::unique_ptr<RegionStore> store_;
  std::unique_ptr<Endpoint> endpoint_;
};

uint64_t FigureOf(const Part& part, const std::string& name) {
  for (const Figure& figure : part.figures) {
    if (figure.name == name) return figure.value;
  }
  ADD_FAILURE() << "no figure " << name;
  return 0;
}

TEST(TloeEndpoint, ServesItsRegionUnderTheNameItShows) {
  UdpNode node;
  auto opened = OpenSource(node.endpoint().name() + "?size=1M");
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::array<std::byte, 100> written;
  written.fill(std::byte{0x5a});
  ASSERT_TRUE(transport::BlockingWrite(*opened->channel, 4000, written).ok());
  std::array<std::byte, 100> read{};
  ASSERT_TRUE(transport::BlockingRead(*opened->channel, 4000, read).ok());
  EXPECT_EQ(read, written);
  const Part part = node.endpoint().Figures();
  EXPECT_EQ(part.kind, "node");
  EXPECT_THAT(part.name, StartsWith("tloe+udp://127.0.0.1:"));
  EXPECT_EQ(FigureOf(part, "connections"), 1u);
  EXPECT_EQ(FigureOf(part, "read_bytes"), 100u);
  EXPECT_EQ(FigureOf(part, "write_bytes"), 100u);
  ASSERT_EQ(part.latencies.size(), 1u);
  EXPECT_GT(part.latencies[0].histogram->count(), 0u);
}

TEST(TloeEndpoint, SeveralChannelsOfOneSourceSeeTheSameMemory) {
  UdpNode node;
  const auto source = transport::ParseSource(node.endpoint().name() + "?size=1M");
  const auto opener = SourceOpener::Create(*source);
  ASSERT_TRUE(opener.ok()) << opener.status();
  auto first = (*opener)->Open();
  auto second = (*opener)->Open();
  ASSERT_TRUE(first.ok() && second.ok());
  const std::array<std::byte, 8> written = {std::byte{1}, std::byte{2}};
  ASSERT_TRUE(transport::BlockingWrite(*first->channel, 64, written).ok());
  std::array<std::byte, 8> read{};
  ASSERT_TRUE(transport::BlockingRead(*second->channel, 64, read).ok());
  EXPECT_EQ(read, written);
}

TEST(TloeEndpoint, TellsItsPeersWhenItStops) {
  UdpNode node;
  auto opened = OpenSource(node.endpoint().name() + "?size=1M&timeout=100ms");
  ASSERT_TRUE(opened.ok()) << opened.status();
  const Instant before = Now();
  node.endpoint().RequestStop();
  std::array<transport::Completion, 1> none;
  transport::PollOrWait(*opened->channel, none, Now() + Duration::Milliseconds(50));
  node.endpoint().Join();
  EXPECT_LT((Now() - before).seconds(), 1.0);
  transport::PollOrWait(*opened->channel, none, Now() + Duration::Milliseconds(1));
  EXPECT_FALSE(opened->channel->health().ok());
}

TEST(TloeEndpoint, WrongListensAreRefusedWithTheReason) {
  const auto spec = ParseRegionSpec("data=1M");
  const auto store = RegionStore::Create({*spec});
  ASSERT_TRUE(store.ok());
  const auto error_of = [&](const std::string& text) {
    const auto listen = transport::ParseSource(text);
    EXPECT_TRUE(listen.ok()) << listen.status();
    return std::string(Endpoint::Open(*listen, *store, EndpointOptions()).status().message());
  };
  EXPECT_THAT(error_of("tloe://"), HasSubstr("wants an interface"));
  EXPECT_THAT(error_of("tloe://lo?colour=red"), HasSubstr("unknown option \"colour\""));
  EXPECT_THAT(error_of("tloe://lo/02:00"), HasSubstr("02:00"));
  EXPECT_THAT(error_of("tloe+udp://127.0.0.1"), HasSubstr("port"));
  EXPECT_THAT(error_of("ftp://x"), HasSubstr("unknown scheme \"ftp\""));
}

TEST(TloeEndpoint, AnAllowListOfMacAddressesDoesNotPretendToProtectUdp) {
  const auto spec = ParseRegionSpec("data=1M");
  const auto store = RegionStore::Create({*spec});
  const auto listen = transport::ParseSource("tloe+udp://127.0.0.1:1");
  EndpointOptions options;
  options.allowed.push_back(link::MacAddress{{2, 0, 0, 0, 0, 1}});
  EXPECT_THAT(std::string(Endpoint::Open(*listen, *store, options).status().message()),
              HasSubstr("cannot protect tloe+udp://127.0.0.1:1"));
}

}  // namespace
}  // namespace oxmem::apps
