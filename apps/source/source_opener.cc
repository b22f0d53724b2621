#include "apps/source/source_opener.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/source/tloe_facts.h"
#include "oxmem/channel/tloe_source.h"
#include "transport/base/check.h"
#include "transport/base/mutex.h"
#include "transport/base/size.h"
#include "transport/base/status.h"
#include "transport/compose/compose_source.h"
#include "transport/local/memory_source.h"
#include "transport/local/shared_channel.h"

namespace oxmem::apps {
namespace {

using transport::Source;

class MemoryOpener final : public SourceOpener {
 public:
  static absl::StatusOr<std::unique_ptr<SourceOpener>> Create(const Source& source,
                                                              KeptMemory* kept) {
    if (kept != nullptr) {
      OXMEM_ASSIGN_OR_RETURN(UniqueFd fd, kept->Take());
      OXMEM_ASSIGN_OR_RETURN(auto memory, transport::MemorySource::Adopt(source, std::move(fd)));
      return std::unique_ptr<SourceOpener>(new MemoryOpener(std::move(memory)));
    }
    OXMEM_ASSIGN_OR_RETURN(transport::MemorySource memory, transport::MemorySource::Create(source));
    return std::unique_ptr<SourceOpener>(new MemoryOpener(std::move(memory)));
  }
  absl::StatusOr<OpenedSource> Open() override { return OpenedSource{memory_.OpenChannel()}; }
  void AddOwnMemory(std::vector<int>* fds) const override {
    fds->push_back(memory_.memory()->fd());
  }

 private:
  explicit MemoryOpener(transport::MemorySource memory) : memory_(std::move(memory)) {}
  transport::MemorySource memory_;
};

// Every channel is a connection of its own, on a virtual channel that is free on this host.
class TloeOpener final : public SourceOpener {
 public:
  static absl::StatusOr<std::unique_ptr<SourceOpener>> Create(const Source& source) {
    OXMEM_RETURN_IF_ERROR(channel::ParseTloeSource(source).status());
    return std::unique_ptr<SourceOpener>(new TloeOpener(source));
  }
  absl::StatusOr<OpenedSource> Open() override {
    OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<channel::TloeChannel> opened,
                           channel::OpenTloe(source_));
    const channel::TloeChannel& channel = *opened;
    return OpenedSource{std::move(opened),
                        [&channel, source = source_] { return TloeFacts(channel, source); }};
  }

 private:
  explicit TloeOpener(Source source) : source_(std::move(source)) {}
  Source source_;
};

// Memory of a node on this host. Every channel is a connection and a mapping of its own.
class SharedOpener final : public SourceOpener {
 public:
  static absl::StatusOr<std::unique_ptr<SourceOpener>> Create(const Source& source) {
    OXMEM_RETURN_IF_ERROR(transport::ParseSharedSource(source).status());
    return std::unique_ptr<SourceOpener>(new SharedOpener(source));
  }
  absl::StatusOr<OpenedSource> Open() override {
    OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<transport::Channel> channel,
                           transport::OpenShared(source_));
    return OpenedSource{std::move(channel)};
  }

 private:
  explicit SharedOpener(Source source) : source_(std::move(source)) {}
  Source source_;
};

// What the parts of a stripe or a mirror have beyond what the smallest of them gives; empty if they
// are of one size.
std::string NotUsed(const std::string& scheme, const std::vector<uint64_t>& sizes, uint64_t whole) {
  const uint64_t used = scheme == "stripe" ? whole / sizes.size() : whole;
  std::string text;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] <= used) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", FormatSize(sizes[i] - used), " of part ",
                    i + 1);
  }
  return text;
}

// The sources that a composed one is made of. Parts that are opened late are opened by threads of
// their own.
class Parts {
 public:
  void Add(std::unique_ptr<SourceOpener> part) { openers_.push_back(std::move(part)); }
  absl::StatusOr<OpenedSource> Open(std::size_t part) {
    const MutexLock lock(&opening_);
    OXMEM_CHECK(part < openers_.size());
    return openers_[part]->Open();
  }
  void AddOwnMemory(std::vector<int>* fds) const {
    for (const auto& opener : openers_) opener->AddOwnMemory(fds);
  }

 private:
  std::vector<std::unique_ptr<SourceOpener>> openers_;
  Mutex opening_;
};

// What the parts tell while they are opened.
struct PartFacts {
  Facts facts;
  std::vector<uint64_t> sizes;  // 0 of one that is not there
  std::string not_used_within;

  void Add(const absl::StatusOr<OpenedSource>& part) {
    const std::size_t number = sizes.size() + 1;
    facts.emplace_back(absl::StrCat("part ", number),
                       part.ok() ? part->channel->name() : "not there");
    sizes.push_back(part.ok() ? part->channel->limits().size_bytes : 0);
    if (!part.ok()) return;
    if (const std::string within = FactOf(part->facts(), kNotUsed); !within.empty()) {
      absl::StrAppend(&not_used_within, "; within part ", number, ": ", within);
    }
  }
};

// A channel made of others. Each part is opened anew for every channel, and two channels meet in
// the same memory part by part. Those of a mirror share its state, which is memory of its own.
class ComposedOpener final : public SourceOpener {
 public:
  static absl::StatusOr<std::unique_ptr<SourceOpener>> Create(const Source& source,
                                                              KeptMemory* kept) {
    std::unique_ptr<ComposedOpener> opener(new ComposedOpener(source));
    const std::size_t legs = source.nested.size();
    if (source.scheme == "mirror" && legs >= 2 && legs <= transport::MirrorState::kMaxLegs) {
      OXMEM_ASSIGN_OR_RETURN(opener->mirror_, MakeMirrorState(legs, kept));
    }
    for (const Source& nested : source.nested) {
      OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<SourceOpener> part,
                             SourceOpener::Create(nested, kept));
      opener->parts_->Add(std::move(part));
    }
    return std::unique_ptr<SourceOpener>(std::move(opener));
  }

  absl::StatusOr<OpenedSource> Open() override {
    PartFacts found;
    // Parts are opened once each, in their order.
    const auto open_part =
        [&](const Source& part) -> absl::StatusOr<std::unique_ptr<transport::Channel>> {
      const std::size_t index = found.sizes.size();
      OXMEM_CHECK(index < source_.nested.size() && source_.nested[index] == part);
      absl::StatusOr<OpenedSource> opened = parts_->Open(index);
      found.Add(opened);
      OXMEM_RETURN_IF_ERROR(opened.status());
      return std::move(opened->channel);
    };
    const auto open_later =
        [parts = parts_](std::size_t part) -> absl::StatusOr<std::unique_ptr<transport::Channel>> {
      OXMEM_ASSIGN_OR_RETURN(OpenedSource opened, parts->Open(part));
      return std::move(opened.channel);
    };
    OXMEM_ASSIGN_OR_RETURN(
        std::unique_ptr<transport::Channel> channel,
        transport::OpenComposed(source_, open_part, {.state = mirror_, .open_later = open_later}));
    std::string not_used;
    if (source_.scheme == "stripe" || source_.scheme == "mirror") {
      not_used = NotUsed(source_.scheme, found.sizes, channel->limits().size_bytes);
    }
    const std::string& within = found.not_used_within;
    not_used += not_used.empty() && !within.empty() ? within.substr(2) : within;
    if (!not_used.empty()) found.facts.emplace_back(kNotUsed, not_used);
    return OpenedSource{std::move(channel), [facts = std::move(found.facts)] { return facts; }};
  }

  void AddOwnMemory(std::vector<int>* fds) const override {
    if (mirror_ != nullptr) fds->push_back(mirror_->fd());
    parts_->AddOwnMemory(fds);
  }

 private:
  explicit ComposedOpener(const Source& source)
      : source_(source), parts_(std::make_shared<Parts>()) {}

  static absl::StatusOr<std::shared_ptr<transport::MirrorState>> MakeMirrorState(std::size_t legs,
                                                                                 KeptMemory* kept) {
    if (kept == nullptr) return transport::MirrorState::Create(legs);
    OXMEM_ASSIGN_OR_RETURN(UniqueFd memory, kept->Take());
    return transport::MirrorState::Adopt(legs, std::move(memory));
  }

  Source source_;
  std::shared_ptr<Parts> parts_;
  std::shared_ptr<transport::MirrorState> mirror_;
};

}  // namespace

absl::StatusOr<UniqueFd> KeptMemory::Take() {
  if (next_ == fds_.size()) {
    return absl::FailedPreconditionError("the memory that was kept is of other sources");
  }
  return std::move(fds_[next_++]);
}

absl::StatusOr<std::unique_ptr<SourceOpener>> SourceOpener::Create(const Source& source,
                                                                   KeptMemory* kept) {
  if (source.scheme == "mem") return MemoryOpener::Create(source, kept);
  if (source.scheme == "tloe" || source.scheme == "tloe+udp") return TloeOpener::Create(source);
  if (source.scheme == "unix" || source.scheme == "shm") return SharedOpener::Create(source);
  if (transport::IsComposed(source)) return ComposedOpener::Create(source, kept);
  return absl::InvalidArgumentError(absl::StrCat(
      "source \"", source.Format(), "\": unknown scheme \"", source.scheme,
      "\" (known: mem, tloe, tloe+udp, unix, shm, stripe, mirror, delay, rate, fault)"));
}

absl::StatusOr<OpenedSource> OpenSource(const std::string& text) {
  OXMEM_ASSIGN_OR_RETURN(const Source source, transport::ParseSource(text));
  OXMEM_ASSIGN_OR_RETURN(const std::unique_ptr<SourceOpener> opener, SourceOpener::Create(source));
  return opener->Open();
}

}  // namespace oxmem::apps
