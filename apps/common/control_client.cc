#include "apps/common/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/common/runtime_directory.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {
namespace {

constexpr std::size_t kMaxAnswerBytes = 16 << 20;
constexpr std::size_t kMostDepth = 16;
constexpr int kMostMembers = 1000;  // of one object

absl::StatusOr<UniqueFd> Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat("the path is too long for a socket: ", path));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot create a socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return fd;
  const int error = errno;
  if (error == ECONNREFUSED || error == ENOENT) {
    return absl::UnavailableError(absl::StrCat(path, ": its process is gone"));
  }
  if (error == EAGAIN) {
    return absl::DeadlineExceededError(
        absl::StrCat(path, ": its process takes no more questions (is it stopped?)"));
  }
  if (error == EACCES || error == EPERM) {
    return ErrnoStatus(error, absl::StrCat("no permission to ask the process behind ", path,
                                           " (it belongs to another user; try as root)"));
  }
  return ErrnoStatus(error, absl::StrCat("cannot connect to ", path));
}

absl::StatusOr<std::string> ReadLine(int fd, const std::string& path, Instant deadline) {
  std::string line;
  std::array<char, 16384> bytes;
  while (line.empty() || line.back() != '\n') {
    pollfd ready{fd, POLLIN, 0};
    const int polled = poll(&ready, 1, PollTimeoutMs(Now(), deadline));
    if (polled < 0 && errno == EINTR) continue;
    if (polled == 0) return absl::DeadlineExceededError(absl::StrCat(path, ": no answer in time"));
    const ssize_t count = recv(fd, bytes.data(), bytes.size(), 0);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) return absl::InternalError(absl::StrCat(path, ": the answer broke off"));
    line.append(bytes.data(), static_cast<std::size_t>(count));
    if (line.size() > kMaxAnswerBytes) {
      return absl::InternalError(absl::StrCat(path, ": the answer is too long"));
    }
  }
  return line;
}

uid_t UserBehind(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.uid : kNoUser;
}

// One pass over the text, whether it is JSON or not.
bool IsBounded(const std::string& line) {
  struct Level {
    bool is_object = false;
    int members = 0;
  };
  std::array<Level, kMostDepth> levels;
  std::size_t depth = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (in_text && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_text = !in_text;
    } else if (in_text) {
      continue;
    } else if (c == '{' || c == '[') {
      if (++depth == kMostDepth) return false;
      levels[depth] = {.is_object = c == '{', .members = 1};
    } else if (c == '}' || c == ']') {
      if (depth > 0) --depth;
    } else if (c == ',' && levels[depth].is_object) {
      if (++levels[depth].members > kMostMembers) return false;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<Json> AskProcess(const std::string& path, const std::string& command,
                                Duration patience, uid_t* user) {
  OXMEM_ASSIGN_OR_RETURN(const UniqueFd fd, Connect(path));
  if (user != nullptr) *user = UserBehind(fd.get());
  const std::string request = absl::StrCat("oxmem 1 ", command, "\n");
  if (send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return absl::UnavailableError(absl::StrCat(path, ": its process is gone"));
  }
  OXMEM_ASSIGN_OR_RETURN(const std::string line, ReadLine(fd.get(), path, Now() + patience));
  absl::StatusOr<Json> answer = ParseAnswer(line);
  if (!answer.ok()) return Annotate(answer.status(), path);
  return answer;
}

absl::StatusOr<Json> ParseAnswer(const std::string& line) {
  if (!IsBounded(line)) return absl::InternalError("the answer is too deep or too long");
  Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return absl::InternalError("the answer is no JSON");
  if (const auto error = json.find("error"); error != json.end()) {
    return absl::InternalError(error->is_string() ? error->get<std::string>() : JsonText(*error));
  }
  return json;
}

std::vector<ProcessAnswer> AskAllProcesses(const std::string& command, Duration patience) {
  std::vector<ProcessAnswer> answers;
  const absl::StatusOr<std::string> own = RuntimeDirectory();
  for (const std::string& directory : RuntimeDirectories()) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      if (entry.path().extension() != ".sock") continue;
      const std::string path = entry.path().string();
      uid_t user = kNoUser;
      absl::StatusOr<Json> answer = AskProcess(path, command, patience, &user);
      if (absl::IsUnavailable(answer.status())) {
        // What a dead process of ours left. In another user's place a name may lead anywhere.
        if (own.ok() && directory == *own) unlink(path.c_str());
        continue;
      }
      answers.push_back({path, user, std::move(answer)});
    }
  }
  std::sort(answers.begin(), answers.end(), [](const ProcessAnswer& a, const ProcessAnswer& b) {
    return a.socket_path < b.socket_path;
  });
  return answers;
}

}  // namespace oxmem::apps
