#include "transport/local/local_server.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>

#include "gmock/gmock.h"
#include "tests/transport/local/node_fixture.h"
#include "transport/base/status.h"
#include "transport/local/memory_source.h"
#include "transport/local/unix_socket.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;

// The server is driven by the test's own thread, packet by packet.
class LocalServerTest : public testing::Test {
 protected:
  void Listen(LocalServerOptions options = {}, int regions = 1) {
    options.path = path_;
    std::vector<LocalRegion> list;
    for (int i = 0; i < regions; ++i) {
      memory_.push_back(*CreateMemory(8192, HugePages::kNo));
      list.push_back({.name = "r" + std::to_string(i),
                      .fd = memory_.back()->fd(),
                      .size_bytes = 8192,
                      .read_only = i == 2});
    }
    auto server = LocalServer::Listen(options, std::move(list));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  UniqueFd Connect() {
    auto socket = ConnectUnix(path_);
    EXPECT_TRUE(socket.ok()) << socket.status();
    server_->Poll(now_);
    return socket.ok() ? *std::move(socket) : UniqueFd();
  }
  void Send(const UniqueFd& socket, const LocalMessage& message) {
    EXPECT_TRUE(SendPacket(socket.get(), EncodeLocalMessage(message)).ok());
    server_->Poll(now_);
  }
  // What the server sent; the descriptor goes to fd_.
  std::optional<LocalMessage> Receive(const UniqueFd& socket) {
    std::array<std::byte, kMaxLocalMessageBytes> buffer;
    std::size_t length = 0;
    fd_.Reset();
    received_ = ReceivePacket(socket.get(), buffer, &length, &fd_);
    if (received_ != Received::kPacket) return std::nullopt;
    return DecodeLocalMessage(std::span(buffer).first(length));
  }
  LocalOffer Hello(const UniqueFd& socket, const LocalHello& hello) {
    Send(socket, hello);
    const auto answer = Receive(socket);
    EXPECT_TRUE(answer && std::holds_alternative<LocalOffer>(*answer));
    return answer ? std::get<LocalOffer>(*answer) : LocalOffer{.error = 9999};
  }
  bool HungUp(const UniqueFd& socket) {
    server_->Poll(now_);
    Receive(socket);
    return received_ == Received::kHangUp;
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.File("node.sock");
  std::vector<std::shared_ptr<MappedMemory>> memory_;
  std::unique_ptr<LocalServer> server_;
  Instant now_ = Instant::FromNanoseconds(1);
  UniqueFd fd_;
  Received received_ = Received::kNothing;
};

TEST_F(LocalServerTest, HandsOutTheMemoryItself) {
  Listen();
  const UniqueFd socket = Connect();
  const LocalOffer offer = Hello(socket, {});
  EXPECT_EQ(offer.error, 0);
  EXPECT_EQ(offer.size_bytes, 8192u);
  EXPECT_EQ(offer.text, "r0");
  EXPECT_FALSE(offer.read_only);
  ASSERT_TRUE(fd_.valid());
  const char byte = 7;
  ASSERT_EQ(pwrite(fd_.get(), &byte, 1, 5), 1);
  EXPECT_EQ(memory_[0]->data()[5], std::byte{7});
  EXPECT_EQ(server_->stats().clients.value(), 1u);
  EXPECT_EQ(server_->stats().accepted.value(), 1u);
}

TEST_F(LocalServerTest, RegionsAreChosenByName) {
  Listen({}, 3);
  const UniqueFd socket = Connect();
  LocalOffer offer = Hello(socket, {});
  EXPECT_EQ(offer.error, ENOENT);
  EXPECT_THAT(offer.text, HasSubstr("choose one with region= (r0, r1, r2)"));
  EXPECT_FALSE(fd_.valid());
  offer = Hello(socket, {.region = "r9"});
  EXPECT_EQ(offer.error, ENOENT);
  EXPECT_THAT(offer.text, HasSubstr("no region \"r9\" (it has r0, r1, r2)"));
  EXPECT_EQ(Hello(socket, {.region = "r1"}).error, 0) << "a refused client may ask again";
  EXPECT_EQ(server_->stats().refused.value(), 2u);
}

TEST_F(LocalServerTest, AReadOnlyRegionCannotBeWrittenThroughItsDescriptor) {
  Listen({}, 3);
  for (const LocalHello& hello :
       {LocalHello{.region = "r2"}, LocalHello{.read_only = true, .region = "r1"}}) {
    const UniqueFd socket = Connect();
    const LocalOffer offer = Hello(socket, hello);
    EXPECT_TRUE(offer.read_only);
    ASSERT_TRUE(fd_.valid());
    EXPECT_EQ(fcntl(fd_.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
    EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0), MAP_FAILED);
    void* const mapping = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd_.get(), 0);
    EXPECT_NE(mapping, MAP_FAILED);
    munmap(mapping, 4096);
    // Nor can another user open it again for writing.
    struct stat status;
    ASSERT_EQ(fstat(fd_.get(), &status), 0);
    EXPECT_EQ(status.st_mode & 0077u, 0u);
  }
}

TEST_F(LocalServerTest, TheSocketHasItsModeAndGoesWithTheServer) {
  Listen({.mode = 0640});
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_EQ(status.st_mode & 0777u, 0640u);
  server_.reset();
  EXPECT_NE(stat(path_.c_str(), &status), 0);
}

TEST_F(LocalServerTest, AStaleSocketIsReplacedAndALiveOneIsNot) {
  Listen();
  const auto second = LocalServer::Listen({.path = path_}, {});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("another process listens at"));

  // What a killed node leaves: a socket file that nobody listens at.
  const std::string stale = folder_.File("stale.sock");
  { const UniqueFd listener = *ListenUnix(stale, 0600, 1); }
  const auto third = LocalServer::Listen({.path = stale}, {});
  EXPECT_TRUE(third.ok()) << third.status();
}

TEST_F(LocalServerTest, NothingButASocketIsReplaced) {
  std::ofstream(path_) << "precious";
  const auto server = LocalServer::Listen({.path = path_}, {});
  ASSERT_FALSE(server.ok());
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("is there and is not a socket"));
  EXPECT_TRUE(std::filesystem::is_regular_file(path_));
}

TEST_F(LocalServerTest, PathsThatCannotBeAreExplained) {
  const auto error = [](const std::string& path) {
    return std::string(LocalServer::Listen({.path = path}, {}).status().message());
  };
  EXPECT_THAT(error(""), HasSubstr("is empty"));
  EXPECT_THAT(error(std::string(200, 'x')), HasSubstr("is too long (1 to 107 bytes)"));
  EXPECT_THAT(error(folder_.File("no/such/folder.sock")), HasSubstr("No such file or directory"));
}

TEST_F(LocalServerTest, RegionsThatCannotBeServedAreRefused) {
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  const auto error = [&](std::vector<LocalRegion> regions) {
    return std::string(LocalServer::Listen({.path = path_}, std::move(regions)).status().message());
  };
  EXPECT_THAT(error({{.name = "a", .fd = -1, .size_bytes = 1}}),
              HasSubstr("region \"a\" has no memory that other processes can map"));
  EXPECT_THAT(error({{.name = "a", .fd = memory->fd(), .offset = 1, .size_bytes = 4096}}),
              HasSubstr("region \"a\" is 4K of a file of 4K"));
  EXPECT_THAT(error({{.name = "a", .fd = memory->fd(), .size_bytes = 4096},
                     {.name = "a", .fd = memory->fd(), .size_bytes = 4096}}),
              HasSubstr("is there twice"));
}

TEST_F(LocalServerTest, AnotherVersionIsToldWhatTheNodeSpeaks) {
  Listen();
  const UniqueFd socket = Connect();
  const LocalOffer offer = Hello(socket, {.lowest_version = 2, .highest_version = 9});
  EXPECT_EQ(offer.error, EPROTONOSUPPORT);
  EXPECT_THAT(offer.text, HasSubstr("the node speaks version 1"));
  EXPECT_EQ(Hello(socket, {.lowest_version = 0, .highest_version = 9}).error, 0);
}

TEST_F(LocalServerTest, UsersThatAreNotListedAreRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "changing the user needs root";
  Listen({.allow_users = {12345}});
  for (const auto& [user, expected] : {std::pair<uid_t, int>{0, 0}, {12345, 0}, {54321, EACCES}}) {
    // The credentials are those of the moment of connect.
    ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
    ASSERT_EQ(chmod(folder_.File("").c_str(), 0755), 0);
    ASSERT_EQ(seteuid(user), 0);
    auto socket = ConnectUnix(path_);
    ASSERT_EQ(seteuid(0), 0);
    ASSERT_TRUE(socket.ok()) << socket.status();
    server_->Poll(now_);
    EXPECT_EQ(Hello(*socket, {}).error, expected) << "user " << user;
  }
}

TEST_F(LocalServerTest, WhatIsNoMessageEndsTheConnection) {
  Listen();
  const std::array<std::byte, 5> noise = {std::byte{'n'}, std::byte{'o'}};
  std::vector<std::byte> huge(kMaxLocalMessageBytes + 1);
  const auto answer_to_nobody = EncodeLocalMessage(LocalFlushed{1, 0});
  const auto flush_before_hello = EncodeLocalMessage(LocalFlush{1});
  uint64_t malformed = 0;
  for (const std::span<const std::byte> packet :
       {std::span<const std::byte>(noise), std::span<const std::byte>(huge),
        std::span<const std::byte>(answer_to_nobody),
        std::span<const std::byte>(flush_before_hello)}) {
    const UniqueFd socket = Connect();
    ASSERT_TRUE(SendPacket(socket.get(), packet).ok());
    EXPECT_TRUE(HungUp(socket));
    EXPECT_EQ(server_->stats().malformed.value(), ++malformed);
  }
  EXPECT_EQ(server_->stats().clients.value(), 0u);
}

TEST_F(LocalServerTest, ASecondHelloAfterTheOfferEndsTheConnection) {
  Listen();
  const UniqueFd socket = Connect();
  EXPECT_EQ(Hello(socket, {}).error, 0);
  Send(socket, LocalHello{});
  EXPECT_TRUE(HungUp(socket));
}

TEST_F(LocalServerTest, AClientThatSaysNothingIsLetGo) {
  Listen({.handshake_timeout = Duration::Seconds(2)});
  const UniqueFd silent = Connect();
  const UniqueFd polite = Connect();
  EXPECT_EQ(Hello(polite, {}).error, 0);
  EXPECT_EQ(server_->next_deadline(), now_ + Duration::Seconds(2));
  now_ = now_ + Duration::Seconds(2);
  EXPECT_TRUE(HungUp(silent));
  EXPECT_FALSE(HungUp(polite));
  EXPECT_TRUE(server_->next_deadline().is_never());
}

TEST_F(LocalServerTest, MoreClientsThanAllowedAreTurnedAway) {
  Listen({.max_clients = 2});
  const UniqueFd first = Connect();
  UniqueFd second = Connect();
  const UniqueFd third = Connect();
  EXPECT_FALSE(HungUp(first));
  EXPECT_FALSE(HungUp(second));
  EXPECT_TRUE(HungUp(third));
  second.Reset();
  server_->Poll(now_);
  const UniqueFd fourth = Connect();
  EXPECT_EQ(Hello(fourth, {}).error, 0);
}

TEST_F(LocalServerTest, FlushesAreAnsweredWithTheResultOfTheSync) {
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  int syncs = 0;
  server_ = *LocalServer::Listen(
      {.path = path_}, {{.name = "p",
                         .fd = memory->fd(),
                         .size_bytes = 4096,
                         .persistent = true,
                         .sync = [&]() -> absl::Status {
                           return ++syncs == 1 ? absl::OkStatus() : ErrnoStatus(ENOSPC, "sync");
                         }}});
  const UniqueFd socket = Connect();
  EXPECT_TRUE(Hello(socket, {}).persistent);
  Send(socket, LocalFlush{7});
  EXPECT_EQ(Receive(socket), LocalMessage(LocalFlushed{7, 0}));
  Send(socket, LocalFlush{8});
  EXPECT_EQ(Receive(socket), LocalMessage(LocalFlushed{8, ENOSPC}));
  EXPECT_EQ(server_->stats().flushes.value(), 2u);
}

TEST_F(LocalServerTest, ADescriptorThatAClientSendsIsClosed) {
  Listen();
  const UniqueFd socket = Connect();
  std::array<int, 2> pipe_fds;
  ASSERT_EQ(pipe2(pipe_fds.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(pipe_fds[0]);
  {
    const UniqueFd writer(pipe_fds[1]);
    ASSERT_TRUE(SendPacket(socket.get(), EncodeLocalMessage(LocalHello{}), writer.get()).ok());
  }
  server_->Poll(now_);
  char byte = 0;
  EXPECT_EQ(read(reader.get(), &byte, 1), 0) << "no writer is left";
}

}  // namespace
}  // namespace oxmem::transport
