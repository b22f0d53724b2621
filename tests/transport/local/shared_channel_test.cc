#include "transport/local/shared_channel.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "gmock/gmock.h"
#include "tests/transport/local/node_fixture.h"
#include "transport/api/blocking.h"
#include "transport/base/status.h"
#include "transport/local/memory_source.h"
#include "transport/local/unix_socket.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;

class SharedChannelTest : public testing::Test {
 protected:
  void StartNode(uint64_t size = 1 << 20, LocalRegion region = {}) {
    if (memory_ == nullptr || memory_->size() != size)
      memory_ = *CreateMemory(size, HugePages::kNo);
    region.name = "data";
    region.fd = memory_->fd();
    region.size_bytes = size;
    node_ = Serve({.path = path_}, {region});
  }
  absl::StatusOr<std::unique_ptr<Channel>> Open(const std::string& options = "") {
    return OpenShared(*ParseSource("unix:" + path_ + options));
  }
  std::string ErrorOf(const std::string& options = "") {
    return std::string(Open(options).status().message());
  }
  // Polls until the channel says so, sleeping by the contract's rule.
  bool WaitForHealth(Channel& channel, bool healthy) {
    const Instant until = Now() + Duration::Seconds(10);
    std::array<Completion, 1> none;
    while (channel.health().ok() != healthy && Now() < until) {
      EXPECT_EQ(PollOrWait(channel, none, Now() + Duration::Milliseconds(20)), 0u);
    }
    return channel.health().ok() == healthy;
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.File("node.sock");
  std::shared_ptr<MappedMemory> memory_;
  std::unique_ptr<RunningServer> node_;
};

TEST_F(SharedChannelTest, ReadsAndWritesTheNodesOwnMemory) {
  StartNode();
  const auto channel = Open();
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_EQ((*channel)->name(), "region data of unix:" + path_);
  EXPECT_EQ((*channel)->limits().size_bytes, 1u << 20);
  const std::vector<std::byte> sent(5000, std::byte{7});
  ASSERT_TRUE(BlockingWrite(**channel, 100, sent).ok());
  EXPECT_EQ(std::memcmp(memory_->data() + 100, sent.data(), sent.size()), 0);
  memory_->data()[50] = std::byte{9};
  std::array<std::byte, 1> seen;
  ASSERT_TRUE(BlockingRead(**channel, 50, seen).ok());
  EXPECT_EQ(seen[0], std::byte{9});
}

TEST_F(SharedChannelTest, TheDescriptorIsGoodForMappingTheRegion) {
  StartNode();
  const auto channel = Open();
  ASSERT_TRUE(channel.ok()) << channel.status();
  const LocalMemory local = *(*channel)->limits().local_memory;
  void* const mapping = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, local.fd,
                             static_cast<off_t>(local.offset));
  ASSERT_NE(mapping, MAP_FAILED);
  static_cast<char*>(mapping)[77] = 'x';
  EXPECT_EQ(memory_->data()[77], std::byte{'x'});
  munmap(mapping, 1 << 20);
}

TEST_F(SharedChannelTest, AChannelForReadingOnlyMapsForReadingOnly) {
  StartNode();
  const auto channel = Open("?read_only=yes");
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_TRUE((*channel)->limits().read_only);
  EXPECT_EQ(ErrnoOf(BlockingZero(**channel, 0, 8)), EROFS);
  std::array<std::byte, 8> seen;
  EXPECT_TRUE(BlockingRead(**channel, 0, seen).ok());
}

TEST_F(SharedChannelTest, AtomicsOfTwoClientsMeetInTheSameCell) {
  StartNode();
  const auto first = Open();
  const auto second = Open();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(*BlockingAtomic(**first, AtomicOp::kAdd, 64, 8, 5), 0u);
  EXPECT_EQ(*BlockingAtomic(**second, AtomicOp::kAdd, 64, 8, 5), 5u);
  EXPECT_EQ(*BlockingAtomic(**first, AtomicOp::kCompareSwap, 64, 8, 1, 10), 10u);
}

TEST_F(SharedChannelTest, ALostNodeWakesASleepingOwnerAtOnce) {
  StartNode();
  const auto channel = Open();
  ASSERT_TRUE(channel.ok());
  std::array<Completion, 1> none;
  ASSERT_EQ((*channel)->Poll(none), 0u);
  ASSERT_TRUE((*channel)->Arm());
  ASSERT_TRUE((*channel)->next_deadline().is_never());
  node_.reset();
  pollfd entry{.fd = (*channel)->event_fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&entry, 1, 10000), 1);
  ASSERT_EQ((*channel)->Poll(none), 0u);
  EXPECT_THAT(std::string((*channel)->health().message()), HasSubstr("the node is gone"));
}

TEST_F(SharedChannelTest, ABusyOwnerNoticesALostNodeToo) {
  StartNode();
  const auto channel = Open("?timeout=100ms");
  ASSERT_TRUE(channel.ok());
  node_.reset();
  // Requests one after the other, so that the channel never sleeps.
  const Instant until = Now() + Duration::Seconds(5);
  Code code = Code::kOk;
  while (code == Code::kOk && Now() < until) {
    code = transport::Run(**channel, {.op = Op::kZero, .length = 8}).code;
  }
  EXPECT_EQ(code, Code::kTimedOut);
}

TEST_F(SharedChannelTest, RequestsWaitForTheNodesReturnInTheirOrder) {
  StartNode();
  const auto channel = Open();
  ASSERT_TRUE(channel.ok());
  node_.reset();
  ASSERT_TRUE(WaitForHealth(**channel, false));
  std::array<std::byte, 64> bytes;
  bytes.fill(std::byte{4});
  std::array<std::byte, 64> seen{};
  const std::array<Request, 3> requests = {
      Request{.op = Op::kWrite, .length = 64, .buffer = bytes.data(), .cookie = 1},
      Request{.op = Op::kRead, .length = 64, .buffer = seen.data(), .cookie = 2},
      Request{.op = Op::kFlush, .cookie = 3}};
  ASSERT_EQ((*channel)->Submit(requests), 3u);
  Completion completion;
  EXPECT_EQ((*channel)->Poll({&completion, 1}), 0u);
  StartNode();
  for (uint64_t cookie = 1; cookie <= 3; ++cookie) {
    ASSERT_EQ(PollOrWait(**channel, {&completion, 1}, Now() + Duration::Seconds(10)), 1u);
    EXPECT_EQ(completion.cookie, cookie);
    EXPECT_EQ(completion.code, Code::kOk);
  }
  EXPECT_EQ(seen, bytes);
  EXPECT_EQ((*channel)->stats().reconnects.value(), 1u);
  EXPECT_TRUE((*channel)->health().ok());
}

TEST_F(SharedChannelTest, ANodeThatKeptItsMemoryIsFoundWithIt) {
  StartNode();
  const auto channel = Open();
  ASSERT_TRUE(channel.ok());
  memory_->data()[5] = std::byte{42};
  node_.reset();
  StartNode();  // the same memfd
  std::array<Completion, 1> none;
  const Instant until = Now() + Duration::Seconds(10);
  while ((*channel)->stats().reconnects.value() == 0 && Now() < until) {
    PollOrWait(**channel, none, Now() + Duration::Milliseconds(20));
  }
  ASSERT_TRUE((*channel)->health().ok()) << (*channel)->health();
  std::array<std::byte, 1> seen;
  ASSERT_TRUE(BlockingRead(**channel, 5, seen).ok());
  EXPECT_EQ(seen[0], std::byte{42});
}

TEST_F(SharedChannelTest, NewMemoryComesUnderTheSameDescriptor) {
  StartNode();
  const auto channel = Open();
  ASSERT_TRUE(channel.ok());
  const int fd = (*channel)->limits().local_memory->fd;
  node_.reset();
  memory_.reset();
  ASSERT_TRUE(WaitForHealth(**channel, false));
  StartNode();
  ASSERT_TRUE(WaitForHealth(**channel, true));
  const std::vector<std::byte> sent(16, std::byte{3});
  ASSERT_TRUE(BlockingWrite(**channel, 0, sent).ok());
  EXPECT_EQ(memory_->data()[0], std::byte{3}) << "requests go to the new memory";
  EXPECT_EQ((*channel)->limits().local_memory->fd, fd);
  char byte = 0;
  ASSERT_EQ(pread(fd, &byte, 1, 0), 1);
  EXPECT_EQ(byte, 3) << "and so does the descriptor";
}

TEST_F(SharedChannelTest, ANodeThatComesBackOtherwiseIsNotTakenOn) {
  StartNode(1 << 20);
  const auto channel = Open("?timeout=200ms");
  ASSERT_TRUE(channel.ok());
  node_.reset();
  ASSERT_TRUE(WaitForHealth(**channel, false));
  StartNode(2 << 20);
  EXPECT_EQ(transport::Run(**channel, {.op = Op::kFlush}).code, Code::kTimedOut);
  EXPECT_THAT(std::string((*channel)->health().message()),
              HasSubstr("came back with another region: 2M"));
  node_.reset();
  StartNode(1 << 20);
  EXPECT_TRUE(WaitForHealth(**channel, true)) << (*channel)->health();
}

TEST_F(SharedChannelTest, AFlushOfAPersistentRegionIsTheNodesSync) {
  std::atomic<int> syncs = 0;
  std::atomic<int> error = 0;
  StartNode(1 << 20, {.persistent = true, .sync = [&] {
                        ++syncs;
                        return error == 0 ? absl::OkStatus() : ErrnoStatus(error, "sync");
                      }});
  const auto channel = Open();
  ASSERT_TRUE(channel.ok());
  EXPECT_TRUE((*channel)->limits().persistent);
  EXPECT_TRUE(BlockingFlush(**channel).ok());
  EXPECT_EQ(syncs, 1);
  error = ENOSPC;
  const Completion failed = transport::Run(**channel, {.op = Op::kFlush});
  EXPECT_EQ(failed.code, Code::kFailed);
  EXPECT_EQ(failed.provider_code, ENOSPC);
}

TEST_F(SharedChannelTest, AFlushThatTheNodeDidNotAnswerIsAskedAgainAfterItsReturn) {
  // A node that takes the flush and dies before the answer: a listener driven by hand.
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  auto listener = *ListenUnix(path_, 0600, 4);
  UniqueFd peer;
  std::thread first_node([&] {
    pollfd entry{.fd = listener.get(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&entry, 1, 10000), 1);
    peer.Reset(accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(SendPacket(peer.get(),
                           EncodeLocalMessage(
                               LocalOffer{.persistent = true, .size_bytes = 4096, .text = "data"}),
                           memory->fd())
                    .ok());
  });
  const auto channel = Open();
  first_node.join();
  ASSERT_TRUE(channel.ok()) << channel.status();
  const Request flush{.op = Op::kFlush, .cookie = 5};
  ASSERT_EQ((*channel)->Submit({&flush, 1}), 1u);
  Completion completion;
  EXPECT_EQ((*channel)->Poll({&completion, 1}), 0u);
  listener.Reset();
  unlink(path_.c_str());
  peer.Reset();
  std::atomic<int> syncs = 0;
  const auto second_node = Serve(
      {.path = path_},
      {{.name = "data", .fd = memory->fd(), .size_bytes = 4096, .persistent = true, .sync = [&] {
          ++syncs;
          return absl::OkStatus();
        }}});
  ASSERT_EQ(PollOrWait(**channel, {&completion, 1}, Now() + Duration::Seconds(10)), 1u);
  EXPECT_EQ(completion.cookie, 5u);
  EXPECT_EQ(completion.code, Code::kOk);
  EXPECT_EQ(syncs, 1);
}

TEST_F(SharedChannelTest, AKilledProcessIsNoticed) {
  memory_ = *CreateMemory(1 << 20, HugePages::kNo);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto server = LocalServer::Listen(
        {.path = path_}, {{.name = "data", .fd = memory_->fd(), .size_bytes = 1 << 20}});
    if (!server.ok()) _exit(1);
    while (true) {
      pollfd entry{.fd = (*server)->event_fd(), .events = POLLIN, .revents = 0};
      poll(&entry, 1, -1);
      (*server)->Poll(Now());
    }
  }
  absl::StatusOr<std::unique_ptr<Channel>> channel = Open();
  for (int i = 0; i < 1000 && !channel.ok(); ++i) {
    std::this_thread::yield();
    poll(nullptr, 0, 5);
    channel = Open();
  }
  EXPECT_TRUE(channel.ok()) << channel.status();
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(channel.ok());
  EXPECT_TRUE(WaitForHealth(**channel, false));
  StartNode();  // in place of the socket that the dead one left
  EXPECT_TRUE(WaitForHealth(**channel, true)) << (*channel)->health();
}

TEST_F(SharedChannelTest, SaysWhyItCannotOpen) {
  EXPECT_THAT(ErrorOf(), HasSubstr("no node listens there; start one with oxmem serve"));
  StartNode();
  EXPECT_THAT(ErrorOf("?region=x"), HasSubstr("the node has no region \"x\" (it has data)"));
  EXPECT_THAT(ErrorOf("?size=1G"),
              HasSubstr("unknown option \"size\" (known: region, read_only, timeout, depth)"));
  EXPECT_THAT(std::string(OpenShared(*ParseSource("unix:")).status().message()),
              HasSubstr("wants the path of a node's socket"));
  EXPECT_THAT(std::string(OpenShared(*ParseSource("shm://")).status().message()),
              HasSubstr("is not a node's name"));
  EXPECT_THAT(std::string(OpenShared(*ParseSource("shm://a%2Fb")).status().message()),
              HasSubstr("is not a node's name"));
  EXPECT_THAT(std::string(OpenShared(*ParseSource("shm://n/a?region=b")).status().message()),
              HasSubstr("names two regions"));
}

TEST_F(SharedChannelTest, ANodeThatAcceptsAndDoesNotAnswerIsGivenUp) {
  const UniqueFd listener = *ListenUnix(path_, 0600, 4);
  EXPECT_THAT(ErrorOf("?timeout=50ms"), HasSubstr("does not answer within 0.05 s"));
}

// Memory that its giver can shrink is a way to kill whoever maps it.
TEST_F(SharedChannelTest, MemoryThatIsNotSealedIsTakenFromRootAndOneselfOnly) {
  const UniqueFd unsealed(memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(unsealed.get(), 4096), 0);
  node_ = Serve({.path = path_}, {{.name = "data", .fd = unsealed.get(), .size_bytes = 4096}});
  EXPECT_TRUE(Open().ok()) << "a node of our own user";
  if (geteuid() != 0) return;
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  ASSERT_EQ(chmod(folder_.File("").c_str(), 0755), 0);
  ASSERT_EQ(fchmod(unsealed.get(), 0666), 0);
  ASSERT_EQ(seteuid(12345), 0);
  const bool from_root = Open().ok();
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_TRUE(from_root);
  // The node's user is that of the moment of listen.
  node_.reset();
  ASSERT_EQ(chmod(folder_.File("").c_str(), 0777), 0);
  ASSERT_EQ(seteuid(12345), 0);
  node_ = Serve({.path = path_, .mode = 0666},
                {{.name = "data", .fd = unsealed.get(), .size_bytes = 4096}});
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_THAT(ErrorOf(), HasSubstr("its size is not sealed"));
}

TEST_F(SharedChannelTest, AnOfferThatDoesNotFitItsDescriptorIsRefused) {
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  const UniqueFd listener = *ListenUnix(path_, 0600, 4);
  const auto error_with = [&](const LocalOffer& offer, int fd) {
    std::thread node([&] {
      pollfd entry{.fd = listener.get(), .events = POLLIN, .revents = 0};
      poll(&entry, 1, 10000);
      const UniqueFd peer(accept(listener.get(), nullptr, nullptr));
      EXPECT_TRUE(SendPacket(peer.get(), EncodeLocalMessage(offer), fd).ok());
      pollfd closed{.fd = peer.get(), .events = POLLIN, .revents = 0};
      while (poll(&closed, 1, 10000) == 1 && (closed.revents & POLLHUP) == 0) {
        std::array<char, 4096> sink;
        if (read(peer.get(), sink.data(), sink.size()) <= 0) break;
      }
    });
    const std::string error = ErrorOf();
    node.join();
    return error;
  };
  EXPECT_THAT(error_with({.size_bytes = 8192, .text = "data"}, memory->fd()),
              HasSubstr("the node offers 8K of a file of 4K"));
  EXPECT_THAT(
      error_with({.size_bytes = 4096, .offset = ~uint64_t{0}, .text = "data"}, memory->fd()),
      HasSubstr("the node offers 4K of a file of 4K"));
  EXPECT_THAT(error_with({.size_bytes = 0, .text = "data"}, memory->fd()), HasSubstr("0 bytes"));
  EXPECT_THAT(error_with({.size_bytes = 4096, .text = "data"}, -1),
              HasSubstr("the node sent no memory"));
  EXPECT_THAT(error_with({.size_bytes = 4096, .text = "data"}, listener.get()),
              HasSubstr("what the node sent is no memory"));
  EXPECT_THAT(error_with({.version = 2, .size_bytes = 4096, .text = "data"}, memory->fd()),
              HasSubstr("answers in version 2"));
  EXPECT_THAT(error_with({.error = EACCES, .text = "no\n\x1b[31m"}, -1), HasSubstr("no??[31m"));
}

TEST(SharedSource, NamesAreSocketsInTheRuntimeDirectory) {
  TemporaryFolder folder;
  ASSERT_EQ(setenv("OXMEM_RUNTIME_DIR", folder.File("").c_str(), 1), 0);
  const auto listen = ListenPathOfName("node1");
  ASSERT_TRUE(listen.ok()) << listen.status();
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  {
    const auto node =
        Serve({.path = *listen}, {{.name = "a", .fd = memory->fd(), .size_bytes = 4096},
                                  {.name = "b", .fd = memory->fd(), .size_bytes = 4096}});
    const auto channel = OpenShared(*ParseSource("shm://node1/b"));
    ASSERT_TRUE(channel.ok()) << channel.status();
    EXPECT_THAT((*channel)->name(), HasSubstr("region b of unix:"));
    EXPECT_TRUE(OpenShared(*ParseSource("shm://node1?region=a")).ok());
    EXPECT_FALSE(ListenPathOfName("../x").ok());
    EXPECT_FALSE(ListenPathOfName("").ok());
  }
  ASSERT_EQ(unsetenv("OXMEM_RUNTIME_DIR"), 0);
}

}  // namespace
}  // namespace oxmem::transport
