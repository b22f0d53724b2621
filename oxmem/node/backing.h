#ifndef OXMEM_NODE_BACKING_H_
#define OXMEM_NODE_BACKING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/base/memory_guard.h"
#include "transport/base/unique_fd.h"

namespace oxmem::node {

enum class BackingKind : uint8_t {
  kAnonymous,  // private memory of the node
  kHugePages,  // the same on hugetlb pages, all reserved at the start
  kMemfd,      // a memory file that can be handed to other processes of this host
  kFile,       // a file or DAX device, mapped shared: contents survive the node
};

struct BackingSpec {
  BackingKind kind = BackingKind::kMemfd;
  uint64_t size_bytes = 0;
  std::string path;        // of kFile; created with this size if it does not exist
  bool read_only = false;  // kFile is opened and mapped without write permission
};

// Memory of a region, mapped for as long as this lives. Pages are taken when they are first
// touched, except huge pages, which are reserved here so that their lack is an error now and not a
// crash later.
class Backing {
 public:
  static absl::StatusOr<Backing> Create(const BackingSpec& spec);

  Backing(Backing&& other) noexcept;
  Backing& operator=(Backing&& other) noexcept;
  ~Backing();

  std::span<std::byte> memory() const { return memory_; }
  // Of a file, which others may cut short; null for the others.
  MemoryGuard* guard() const { return guard_.get(); }
  // What other processes can map: a memfd or the file; -1 for private memory.
  int fd() const { return fd_.get(); }
  BackingKind kind() const { return kind_; }
  bool persistent() const { return kind_ == BackingKind::kFile; }

  // Writes a file's changed pages to its storage; nothing to do for the others.
  absl::Status Sync() const;

 private:
  Backing(BackingKind kind, UniqueFd fd, std::span<std::byte> memory);

  BackingKind kind_ = BackingKind::kAnonymous;
  UniqueFd fd_;
  std::span<std::byte> memory_;
  std::unique_ptr<MemoryGuard> guard_;
};

// "anonymous", "huge", "memfd" or "file:PATH", as the command line writes them.
absl::Status ParseBacking(const std::string& text, BackingSpec* spec);
std::string FormatBacking(const BackingSpec& spec);

}  // namespace oxmem::node

#endif  // OXMEM_NODE_BACKING_H_
