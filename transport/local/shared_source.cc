// unix: and shm: sources.

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/api/option_reader.h"
#include "transport/base/status.h"
#include "transport/local/shared_channel.h"

namespace oxmem::transport {
namespace {

constexpr char kSystemDirectory[] = "/run/oxmem";

std::string Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string SocketIn(const std::string& directory, const std::string& name) {
  return absl::StrCat(directory, "/", name, ".shm");
}

std::vector<std::string> PathsOfName(const std::string& name) {
  if (const std::string chosen = Environment("OXMEM_RUNTIME_DIR"); !chosen.empty()) {
    return {SocketIn(chosen, name)};
  }
  std::vector<std::string> paths;
  if (const std::string user = Environment("XDG_RUNTIME_DIR"); !user.empty() && geteuid() != 0) {
    paths.push_back(SocketIn(user + "/oxmem", name));
  }
  // Last, so that its error is the one that is shown.
  paths.push_back(SocketIn(kSystemDirectory, name));
  return paths;
}

absl::Status Wrong(const Source& source, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("source \"", source.Format(), "\": ", what));
}

absl::Status CheckName(const std::string& name) {
  if (!name.empty() && name.find('/') == std::string::npos && name.front() != '.') {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name, "\" is not a node's name (write shm://NAME or shm://NAME/REGION)"));
}

}  // namespace

absl::StatusOr<SharedOptions> ParseSharedSource(const Source& source) {
  OptionReader options(source);
  SharedOptions shared;
  shared.target.region = options.Text("region", "");
  shared.target.read_only = options.Bool("read_only", false);
  shared.timeout = options.Time("timeout", shared.timeout, Duration::Milliseconds(1));
  shared.depth = static_cast<uint32_t>(options.Number("depth", shared.depth, 1, 65536));
  OXMEM_RETURN_IF_ERROR(options.Finish());
  if (source.scheme == "unix") {
    if (source.has_authority || source.path.empty() || !source.nested.empty()) {
      return Wrong(source, "wants the path of a node's socket (write unix:/run/oxmem/node.sock)");
    }
    shared.target.paths = {source.path};
    return shared;
  }
  if (source.scheme != "shm") return Wrong(source, "is neither unix: nor shm:");
  if (const absl::Status name = CheckName(source.authority); !name.ok()) {
    return Wrong(source, std::string(name.message()));
  }
  shared.target.paths = PathsOfName(source.authority);
  if (!source.path_name().empty()) {
    if (!shared.target.region.empty()) return Wrong(source, "names two regions");
    shared.target.region = std::string(source.path_name());
  }
  return shared;
}

absl::StatusOr<std::unique_ptr<Channel>> OpenShared(const Source& source) {
  OXMEM_ASSIGN_OR_RETURN(SharedOptions options, ParseSharedSource(source));
  auto channel = SharedChannel::Open(std::move(options));
  if (!channel.ok()) return channel.status();
  return *std::move(channel);
}

absl::StatusOr<std::string> ListenPathOfName(const std::string& name) {
  OXMEM_RETURN_IF_ERROR(CheckName(name));
  if (const std::string chosen = Environment("OXMEM_RUNTIME_DIR"); !chosen.empty()) {
    return SocketIn(chosen, name);
  }
  if (geteuid() == 0) return SocketIn(kSystemDirectory, name);
  const std::string user = Environment("XDG_RUNTIME_DIR");
  if (!user.empty()) return SocketIn(user + "/oxmem", name);
  return absl::FailedPreconditionError(
      "there is no place for the socket: XDG_RUNTIME_DIR is not set (listen at unix:PATH, or set "
      "OXMEM_RUNTIME_DIR)");
}

}  // namespace oxmem::transport
