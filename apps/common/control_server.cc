#include "apps/common/control_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "apps/common/control_client.h"
#include "apps/common/runtime_directory.h"
#include "transport/base/clock.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

// Listens on `path`. The socket gets its name only when it listens, so that a client that sees the
// name and is refused knows that the process is gone.
absl::StatusOr<UniqueFd> ListenAt(const std::string& path) {
  const std::string unready = path + ".starting";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (unready.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(
        absl::StrCat("the path of the control socket is too long: ", path));
  }
  std::memcpy(address.sun_path, unready.data(), unready.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto error = [&](const char* what) {
    return ErrnoStatus(errno, absl::StrCat("cannot ", what, " the control socket ", path));
  };
  if (!fd.valid()) return error("create");
  unlink(unready.c_str());
  if (fchmod(fd.get(), 0600) != 0 ||
      bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return error("bind");
  }
  if (listen(fd.get(), 16) != 0 || std::rename(unready.c_str(), path.c_str()) != 0) {
    const absl::Status failed = error("listen on");
    unlink(unready.c_str());
    return failed;
  }
  return fd;
}

std::string ErrorLine(const std::string& message) {
  Json json;
  json["error"] = message;
  return JsonText(json) + "\n";
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Start(
    EventLoop* loop, std::map<std::string, Command> commands) {
  OXMEM_ASSIGN_OR_RETURN(const std::string directory, MakeRuntimeDirectory());
  // The number behind the process id keeps apart processes of several pid namespaces that share
  // the directory.
  const std::string path =
      absl::StrFormat("%s/%d-%x.sock", directory, getpid(), Now().nanoseconds());
  OXMEM_ASSIGN_OR_RETURN(UniqueFd fd, ListenAt(path));
  std::unique_ptr<ControlServer> server(new ControlServer(path, std::move(commands)));
  RequestServer::Options options;
  options.request_end = "\n";
  options.max_request_bytes = std::size_t{64} << 10;
  OXMEM_ASSIGN_OR_RETURN(server->server_,
                         RequestServer::Start(loop, std::move(fd), options,
                                              [raw = server.get()](const std::string& request) {
                                                return raw->Answer(request);
                                              }));
  return server;
}

ControlServer::~ControlServer() { unlink(path_.c_str()); }

std::string ControlServer::Answer(const std::string& request) const {
  constexpr char kPrefix[] = "oxmem 1 ";
  if (request.rfind(kPrefix, 0) != 0) {
    return ErrorLine("this process speaks version 1: send \"oxmem 1 COMMAND\"");
  }
  std::string name = request.substr(sizeof kPrefix - 1);
  Json argument;
  if (const std::size_t at = name.find(" {"); at != std::string::npos) {
    absl::StatusOr<Json> parsed = ParseAnswer(name.substr(at + 1));
    if (!parsed.ok()) return ErrorLine("the argument is no object of JSON");
    argument = *std::move(parsed);
    name.resize(at);
  }
  const auto command = commands_.find(name);
  if (command == commands_.end()) {
    std::vector<std::string> names;
    for (const auto& [known, unused] : commands_) names.push_back(known);
    return ErrorLine(absl::StrCat(kUnknownCommand, "; known ones: ", absl::StrJoin(names, ", ")));
  }
  const absl::StatusOr<Json> answer = command->second(argument);
  if (!answer.ok()) return ErrorLine(std::string(answer.status().message()));
  return JsonText(*answer) + "\n";
}

}  // namespace oxmem::apps
