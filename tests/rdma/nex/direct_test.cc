// Copies between processes of one host: what is allowed, and that memory is never touched after
// its registration ended, whoever dies when.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "rdma/nex/direct/neighbour.h"
#include "rdma/nex/region_table.h"

namespace oxmem::nex {
namespace {

constexpr std::uint64_t kConnection = 0x123456789abcdef1;
constexpr std::uint32_t kDomain = 7;
constexpr std::uint32_t kIndex = 3;
constexpr std::uint32_t kAll =
    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND;
constexpr std::size_t kBytes = 1 << 16;

// A process as the library makes it: segment, doors, regions, and the thread that stands for its
// life.
class Host {
 public:
  Host() {
    std::random_device random;
    std::shared_ptr<Segment> segment =
        Segment::Create(std::uint64_t{random()} << 32 | random() | 1);
    if (segment == nullptr) return;
    neighbours = std::make_unique<Neighbourhood>(segment);
    regions = std::make_unique<RegionTable>(
        segment->regions(), [generator = std::mt19937(random())]() mutable { return generator(); },
        [this](std::uint32_t region) { neighbours->WaitForVisitors(region); });
    life_ = std::thread([this] {
      neighbours->own()->LiveHere();
      alive_ = true;
      alive_.notify_one();
      end_.wait(false);
    });
    alive_.wait(false);
  }
  ~Host() {
    end_ = true;
    end_.notify_one();
    if (life_.joinable()) life_.join();
  }

  std::unique_ptr<Neighbourhood> neighbours;
  std::unique_ptr<RegionTable> regions;

 private:
  std::atomic<bool> alive_{false}, end_{false};
  std::thread life_;
};

Neighbourhood::DoorFacts Facts(std::uint32_t access = kAll) {
  return {.connection = kConnection, .domain = kDomain, .access = access, .qpn = 99};
}

Way WayThrough(std::shared_ptr<const Neighbour> peer, std::uint64_t connection = kConnection) {
  Door* const door = &peer->segment().door(kIndex);
  return {std::move(peer), door, connection, getpid()};
}

class DirectTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(host_.neighbours, nullptr);
    peer_ = host_.neighbours->Meet(host_.neighbours->identity());
    ASSERT_NE(peer_, nullptr);
    host_.neighbours->OpenDoor(kIndex, Facts(), peer_);
    region_ = host_.regions->Add(kDomain, memory_.data(), 0x1000, memory_.size(), kAll);
  }

  bool Copy(CopyDirection direction, RemoteRange remote, std::uint64_t connection = kConnection) {
    bool hopeless = false;
    const iovec local{ours_.data(), remote.length};
    return CopyThroughDoor(WayThrough(peer_, connection), direction, {&local, 1}, remote,
                           &hopeless);
  }
  RemoteRange All() const { return {0x1000, memory_.size(), region_->key.load()}; }

  Host host_;
  std::shared_ptr<const Neighbour> peer_;
  std::vector<std::byte> memory_{kBytes, std::byte{1}};
  std::vector<std::byte> ours_{kBytes, std::byte{2}};
  Region* region_ = nullptr;
};

TEST_F(DirectTest, CopiesBothWays) {
  ASSERT_TRUE(Copy(CopyDirection::kWrite, All()));
  EXPECT_EQ(memory_, ours_);
  for (const std::uint64_t length : {1, 8, 63, 64, 65, 72, 4097}) {
    for (std::size_t i = 0; i < length; ++i) ours_[i] = static_cast<std::byte>(i * 7 + length);
    ASSERT_TRUE(Copy(CopyDirection::kWrite, {0x1000 + 13, length, All().key}));
    EXPECT_EQ(std::memcmp(memory_.data() + 13, ours_.data(), length), 0) << length;
    EXPECT_EQ(memory_[13 + length], memory_[kBytes - 1]) << length;
  }
  memory_.assign(kBytes, std::byte{9});
  ASSERT_TRUE(Copy(CopyDirection::kRead, All()));
  EXPECT_EQ(memory_, ours_);
}

TEST_F(DirectTest, EveryCheckOfTheOwnerCounts) {
  const auto before = memory_;
  const RemoteRange good = All();
  EXPECT_FALSE(Copy(CopyDirection::kWrite, {good.address, good.length, good.key ^ 0x100}));
  EXPECT_FALSE(Copy(CopyDirection::kWrite, {good.address + 1, good.length, good.key}));
  EXPECT_FALSE(Copy(CopyDirection::kWrite, {~std::uint64_t{0}, 2, good.key}));
  EXPECT_FALSE(Copy(CopyDirection::kWrite, good, kConnection ^ 2));
  Region* const readable =
      host_.regions->Add(kDomain, memory_.data(), 0, kBytes, IBV_ACCESS_REMOTE_READ);
  EXPECT_FALSE(Copy(CopyDirection::kWrite, {0, 8, readable->key}));
  Region* const foreign = host_.regions->Add(kDomain + 1, memory_.data(), 0, kBytes, kAll);
  EXPECT_FALSE(Copy(CopyDirection::kWrite, {0, 8, foreign->key}));
  host_.neighbours->ChangeAccess(kIndex, IBV_ACCESS_REMOTE_READ);
  EXPECT_FALSE(Copy(CopyDirection::kWrite, good));
  host_.neighbours->CloseDoor(kIndex);
  EXPECT_FALSE(Copy(CopyDirection::kRead, good));
  EXPECT_EQ(memory_, before);
}

TEST_F(DirectTest, AWindowOfAnotherQueuePairIsRefused) {
  std::uint32_t key = 0;
  Region* const window = host_.regions->AddWindow(kDomain, &key);
  ASSERT_TRUE(host_.regions->BindWindow(window,
                                        {.parent = region_,
                                         .parent_key = region_->key,
                                         .address = 0x1000,
                                         .length = 64,
                                         .access = IBV_ACCESS_REMOTE_WRITE,
                                         .qpn = 99},
                                        key));
  EXPECT_TRUE(Copy(CopyDirection::kWrite, {0x1000, 64, key}));
  host_.neighbours->CloseDoor(kIndex);
  auto facts = Facts();
  facts.qpn = 98;
  host_.neighbours->OpenDoor(kIndex, facts, peer_);
  EXPECT_FALSE(Copy(CopyDirection::kWrite, {0x1000, 64, key}));
}

TEST_F(DirectTest, AStrangerIsNotMet) {
  HostIdentity other = host_.neighbours->identity();
  other.token ^= 1;
  EXPECT_EQ(host_.neighbours->Meet(other), nullptr);
  other = host_.neighbours->identity();
  other.token ^= 1;
  other.fd = 0;  // some file that is no segment
  EXPECT_EQ(host_.neighbours->Meet(other), nullptr);
  other.pid = 1u << 30;
  EXPECT_EQ(host_.neighbours->Meet(other), nullptr);
  EXPECT_EQ(host_.neighbours->Meet({}), nullptr);
}

TEST_F(DirectTest, ASegmentThatCouldBeCutShortIsNotMapped) {
  const Host other;
  const HostIdentity good = host_.neighbours->identity();
  EXPECT_NE(other.neighbours->Meet(good), nullptr);
  // The same, as a peer would make it that means harm.
  struct stat facts {};
  ASSERT_EQ(fstat(static_cast<int>(good.fd), &facts), 0);
  const UniqueFd fd(memfd_create("nex-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  std::array<std::byte, 4096> header;
  ASSERT_EQ(pread(static_cast<int>(good.fd), header.data(), header.size(), 0), 4096);
  ASSERT_EQ(write(fd.get(), header.data(), header.size()), 4096);
  ASSERT_EQ(ftruncate(fd.get(), facts.st_size), 0);
  HostIdentity harm = good;
  harm.fd = static_cast<std::uint32_t>(fd.get());
  const Host third;
  EXPECT_EQ(third.neighbours->Meet(harm), nullptr);
  EXPECT_NE(ftruncate(static_cast<int>(good.fd), 0), 0);
  // Nothing but the seals was wrong with it.
  ASSERT_EQ(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
  EXPECT_NE(third.neighbours->Meet(harm), nullptr);
}

// Pages both processes see, for what a test and its child tell each other.
struct Shared {
  std::atomic<int> step{0};
  HostIdentity identity;
  std::uint32_t key = 0;
  std::atomic<std::uint64_t> copies{0};
  std::atomic<bool> stop{false};

  void Await(int wanted) {
    while (step.load() < wanted) sched_yield();
  }
};

class DirectProcessesTest : public testing::Test {
 protected:
  void SetUp() override {
    void* memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    shared_ = new (memory) Shared;
  }
  void TearDown() override {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
  }
  void Fork(const std::function<void()>& body) {
    child_ = fork();
    ASSERT_GE(child_, 0);
    if (child_ > 0) return;
    body();
    _exit(0);
  }
  int Join() {
    int status = 0;
    waitpid(child_, &status, 0);
    child_ = 0;
    return status;
  }
  // In the child: an owner with memory to visit, until it is killed.
  void Own() {
    Host host;
    std::vector<std::byte> memory(kBytes);
    shared_->identity = host.neighbours->identity();
    shared_->key = host.regions->Add(kDomain, memory.data(), 0, kBytes, kAll)->key;
    host.neighbours->OpenDoor(kIndex, Facts(), host.neighbours->Meet(host.neighbours->identity()));
    shared_->step = 1;
    for (;;) pause();
  }

  Shared* shared_ = nullptr;
  pid_t child_ = 0;
};

TEST_F(DirectProcessesTest, DeregisteredMemoryIsNeverTouchedAgain) {
  // The child visits; it learns of the parent's segment through the shared page.
  Fork([this] {
    Host host;
    shared_->identity = host.neighbours->identity();
    shared_->step = 1;
    shared_->Await(2);
    const auto peer = host.neighbours->Meet(shared_->identity);
    if (peer == nullptr) _exit(1);
    const Way way = WayThrough(peer);
    std::vector<std::byte> data(kBytes, std::byte{0x5a});
    const iovec local{data.data(), data.size()};
    bool hopeless = false;
    while (!shared_->stop) {
      if (CopyThroughDoor(way, CopyDirection::kWrite, {&local, 1}, {0, kBytes, shared_->key},
                          &hopeless)) {
        ++shared_->copies;
      }
    }
  });
  Host host;
  shared_->Await(1);
  const auto visitor = host.neighbours->Meet(shared_->identity);
  ASSERT_NE(visitor, nullptr);
  std::vector<std::byte> memory(kBytes);
  host.neighbours->OpenDoor(kIndex, Facts(), visitor);
  shared_->identity = host.neighbours->identity();
  for (int round = 0; round < 50; ++round) {
    Region* const region = host.regions->Add(kDomain, memory.data(), 0, kBytes, kAll);
    shared_->key = region->key;
    shared_->step = 2;
    const std::uint64_t before = shared_->copies;
    while (shared_->copies < before + 3) sched_yield();
    ASSERT_TRUE(host.regions->Remove(region));
    std::memset(memory.data(), 0, kBytes);
    for (int looks = 0; looks < 20; ++looks) {
      sched_yield();
      ASSERT_EQ(std::count(memory.begin(), memory.end(), std::byte{0}), kBytes) << round;
    }
  }
  shared_->stop = true;
  EXPECT_EQ(Join(), 0);
}

TEST_F(DirectProcessesTest, AVisitorThatDiesInTheDoorDoesNotHoldUpDeregistration) {
  Fork([this] {
    Host host;
    shared_->identity = host.neighbours->identity();
    shared_->step = 1;
    shared_->Await(2);
    const auto peer = host.neighbours->Meet(shared_->identity);
    if (peer == nullptr) _exit(1);
    // As if killed in the middle of a copy.
    const RegionStorage regions = peer->segment().regions();
    Region* const region = FindRegion(regions, shared_->key);
    peer->segment().door(kIndex).busy.store(DoorMark::Make(
        getpid(), kConnection, static_cast<std::uint32_t>(region - regions.regions)));
    shared_->step = 3;
    for (;;) pause();
  });
  Host host;
  shared_->Await(1);
  const auto visitor = host.neighbours->Meet(shared_->identity);
  ASSERT_NE(visitor, nullptr);
  std::vector<std::byte> memory(kBytes);
  host.neighbours->OpenDoor(kIndex, Facts(), visitor);
  Region* const region = host.regions->Add(kDomain, memory.data(), 0, kBytes, kAll);
  shared_->key = region->key;
  shared_->identity = host.neighbours->identity();
  shared_->step = 2;
  shared_->Await(3);
  // While it lives it is waited for.
  std::atomic<bool> removed{false};
  std::thread remover([&] {
    EXPECT_TRUE(host.regions->Remove(region));
    removed = true;
  });
  for (int looks = 0; looks < 1000; ++looks) sched_yield();
  EXPECT_FALSE(removed);
  // Which holds nobody up who wants something else of the table.
  std::vector<std::byte> unrelated(64);
  EXPECT_NE(host.regions->Add(kDomain, unrelated.data(), 0, 64, kAll), nullptr);
  EXPECT_FALSE(visitor->Gone());
  kill(child_, SIGKILL);
  // Not even reaped: its end is seen all the same.
  remover.join();
  EXPECT_TRUE(visitor->Gone());
  host.neighbours->CloseDoor(kIndex);
}

TEST_F(DirectProcessesTest, AVisitorThatIsStoppedBehindItsCopyIsNotWaitedFor) {
  constexpr std::size_t kLong = std::size_t{16} << 20;
  Fork([this] {
    Host host;
    shared_->identity = host.neighbours->identity();
    shared_->step = 1;
    shared_->Await(2);
    const auto peer = host.neighbours->Meet(shared_->identity);
    if (peer == nullptr) _exit(1);
    std::vector<std::byte> data(kLong);
    const iovec local{data.data(), data.size()};
    bool hopeless = false;
    for (const Way way = WayThrough(peer);;) {
      CopyThroughDoor(way, CopyDirection::kRead, {&local, 1}, {0, kLong, shared_->key}, &hopeless);
    }
  });
  Host host;
  shared_->Await(1);
  const auto visitor = host.neighbours->Meet(shared_->identity);
  ASSERT_NE(visitor, nullptr);
  std::vector<std::byte> memory(kLong);
  host.neighbours->OpenDoor(kIndex, Facts(), visitor);
  Region* const region = host.regions->Add(kDomain, memory.data(), 0, kLong, kAll);
  shared_->key = region->key;
  shared_->identity = host.neighbours->identity();
  shared_->step = 2;
  // Nearly always it is copying, and stops at the end of that.
  const Door& door = host.neighbours->own()->door(kIndex);
  while (!visitor->HasStoppedBehindItsCopy(static_cast<pid_t>(door.visitor.load()))) {
    kill(child_, SIGCONT);
    poll(nullptr, 0, 5);
    kill(child_, SIGSTOP);
    int status = 0;
    ASSERT_EQ(waitpid(child_, &status, WUNTRACED), child_);
    ASSERT_TRUE(WIFSTOPPED(status));
  }
  EXPECT_NE(door.busy.load(), 0u);
  EXPECT_TRUE(host.regions->Remove(region));
  host.neighbours->CloseDoor(kIndex);
  EXPECT_EQ(door.busy.load(), 0u);
}

TEST_F(DirectProcessesTest, MemoryOfADeadProcessIsNotCopied) {
  Fork([this] { Own(); });
  Host host;
  shared_->Await(1);
  const auto owner = host.neighbours->Meet(shared_->identity);
  ASSERT_NE(owner, nullptr);
  const Way way = WayThrough(owner);
  std::array<std::byte, 64> data{};
  const iovec local{data.data(), data.size()};
  bool hopeless = false;
  const RemoteRange remote{0, data.size(), shared_->key};
  EXPECT_TRUE(CopyThroughDoor(way, CopyDirection::kWrite, {&local, 1}, remote, &hopeless));
  EXPECT_TRUE(owner->segment().alive());
  kill(child_, SIGKILL);
  pollfd none{-1, 0, 0};
  while (!owner->Gone()) poll(&none, 1, 1);
  EXPECT_FALSE(owner->segment().alive());
  EXPECT_FALSE(CopyThroughDoor(way, CopyDirection::kWrite, {&local, 1}, remote, &hopeless));
  EXPECT_EQ(host.neighbours->Meet(shared_->identity), owner);  // still known, still dead
}

TEST_F(DirectProcessesTest, AForkedChildCannotChangeItsParentsRegistrations) {
  Host host;
  std::vector<std::byte> memory(kBytes);
  Region* const region = host.regions->Add(kDomain, memory.data(), 0, kBytes, kAll);
  const std::uint32_t key = region->key;
  Fork([&] {
    host.neighbours->own()->BecomePrivate();
    _exit(host.regions->Remove(region) && region->key == 0 ? 0 : 1);
  });
  EXPECT_EQ(Join(), 0);
  EXPECT_EQ(region->key, key);
  EXPECT_EQ(FindRegion(host.neighbours->own()->regions(), key), region);
}

}  // namespace
}  // namespace oxmem::nex
