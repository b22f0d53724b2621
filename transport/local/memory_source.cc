#include "transport/local/memory_source.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/api/option_reader.h"
#include "transport/base/size.h"
#include "transport/base/status.h"
#include "transport/local/memory_channel.h"

namespace oxmem::transport {
namespace {

constexpr uint64_t kHugePageBytes = 2 << 20;
constexpr uint64_t kLargestBytes = std::numeric_limits<int64_t>::max();

absl::Status CheckTransparentHugePages() {
  constexpr char kSetting[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
  std::ifstream file(kSetting);
  std::string setting;
  if (!std::getline(file, setting) || setting.find("[never]") != std::string::npos ||
      setting.find("[deny]") != std::string::npos) {
    return absl::FailedPreconditionError(
        absl::StrCat("huge=transparent: the kernel gives no huge pages to shared memory (try: echo "
                     "advise > ",
                     kSetting, ")"));
  }
  return absl::OkStatus();
}

absl::Status DescribeMapFailure(const absl::Status& status, uint64_t size_bytes, HugePages huge) {
  if (huge != HugePages::kReserved || ErrnoOf(status) != ENOMEM) return status;
  return ErrnoStatus(
      ENOMEM, absl::StrCat("huge=reserved: fewer than ", size_bytes / kHugePageBytes,
                           " huge pages of 2 MiB are free (raise /proc/sys/vm/nr_hugepages)"));
}

struct Wanted {
  uint64_t size_bytes = 0;
  HugePages huge = HugePages::kNo;
  uint32_t depth = 0;
};

absl::StatusOr<Wanted> ParseMemorySource(const Source& source) {
  OptionReader options(source);
  Wanted wanted;
  wanted.size_bytes = options.Size("size", uint64_t{1} << 30, 1, kLargestBytes);
  wanted.huge = options.Enum("huge", HugePages::kNo,
                             {{"no", HugePages::kNo},
                              {"transparent", HugePages::kTransparent},
                              {"reserved", HugePages::kReserved}});
  wanted.depth = static_cast<uint32_t>(options.Number("depth", 256, 1, 65536));
  if (wanted.huge == HugePages::kReserved && wanted.size_bytes % kHugePageBytes != 0) {
    options.Fail("size", absl::StrCat(FormatSize(wanted.size_bytes),
                                      " is not a multiple of the huge pages' 2M"));
  }
  OXMEM_RETURN_IF_ERROR(options.Finish());
  if (source.has_authority || !source.path.empty() || !source.nested.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "source \"", source.Format(), "\": nothing stands after mem: (write mem:?size=1G)"));
  }
  return wanted;
}

}  // namespace

absl::StatusOr<std::shared_ptr<MappedMemory>> CreateMemory(uint64_t size_bytes, HugePages huge) {
  if (huge == HugePages::kTransparent) OXMEM_RETURN_IF_ERROR(CheckTransparentHugePages());
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (huge == HugePages::kReserved) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  UniqueFd fd(memfd_create("oxmem", flags));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot create shared memory");
  if (size_bytes > kLargestBytes || ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) {
    return ErrnoStatus(size_bytes > kLargestBytes ? EFBIG : errno,
                       absl::StrCat("cannot make ", FormatSize(size_bytes), " of memory"));
  }
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return ErrnoStatus(errno, "cannot seal the size of shared memory");
  }
  auto memory = MappedMemory::Map(std::move(fd), 0, size_bytes, /*writable=*/true);
  if (!memory.ok()) return DescribeMapFailure(memory.status(), size_bytes, huge);
  if (huge == HugePages::kTransparent) OXMEM_RETURN_IF_ERROR((*memory)->AdviseHugePages());
  return memory;
}

absl::StatusOr<MemorySource> MemorySource::Create(const Source& source) {
  OXMEM_ASSIGN_OR_RETURN(const Wanted wanted, ParseMemorySource(source));
  auto memory = CreateMemory(wanted.size_bytes, wanted.huge);
  if (!memory.ok()) return Annotate(memory.status(), source.Format());
  return MemorySource(*std::move(memory), wanted.depth);
}

absl::StatusOr<MemorySource> MemorySource::Adopt(const Source& source, UniqueFd memory) {
  OXMEM_ASSIGN_OR_RETURN(const Wanted wanted, ParseMemorySource(source));
  struct stat attributes;
  const int seals = fcntl(memory.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(memory.get(), &attributes) != 0 ||
      static_cast<uint64_t>(attributes.st_size) != wanted.size_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat(source.Format(), ": the memory that was kept is not of that size"));
  }
  OXMEM_ASSIGN_OR_RETURN(
      auto mapped, MappedMemory::Map(std::move(memory), 0, wanted.size_bytes, /*writable=*/true));
  return MemorySource(std::move(mapped), wanted.depth);
}

std::unique_ptr<Channel> MemorySource::OpenChannel() const {
  return std::make_unique<MemoryChannel>(
      memory_, MemoryChannelOptions{.name = absl::StrCat("mem ", FormatSize(memory_->size())),
                                    .depth = depth_});
}

absl::StatusOr<std::unique_ptr<Channel>> OpenMemory(const Source& source) {
  OXMEM_ASSIGN_OR_RETURN(const MemorySource memory, MemorySource::Create(source));
  return memory.OpenChannel();
}

}  // namespace oxmem::transport
