#ifndef TESTS_TRANSPORT_LOCAL_NODE_FIXTURE_H_
#define TESTS_TRANSPORT_LOCAL_NODE_FIXTURE_H_

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "transport/base/unique_fd.h"
#include "transport/local/local_server.h"

namespace oxmem::transport {

// A folder of the test's own, gone with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "oxmem-XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A node's local server on a thread of its own, as a serving process has it.
class RunningServer {
 public:
  explicit RunningServer(std::unique_ptr<LocalServer> server)
      : server_(std::move(server)), stop_(eventfd(0, EFD_CLOEXEC)), thread_([this] { Serve(); }) {}
  // The server dies like a process: connections just end.
  ~RunningServer() {
    const uint64_t one = 1;
    EXPECT_EQ(write(stop_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    thread_.join();
  }
  const LocalServerStats& stats() const { return server_->stats(); }

 private:
  void Serve() {
    while (true) {
      std::array<pollfd, 2> entries = {pollfd{.fd = server_->event_fd(), .events = POLLIN},
                                       pollfd{.fd = stop_.get(), .events = POLLIN}};
      poll(entries.data(), entries.size(), PollTimeoutMs(Now(), server_->next_deadline()));
      if (entries[1].revents != 0) return;
      server_->Poll(Now());
    }
  }

  const std::unique_ptr<LocalServer> server_;
  const UniqueFd stop_;
  std::thread thread_;
};

inline std::unique_ptr<RunningServer> Serve(LocalServerOptions options,
                                            std::vector<LocalRegion> regions) {
  auto server = LocalServer::Listen(std::move(options), std::move(regions));
  EXPECT_TRUE(server.ok()) << server.status();
  if (!server.ok()) return nullptr;
  return std::make_unique<RunningServer>(*std::move(server));
}

}  // namespace oxmem::transport

#endif  // TESTS_TRANSPORT_LOCAL_NODE_FIXTURE_H_
