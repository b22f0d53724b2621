#include "fs/fuse/libfuse_log.h"

#include <cstdarg>
#include <cstdio>

#include "absl/strings/match.h"
#include "fs/fuse/libfuse.h"
#include "fuse_log.h"
#include "spdlog/spdlog.h"
#include "transport/base/check.h"

namespace oxmem::fs {

struct LibfuseLogSink {
  static LibfuseLog*& Current() {
    static LibfuseLog* current = nullptr;
    return current;
  }
  static void Write(fuse_log_level, const char* format, va_list arguments) {
    char line[512];
    std::vsnprintf(line, sizeof line, format, arguments);
    std::string text = line;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    if (absl::StartsWith(text, "fuse: ")) text.erase(0, 6);
    spdlog::debug("libfuse: {}", text);
    if (Current() != nullptr) Current()->last_ = text;
  }
};

LibfuseLog::LibfuseLog() {
  OXMEM_CHECK(LibfuseLogSink::Current() == nullptr);
  LibfuseLogSink::Current() = this;
  fuse_set_log_func(LibfuseLogSink::Write);
}

LibfuseLog::~LibfuseLog() { LibfuseLogSink::Current() = nullptr; }

}  // namespace oxmem::fs
