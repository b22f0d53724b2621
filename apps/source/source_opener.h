#ifndef APPS_SOURCE_SOURCE_OPENER_H_
#define APPS_SOURCE_SOURCE_OPENER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "apps/common/facts.h"
#include "transport/api/channel.h"
#include "transport/api/source.h"

namespace oxmem::apps {

// A channel that answers, and what its transport has to tell beyond the limits: protocol, peer.
struct OpenedSource {
  std::unique_ptr<transport::Channel> channel;
  Facts facts;
};

// A source that can be opened more than once: every channel leads to the same memory and belongs to
// one thread. The only place that knows every transport. Used by one thread.
class SourceOpener {
 public:
  // Checks every word of the source and connects to nothing.
  static absl::StatusOr<std::unique_ptr<SourceOpener>> Create(const transport::Source& source);

  virtual ~SourceOpener() = default;
  SourceOpener(const SourceOpener&) = delete;
  SourceOpener& operator=(const SourceOpener&) = delete;

  // One more channel. The memory stays for as long as the last of the channels or this.
  virtual absl::StatusOr<OpenedSource> Open() = 0;

 protected:
  SourceOpener() = default;
};

// ParseSource, Create and Open in one go, for a command that wants one channel.
absl::StatusOr<OpenedSource> OpenSource(const std::string& text);

}  // namespace oxmem::apps

#endif  // APPS_SOURCE_SOURCE_OPENER_H_
