#include "oxmem/link/udp_link.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "oxmem/link/udp_address.h"
#include "tests/support/net_namespace.h"
#include "transport/base/unique_fd.h"

namespace oxmem::link {
namespace {

using testing::HasSubstr;
using Frame = std::vector<std::byte>;

std::unique_ptr<Link> Bound(const char* host_and_port, int hops = 0) {
  UdpLinkOptions options;
  options.local = *ResolveUdpAddress(host_and_port);
  options.hops = hops;
  auto link = OpenUdpLink(options);
  EXPECT_TRUE(link.ok()) << link.status();
  return link.ok() ? *std::move(link) : nullptr;
}

std::unique_ptr<Link> To(const Address& peer) {
  UdpLinkOptions options;
  options.peer = peer;
  auto link = OpenUdpLink(options);
  EXPECT_TRUE(link.ok()) << link.status();
  return link.ok() ? *std::move(link) : nullptr;
}

absl::Status SendOne(Link& link, const Address& to, const Frame& frame) {
  const OutgoingFrame out = {to, frame};
  return link.Send({&out, 1});
}

std::vector<IncomingFrame> ReceiveSome(Link& link) {
  pollfd one = {link.fd(), POLLIN, 0};
  if (poll(&one, 1, 5000) <= 0) return {};
  std::vector<IncomingFrame> frames(16);
  frames.resize(link.Receive(frames));
  return frames;
}

// A plain socket that sends with the hop count programs usually have.
void SendWithHops(const Address& to, int hops, const Frame& frame) {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(setsockopt(fd.get(), IPPROTO_IP, IP_TTL, &hops, sizeof hops), 0);
  sockaddr_storage storage;
  const socklen_t length = ToSockaddr(to, AF_INET, storage);
  ASSERT_EQ(sendto(fd.get(), frame.data(), frame.size(), 0,
                   reinterpret_cast<const sockaddr*>(&storage), length),
            static_cast<ssize_t>(frame.size()));
}

TEST(UdpLink, FramesThatCrossedARouterStayOutside) {
  const auto node = Bound("127.0.0.1:0");
  const Frame from_afar(100, std::byte{1});
  const Frame from_here(100, std::byte{2});
  SendWithHops(node->local_address(), 254, from_afar);
  SendWithHops(node->local_address(), 64, from_afar);
  SendWithHops(node->local_address(), 255, from_here);
  const auto frames = ReceiveSome(*node);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(std::ranges::equal(frames[0].bytes, from_here));
}

TEST(UdpLink, AsManyRoutersAsAllowedAreLetIn) {
  const auto node = Bound("127.0.0.1:0", 3);
  SendWithHops(node->local_address(), 251, Frame(100, std::byte{1}));
  SendWithHops(node->local_address(), 252, Frame(100, std::byte{2}));
  const auto frames = ReceiveSome(*node);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].bytes[0], std::byte{2});
}

TEST(UdpLink, ANodeOnEveryAddressAnswersRequestersOfBothKinds) {
  const auto node = Bound("*:0");
  const std::string port = FormatUdpAddress(node->local_address())
                               .substr(FormatUdpAddress(node->local_address()).rfind(':'));
  std::vector<std::string> hosts = {"127.0.0.1"};
  if (FamilyOf(node->local_address()) == AF_INET6) hosts.emplace_back("[::1]");
  for (const std::string& host : hosts) {
    const auto requester = To(*ResolveUdpAddress(host + port));
    ASSERT_TRUE(SendOne(*requester, *ResolveUdpAddress(host + port), Frame(64)).ok());
    const auto asked = ReceiveSome(*node);
    ASSERT_EQ(asked.size(), 1u) << host;
    EXPECT_EQ(asked[0].from, requester->local_address());
    ASSERT_TRUE(SendOne(*node, asked[0].from, Frame(72)).ok());
    const auto answered = ReceiveSome(*requester);
    ASSERT_EQ(answered.size(), 1u) << host;
    EXPECT_EQ(answered[0].bytes.size(), 72u);
  }
}

TEST(UdpLink, ARequesterHearsOnlyItsPeer) {
  const auto node = Bound("127.0.0.1:0");
  const auto stranger = Bound("127.0.0.1:0");
  const auto requester = To(node->local_address());
  ASSERT_TRUE(SendOne(*stranger, requester->local_address(), Frame(64, std::byte{1})).ok());
  ASSERT_TRUE(SendOne(*node, requester->local_address(), Frame(64, std::byte{2})).ok());
  const auto frames = ReceiveSome(*requester);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].bytes[0], std::byte{2});
}

TEST(UdpLink, HealthSaysThatNobodyListensUntilAFrameComes) {
  auto node = Bound("127.0.0.1:0");
  const std::string where = FormatUdpAddress(node->local_address());
  const auto requester = To(node->local_address());
  node.reset();
  std::array<IncomingFrame, 1> in;
  ASSERT_TRUE(SendOne(*requester, *ResolveUdpAddress(where), Frame(64)).ok());
  EXPECT_EQ(requester->Receive(in), 0u);
  EXPECT_EQ(requester->health().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(requester->health().message()), HasSubstr(where));

  node = Bound(where.c_str());
  ASSERT_TRUE(SendOne(*requester, node->local_address(), Frame(64)).ok());
  const auto asked = ReceiveSome(*node);
  ASSERT_EQ(asked.size(), 1u);
  ASSERT_TRUE(SendOne(*node, asked[0].from, Frame(64)).ok());
  ASSERT_EQ(ReceiveSome(*requester).size(), 1u);
  EXPECT_TRUE(requester->health().ok());
}

TEST(UdpLink, ATakenPortIsNamed) {
  const auto node = Bound("127.0.0.1:0");
  UdpLinkOptions options;
  options.local = node->local_address();
  const auto second = OpenUdpLink(options);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(FormatUdpAddress(node->local_address()) + " is taken"));
}

TEST(UdpLink, AnAddressOfAnotherHostCannotBeServed) {
  UdpLinkOptions options;
  options.local = *ResolveUdpAddress("192.0.2.77:0");
  EXPECT_THAT(std::string(OpenUdpLink(options).status().message()),
              HasSubstr("192.0.2.77:0 is no address of this host"));
}

TEST(UdpLink, FrameLimitsThatUdpCannotHaveAreRefused) {
  for (const std::size_t bytes : {std::size_t{55}, std::size_t{65508}}) {
    UdpLinkOptions options;
    options.peer = *ResolveUdpAddress("127.0.0.1:9");
    options.max_frame_bytes = bytes;
    EXPECT_THAT(std::string(OpenUdpLink(options).status().message()),
                HasSubstr(std::to_string(bytes)));
  }
}

TEST(UdpLink, FramesFitTheMtuOnTheWayToEachPeer) {
  if (const std::string why = test::WhyNoNetNamespaces(); !why.empty()) GTEST_SKIP() << why;
  auto veth = test::VethPair::Create(9000);
  ASSERT_TRUE(veth.ok()) << veth.status();
  const auto& end = veth->left();
  ASSERT_TRUE(end.space.Command({"ip", "addr", "add", "192.0.2.1/24", "dev", end.interface}).ok());
  end.space.Run([] {
    const auto node = Bound("0.0.0.0:0");
    EXPECT_EQ(node->max_frame_bytes(), 65507u);
    EXPECT_EQ(node->max_frame_bytes_to(*ResolveUdpAddress("192.0.2.2:9")), 8972u);
    EXPECT_EQ(node->max_frame_bytes_to(*ResolveUdpAddress("127.0.0.1:9")), 65507u);
    const auto dual = Bound("*:0");
    EXPECT_EQ(dual->max_frame_bytes_to(*ResolveUdpAddress("192.0.2.2:9")), 8972u);
    EXPECT_EQ(To(*ResolveUdpAddress("192.0.2.2:9"))->max_frame_bytes(), 8972u);
  });
}

TEST(UdpAddress, IsReadAndWritten) {
  for (const char* text : {"127.0.0.1:4000", "[::1]:65535", "0.0.0.0:0", "[2001:db8::7]:4000"}) {
    const auto address = ResolveUdpAddress(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(FormatUdpAddress(*address), text);
  }
  EXPECT_EQ(FormatUdpAddress(*ResolveUdpAddress("*:4000")), "[::]:4000");
  EXPECT_TRUE(IsWildcard(*ResolveUdpAddress("*:4000")));
  EXPECT_TRUE(IsWildcard(*ResolveUdpAddress("0.0.0.0:4000")));
  EXPECT_FALSE(IsWildcard(*ResolveUdpAddress("127.0.0.1:0")));
}

TEST(UdpAddress, WhatIsNoneIsRefusedAndQuoted) {
  for (const char* text : {"127.0.0.1", "127.0.0.1:", ":4000", "::1:4000", "127.0.0.1:65536",
                           "127.0.0.1:-1", "127.0.0.1:http", "[]:4000"}) {
    const auto address = ResolveUdpAddress(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_THAT(std::string(address.status().message()), HasSubstr("\""));
  }
}

}  // namespace
}  // namespace oxmem::link
