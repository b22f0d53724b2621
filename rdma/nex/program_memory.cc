#include "rdma/nex/program_memory.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace oxmem::nex {

bool CopyToProgram(const IoBatch& batch, std::span<const std::byte> bytes) {
  if (bytes.empty()) return true;
  const iovec from{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const ssize_t copied = process_vm_writev(getpid(), &from, 1, batch.pieces.data(),
                                           static_cast<unsigned long>(batch.piece_count), 0);
  if (copied == static_cast<ssize_t>(bytes.size())) return true;
  if (copied >= 0 || errno == EFAULT) return false;
  // A filter of system calls forbids it.
  std::size_t at = 0;
  for (int i = 0; i < batch.piece_count && at < bytes.size(); ++i) {
    const std::size_t piece = std::min(batch.pieces[i].iov_len, bytes.size() - at);
    std::memcpy(batch.pieces[i].iov_base, bytes.data() + at, piece);
    at += piece;
  }
  return true;
}

}  // namespace oxmem::nex
