#include "oxmem/tloe/receive_buffer.h"

#include <algorithm>
#include <cstring>

#include "transport/base/check.h"

namespace oxmem::tloe {
namespace {
constexpr std::size_t kFirstAllocation = std::size_t{16} * 1024;
}

void ReceiveBuffer::Push(std::span<const std::byte> message, std::byte first) {
  OXMEM_CHECK(!message.empty() && Fits(message.size()));
  if (size_ - end_ < message.size()) MakeRoom(message.size());
  std::memcpy(data_.get() + end_, message.data(), message.size());
  data_[end_] = first;
  end_ += message.size();
}

void ReceiveBuffer::MakeRoom(std::size_t count) {
  const std::size_t held = held_bytes();
  std::size_t size = std::max(size_, kFirstAllocation);
  while (size < 2 * (held + count)) size *= 2;
  size = std::max(size_, std::min(size, 2 * max_bytes_));
  if (size != size_) {
    auto bigger = std::make_unique_for_overwrite<std::byte[]>(size);
    if (held != 0) std::memcpy(bigger.get(), data_.get() + begin_, held);
    data_ = std::move(bigger);
    size_ = size;
  } else {
    std::memmove(data_.get(), data_.get() + begin_, held);
  }
  read_ -= begin_;
  end_ = held;
  begin_ = 0;
}

void ReceiveBuffer::Advance(std::size_t count) {
  OXMEM_CHECK(count <= end_ - read_);
  read_ += count;
}

void ReceiveBuffer::Release() {
  begin_ = read_;
  if (begin_ == end_) Clear();
}

}  // namespace oxmem::tloe
