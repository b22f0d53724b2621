#include "apps/mount/mount_spec.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "apps/common/cli.h"
#include "transport/base/check.h"
#include "transport/base/duration_text.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::apps {

const char kMountOptionsHelp[] =
    "Options of -o, comma-separated:\n"
    "  ro, rw            read-only, or not (default)\n"
    "  name=NAME         of the file; repeated, of the next source's (default: the region's, or "
    "data)\n"
    "  allow_other       for all users, not only the one who mounts\n"
    "  noexec            let no file be run as a program\n"
    "  remount           change options of a mount while it is used; see the manual\n"
    "  uid=, gid=        owner of the files (default: who mounts)\n"
    "  umask=OCTAL       taken away from 0666 and 0755 (default: of the process)\n"
    "  dax=auto          the region's own memory where it lies on this host, else page cache\n"
    "  dax=always        the region's own memory, or no mount\n"
    "  dax=never         every read and write goes to the region\n"
    "  keep=30s          time for another daemon to go on when this one dies; 0: none\n"
    "  timeout=30s       of a request, then EIO; 0 waits for ever\n"
    "  threads=auto      reactors, each with a channel of its own; auto: up to 4 for mem:, else 1\n"
    "  spin=auto         look for work this long before sleeping: 50us, 0, 1 for always, or as it "
    "pays\n"
    "  read_ahead=1M     of the page cache\n"
    "  stats=PATH        write the counters to this file as JSON, again and again\n"
    "  stats_interval=2s time between two writes\n"
    "  prometheus=HOST:PORT  answer Prometheus at http://HOST:PORT/metrics\n"
    "  log_level=info    error, warning, info, debug or trace\n";

namespace {

using fs::Dax;

constexpr std::string_view kKnown =
    "ro, rw, name, allow_other, noexec, uid, gid, umask, dax, keep, timeout, threads, spin, "
    "read_ahead, "
    "stats, stats_interval, prometheus, log_level";
constexpr uint64_t kMostThreads = 256;
constexpr uint32_t kNobodysNumber = 0xffffffff;  // -1: the kernel takes it for no user or group
constexpr Duration kShortestInterval = Duration::Milliseconds(10);

// Words for mount(8), the boot process and systemd, which they do not take out of the list, and
// those that say what is true of every mount of ours.
bool IsForOthers(std::string_view key) {
  constexpr std::array<std::string_view, 23> kWords = {"_netdev",    "nofail",
                                                       "auto",       "noauto",
                                                       "user",       "nouser",
                                                       "users",      "owner",
                                                       "group",      "defaults",
                                                       "async",      "nosuid",
                                                       "nodev",      "noatime",
                                                       "relatime",   "nodiratime",
                                                       "norelatime", "nostrictatime",
                                                       "noiversion", "silent",
                                                       "loud",       "default_permissions",
                                                       "comment"};
  return key.substr(0, 2) == "x-" || key.substr(0, 2) == "X-" ||
         std::find(kWords.begin(), kWords.end(), key) != kWords.end();
}

// Why a word of mount(8) is refused, as opposed to one that nobody knows; empty if it is none.
std::string WhyNotHere(std::string_view key) {
  if (key == "suid" || key == "dev") return "mounts of oxmem are always nosuid and nodev";
  if (key == "strictatime") return "reading does not change times here; noatime says what is so";
  if (key == "iversion") return "versions of files are not counted here";
  return "";
}

absl::Status Wrong(std::string_view key, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("-o ", std::string(key), ": ", why));
}

absl::StatusOr<uint64_t> NumberOf(std::string_view key, const std::string& value, uint64_t least,
                                  uint64_t most) {
  const absl::StatusOr<uint64_t> number = ParseNumber(value);
  if (!number.ok() || *number < least || *number > most) {
    return Wrong(key, absl::StrCat("\"", value, "\" is not a number from ", least, " to ", most));
  }
  return *number;
}

absl::StatusOr<std::optional<std::size_t>> ThreadsOf(const std::string& value) {
  if (value == "auto") return std::nullopt;
  OXMEM_ASSIGN_OR_RETURN(const uint64_t threads, NumberOf("threads", value, 1, kMostThreads));
  return threads;
}

absl::StatusOr<uid_t> UserOf(const std::string& value) {
  if (const passwd* user = getpwnam(value.c_str())) return user->pw_uid;
  uint32_t number = 0;
  if (absl::SimpleAtoi(value, &number) && number != kNobodysNumber) return number;
  return Wrong("uid", absl::StrCat("there is no user \"", value, "\""));
}

absl::StatusOr<gid_t> GroupOf(const std::string& value) {
  if (const group* found = getgrnam(value.c_str())) return found->gr_gid;
  uint32_t number = 0;
  if (absl::SimpleAtoi(value, &number) && number != kNobodysNumber) return number;
  return Wrong("gid", absl::StrCat("there is no group \"", value, "\""));
}

absl::StatusOr<mode_t> UmaskOf(const std::string& value) {
  mode_t mask = 0;
  if (value.empty()) return Wrong("umask", "it needs an octal number up to 0777");
  for (const char c : value) {
    if (c < '0' || c > '7' || mask > 077) {
      return Wrong("umask", absl::StrCat("\"", value, "\" is not an octal number up to 0777"));
    }
    mask = mask * 8 + static_cast<mode_t>(c - '0');
  }
  return mask;
}

absl::StatusOr<Dax> DaxOf(const std::string& value) {
  if (value == "auto") return Dax::kAuto;
  if (value == "always") return Dax::kAlways;
  if (value == "never") return Dax::kNever;
  if (value == "resident") return Wrong("dax", "resident is not there yet; use auto");
  return Wrong("dax", absl::StrCat("\"", value, "\" is not one of auto, always, never"));
}

absl::StatusOr<Duration> TimeOf(std::string_view key, const std::string& value) {
  if (value == "0") return Duration();
  const absl::StatusOr<Duration> time = ParseDuration(value);
  if (!time.ok()) return Wrong(key, std::string(time.status().message()));
  return *time;
}

absl::StatusOr<std::optional<Duration>> SpinOf(const std::string& value) {
  if (value == "auto") return std::nullopt;
  if (value.empty() || value == "1") return Duration::Seconds(int64_t{3600} * 24 * 365);
  return TimeOf("spin", value);
}

absl::Status CheckName(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.size() > 255 ||
      name.find('/') != std::string::npos || Printable(name) != name) {
    return Wrong("name", absl::StrCat("\"", name, "\" cannot be the name of a file"));
  }
  return absl::OkStatus();
}

// One word of a list. `names` collects what name= gives.
absl::Status Apply(const std::string& key, const std::string& value, MountSpec& spec,
                   std::vector<std::string>& names) {
  fs::MountOptions& options = spec.options;
  const bool is_flag =
      key == "ro" || key == "rw" || key == "allow_other" || key == "noexec" || key == "exec";
  if (is_flag && !value.empty()) return Wrong(key, "it takes no value");
  if (key == "ro" || key == "rw") {
    options.read_only = key == "ro";
  } else if (key == "allow_other") {
    options.allow_other = true;
  } else if (key == "noexec" || key == "exec") {
    options.no_exec = key == "noexec";
  } else if (key == "name") {
    OXMEM_RETURN_IF_ERROR(CheckName(value));
    names.push_back(value);
  } else if (key == "uid") {
    OXMEM_ASSIGN_OR_RETURN(options.uid, UserOf(value));
  } else if (key == "gid") {
    OXMEM_ASSIGN_OR_RETURN(options.gid, GroupOf(value));
  } else if (key == "umask") {
    OXMEM_ASSIGN_OR_RETURN(options.umask, UmaskOf(value));
  } else if (key == "dax") {
    OXMEM_ASSIGN_OR_RETURN(options.dax, DaxOf(value));
  } else if (key == "keep") {
    OXMEM_ASSIGN_OR_RETURN(spec.keep, TimeOf(key, value));
  } else if (key == "timeout") {
    OXMEM_ASSIGN_OR_RETURN(options.timeout, TimeOf(key, value));
    spec.timeout_given = true;
  } else if (key == "threads") {
    OXMEM_ASSIGN_OR_RETURN(spec.threads, ThreadsOf(value));
  } else if (key == "spin") {
    OXMEM_ASSIGN_OR_RETURN(options.spin, SpinOf(value));
  } else if (key == "read_ahead") {
    const absl::StatusOr<uint64_t> bytes = ParseSize(value);
    if (!bytes.ok()) return Wrong(key, std::string(bytes.status().message()));
    if (geteuid() != 0) return Wrong(key, "only root can set it");
    options.read_ahead_bytes = *bytes;
  } else if (key == "stats") {
    if (value.empty()) return Wrong(key, "the path of a file is missing");
    // The process that writes it works in another directory.
    spec.stats_file = std::filesystem::absolute(value).string();
  } else if (key == "stats_interval") {
    OXMEM_ASSIGN_OR_RETURN(spec.stats_interval, TimeOf(key, value));
    if (spec.stats_interval < kShortestInterval) return Wrong(key, "it must be 10ms or more");
    spec.stats_interval_given = true;
  } else if (key == "prometheus") {
    const absl::StatusOr<transport::HostPort> where = transport::ParseHostPort(value);
    if (!where.ok()) return Wrong(key, std::string(where.status().message()));
    spec.prometheus = value;
  } else if (key == "log_level") {
    spec.log_level = value;
  } else if (const std::string why = WhyNotHere(key); !why.empty()) {
    return Wrong(key, why);
  } else if (!IsForOthers(key)) {
    return absl::InvalidArgumentError(
        absl::StrCat("-o ", key, ": there is no such option (known: ", std::string(kKnown), ")"));
  }
  return absl::OkStatus();
}

std::string RegionName(const transport::Source& source) {
  if (const std::string* region = source.Find("region")) return *region;
  if (source.scheme == "shm" || source.scheme == "rdma" || source.scheme == "ucx") {
    if (!source.path_name().empty()) return std::string(source.path_name());
  }
  return "data";
}

absl::Status NameFiles(const std::vector<std::string>& names, MountSpec& spec) {
  if (names.size() > spec.sources.size()) {
    return Wrong("name", absl::StrCat(names.size(), " names for ", spec.sources.size(),
                                      spec.sources.size() == 1 ? " source" : " sources"));
  }
  std::set<std::string> taken;
  for (std::size_t i = 0; i < spec.sources.size(); ++i) {
    const bool given = i < names.size();
    std::string name = given ? names[i] : RegionName(spec.sources[i]);
    if (!given && !CheckName(name).ok()) name = "data";
    const std::string stem = name;
    for (int number = 2; taken.count(name) != 0; ++number) {
      if (given) return Wrong("name", absl::StrCat("\"", name, "\" is given twice"));
      name = absl::StrCat(stem, number);
    }
    taken.insert(name);
    spec.files.push_back({name, spec.sources[i].Format()});
  }
  return absl::OkStatus();
}

// What waits for a peer waits as long as the mount does, unless its own timeout= says otherwise.
void WaitAsLongAs(Duration timeout, transport::Source& source) {
  constexpr Duration kForEver = Duration::Seconds(1 << 30);  // the most that sources take
  for (transport::Source& nested : source.nested) WaitAsLongAs(timeout, nested);
  if (!WaitsForPeer(source)) return;
  if (source.Find("timeout") != nullptr) return;
  source.parameters.push_back(
      {"timeout", FormatDuration(timeout == Duration() ? kForEver : timeout)});
}

mode_t ProcessUmask() {
  const mode_t mask = umask(0);
  umask(mask);
  return mask;
}

}  // namespace

MountSpecBuilder::MountSpecBuilder() {
  spec_.options.uid = getuid();
  spec_.options.gid = getgid();
  spec_.options.umask = ProcessUmask();
}

absl::Status MountSpecBuilder::AddSource(const std::string& text) {
  OXMEM_ASSIGN_OR_RETURN(transport::Source source, transport::ParseSource(text));
  spec_.sources.push_back(std::move(source));
  spec_.options.words.push_back(absl::StrCat("source=", text));
  return absl::OkStatus();
}

absl::Status MountSpecBuilder::AddOption(const std::string& key, const std::string& value) {
  spec_.options.words.push_back(absl::StrCat(key, "=", value));
  return Apply(key, value, spec_, names_);
}

absl::Status MountSpecBuilder::AddOptions(const std::string& list) {
  for (const absl::string_view word : absl::StrSplit(list, ',', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(word, absl::MaxSplits('=', 1));
    OXMEM_RETURN_IF_ERROR(AddOption(pair.first, pair.second));
  }
  return absl::OkStatus();
}

absl::StatusOr<MountSpec> MountSpecBuilder::Build() && {
  OXMEM_CHECK(!spec_.sources.empty() && !spec_.options.directory.empty());
  OXMEM_RETURN_IF_ERROR(NameFiles(names_, spec_));
  spec_.options.words.push_back(absl::StrCat("directory=", spec_.options.directory));
  if (spec_.stats_interval_given && spec_.stats_file.empty()) {
    return Wrong("stats_interval", "there is no file to write to; see stats=");
  }
  if (spec_.timeout_given) {
    for (transport::Source& source : spec_.sources) WaitAsLongAs(spec_.options.timeout, source);
  }
  spec_.options.device_name = DeviceName();
  return std::move(spec_);
}

// As fstab has it, so that mount -a finds what is mounted already.
std::string MountSpecBuilder::DeviceName() const {
  constexpr std::size_t kMost = 1024;  // the kernel takes a page of options
  const std::string all =
      absl::StrJoin(spec_.files, " ", [](std::string* out, const fs::MountFile& file) {
        absl::StrAppend(out, file.source);
      });
  if (all.size() <= kMost) return all;
  return absl::StrCat(spec_.files[0].source, "+", spec_.files.size() - 1);
}

bool MountSpecBuilder::IsOption(const std::string& key) {
  for (const absl::string_view known : absl::StrSplit(OptionNames(), ", ")) {
    if (key == std::string(known)) return true;
  }
  return false;
}

std::string MountSpecBuilder::OptionNames() { return std::string(kKnown); }

absl::StatusOr<MountSpec> ParseMountSpec(const std::vector<std::string>& words,
                                         const std::vector<std::string>& option_lists) {
  if (words.empty() || words.back().empty()) {
    return absl::InvalidArgumentError("the directory to mount at is missing");
  }
  MountSpecBuilder builder;
  builder.SetDirectory(words.back());
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    OXMEM_RETURN_IF_ERROR(builder.AddSource(words[i]));
  }
  if (words.size() == 1) {
    if (transport::ParseSource(words[0]).ok() && access(words[0].c_str(), F_OK) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", words[0], "\" is a source; the directory to mount at is missing"));
    }
    OXMEM_RETURN_IF_ERROR(builder.AddSource("mem:?size=1G"));
  }
  for (const std::string& list : option_lists) OXMEM_RETURN_IF_ERROR(builder.AddOptions(list));
  return std::move(builder).Build();
}

bool WaitsForPeer(const transport::Source& source) {
  constexpr std::array<std::string_view, 4> kWithPeer = {"tloe", "tloe+udp", "unix", "shm"};
  return std::find(kWithPeer.begin(), kWithPeer.end(), source.scheme) != kWithPeer.end();
}

absl::StatusOr<MountSpec> MountSpecOf(const std::vector<std::string>& words) {
  MountSpecBuilder builder;
  bool has_source = false;
  bool has_directory = false;
  for (const std::string& word : words) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(word, absl::MaxSplits('=', 1));
    const auto& [key, value] = pair;
    if (key == "source") {
      OXMEM_RETURN_IF_ERROR(builder.AddSource(value));
      has_source = true;
    } else if (key == "directory") {
      builder.SetDirectory(value);
      has_directory = !value.empty();
    } else {
      OXMEM_RETURN_IF_ERROR(builder.AddOption(key, value));
    }
  }
  if (!has_source || !has_directory) {
    return absl::InvalidArgumentError("a source or the directory is missing");
  }
  OXMEM_ASSIGN_OR_RETURN(MountSpec spec, std::move(builder).Build());
  spec.options.words = words;
  return spec;
}

}  // namespace oxmem::apps
