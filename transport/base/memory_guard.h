#ifndef TRANSPORT_BASE_MEMORY_GUARD_H_
#define TRANSPORT_BASE_MEMORY_GUARD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace oxmem {

// Memory mapped from a file that others may cut short while it is in use, or that a disk no longer
// gives back: the kernel answers an access to such a page with SIGBUS, which ends a process. While
// a guard stands over the memory, a page of zeros of this process takes its place instead, and the
// access goes on; who made it asks afterwards whether the page is still there, and does not use
// what it read.
//
//   if (!guard.Admits(offset, length)) fail;
//   use the memory;
//   if (!guard.Holds(offset, length)) fail;
//
// A page that was lost stays lost until the file is mapped anew. All but construction and
// destruction from any thread. The first guard of a process takes over SIGBUS; what concerns no
// guard ends the process as before.
class MemoryGuard {
 public:
  // `memory` is what `fd` has mapped from `file_offset` on, in pages of `page_bytes`; both outlive
  // the guard.
  MemoryGuard(std::span<std::byte> memory, int fd, uint64_t file_offset, uint64_t page_bytes);
  ~MemoryGuard();
  MemoryGuard(const MemoryGuard&) = delete;
  MemoryGuard& operator=(const MemoryGuard&) = delete;

  // Whether the range, which lies within the memory, is all there: it is touched, page by page.
  bool Admits(uint64_t offset, uint64_t length);
  // Whether nothing of the range has been found lost so far.
  bool Holds(uint64_t offset, uint64_t length) const;

  // Finds out how much of the file is left. Call it now and then: what remains of the last page
  // behind a new end reads as zeros and faults never.
  void Look();

  // OK, or what is lost, for people: "it was cut to 5000 of 65536 bytes".
  absl::Status health() const;

 private:
  static constexpr std::size_t kMostPages = 128;

  friend class MemoryGuards;

  // Within the signal handler. False if the address is not of this memory or the page cannot be
  // replaced.
  bool Replace(std::byte* at);

  const std::span<std::byte> memory_;
  const int fd_;
  const uint64_t file_offset_;
  const uint64_t page_bytes_;
  std::atomic<uint64_t> left_;  // bytes from the front that the file still has
  std::atomic<uint32_t> lost_count_ = 0;
  // Offsets of the pages that were replaced, in no order. When there are more and the end of the
  // file does not explain it, all counts as lost.
  std::array<std::atomic<uint64_t>, kMostPages> lost_{};
};

}  // namespace oxmem

#endif  // TRANSPORT_BASE_MEMORY_GUARD_H_
