#ifndef APPS_SOURCE_SOURCE_OPENER_H_
#define APPS_SOURCE_SOURCE_OPENER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/common/facts.h"
#include "transport/api/channel.h"
#include "transport/api/source.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// The name of a fact: what the parts of a stripe or a mirror have that cannot be used.
inline constexpr char kNotUsed[] = "not used";

// A channel that answers, and what its transport has to tell beyond the limits: protocol, peer.
// What it tells may change with use (a way that takes shorter frames); asked by the thread that
// owns the channel.
struct OpenedSource {
  std::unique_ptr<transport::Channel> channel;
  std::function<Facts()> facts = [] { return Facts(); };
};

// Memory that sources made (mem:, and the state of mirrors) and that outlived the process, in the
// order of the sources.
class KeptMemory {
 public:
  explicit KeptMemory(std::vector<UniqueFd> fds) : fds_(std::move(fds)) {}
  // An error if there is none left.
  absl::StatusOr<UniqueFd> Take();

 private:
  std::vector<UniqueFd> fds_;
  std::size_t next_ = 0;
};

// A source that can be opened more than once: every channel leads to the same memory and belongs to
// one thread. The only place that knows every transport. Used by one thread.
class SourceOpener {
 public:
  // Checks every word of the source and connects to nothing. With `kept`, memory that the source
  // itself makes is taken from there.
  static absl::StatusOr<std::unique_ptr<SourceOpener>> Create(const transport::Source& source,
                                                              KeptMemory* kept = nullptr);

  virtual ~SourceOpener() = default;
  SourceOpener(const SourceOpener&) = delete;
  SourceOpener& operator=(const SourceOpener&) = delete;

  // One more channel. The memory stays for as long as the last of the channels or this.
  virtual absl::StatusOr<OpenedSource> Open() = 0;

  // Adds the descriptors of memory that the source made itself: what KeptMemory wants.
  virtual void AddOwnMemory(std::vector<int>*) const {}

 protected:
  SourceOpener() = default;
};

// ParseSource, Create and Open in one go, for a command that wants one channel.
absl::StatusOr<OpenedSource> OpenSource(const std::string& text);

}  // namespace oxmem::apps

#endif  // APPS_SOURCE_SOURCE_OPENER_H_
