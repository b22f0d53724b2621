#include "apps/common/metrics_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "tests/apps/common/loop_thread.h"

namespace oxmem::apps {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

// A port that was free a moment ago, and that nobody else is given soon.
uint16_t FreePort() {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof address;
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  return ntohs(address.sin_port);
}

std::string Ask(uint16_t port, const std::string& request) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(port);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string all;
  std::array<char, 512> part;
  ssize_t count = 0;
  while ((count = recv(fd.get(), part.data(), part.size(), 0)) > 0) {
    all.append(part.data(), static_cast<std::size_t>(count));
  }
  return all;
}

TEST(MetricsServer, ServesTheFiguresAndRefusesTheRest) {
  LoopThread thread;
  const uint16_t port = FreePort();
  auto server = MetricsServer::Start(thread.loop(), absl::StrCat("127.0.0.1:", port), [] {
    ProcessFigures figures;
    figures.name = "data";
    return figures;
  });
  ASSERT_TRUE(server.ok()) << server.status();
  thread.Start();
  const std::string metrics = Ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string head = Ask(port, "HEAD /metrics HTTP/1.1\r\n\r\n");
  const std::string elsewhere = Ask(port, "GET / HTTP/1.1\r\n\r\n");
  const std::string post = Ask(port, "POST /metrics HTTP/1.1\r\n\r\n");
  const std::string nonsense = Ask(port, "hello\r\n\r\n");
  thread.Stop();
  EXPECT_THAT(metrics, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(metrics, HasSubstr("oxmem_build_info{process=\"data\""));
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(head, ::testing::EndsWith("\r\n\r\n"));
  EXPECT_THAT(elsewhere, HasSubstr("/metrics"));
  EXPECT_THAT(elsewhere, StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(post, StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(nonsense, StartsWith("HTTP/1.1 400"));
}

Duration ProcessorTime() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return Duration::Seconds(time.tv_sec) + Duration::Microseconds(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

TEST(MetricsServer, WithoutDescriptorsItSleepsAndAnswersLater) {
  LoopThread thread;
  const uint16_t port = FreePort();
  auto server = MetricsServer::Start(thread.loop(), absl::StrCat("127.0.0.1:", port),
                                     [] { return ProcessFigures(); });
  ASSERT_TRUE(server.ok()) << server.status();
  thread.Start();
  // A sanitizer needs descriptors where it meets a class for the first time.
  EXPECT_THAT(Ask(port, "GET /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
  const UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const sockaddr_in address = Loopback(port);
  ASSERT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const std::string request = "GET /metrics HTTP/1.1\r\n\r\n";
  ASSERT_GT(send(client.get(), request.data(), request.size(), MSG_NOSIGNAL), 0);
  const Duration used = ProcessorTime();
  const timeval patience{0, 500'000};
  setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::array<char, 512> answer;
  EXPECT_EQ(recv(client.get(), answer.data(), answer.size(), 0), -1);
  EXPECT_LT(ProcessorTime() - used, Duration::Milliseconds(100));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  const timeval long_patience{10, 0};
  setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &long_patience, sizeof long_patience);
  const ssize_t count = recv(client.get(), answer.data(), answer.size(), 0);
  thread.Stop();
  ASSERT_GT(count, 0);
  EXPECT_THAT(std::string(answer.data(), static_cast<std::size_t>(count)),
              StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST(MetricsServer, APortThatIsTakenIsNamed) {
  LoopThread thread;
  const UniqueFd taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof address;
  ASSERT_EQ(bind(taken.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(listen(taken.get(), 1), 0);
  ASSERT_EQ(getsockname(taken.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  const std::string where = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  const auto server = MetricsServer::Start(thread.loop(), where, [] { return ProcessFigures(); });
  EXPECT_THAT(std::string(server.status().message()), HasSubstr(where));
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("in use"));
}

}  // namespace
}  // namespace oxmem::apps
