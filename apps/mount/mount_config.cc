#include "apps/mount/mount_config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {
namespace {

constexpr char kEnding[] = ".conf";
constexpr std::size_t kMostBytes = std::size_t{1} << 20;

// One KEY = VALUE; the value is empty where there is no equals sign.
struct Line {
  std::string key;
  std::string value;
  bool has_value = false;
};

absl::StatusOr<std::string> Unquoted(const std::string& value) {
  const char quote = value.empty() ? ' ' : value.front();
  if (quote != '"' && quote != '\'') return value;
  if (value.size() < 2 || value.back() != quote) {
    return absl::InvalidArgumentError("a quote is not closed");
  }
  return value.substr(1, value.size() - 2);
}

absl::StatusOr<Line> SplitLine(const std::string& text) {
  Line line;
  const std::size_t equals = text.find('=');
  line.key = std::string(absl::StripAsciiWhitespace(text.substr(0, equals)));
  if (line.key.empty() || line.key.find_first_of(" \t\"'") != std::string::npos) {
    return absl::InvalidArgumentError("a line is KEY = VALUE, or a comment behind #");
  }
  const std::string lower = absl::AsciiStrToLower(line.key);
  if (lower == "source" || lower == "directory" || lower == "options") line.key = lower;
  if (equals == std::string::npos) return line;
  line.has_value = true;
  OXMEM_ASSIGN_OR_RETURN(
      line.value, Unquoted(std::string(absl::StripAsciiWhitespace(text.substr(equals + 1)))));
  return line;
}

// What reading a file has found so far.
struct Parsed {
  MountSpecBuilder builder;
  bool has_source = false;
  bool has_directory = false;
};

absl::Status Take(const Line& line, Parsed& parsed) {
  if (line.key == "source") {
    for (const absl::string_view word : absl::StrSplit(line.value, ' ', absl::SkipEmpty())) {
      OXMEM_RETURN_IF_ERROR(parsed.builder.AddSource(std::string(word)));
      parsed.has_source = true;
    }
    return line.value.empty() ? absl::InvalidArgumentError("the source is missing")
                              : absl::OkStatus();
  }
  if (line.key == "directory") {
    if (line.value.empty() || line.value.front() != '/') {
      return absl::InvalidArgumentError("the directory must begin with a slash");
    }
    if (std::exchange(parsed.has_directory, true)) {
      return absl::InvalidArgumentError("there is a directory already; a file describes one mount");
    }
    parsed.builder.SetDirectory(line.value);
    return absl::OkStatus();
  }
  if (line.key == "options") return parsed.builder.AddOptions(line.value);
  if (!MountSpecBuilder::IsOption(line.key)) {
    return absl::InvalidArgumentError(absl::StrCat("there is no key \"", line.key,
                                                   "\" (known: source, directory, options, ",
                                                   MountSpecBuilder::OptionNames(), ")"));
  }
  return parsed.builder.AddOption(line.key, line.value);
}

absl::Status AtLine(const std::string& path, std::size_t number, const absl::Status& status) {
  const std::string why(status.message());
  return absl::InvalidArgumentError(
      absl::StrCat(path, ":", number, ": ", absl::StartsWith(why, "-o ") ? why.substr(3) : why));
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  struct stat attributes {};
  if (fstat(fd.get(), &attributes) != 0) return ErrnoStatus(errno, path);
  if (!S_ISREG(attributes.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a regular file"));
  }
  std::string text;
  std::array<char, 16384> bytes;
  for (ssize_t count = 0; (count = read(fd.get(), bytes.data(), bytes.size())) != 0;) {
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, absl::StrCat("cannot read ", path));
    text.append(bytes.data(), static_cast<std::size_t>(count));
    if (text.size() > kMostBytes) {
      return absl::InvalidArgumentError(absl::StrCat(path, " is too long to describe a mount"));
    }
  }
  return text;
}

}  // namespace

std::string ConfigDirectory() {
  const char* chosen = std::getenv("OXMEM_CONFIG_DIR");
  return chosen == nullptr || *chosen == '\0' ? "/etc/oxmem" : chosen;
}

std::string ConfigPath(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  return absl::StrCat(ConfigDirectory(), "/", name, kEnding);
}

absl::StatusOr<std::vector<std::string>> AllConfigPaths() {
  const std::string directory = ConfigDirectory();
  std::vector<std::string> paths;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error);
  if (error == std::errc::no_such_file_or_directory) return paths;
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (entry->path().extension() != kEnding || absl::StartsWith(name, "serve-") ||
        absl::StartsWith(name, ".")) {
      continue;
    }
    paths.push_back(entry->path().string());
  }
  if (error) return ErrnoStatus(error.value(), absl::StrCat("cannot read ", directory));
  std::sort(paths.begin(), paths.end());
  return paths;
}

absl::StatusOr<MountSpec> ParseMountConfig(const std::string& path, const std::string& text,
                                           const std::vector<std::string>& option_lists) {
  Parsed parsed;
  std::size_t number = 0;
  for (const absl::string_view one : absl::StrSplit(text, '\n')) {
    ++number;
    const std::string stripped(absl::StripAsciiWhitespace(one));
    if (stripped.empty() || stripped.front() == '#' || stripped.front() == ';') continue;
    const absl::StatusOr<Line> line = SplitLine(stripped);
    const absl::Status taken = line.ok() ? Take(*line, parsed) : line.status();
    if (!taken.ok()) return AtLine(path, number, taken);
  }
  if (!parsed.has_source) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": a line source = … is missing, as in source = mem:?size=1G"));
  }
  if (!parsed.has_directory) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": a line directory = … is missing, as in directory = /mnt/oxmem"));
  }
  for (const std::string& list : option_lists) {
    OXMEM_RETURN_IF_ERROR(parsed.builder.AddOptions(list));
  }
  absl::StatusOr<MountSpec> spec = std::move(parsed.builder).Build();
  if (!spec.ok()) return Annotate(spec.status(), path);
  return spec;
}

absl::StatusOr<MountSpec> ReadMountConfig(const std::string& path,
                                          const std::vector<std::string>& option_lists) {
  OXMEM_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path));
  return ParseMountConfig(path, text, option_lists);
}

}  // namespace oxmem::apps
