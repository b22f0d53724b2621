#include "fs/fuse/attribute_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

constexpr std::size_t kCurrent = 0;
constexpr std::size_t kWritten = 1;
constexpr std::size_t kFirstCopy = 2;
constexpr std::size_t kCopyWords = 15;
constexpr std::size_t kEntryWords = kFirstCopy + 2 * kCopyWords;

std::size_t BytesOf(std::size_t entries) { return entries * kEntryWords * sizeof(int64_t); }

}  // namespace

absl::StatusOr<std::unique_ptr<AttributeStore>> AttributeStore::Create(std::size_t entries) {
  UniqueFd fd(memfd_create("oxmem-attributes", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid() || ftruncate(fd.get(), static_cast<off_t>(BytesOf(entries))) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return ErrnoStatus(errno, "memory for the files' attributes");
  }
  OXMEM_ASSIGN_OR_RETURN(auto store, Adopt(std::move(fd), entries));
  OXMEM_RETURN_IF_ERROR(store->Claim());
  return store;
}

absl::StatusOr<std::unique_ptr<AttributeStore>> AttributeStore::Adopt(UniqueFd fd,
                                                                      std::size_t entries) {
  struct stat attributes;
  if (fstat(fd.get(), &attributes) != 0) return ErrnoStatus(errno, "the files' attributes");
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 ||
      static_cast<std::size_t>(attributes.st_size) != BytesOf(entries)) {
    return absl::FailedPreconditionError(absl::StrCat("what was kept of the files' attributes has ",
                                                      attributes.st_size, " bytes, not ",
                                                      BytesOf(entries)));
  }
  void* memory = mmap(nullptr, BytesOf(entries), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return ErrnoStatus(errno, "the files' attributes");
  return std::unique_ptr<AttributeStore>(new AttributeStore(std::move(fd), memory, entries));
}

AttributeStore::AttributeStore(UniqueFd fd, void* memory, std::size_t entries)
    : fd_(std::move(fd)), words_(static_cast<Word*>(memory)), entries_(entries) {}

AttributeStore::~AttributeStore() { munmap(words_, BytesOf(entries_)); }

// A lock of the process and not of the descriptor: the keeper and children have that too.
absl::Status AttributeStore::Claim() const {
  struct flock all {};
  all.l_type = F_WRLCK;
  if (fcntl(fd_.get(), F_SETLK, &all) == 0) return absl::OkStatus();
  if (errno != EAGAIN && errno != EACCES) return ErrnoStatus(errno, "the files' attributes");
  return absl::AbortedError("another process serves the mount");
}

void AttributeStore::Release() const {
  struct flock all {};
  all.l_type = F_UNLCK;
  (void)fcntl(fd_.get(), F_SETLK, &all);
}

std::span<AttributeStore::Word> AttributeStore::WordsOf(std::size_t entry) const {
  OXMEM_CHECK(entry < entries_);
  return {words_ + entry * kEntryWords, kEntryWords};
}

AttributeStore::Attributes AttributeStore::Get(std::size_t entry) const {
  const std::span<Word> words = WordsOf(entry);
  // Of a number that is neither 0 nor 1 only the last bit is looked at.
  const auto current =
      static_cast<std::size_t>(words[kCurrent].load(std::memory_order_acquire) & 1);
  const std::span<Word> copy = words.subspan(kFirstCopy + current * kCopyWords, kCopyWords);
  const auto word = [&copy](std::size_t i) { return copy[i].load(std::memory_order_relaxed); };
  const auto time = [&word](std::size_t i) {
    return timespec{.tv_sec = word(i), .tv_nsec = word(i + 1)};
  };
  return {.mode = static_cast<mode_t>(word(0)),
          .uid = static_cast<uid_t>(word(1)),
          .gid = static_cast<gid_t>(word(2)),
          .accessed = time(3),
          .modified = time(5),
          .changed = time(7),
          .memory = {.backing_id = static_cast<int32_t>(word(9)),
                     .device = static_cast<uint64_t>(word(10)),
                     .inode = static_cast<uint64_t>(word(11)),
                     .generation = static_cast<uint32_t>(word(12)),
                     .lookups = static_cast<int32_t>(word(13)),
                     .modified_ns = word(14)}};
}

void AttributeStore::Set(std::size_t entry, const Attributes& attributes) {
  const std::span<Word> words = WordsOf(entry);
  const int64_t other = 1 - (words[kCurrent].load(std::memory_order_relaxed) & 1);
  const std::span<Word> copy =
      words.subspan(kFirstCopy + static_cast<std::size_t>(other) * kCopyWords, kCopyWords);
  const int64_t values[kCopyWords] = {attributes.mode,
                                      attributes.uid,
                                      attributes.gid,
                                      attributes.accessed.tv_sec,
                                      attributes.accessed.tv_nsec,
                                      attributes.modified.tv_sec,
                                      attributes.modified.tv_nsec,
                                      attributes.changed.tv_sec,
                                      attributes.changed.tv_nsec,
                                      attributes.memory.backing_id,
                                      static_cast<int64_t>(attributes.memory.device),
                                      static_cast<int64_t>(attributes.memory.inode),
                                      attributes.memory.generation,
                                      attributes.memory.lookups,
                                      attributes.memory.modified_ns};
  for (std::size_t i = 0; i < kCopyWords; ++i) {
    copy[i].store(values[i], std::memory_order_relaxed);
  }
  // Whoever dies before this line leaves the old copy as the one that holds.
  words[kCurrent].store(other, std::memory_order_release);
}

int64_t AttributeStore::written_ns(std::size_t entry) const {
  return WordsOf(entry)[kWritten].load(std::memory_order_relaxed);
}

void AttributeStore::set_written_ns(std::size_t entry, int64_t ns) {
  WordsOf(entry)[kWritten].store(ns, std::memory_order_relaxed);
}

}  // namespace oxmem::fs
