#include "transport/compose/compose_source.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "transport/api/option_reader.h"
#include "transport/base/log.h"
#include "transport/base/status.h"
#include "transport/compose/fault_channel.h"
#include "transport/compose/late_channel.h"
#include "transport/compose/mirrored_channel.h"
#include "transport/compose/paced_channel.h"
#include "transport/compose/striped_channel.h"

namespace oxmem::transport {
namespace {

using Opened = absl::StatusOr<std::unique_ptr<Channel>>;
using Legs = std::vector<std::unique_ptr<Channel>>;

enum class Kind { kNone, kStripe, kMirror, kDelay, kRate, kFault };

Kind KindOf(const Source& source) {
  if (source.scheme == "stripe") return Kind::kStripe;
  if (source.scheme == "mirror") return Kind::kMirror;
  if (source.scheme == "delay") return Kind::kDelay;
  if (source.scheme == "rate") return Kind::kRate;
  if (source.scheme == "fault") return Kind::kFault;
  return Kind::kNone;
}

absl::Status Wrong(const Source& source, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("source \"", source.Format(), "\": ", what));
}

// What can be checked before anything is opened, so that a wrong option costs no time.
absl::Status CheckWords(const Source& source, const OptionReader& options, std::size_t least,
                        std::size_t most) {
  OXMEM_RETURN_IF_ERROR(options.Finish());
  const std::size_t count = source.nested.size();
  if (count < least || count > most) {
    const std::string wanted =
        least == most ? "one source" : absl::StrCat(least, " to ", most, " sources");
    return Wrong(source, absl::StrCat("stands before ", wanted, " in parentheses, as in ",
                                      source.scheme, least == 1 ? ":(mem:)" : ":(mem:,mem:)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Legs> OpenLegs(const Source& source, const OptionReader& options, std::size_t least,
                              std::size_t most, const SourceOpener& open) {
  OXMEM_RETURN_IF_ERROR(CheckWords(source, options, least, most));
  Legs legs;
  for (const Source& nested : source.nested) {
    OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<Channel> leg, open(nested));
    legs.push_back(std::move(leg));
  }
  return legs;
}

Opened OpenStripe(const Source& source, const SourceOpener& open) {
  OptionReader options(source);
  const uint64_t chunk = options.Size("chunk", 64 << 10, 1);
  OXMEM_ASSIGN_OR_RETURN(Legs legs, OpenLegs(source, options, 2, kMaxNestedSources, open));
  auto channel = StripedChannel::Create(std::move(legs), chunk);
  if (!channel.ok()) return Annotate(channel.status(), source.Format());
  return *std::move(channel);
}

// In place of a leg that is missing where the mirror goes on. What its peer holds may be gone, and
// what is written until it is back is not there.
Opened OpenLater(const Source& leg_source, std::size_t leg, const MirrorShare& share,
                 const absl::Status& why) {
  const Limits limits = share.state->LimitsOf(leg);
  if (limits.needs_registration) return why;
  if (!limits.persistent && !limits.read_only) share.state->TakeOut(leg);
  spdlog::warn("mirror: leg {} ({}) is missing and counts as lost until it is back: {}", leg + 1,
               leg_source.Format(), std::string(why.message()));
  return LateChannel::Create({.name = leg_source.Format(),
                              .limits = limits,
                              .open = [open = share.open_later, leg] { return open(leg); },
                              .why = why});
}

absl::StatusOr<Legs> OpenMirrorLegs(const Source& source, const SourceOpener& open,
                                    const MirrorShare& share) {
  std::vector<Opened> opened;
  uint64_t missing = 0;
  std::size_t first_missing = 0;
  for (const Source& nested : source.nested) {
    opened.push_back(open(nested));
    if (opened.back().ok()) continue;
    if (share.state == nullptr || !share.state->adopted()) return opened.back().status();
    if (missing == 0) first_missing = opened.size() - 1;
    missing |= uint64_t{1} << (opened.size() - 1);
  }
  if (missing != 0 && (share.state->in_sync() & ~missing) == 0) {
    return Annotate(opened[first_missing].status(), "mirror: no leg that is in sync is there");
  }
  Legs legs;
  for (std::size_t leg = 0; leg < opened.size(); ++leg) {
    if (!opened[leg].ok()) {
      opened[leg] = OpenLater(source.nested[leg], leg, share, opened[leg].status());
    }
    OXMEM_RETURN_IF_ERROR(opened[leg].status());
    legs.push_back(*std::move(opened[leg]));
  }
  return legs;
}

Opened OpenMirror(const Source& source, const SourceOpener& open, const MirrorShare& share) {
  OptionReader options(source);
  MirrorOptions mirror;
  mirror.read = options.Enum(
      "read", MirrorOptions::Read::kFirst,
      {{"first", MirrorOptions::Read::kFirst}, {"spread", MirrorOptions::Read::kSpread}});
  mirror.copy_at_open = options.Bool("copy", false);
  mirror.state = share.state;
  OXMEM_RETURN_IF_ERROR(CheckWords(source, options, 2, MirroredChannel::kMaxLegs));
  OXMEM_ASSIGN_OR_RETURN(Legs legs, OpenMirrorLegs(source, open, share));
  auto channel = MirroredChannel::Create(std::move(legs), std::move(mirror));
  if (!channel.ok()) return Annotate(channel.status(), source.Format());
  return *std::move(channel);
}

Opened OpenPaced(const Source& source, Kind kind, const SourceOpener& open) {
  OptionReader options(source);
  PacedOptions paced;
  if (kind == Kind::kDelay) {
    paced.latency = options.Time("latency", Duration::Microseconds(50));
    paced.jitter = options.Time("jitter", Duration());
    paced.seed = options.Number("seed", 1);
  } else {
    paced.bytes_per_second = options.Size("bandwidth", 0);
    paced.requests_per_second = options.Number("requests", 0);
    if (paced.bytes_per_second == 0 && paced.requests_per_second == 0) {
      options.Fail("bandwidth", "neither bandwidth nor requests is bounded");
    }
  }
  OXMEM_ASSIGN_OR_RETURN(Legs legs, OpenLegs(source, options, 1, 1, open));
  return std::make_unique<PacedChannel>(std::move(legs.front()), source.scheme, std::move(paced));
}

Opened OpenFault(const Source& source, const SourceOpener& open) {
  OptionReader options(source);
  FaultOptions fault;
  fault.fail = options.Fraction("fail", 0);
  fault.fail_after = options.Fraction("fail_after", 0);
  fault.corrupt = options.Fraction("corrupt", 0);
  fault.short_submit = options.Fraction("short_submit", 0);
  fault.code = options.Enum("code", Code::kFailed,
                            {{"failed", Code::kFailed},
                             {"timed_out", Code::kTimedOut},
                             {"peer_lost", Code::kPeerLost},
                             {"denied", Code::kDenied},
                             {"corrupt", Code::kCorrupt}});
  fault.skip = options.Number("skip", 0);
  fault.most = options.Number("most", fault.most);
  fault.seed = options.Number("seed", 1);
  fault.cut_after = options.Number("cut_after", fault.cut_after, 1);
  fault.cut_for = options.Time("cut_for", fault.cut_for);
  fault.timeout = options.Time("timeout", fault.timeout);
  OXMEM_ASSIGN_OR_RETURN(Legs legs, OpenLegs(source, options, 1, 1, open));
  return std::make_unique<FaultChannel>(std::move(legs.front()), std::move(fault));
}

}  // namespace

bool IsComposed(const Source& source) { return KindOf(source) != Kind::kNone; }

Opened OpenComposed(const Source& source, const SourceOpener& open_nested,
                    const MirrorShare& share) {
  const Kind kind = KindOf(source);
  switch (kind) {
    case Kind::kStripe:
      return OpenStripe(source, open_nested);
    case Kind::kMirror:
      return OpenMirror(source, open_nested, share);
    case Kind::kDelay:
    case Kind::kRate:
      return OpenPaced(source, kind, open_nested);
    case Kind::kFault:
      return OpenFault(source, open_nested);
    case Kind::kNone:
      break;
  }
  return Wrong(source, "not one of stripe, mirror, delay, rate, fault");
}

}  // namespace oxmem::transport
