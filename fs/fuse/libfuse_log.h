#ifndef FS_FUSE_LIBFUSE_LOG_H_
#define FS_FUSE_LIBFUSE_LOG_H_

#include <string>

namespace oxmem::fs {

// While it lives, what libfuse would print is kept instead: the reason of a failure. libfuse has
// one place for it, so there is one at a time.
class LibfuseLog {
 public:
  LibfuseLog();
  ~LibfuseLog();
  LibfuseLog(const LibfuseLog&) = delete;
  LibfuseLog& operator=(const LibfuseLog&) = delete;

  // The last line, without "fuse: " before it.
  const std::string& last() const { return last_; }

 private:
  friend struct LibfuseLogSink;
  std::string last_;
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_LIBFUSE_LOG_H_
