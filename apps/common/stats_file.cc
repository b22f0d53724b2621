#include "apps/common/stats_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

namespace {

std::string UnreadyPath(const std::string& path) {
  return absl::StrCat(path, ".", getpid(), ".tmp");
}

// O_EXCL and no link followed: the directory may be /tmp.
UniqueFd MakeUnready(const std::string& unready) {
  unlink(unready.c_str());
  return UniqueFd(
      open(unready.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
}

}  // namespace

absl::Status WriteFileAtomically(const std::string& path, const std::string& text) {
  const std::string unready = UnreadyPath(path);
  const auto error = [&] {
    const int number = errno;
    unlink(unready.c_str());
    return ErrnoStatus(number, absl::StrCat("cannot write ", path));
  };
  const UniqueFd fd = MakeUnready(unready);
  if (!fd.valid()) return error();
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = write(fd.get(), text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return error();
    written += static_cast<std::size_t>(count);
  }
  if (std::rename(unready.c_str(), path.c_str()) != 0) return error();
  return absl::OkStatus();
}

Json StatsFile::Direction(const Sums& now, Sums* before) {
  Json json;
  json["count"] = now.count;
  json["bytes"] = now.bytes;
  json["count_per_period"] = now.count - before->count;
  json["bytes_per_period"] = now.bytes - before->bytes;
  *before = now;
  return json;
}

Json StatsFile::Next(const ProcessFigures& process, const std::string& kind) {
  Sums reads;
  Sums writes;
  for (const Part& part : process.parts) {
    if (part.kind != kind) continue;
    for (const Figure& figure : part.figures) {
      if (figure.name == "reads") reads.count += figure.value;
      if (figure.name == "read_bytes") reads.bytes += figure.value;
      if (figure.name == "writes") writes.count += figure.value;
      if (figure.name == "write_bytes") writes.bytes += figure.value;
    }
  }
  Json json;
  json["timestamp"] = static_cast<int64_t>(std::time(nullptr));
  json["interval_seconds"] = interval_seconds_;
  json["read"] = Direction(reads, &reads_);
  json["write"] = Direction(writes, &writes_);
  json["oxmem"] = FiguresJson(process);
  return json;
}

absl::Status StatsFile::Check() const {
  const std::string unready = UnreadyPath(path_);
  const UniqueFd fd = MakeUnready(unready);
  int error = fd.valid() ? 0 : errno;
  unlink(unready.c_str());
  struct stat there {};
  if (error == 0 && lstat(path_.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, " is not a file that could be replaced; choose another path"));
  }
  return error == 0 ? absl::OkStatus() : ErrnoStatus(error, absl::StrCat("cannot write ", path_));
}

absl::Status StatsFile::Write(const ProcessFigures& process, const std::string& kind) {
  return WriteFileAtomically(path_, JsonText(Next(process, kind), 2) + "\n");
}

}  // namespace oxmem::apps
