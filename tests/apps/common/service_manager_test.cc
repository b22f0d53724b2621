#include "apps/common/service_manager.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "tests/apps/common/temporary_directory.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {
namespace {

// Plays the manager on a datagram socket called `name` and returns what it was told.
std::string Told(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), name.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())),
            0);
  EXPECT_EQ(setenv("NOTIFY_SOCKET", name.c_str(), 1), 0);
  NotifyServiceManager("READY=1");
  unsetenv("NOTIFY_SOCKET");
  std::array<char, 64> bytes;
  const ssize_t count = recv(fd.get(), bytes.data(), bytes.size(), 0);
  return count < 0 ? "" : std::string(bytes.data(), static_cast<std::size_t>(count));
}

TEST(ServiceManager, IsToldOnASocketWithAPath) {
  const TemporaryDirectory directory;
  EXPECT_EQ(Told(directory.path() + "/notify"), "READY=1");
}

TEST(ServiceManager, IsToldOnAnAbstractSocket) {
  const TemporaryDirectory unique;
  EXPECT_EQ(Told("@" + unique.path()), "READY=1");
}

TEST(ServiceManager, NothingHappensWithoutOne) {
  unsetenv("NOTIFY_SOCKET");
  NotifyServiceManager("READY=1");
  EXPECT_EQ(setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1), 0);
  NotifyServiceManager("READY=1");
  unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace oxmem::apps
