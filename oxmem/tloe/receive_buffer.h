#ifndef OXMEM_TLOE_RECEIVE_BUFFER_H_
#define OXMEM_TLOE_RECEIVE_BUFFER_H_

#include <cstddef>
#include <memory>
#include <span>

namespace oxmem::tloe {

// Messages that were received and not taken yet, as the flits they arrived in, first in first out.
// Memory grows with use, by doubling up to twice the bound, and stays then: with half of it free
// the bytes that move when the end is reached are never more than those consumed since.
class ReceiveBuffer {
 public:
  explicit ReceiveBuffer(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  bool empty() const { return read_ == end_; }
  // Read but not released bytes included.
  std::size_t held_bytes() const { return end_ - begin_; }
  bool Fits(std::size_t count) const { return held_bytes() + count <= max_bytes_; }

  // Appends a message, which must fit, with `first` for its first byte. Spans handed out before are
  // invalid afterwards.
  void Push(std::span<const std::byte> message, std::byte first);

  // What was not read yet; a message begins at the front.
  std::span<const std::byte> Unread() const { return {data_.get() + read_, end_ - read_}; }
  // The message at the front is `count` bytes long and read; its bytes stay until Release.
  void Advance(std::size_t count);
  // Frees what was read.
  void Release();
  void Clear() { begin_ = read_ = end_ = 0; }

  std::size_t allocated_bytes() const { return size_; }

 private:
  void MakeRoom(std::size_t count);

  std::size_t max_bytes_;
  std::unique_ptr<std::byte[]> data_;
  std::size_t size_ = 0;
  // begin_ ≤ read_ ≤ end_ ≤ size_: read and not released, unread, free.
  std::size_t begin_ = 0;
  std::size_t read_ = 0;
  std::size_t end_ = 0;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_RECEIVE_BUFFER_H_
