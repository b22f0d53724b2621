#ifndef APPS_COMMON_STATS_FILE_H_
#define APPS_COMMON_STATS_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "apps/common/figures_json.h"

namespace oxmem::apps {

// Replaces the file in one step: a reader sees the old text or the new one, never a part.
absl::Status WriteFileAtomically(const std::string& path, const std::string& text);

// The JSON that a process writes to a file again and again. Beside ours it has the fields that
// programs know from /tmp/memory_node.json: timestamp (seconds since 1970), interval_seconds, and
// for read and write the sums and what the last period added. One thread uses it.
class StatsFile {
 public:
  StatsFile(std::string path, double interval_seconds)
      : path_(std::move(path)), interval_seconds_(interval_seconds) {}

  // The document after one more period. The sums are those of the figures called reads, read_bytes,
  // writes and write_bytes, of all parts of the kind.
  Json Next(const ProcessFigures& process, const std::string& kind);

  // Whether Write could make the file there, as far as that can be told before; leaves no trace.
  absl::Status Check() const;
  absl::Status Write(const ProcessFigures& process, const std::string& kind);

  const std::string& path() const { return path_; }

 private:
  struct Sums {
    uint64_t count = 0;
    uint64_t bytes = 0;
  };
  static Json Direction(const Sums& now, Sums* before);

  std::string path_;
  double interval_seconds_;
  Sums reads_;
  Sums writes_;
};

}  // namespace oxmem::apps

#endif  // APPS_COMMON_STATS_FILE_H_
