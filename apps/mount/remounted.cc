// What of a mount can be changed while it is there.
#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "apps/mount/remount.h"
#include "transport/base/duration_text.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

using transport::Source;

// Words of the kernel's mount table, and of mount(8).
bool IsOfTheKernel(std::string_view key) {
  constexpr std::array<std::string_view, 6> kWords = {"remount",  "user_id", "group_id",
                                                      "rootmode", "fd",      "max_read"};
  return std::find(kWords.begin(), kWords.end(), key) != kWords.end();
}

enum class When { kNow, kByReplacing, kNever };

struct Option {
  const char* key;
  When when;
  bool (*same)(const MountSpec& a, const MountSpec& b);
  void (*take)(const MountSpec& from, MountSpec* to);
};

template <auto member>
constexpr Option OfMount(const char* key, When when) {
  return {
      key, when,
      [](const MountSpec& a, const MountSpec& b) { return a.options.*member == b.options.*member; },
      [](const MountSpec& from, MountSpec* to) { to->options.*member = from.options.*member; }};
}

template <auto member>
constexpr Option OfServer(const char* key, When when) {
  return {key, when, [](const MountSpec& a, const MountSpec& b) { return a.*member == b.*member; },
          [](const MountSpec& from, MountSpec* to) { to->*member = from.*member; }};
}

bool SameNames(const MountSpec& a, const MountSpec& b) {
  return std::equal(
      a.files.begin(), a.files.end(), b.files.begin(), b.files.end(),
      [](const fs::MountFile& x, const fs::MountFile& y) { return x.name == y.name; });
}

const std::array kOptions = {
    OfMount<&fs::MountOptions::read_only>("ro", When::kNow),
    OfMount<&fs::MountOptions::read_only>("rw", When::kNow),
    OfMount<&fs::MountOptions::no_exec>("noexec", When::kNow),
    OfMount<&fs::MountOptions::no_exec>("exec", When::kNow),
    OfMount<&fs::MountOptions::uid>("uid", When::kNow),
    OfMount<&fs::MountOptions::gid>("gid", When::kNow),
    OfMount<&fs::MountOptions::umask>("umask", When::kNow),
    OfMount<&fs::MountOptions::timeout>("timeout", When::kNow),
    OfMount<&fs::MountOptions::read_ahead_bytes>("read_ahead", When::kNow),
    OfServer<&MountSpec::log_level>("log_level", When::kNow),
    OfServer<&MountSpec::keep>("keep", When::kByReplacing),
    OfServer<&MountSpec::threads>("threads", When::kByReplacing),
    OfMount<&fs::MountOptions::spin>("spin", When::kByReplacing),
    OfServer<&MountSpec::stats_file>("stats", When::kByReplacing),
    OfServer<&MountSpec::stats_interval>("stats_interval", When::kByReplacing),
    OfServer<&MountSpec::prometheus>("prometheus", When::kByReplacing),
    OfMount<&fs::MountOptions::allow_other>("allow_other", When::kNever),
    OfMount<&fs::MountOptions::dax>("dax", When::kNever),
    Option{"name", When::kNever, SameNames, nullptr},
};

const Option* Find(std::string_view key) {
  for (const Option& option : kOptions) {
    if (key == option.key) return &option;
  }
  return nullptr;
}

std::string KeyOf(const std::string& word) { return word.substr(0, word.find('=')); }

// Whether both say the same thing otherwise.
bool Opposite(std::string_view a, std::string_view b) {
  const auto is = [&](std::string_view x, std::string_view y) { return a == x && b == y; };
  return is("ro", "rw") || is("rw", "ro") || is("exec", "noexec") || is("noexec", "exec");
}

absl::Status Refused(std::string_view key, std::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("-o remount: ", std::string(key),
                                                    " cannot be changed while it is mounted",
                                                    std::string(why)));
}

absl::Status CheckSource(const MountSpec& now, const std::string& source) {
  if (source.empty() || source == "none" || source == now.options.device_name) {
    return absl::OkStatus();
  }
  std::string is;
  for (const fs::MountFile& file : now.files) {
    absl::StrAppend(&is, is.empty() ? "" : " ", file.source);
  }
  std::string asked;
  for (const absl::string_view word : absl::StrSplit(source, ' ', absl::SkipEmpty())) {
    const absl::StatusOr<Source> parsed = transport::ParseSource(std::string(word));
    absl::StrAppend(&asked, asked.empty() ? "" : " ",
                    parsed.ok() ? parsed->Format() : std::string(word));
  }
  return asked == is ? absl::OkStatus()
                     : Refused("the source", absl::StrCat(": it is ", is, ", not ", asked));
}

// What the shortest wait is of those for a peer that follow the mount's timeout; none: there is no
// such peer. `opened` is the source with what the mount added to the one that was `said`.
std::optional<Duration> ShortestWait(const Source& said, const Source& opened) {
  std::optional<Duration> shortest;
  const auto take = [&shortest](std::optional<Duration> other) {
    if (other.has_value() && (!shortest.has_value() || *other < *shortest)) shortest = other;
  };
  for (std::size_t i = 0; i < said.nested.size(); ++i) {
    take(ShortestWait(said.nested[i], opened.nested[i]));
  }
  if (WaitsForPeer(said) && said.Find("timeout") == nullptr) {
    constexpr Duration kUnasked = Duration::Seconds(5);
    const std::string* timeout = opened.Find("timeout");
    const auto parsed = timeout == nullptr ? kUnasked : ParseDuration(*timeout);
    take(parsed.ok() ? *parsed : kUnasked);
  }
  return shortest;
}

// A source that was opened to wait less than the mount would: its own wait ends first.
absl::Status CheckTimeout(const MountSpec& now, Duration timeout) {
  for (std::size_t i = 0; i < now.sources.size(); ++i) {
    const auto said = transport::ParseSource(now.files[i].source);
    if (!said.ok()) continue;
    const std::optional<Duration> wait = ShortestWait(*said, now.sources[i]);
    if (!wait.has_value() || (timeout != Duration() && timeout <= *wait)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("-o remount: timeout: ", now.files[i].source, " was opened to wait for ",
                     FormatDuration(*wait),
                     " and cannot wait longer while it is mounted; oxmem mount --replace "
                     "opens it anew"));
  }
  return absl::OkStatus();
}

absl::Status CheckLogLevel(const std::string& level) {
  constexpr std::array<std::string_view, 5> kLevels = {"error", "warning", "info", "debug",
                                                       "trace"};
  if (std::find(kLevels.begin(), kLevels.end(), level) != kLevels.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("log level \"", level, "\" is not one of error, warning, info, debug, trace"));
}

// The same sources and directory, and of options only these.
absl::StatusOr<MountSpec> Asked(const MountSpec& now, const std::vector<std::string>& words) {
  std::vector<std::string> all;
  for (const std::string& word : now.options.words) {
    const std::string key = KeyOf(word);
    if (key == "source" || key == "directory") all.push_back(word);
  }
  all.insert(all.end(), words.begin(), words.end());
  return MountSpecOf(all);
}

}  // namespace

bool AsksForRemount(const std::vector<std::string>& option_lists) {
  return std::any_of(option_lists.begin(), option_lists.end(), [](const std::string& list) {
    const std::vector<std::string> words = absl::StrSplit(list, ',');
    return std::find(words.begin(), words.end(), "remount") != words.end();
  });
}

std::string RemountName(const std::string& device) { return absl::StrCat("remount ", device); }

absl::StatusOr<MountSpec> Remounted(const MountSpec& now, const std::string& source,
                                    const std::vector<std::string>& option_lists) {
  OXMEM_RETURN_IF_ERROR(CheckSource(now, source));
  std::vector<std::string> words;
  for (const std::string& list : option_lists) {
    for (const absl::string_view part : absl::StrSplit(list, ',', absl::SkipEmpty())) {
      const std::string word(part);
      if (!IsOfTheKernel(KeyOf(word))) words.push_back(word);
    }
  }
  OXMEM_ASSIGN_OR_RETURN(const MountSpec asked, Asked(now, words));
  MountSpec next = now;
  for (const std::string& word : words) {
    const std::string key = KeyOf(word);
    const Option* option = Find(key);
    if (option == nullptr || option->same(now, asked)) continue;
    switch (option->when) {
      case When::kNow:
        break;
      case When::kByReplacing:
        return Refused(key, "; oxmem mount --replace can");
      case When::kNever:
        return Refused(key, "; unmount it and mount it anew");
    }
    if (key == "timeout") OXMEM_RETURN_IF_ERROR(CheckTimeout(now, asked.options.timeout));
    if (key == "log_level") OXMEM_RETURN_IF_ERROR(CheckLogLevel(asked.log_level));
    option->take(asked, &next);
    std::erase_if(next.options.words, [&key](const std::string& old) {
      return KeyOf(old) == key || Opposite(KeyOf(old), key);
    });
    next.options.words.push_back(word.find('=') == std::string::npos ? word + "=" : word);
  }
  return next;
}

}  // namespace oxmem::apps
