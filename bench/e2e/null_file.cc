// null_file DIR SIZE single|multi: one file "data" of SIZE bytes of this process's memory in DIR,
// through libfuse's low-level interface and nothing else, with libfuse's loop for one thread or for
// many. What a FUSE file costs before it does anything. Stays in the foreground until it is
// unmounted or gets SIGTERM.
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr fuse_ino_t kFile = 2;
constexpr double kForEver = 1e9;
constexpr char kName[] = "data";

char* memory = nullptr;
std::size_t memory_bytes = 0;

bool Attributes(fuse_ino_t inode, struct stat* attributes) {
  *attributes = {};
  attributes->st_ino = inode;
  attributes->st_nlink = 1;
  attributes->st_mode = inode == kFile ? S_IFREG | 0666 : S_IFDIR | 0755;
  attributes->st_size = inode == kFile ? static_cast<off_t>(memory_bytes) : 0;
  return inode == kFile || inode == FUSE_ROOT_ID;
}

void Lookup(fuse_req_t request, fuse_ino_t, const char* name) {
  if (std::strcmp(name, kName) != 0) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  fuse_entry_param entry{};
  entry.ino = kFile;
  entry.attr_timeout = kForEver;
  entry.entry_timeout = kForEver;
  Attributes(kFile, &entry.attr);
  fuse_reply_entry(request, &entry);
}

void GetAttributes(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  struct stat attributes;
  if (!Attributes(inode, &attributes)) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  fuse_reply_attr(request, &attributes, kForEver);
}

void Open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) {
  if (inode != kFile) {
    fuse_reply_err(request, EISDIR);
    return;
  }
  fuse_reply_open(request, info);
}

void Read(fuse_req_t request, fuse_ino_t, size_t length, off_t offset, fuse_file_info*) {
  const std::size_t from = std::min(static_cast<std::size_t>(offset), memory_bytes);
  fuse_reply_buf(request, memory + from, std::min(length, memory_bytes - from));
}

void Write(fuse_req_t request, fuse_ino_t, const char* bytes, size_t length, off_t offset,
           fuse_file_info*) {
  const auto from = static_cast<std::size_t>(offset);
  if (from > memory_bytes || length > memory_bytes - from) {
    fuse_reply_err(request, ENOSPC);
    return;
  }
  std::memcpy(memory + from, bytes, length);
  fuse_reply_write(request, length);
}

int Serve(fuse_session* session, const char* directory, bool multi) {
  if (fuse_set_signal_handlers(session) != 0) return 1;
  if (fuse_session_mount(session, directory) != 0) return 1;
  std::printf("mounted\n");
  std::fflush(stdout);
  fuse_loop_config* config = fuse_loop_cfg_create();
  const int result = multi ? fuse_session_loop_mt(session, config) : fuse_session_loop(session);
  fuse_loop_cfg_destroy(config);
  fuse_session_unmount(session);
  fuse_remove_signal_handlers(session);
  return result == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string loop = argc == 4 ? argv[3] : "";
  if (loop != "single" && loop != "multi") {
    std::fprintf(stderr, "usage: null_file DIR BYTES single|multi\n");
    return 2;
  }
  memory_bytes = std::strtoull(argv[2], nullptr, 10);
  void* mapping = mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (mapping == MAP_FAILED) {
    std::perror("null_file: memory");
    return 1;
  }
  memory = static_cast<char*>(mapping);
  fuse_lowlevel_ops operations{};
  operations.lookup = Lookup;
  operations.getattr = GetAttributes;
  operations.open = Open;
  operations.read = Read;
  operations.write = Write;
  fuse_args arguments = FUSE_ARGS_INIT(0, nullptr);
  fuse_opt_add_arg(&arguments, "null_file");
  fuse_session* session = fuse_session_new(&arguments, &operations, sizeof operations, nullptr);
  if (session == nullptr) return 1;
  const int code = Serve(session, argv[1], loop == "multi");
  fuse_session_destroy(session);
  fuse_opt_free_args(&arguments);
  return code;
}
