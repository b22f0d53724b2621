#include "transport/base/memory_guard.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "transport/base/check.h"

namespace oxmem {
// All guards of the process, where a signal handler can look without a lock.
class MemoryGuards {
 public:
  static void Add(MemoryGuard* guard) {
    static std::once_flag installed;
    std::call_once(installed, Install);
    const std::lock_guard<std::mutex> lock(mutex_);
    for (std::atomic<MemoryGuard*>& slot : slots_) {
      if (slot.load() != nullptr) continue;
      slot.store(guard);
      return;
    }
    // More mappings than any program here makes: this one stays as it would be without a guard.
  }

  static void Remove(MemoryGuard* guard) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (std::atomic<MemoryGuard*>& slot : slots_) {
      if (slot.load() == guard) slot.store(nullptr);
    }
  }

 private:
  static void Install() {
    struct sigaction action = {};
    action.sa_sigaction = OnSignal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    OXMEM_CHECK(sigaction(SIGBUS, &action, &before_) == 0);
  }

  static void OnSignal(int, siginfo_t* info, void*) {
    const int saved = errno;
    auto* const at = static_cast<std::byte*>(info->si_addr);
    for (const std::atomic<MemoryGuard*>& slot : slots_) {
      MemoryGuard* const guard = slot.load();
      if (guard == nullptr || !guard->Replace(at)) continue;
      errno = saved;
      return;
    }
    // Nobody's: the access is made again, and ends as it would have without guards.
    sigaction(SIGBUS, &before_, nullptr);
    errno = saved;
  }

  static constexpr std::size_t kMostGuards = 4096;
  static std::mutex mutex_;  // for changes of slots_
  static std::array<std::atomic<MemoryGuard*>, kMostGuards> slots_;
  static struct sigaction before_;
};

std::mutex MemoryGuards::mutex_;
std::array<std::atomic<MemoryGuard*>, MemoryGuards::kMostGuards> MemoryGuards::slots_;
struct sigaction MemoryGuards::before_;

MemoryGuard::MemoryGuard(std::span<std::byte> memory, int fd, uint64_t file_offset,
                         uint64_t page_bytes)
    : memory_(memory),
      fd_(fd),
      file_offset_(file_offset),
      page_bytes_(page_bytes),
      left_(memory.size()) {
  MemoryGuards::Add(this);
}

MemoryGuard::~MemoryGuard() { MemoryGuards::Remove(this); }

bool MemoryGuard::Replace(std::byte* at) {
  if (at < memory_.data() || at >= memory_.data() + memory_.size()) return false;
  const uint64_t offset = static_cast<uint64_t>(at - memory_.data()) / page_bytes_ * page_bytes_;
  // Before the page is there: whoever reads zeros from it then also finds that it is lost.
  const uint32_t index = lost_count_.fetch_add(1);
  if (index < kMostPages) lost_[index].store(offset);
  // The system call itself: what stands before it in sanitizers is not made for signal handlers.
  return syscall(SYS_mmap, memory_.data() + offset, page_bytes_, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != -1;
}

bool MemoryGuard::Holds(uint64_t offset, uint64_t length) const {
  const uint64_t left = left_.load();
  if (offset + length > left) return false;
  const uint32_t count = lost_count_.load();
  if (count > kMostPages) return left < memory_.size();
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t page = lost_[i].load();
    if (page < offset + length && offset < page + page_bytes_) return false;
  }
  return true;
}

bool MemoryGuard::Admits(uint64_t offset, uint64_t length) {
  if (length == 0) return true;
  if (!Holds(offset, length)) return false;
  const uint32_t before = lost_count_.load();
  const volatile std::byte* const begin = memory_.data() + offset;
  for (uint64_t at = 0; at < length && lost_count_.load() == before; at += page_bytes_) {
    static_cast<void>(begin[at]);
  }
  static_cast<void>(begin[length - 1]);
  if (lost_count_.load() == before) return true;
  Look();
  return Holds(offset, length);
}

void MemoryGuard::Look() {
  struct stat status;
  if (fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) return;
  const auto size = static_cast<uint64_t>(status.st_size);
  const uint64_t left = size > file_offset_ ? size - file_offset_ : 0;
  uint64_t known = left_.load();
  while (left < known && !left_.compare_exchange_weak(known, left)) {
  }
}

absl::Status MemoryGuard::health() const {
  if (const uint64_t left = left_.load(); left < memory_.size()) {
    return absl::DataLossError(
        absl::StrCat("it was cut to ", left, " of ", memory_.size(), " bytes"));
  }
  if (const uint32_t count = lost_count_.load(); count != 0) {
    return absl::DataLossError(absl::StrCat(count, " pages of it cannot be read"));
  }
  return absl::OkStatus();
}

}  // namespace oxmem
