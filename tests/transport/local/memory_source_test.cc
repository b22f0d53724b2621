#include "transport/local/memory_source.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/base/status.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;

absl::StatusOr<std::unique_ptr<Channel>> Open(std::string_view text) {
  return OpenMemory(*ParseSource(text));
}

std::string ErrorOf(std::string_view text) { return std::string(Open(text).status().message()); }

TEST(MemorySource, IsOneGibibyteUnlessToldOtherwise) {
  const auto channel = Open("mem:");
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_EQ((*channel)->limits().size_bytes, uint64_t{1} << 30);
  EXPECT_EQ((*channel)->name(), "mem 1G");
  EXPECT_EQ((*Open("mem:?size=5000&depth=7"))->limits().size_bytes, 5000u);
  EXPECT_EQ((*Open("mem:?size=5000&depth=7"))->limits().depth, 7u);
}

TEST(MemorySource, TakesPagesOnlyWhenTheyAreTouched) {
  const auto channel = Open("mem:?size=256G");
  ASSERT_TRUE(channel.ok()) << channel.status();
  const auto local = (*channel)->limits().local_memory;
  ASSERT_TRUE(local.has_value());
  struct stat status;
  ASSERT_EQ(fstat(local->fd, &status), 0);
  EXPECT_EQ(status.st_size, int64_t{256} << 30);
  EXPECT_EQ(status.st_blocks, 0);

  std::byte byte{7};
  const Request write{
      .op = Op::kWrite, .offset = (uint64_t{256} << 30) - 1, .length = 1, .buffer = &byte};
  ASSERT_EQ((*channel)->Submit({&write, 1}), 1u);
  ASSERT_EQ(fstat(local->fd, &status), 0);
  EXPECT_EQ(status.st_blocks * 512, sysconf(_SC_PAGESIZE));
}

TEST(MemorySource, TheDescriptorShowsTheSameMemory) {
  const auto channel = Open("mem:?size=64K");
  ASSERT_TRUE(channel.ok());
  const LocalMemory local = *(*channel)->limits().local_memory;
  std::byte byte{7};
  const Request write{.op = Op::kWrite, .offset = 9, .length = 1, .buffer = &byte};
  ASSERT_EQ((*channel)->Submit({&write, 1}), 1u);
  std::byte seen{};
  ASSERT_EQ(pread(local.fd, &seen, 1, static_cast<off_t>(local.offset + 9)), 1);
  EXPECT_EQ(seen, byte);
}

TEST(MemorySource, NobodyCanTakeThePagesAway) {
  const auto channel = Open("mem:?size=64K");
  ASSERT_TRUE(channel.ok());
  const int fd = (*channel)->limits().local_memory->fd;
  EXPECT_EQ(ftruncate(fd, 0), -1);
  EXPECT_EQ(errno, EPERM);
}

TEST(MemorySource, SeveralChannelsShareOneMemory) {
  const auto source = MemorySource::Create(*ParseSource("mem:?size=4K"));
  ASSERT_TRUE(source.ok());
  const auto writer = source->OpenChannel();
  const auto reader = source->OpenChannel();
  std::byte sent{9};
  std::byte seen{};
  const Request write{.op = Op::kWrite, .offset = 3, .length = 1, .buffer = &sent};
  const Request read{.op = Op::kRead, .offset = 3, .length = 1, .buffer = &seen};
  ASSERT_EQ(writer->Submit({&write, 1}), 1u);
  ASSERT_EQ(reader->Submit({&read, 1}), 1u);
  EXPECT_EQ(seen, sent);
}

TEST(MemorySource, SaysWhatIsWrongInOneLine) {
  EXPECT_THAT(ErrorOf("mem:?size=0"), HasSubstr("size: 0 is not within 1 to"));
  EXPECT_THAT(ErrorOf("mem:?size=x"), HasSubstr("is not a size"));
  EXPECT_THAT(ErrorOf("mem:?size=8E"), HasSubstr("is not a size"));
  EXPECT_THAT(ErrorOf("mem:?size=16777216T"), HasSubstr("past 2^64"));
  EXPECT_THAT(ErrorOf("mem:?depth=0"), HasSubstr("depth: 0 is not within 1 to 65536"));
  EXPECT_THAT(ErrorOf("mem:?huge=2M"), HasSubstr("no, transparent, reserved"));
  EXPECT_THAT(ErrorOf("mem:?huge=reserved&size=3K"), HasSubstr("multiple of the huge pages"));
  EXPECT_THAT(ErrorOf("mem:?name=x"), HasSubstr("(known: size, huge, depth)"));
  EXPECT_THAT(ErrorOf("mem://host"), HasSubstr("nothing stands after mem:"));
  EXPECT_THAT(ErrorOf("mem:1G"), HasSubstr("nothing stands after mem:"));
  EXPECT_THAT(ErrorOf("mem:(mem:)"), HasSubstr("nothing stands after mem:"));
  const std::string message = ErrorOf("mem:?size=8388607T");
  EXPECT_THAT(message, HasSubstr("mem:?size=8388607T: cannot map 8388607T of memory"));
}

TEST(MemorySource, ReservedHugePagesAreThereOrTheErrorSaysHowToGetThem) {
  const auto channel = Open("mem:?size=4M&huge=reserved");
  if (!channel.ok()) {
    EXPECT_EQ(ErrnoOf(channel.status()), ENOMEM);
    EXPECT_THAT(std::string(channel.status().message()), HasSubstr("/proc/sys/vm/nr_hugepages"));
    return;
  }
  EXPECT_FALSE((*channel)->limits().local_memory.has_value()) << "no passthrough on hugetlbfs";
}

TEST(MemorySource, TransparentHugePagesAreThereOrTheErrorSaysHowToGetThem) {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  std::string setting;
  std::getline(file, setting);
  const bool available = !setting.empty() && setting.find("[never]") == std::string::npos &&
                         setting.find("[deny]") == std::string::npos;
  const auto channel = Open("mem:?size=4M&huge=transparent");
  EXPECT_EQ(channel.ok(), available) << setting;
  if (!available) {
    EXPECT_THAT(std::string(channel.status().message()), HasSubstr("shmem_enabled"));
  }
}

}  // namespace
}  // namespace oxmem::transport
