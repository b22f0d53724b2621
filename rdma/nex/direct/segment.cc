#include "rdma/nex/direct/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace oxmem::nex {
namespace {

constexpr char kName[] = "nex-segment";
constexpr std::uint64_t kMagic = 0x6e65782d73656731;  // "nex-seg1"
constexpr std::uint32_t kVersion = 2;
// Memory that is mapped must stay there: a file that is cut short ends whoever looks at it.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::byte* Map(int fd, std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

}  // namespace

std::unique_ptr<Segment> Segment::Create(std::uint64_t token) {
  // Growing a file beyond this limit would end the program with a signal.
  rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur < kBytes) return nullptr;
  UniqueFd fd(memfd_create(kName, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid() || ftruncate(fd.get(), static_cast<off_t>(kBytes)) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return nullptr;
  }
  std::byte* const memory = Map(fd.get(), kBytes);
  if (memory == nullptr) return nullptr;
  std::unique_ptr<Segment> segment(new Segment(std::move(fd), memory));
  segment->probe_token_ = std::make_unique<std::uint64_t>(token);
  Header* header = segment->header();
  header->magic = kMagic;
  header->version = kVersion;
  header->token = token;
  header->pid = static_cast<std::uint32_t>(getpid());
  header->probe = reinterpret_cast<std::uintptr_t>(segment->probe_token_.get());
  return segment;
}

std::unique_ptr<Segment> Segment::Open(const HostIdentity& host) {
  if (host.pid == 0 || host.token == 0) return nullptr;
  const std::string path = "/proc/" + std::to_string(host.pid) + "/fd/" + std::to_string(host.fd);
  // Opening anything but a segment could have effects, so its name is looked at first.
  char name[64] = {};
  const std::string wanted = std::string("/memfd:") + kName;
  if (readlink(path.c_str(), name, sizeof name - 1) < 0 ||
      wanted.compare(0, wanted.size(), name, std::min(std::strlen(name), wanted.size())) != 0) {
    return nullptr;
  }
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat facts;
  if (!fd.valid() || fstat(fd.get(), &facts) != 0 || !S_ISREG(facts.st_mode) ||
      facts.st_size != static_cast<off_t>(kBytes) || facts.st_uid != geteuid()) {
    return nullptr;
  }
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) return nullptr;
  std::byte* const memory = Map(fd.get(), kBytes);
  if (memory == nullptr) return nullptr;
  fd.Reset();
  std::unique_ptr<Segment> segment(new Segment(UniqueFd(), memory));
  const Header& header = *segment->header();
  if (header.magic != kMagic || header.version != kVersion || header.token != host.token ||
      header.pid != host.pid || !segment->alive()) {
    return nullptr;
  }
  return segment;
}

Segment::~Segment() { munmap(memory_, kBytes); }

HostIdentity Segment::identity() const {
  return {header()->pid, static_cast<std::uint32_t>(fd_.get()), header()->token};
}

RegionStorage Segment::regions() const {
  std::byte* const index = memory_ + kHeaderSpace + kDoorSpace;
  return {reinterpret_cast<Region*>(index + kIndexSpace),
          reinterpret_cast<std::atomic<std::uint32_t>*>(index), kRegions};
}

void Segment::LiveHere() {
  Header* const own = header();
  own->life_node.next = &life_list_.list;
  life_list_.list.next = &own->life_node;
  life_list_.futex_offset =
      reinterpret_cast<char*>(&own->life) - reinterpret_cast<char*>(&own->life_node);
  life_list_.list_op_pending = nullptr;
  own->life.store(static_cast<std::uint32_t>(syscall(SYS_gettid)), std::memory_order_release);
  syscall(SYS_set_robust_list, &life_list_, sizeof life_list_);
}

void Segment::BecomePrivate() {
  mmap(memory_, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd_.get(),
       0);
  fd_.Reset();
}

}  // namespace oxmem::nex
