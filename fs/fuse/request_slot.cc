#include "fs/fuse/request_slot.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "fs/fuse/kernel_abi.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kSlotBytes = kPageBytes + kLargestIoBytes;
constexpr std::size_t kHeaderBytes = sizeof(fuse_in_header) + sizeof(fuse_write_in);

}  // namespace

absl::StatusOr<std::unique_ptr<RequestSlots>> RequestSlots::Create(std::size_t count) {
  const std::size_t bytes = count * kSlotBytes;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return ErrnoStatus(errno, "memory for requests");
  return std::unique_ptr<RequestSlots>(
      new RequestSlots({static_cast<std::byte*>(memory), bytes}, count));
}

RequestSlots::RequestSlots(std::span<std::byte> memory, std::size_t count)
    : memory_(memory), slots_(count) {
  for (std::size_t i = count; i > 0; --i) {
    slots_[i - 1].io_memory = memory_.data() + (i - 1) * kSlotBytes + kPageBytes;
    Return(&slots_[i - 1]);
  }
}

RequestSlots::~RequestSlots() { munmap(memory_.data(), memory_.size()); }

RequestSlot* RequestSlots::Take() {
  RequestSlot* slot = free_;
  if (slot == nullptr) return nullptr;
  free_ = std::exchange(slot->next_free, nullptr);
  if (!std::exchange(slot->is_present, true)) {
    // Where the kernel has to find memory for a process that is being killed, it fails the request
    // that it was giving, instead of giving it to the next daemon. Kernels without this cannot
    // give it again at all.
    madvise(slot->io_memory - kPageBytes, kSlotBytes, MADV_POPULATE_WRITE);
  }
  return slot;
}

void RequestSlots::Return(RequestSlot* slot) { slot->next_free = std::exchange(free_, slot); }

std::span<std::byte> RequestSlots::ReceiveBuffer(const RequestSlot& slot) {
  return {slot.io_memory - kHeaderBytes, kHeaderBytes + kLargestIoBytes};
}

}  // namespace oxmem::fs
