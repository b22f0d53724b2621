#include "transport/local/mapped_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "gtest/gtest.h"
#include "transport/base/status.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

uint64_t AllocatedBytes(const MappedMemory& memory) {
  struct stat status;
  EXPECT_EQ(fstat(memory.fd(), &status), 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

bool AllBytesAre(const MappedMemory& memory, uint64_t begin, uint64_t end, int value) {
  return std::all_of(memory.data() + begin, memory.data() + end,
                     [value](std::byte byte) { return byte == static_cast<std::byte>(value); });
}

TEST(MappedMemory, ZeroTouchesExactlyItsRange) {
  constexpr uint64_t kSize = 2 << 20;
  const auto memory = *CreateMemory(kSize, HugePages::kNo);
  for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{4096}, uint64_t{5000},
                                uint64_t{300000}, uint64_t{1 << 20}}) {
    for (const uint64_t offset : {uint64_t{0}, uint64_t{1}, uint64_t{4095}, uint64_t{8192}}) {
      std::memset(memory->data(), 0x5a, kSize);
      memory->Zero(offset, length);
      EXPECT_TRUE(AllBytesAre(*memory, 0, offset, 0x5a)) << offset << " " << length;
      EXPECT_TRUE(AllBytesAre(*memory, offset, offset + length, 0)) << offset << " " << length;
      EXPECT_TRUE(AllBytesAre(*memory, offset + length, kSize, 0x5a)) << offset << " " << length;
    }
  }
}

TEST(MappedMemory, ZeroOfALongRangeGivesItsPagesBack) {
  constexpr uint64_t kSize = 4 << 20;
  const auto memory = *CreateMemory(kSize, HugePages::kNo);
  std::memset(memory->data(), 1, kSize);
  ASSERT_GE(AllocatedBytes(*memory), kSize);
  memory->Zero(0, kSize);
  EXPECT_EQ(AllocatedBytes(*memory), 0u);
}

TEST(MappedMemory, ZeroReachesTheLastByteOfARegionThatEndsWithinAPage) {
  constexpr uint64_t kSize = (1 << 20) + 100;
  const auto memory = *CreateMemory(kSize, HugePages::kNo);
  std::memset(memory->data(), 1, kSize);
  memory->Zero(0, kSize);
  EXPECT_TRUE(AllBytesAre(*memory, 0, kSize, 0));
}

TEST(MappedMemory, MapsAPartOfAFile) {
  const auto whole = *CreateMemory(16 << 12, HugePages::kNo);
  whole->data()[4096 + 5] = std::byte{7};
  const auto part = MappedMemory::Map(UniqueFd(dup(whole->fd())), 4096, 4096, /*writable=*/false);
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ((*part)->data()[5], std::byte{7});
  EXPECT_EQ((*part)->offset(), 4096u);
  EXPECT_EQ((*part)->size(), 4096u);
  EXPECT_FALSE((*part)->writable());
  whole->data()[4096 + 6] = std::byte{8};
  EXPECT_EQ((*part)->data()[6], std::byte{8}) << "both are the same memory";
}

TEST(MappedMemory, AFailureToMapIsReportedWithItsErrno) {
  const UniqueFd read_only(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto memory = MappedMemory::Map(UniqueFd(dup(read_only.get())), 0, 4096, true);
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(ErrnoOf(memory.status()), EACCES);
  EXPECT_EQ(ErrnoOf(MappedMemory::Map(UniqueFd(), 0, 4096, true).status()), EBADF);
}

TEST(MappedMemory, PrefetchLeavesTheContentAlone) {
  const auto memory = *CreateMemory(1 << 20, HugePages::kNo);
  std::memset(memory->data(), 3, 1 << 20);
  memory->Prefetch(0, 0);
  memory->Prefetch(1, 1);
  memory->Prefetch(4095, (1 << 20) - 4095);
  EXPECT_TRUE(AllBytesAre(*memory, 0, 1 << 20, 3));
}

}  // namespace
}  // namespace oxmem::transport
