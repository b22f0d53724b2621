#ifndef APPS_COMMON_CONTROL_SERVER_H_
#define APPS_COMMON_CONTROL_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "apps/common/event_loop.h"
#include "apps/common/figures_json.h"
#include "apps/common/request_server.h"

namespace oxmem::apps {

// Begins the error that answers a command which the process does not have.
inline constexpr char kUnknownCommand[] = "unknown command";

// The way other processes of this host talk to a running one: a socket in the runtime directory,
// for its own user (and root) alone.
//
// A client sends one line, "oxmem 1 COMMAND" or "oxmem 1 COMMAND {…}" with an object of JSON as the
// argument, and gets one line of JSON: the answer, or {"error": "…"}. The number is the version of
// this exchange. The command `stats` of every process answers with FiguresJson. Runs on the event
// loop's thread.
class ControlServer {
 public:
  // The argument is null if there is none.
  using Command = std::function<absl::StatusOr<Json>(const Json& argument)>;

  // Makes the socket. The loop outlives the server.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Start(
      EventLoop* loop, std::map<std::string, Command> commands);
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  const std::string& path() const { return path_; }

 private:
  ControlServer(std::string path, std::map<std::string, Command> commands)
      : path_(std::move(path)), commands_(std::move(commands)) {}
  std::string Answer(const std::string& request) const;

  std::string path_;
  std::map<std::string, Command> commands_;
  std::unique_ptr<RequestServer> server_;
};

}  // namespace oxmem::apps

#endif  // APPS_COMMON_CONTROL_SERVER_H_
