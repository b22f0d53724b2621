#include "transport/local/memory_channel.h"

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

TEST(MemoryChannel, NeedsNoWakeUp) {
  MemoryChannel channel(*CreateMemory(4096, HugePages::kNo), {});
  EXPECT_EQ(channel.event_fd(), -1);
  EXPECT_TRUE(channel.next_deadline().is_never());
  EXPECT_TRUE(channel.Arm());
  const Request flush{.op = Op::kFlush};
  ASSERT_EQ(channel.Submit({&flush, 1}), 1u);
  EXPECT_FALSE(channel.Arm()) << "a completion waits";
  Completion completion;
  EXPECT_EQ(channel.Poll({&completion, 1}), 1u);
  EXPECT_TRUE(channel.Arm());
}

TEST(MemoryChannel, MemoryThatIsNotWritableTakesNoWrites) {
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  const auto read_only = *MappedMemory::Map(UniqueFd(dup(memory->fd())), 0, 4096, false);
  MemoryChannel channel(read_only, {});
  EXPECT_TRUE(channel.limits().read_only);
  std::array<std::byte, 8> buffer{};
  const std::array<Request, 3> requests = {
      Request{.op = Op::kWrite, .length = 8, .buffer = buffer.data()},
      Request{.op = Op::kAtomic, .length = 8}, Request{.op = Op::kZero, .length = 8}};
  ASSERT_EQ(channel.Submit(requests), 3u);
  std::array<Completion, 3> completions;
  ASSERT_EQ(channel.Poll(completions), 3u);
  for (const Completion& completion : completions) EXPECT_EQ(completion.code, Code::kReadOnly);
}

// Each thread owns a channel of its own to one memory, as one reactor per core does.
TEST(MemoryChannel, AtomicsOfSeveralChannelsToOneMemoryAllCount) {
  constexpr int kThreads = 4;
  constexpr int kAdds = 5000;
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&memory] {
      MemoryChannel channel(memory, {});
      const Request add{.op = Op::kAtomic, .length = 8, .operand = 1};
      Completion completion;
      for (int n = 0; n < kAdds; ++n) {
        channel.Submit({&add, 1});
        channel.Poll({&completion, 1});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  uint64_t sum = 0;
  std::memcpy(&sum, memory->data(), sizeof sum);
  EXPECT_EQ(sum, uint64_t{kThreads} * kAdds);
}

TEST(MemoryChannel, PersistenceIsWhatItWasTold) {
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  EXPECT_FALSE(MemoryChannel(memory, {}).limits().persistent);
  EXPECT_TRUE(MemoryChannel(memory, {.persistent = true}).limits().persistent);
}

}  // namespace
}  // namespace oxmem::transport
