#include "fs/fuse/operations.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "fs/fuse/kernel_abi.h"
#include "fs/fuse/libfuse_passthrough.h"
#include "fs/fuse/reactor.h"
#include "transport/base/size.h"

namespace oxmem::fs {
namespace {

// Nobody but us changes names and attributes, and what we change the kernel sees us change.
constexpr double kForEver = 1e9;
constexpr std::size_t kLongestName = 255;

Reactor& ReactorOf(fuse_req_t request) {
  return *static_cast<Reactor*>(fuse_req_userdata(request));
}

// The file, or an answer that there is none (a directory).
std::optional<std::size_t> FileOf(fuse_req_t request, fuse_ino_t inode) {
  const auto index = ReactorOf(request).files().IndexOf(inode);
  if (!index.has_value()) fuse_reply_err(request, inode == FileTable::kRootInode ? EISDIR : ENOENT);
  return index;
}

uint64_t SizeOf(fuse_req_t request, std::size_t file) {
  return ReactorOf(request).files().file(file).size_bytes;
}

// The kernel lets nobody write to a mount that it knows to be read-only; of a region that is, only
// we know.
bool RefusedAsReadOnly(fuse_req_t request, std::size_t file) {
  const bool refused = ReactorOf(request).files().read_only(file);
  if (refused) fuse_reply_err(request, EROFS);
  return refused;
}

void Init(void*, fuse_conn_info* connection) {
  connection->max_write = kLargestIoBytes;
  // More than are ever under way: an asynchronous write that waits in the kernel would be overtaken
  // by reads into the page cache, which are to see it (WriteOrder).
  connection->max_background = 8192;
  connection->congestion_threshold = 6144;
  // Splicing was several times slower than copying. An atomic O_TRUNC drops the dirty pages of
  // others; without it a truncating open arrives as a setattr, which leaves the size alone. Nothing
  // beside us changes the files' times, so the cache need not be checked against them.
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                             FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ATOMIC_O_TRUNC |
                                             FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE |
                                             FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
  connection->want |= connection->capable & (FUSE_CAP_ASYNC_DIO | FUSE_CAP_ASYNC_READ |
                                             FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_HANDLE_KILLPRIV);
  WantPassthrough(connection);
}

// Before anything is made or renamed, its name is looked up too.
void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  if (std::strlen(name) > kLongestName) {
    fuse_reply_err(request, ENAMETOOLONG);
    return;
  }
  FileTable& files = ReactorOf(request).files();
  const auto index = parent == FileTable::kRootInode ? files.Find(name) : std::nullopt;
  fuse_entry_param entry{};
  entry.entry_timeout = kForEver;
  entry.attr_timeout = kForEver;
  if (index.has_value()) {
    entry.ino = FileTable::InodeOf(*index);
    entry.generation = files.LookUp(*index);
    files.GetAttributes(entry.ino, &entry.attr);
  }
  fuse_reply_entry(request, &entry);  // number 0: there is none, and that stays so
}

void GetAttributes(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  Reactor& reactor = ReactorOf(request);
  if (const auto index = reactor.files().IndexOf(inode); index.has_value()) {
    if (reactor.files().stale(*index)) {
      fuse_reply_err(request, ESTALE);  // of a path, the kernel then looks it up again
      return;
    }
    reactor.NoteMemoryTime(*index);
  }
  struct stat attributes;
  if (!reactor.files().GetAttributes(inode, &attributes)) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  fuse_reply_attr(request, &attributes, kForEver);
}

// A file keeps its size. An open with O_TRUNC is let through, as a device would; it arrives as a
// change of the size to 0 without a file handle, and so does truncate(path, 0), which the kernel
// gives us no way to tell from it.
bool SizeChangeAllowed(fuse_req_t request, fuse_ino_t inode, const struct stat& attributes,
                       const fuse_file_info* file) {
  const auto index = ReactorOf(request).files().IndexOf(inode);
  if (!index.has_value()) return false;
  if (static_cast<uint64_t>(attributes.st_size) == SizeOf(request, *index)) return true;
  return file == nullptr && attributes.st_size == 0;
}

void SetAttributes(fuse_req_t request, fuse_ino_t inode, struct stat* attributes, int to_set,
                   fuse_file_info* file) {
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0 && !SizeChangeAllowed(request, inode, *attributes, file)) {
    fuse_reply_err(request, EPERM);
    return;
  }
  Reactor& reactor = ReactorOf(request);
  if (const auto index = reactor.files().IndexOf(inode)) reactor.NoteMemoryTime(*index);
  const int error = reactor.files().SetAttributes(inode, *attributes, to_set);
  if (error != 0) {
    fuse_reply_err(request, error);
    return;
  }
  GetAttributes(request, inode, nullptr);
}

void Open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) {
  const auto index = FileOf(request, inode);
  if (!index.has_value()) return;
  const FileTable::File& file = ReactorOf(request).files().file(*index);
  if (ReactorOf(request).files().read_only(*index) && (info->flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err(request, EROFS);
    return;
  }
  // Written as the kernel reads it: libfuse 3.14 does not know all of the flags.
  kernel::OpenOut answer{};
  switch (file.mode) {
    case FileMode::kPassthrough:
      ReactorOf(request).StartOpen(request, *index);
      return;
    case FileMode::kPageCache:
      // Past the cache as its opener wants it, and then several writes at once.
      if ((info->flags & O_DIRECT) != 0) {
        answer.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
      }
      break;
    case FileMode::kDirect:
      answer.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
      break;
  }
  fuse_reply_buf(request, reinterpret_cast<const char*>(&answer), sizeof answer);
}

void Release(fuse_req_t request, fuse_ino_t, fuse_file_info*) { fuse_reply_err(request, 0); }

void Read(fuse_req_t request, fuse_ino_t inode, size_t length, off_t offset, fuse_file_info*) {
  const auto index = FileOf(request, inode);
  if (!index.has_value()) return;
  const uint64_t size = SizeOf(request, *index);
  const auto from = static_cast<uint64_t>(offset);
  if (from >= size || length == 0) {
    fuse_reply_buf(request, nullptr, 0);
    return;
  }
  ReactorOf(request).StartRead(request, *index, from, std::min<uint64_t>(length, size - from));
}

void Write(fuse_req_t request, fuse_ino_t inode, const char* bytes, size_t length, off_t offset,
           fuse_file_info* info) {
  const auto index = FileOf(request, inode);
  if (!index.has_value()) return;
  if (RefusedAsReadOnly(request, *index)) return;
  // All or nothing: of a direct write the kernel would make a short answer an I/O error.
  if (!RangeFits(static_cast<uint64_t>(offset), length, SizeOf(request, *index))) {
    fuse_reply_err(request, ENOSPC);
    return;
  }
  // Of a write that goes past its cache the kernel leaves the syncing to us.
  const FileMode mode = ReactorOf(request).files().file(*index).mode;
  const bool direct = mode == FileMode::kDirect || (info->flags & O_DIRECT) != 0;
  const bool synced = direct && (info->flags & (O_SYNC | O_DSYNC)) != 0;
  ReactorOf(request).StartWrite(request, *index, static_cast<uint64_t>(offset), bytes, length,
                                synced);
}

void Flush(fuse_req_t request, fuse_ino_t inode, int, fuse_file_info*) {
  const auto index = FileOf(request, inode);
  if (index.has_value()) ReactorOf(request).StartFlush(request, *index);
}

void FlushDirectory(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
  fuse_reply_err(request, 0);
}

void Allocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset, off_t length,
              fuse_file_info*) {
  const auto index = FileOf(request, inode);
  if (!index.has_value()) return;
  if (RefusedAsReadOnly(request, *index)) return;
  const uint64_t size = SizeOf(request, *index);
  const auto from = static_cast<uint64_t>(offset);
  auto count = static_cast<uint64_t>(length);
  const int what = mode & ~FALLOC_FL_KEEP_SIZE;
  const bool punch = what == FALLOC_FL_PUNCH_HOLE;
  if (what != 0 && !punch && what != FALLOC_FL_ZERO_RANGE) {
    fuse_reply_err(request, EOPNOTSUPP);
    return;
  }
  // Past the end there is nothing that could be punched, and nothing that could be allocated.
  if (punch) count = from >= size ? 0 : std::min(count, size - from);
  if (!punch && !RangeFits(from, count, size)) {
    fuse_reply_err(request, ENOSPC);
    return;
  }
  if (what == 0 || count == 0) {
    fuse_reply_err(request, 0);
    return;
  }
  ReactorOf(request).StartZero(request, *index, from, count);
}

void Seek(fuse_req_t request, fuse_ino_t inode, off_t offset, int whence, fuse_file_info*) {
  const auto index = FileOf(request, inode);
  if (!index.has_value()) return;
  const auto size = static_cast<off_t>(SizeOf(request, *index));
  if (offset < 0 || offset >= size) {
    fuse_reply_err(request, ENXIO);
  } else if (whence == SEEK_DATA || whence == SEEK_HOLE) {
    fuse_reply_lseek(request, whence == SEEK_DATA ? offset : size);  // all of it is data
  } else {
    fuse_reply_err(request, EINVAL);
  }
}

void ReadDirectory(fuse_req_t request, fuse_ino_t inode, size_t room, off_t offset,
                   fuse_file_info*) {
  if (inode != FileTable::kRootInode) {
    fuse_reply_err(request, ENOTDIR);
    return;
  }
  const FileTable& files = ReactorOf(request).files();
  std::vector<char> buffer(std::min<size_t>(room, 65536));
  size_t used = 0;
  for (uint64_t place = static_cast<uint64_t>(offset); place < files.size() + 2; ++place) {
    struct stat attributes {};
    attributes.st_ino = place < 2 ? FileTable::kRootInode : FileTable::InodeOf(place - 2);
    attributes.st_mode = place < 2 ? S_IFDIR : S_IFREG;
    const std::string name = place == 0   ? "."
                             : place == 1 ? ".."
                                          : files.file(static_cast<size_t>(place - 2)).name;
    const size_t needed =
        fuse_add_direntry(request, buffer.data() + used, buffer.size() - used, name.c_str(),
                          &attributes, static_cast<off_t>(place + 1));
    if (needed > buffer.size() - used) break;
    used += needed;
  }
  fuse_reply_buf(request, buffer.data(), used);
}

void Statistics(fuse_req_t request, fuse_ino_t) {
  const struct statvfs statistics = ReactorOf(request).files().Statistics();
  fuse_reply_statfs(request, &statistics);
}

std::vector<std::pair<std::string, std::string>> ExtendedAttributesOf(fuse_req_t request,
                                                                      fuse_ino_t inode) {
  Reactor& reactor = ReactorOf(request);
  const auto index = reactor.files().IndexOf(inode);
  if (!index.has_value()) return {};
  const absl::Status health = reactor.volume(*index).health();
  return reactor.files().ExtendedAttributes(*index,
                                            health.ok() ? "ok" : std::string(health.message()));
}

// As getxattr and listxattr want it: the length alone if there is no room.
void AnswerText(fuse_req_t request, const std::string& text, size_t room) {
  if (room == 0) {
    fuse_reply_xattr(request, text.size());
  } else if (text.size() > room) {
    fuse_reply_err(request, ERANGE);
  } else {
    fuse_reply_buf(request, text.data(), text.size());
  }
}

void GetExtendedAttribute(fuse_req_t request, fuse_ino_t inode, const char* name, size_t room) {
  for (const auto& [key, value] : ExtendedAttributesOf(request, inode)) {
    if (key != name) continue;
    AnswerText(request, value, room);
    return;
  }
  fuse_reply_err(request, ENODATA);
}

void ListExtendedAttributes(fuse_req_t request, fuse_ino_t inode, size_t room) {
  std::string names;
  for (const auto& [key, value] : ExtendedAttributesOf(request, inode)) names += key + '\0';
  AnswerText(request, names, room);
}

// The set of files is what was mounted.
void RefuseSetXattr(fuse_req_t request, fuse_ino_t, const char*, const char*, size_t, int) {
  fuse_reply_err(request, EOPNOTSUPP);
}
void RefuseRemoveXattr(fuse_req_t request, fuse_ino_t, const char*) {
  fuse_reply_err(request, EOPNOTSUPP);
}
void RefuseMakeNode(fuse_req_t request, fuse_ino_t, const char*, mode_t, dev_t) {
  fuse_reply_err(request, EPERM);
}
void RefuseMakeDirectory(fuse_req_t request, fuse_ino_t, const char*, mode_t) {
  fuse_reply_err(request, EPERM);
}
void RefuseRemove(fuse_req_t request, fuse_ino_t, const char*) { fuse_reply_err(request, EPERM); }
void RefuseSymlink(fuse_req_t request, const char*, fuse_ino_t, const char*) {
  fuse_reply_err(request, EPERM);
}
void RefuseRename(fuse_req_t request, fuse_ino_t, const char*, fuse_ino_t, const char*, unsigned) {
  fuse_reply_err(request, EPERM);
}
void RefuseLink(fuse_req_t request, fuse_ino_t, fuse_ino_t, const char*) {
  fuse_reply_err(request, EPERM);
}
void RefuseCreate(fuse_req_t request, fuse_ino_t, const char*, mode_t, fuse_file_info*) {
  fuse_reply_err(request, EPERM);
}

fuse_lowlevel_ops MakeOperations() {
  fuse_lowlevel_ops operations{};
  operations.init = Init;
  operations.lookup = Lookup;
  operations.getattr = GetAttributes;
  operations.setattr = SetAttributes;
  operations.open = Open;
  operations.release = Release;
  operations.read = Read;
  operations.write = Write;
  operations.fsync = Flush;
  operations.fsyncdir = FlushDirectory;
  operations.fallocate = Allocate;
  operations.lseek = Seek;
  operations.readdir = ReadDirectory;
  operations.statfs = Statistics;
  operations.getxattr = GetExtendedAttribute;
  operations.listxattr = ListExtendedAttributes;
  operations.setxattr = RefuseSetXattr;
  operations.removexattr = RefuseRemoveXattr;
  operations.mknod = RefuseMakeNode;
  operations.mkdir = RefuseMakeDirectory;
  operations.unlink = RefuseRemove;
  operations.rmdir = RefuseRemove;
  operations.symlink = RefuseSymlink;
  operations.rename = RefuseRename;
  operations.link = RefuseLink;
  operations.create = RefuseCreate;
  // No flush: closing has nothing to do, and without it the kernel does not ask. No locks: it then
  // keeps them itself, for all processes of the host. No poll: files are always ready.
  return operations;
}

}  // namespace

const fuse_lowlevel_ops& FuseOperations() {
  static const fuse_lowlevel_ops operations = MakeOperations();
  return operations;
}

}  // namespace oxmem::fs
