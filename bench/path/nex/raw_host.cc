// The ceilings that nex is measured against: what two processes reach with nothing but the system
// calls nex itself is built on. One mode a run, one JSON object on the output.
//
//   raw_host copy --direction read --size 65536      process_vm_readv between two processes
//   raw_host pingpong --size 64 --wait spin          one TCP connection, there and back
//   raw_host stream --size 65536                     one TCP connection, one way
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

struct Options {
  std::size_t size = 65536;
  double seconds = 1;
  std::string wait = "spin";
  std::string direction = "read";
  std::string near_netns, far_netns;
  std::string address = "127.0.0.1";  // of the far end
  int near_cpu = -1, far_cpu = -1;
};

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "raw_host: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

std::int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

void Settle(const std::string& netns, int cpu) {
  if (!netns.empty()) {
    const int fd = open(netns.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) Die(netns.c_str());
    close(fd);
  }
  if (cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(cpu), &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) Die("sched_setaffinity");
  }
}

// Two connected TCP ends. The listening end is made first, so connecting never has to wait.
int Listen(const Options& options, std::uint16_t* port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (inet_pton(AF_INET, options.address.c_str(), &address.sin_addr) != 1) Die("address");
  socklen_t size = sizeof address;
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 1) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    Die("listen");
  }
  *port = ntohs(address.sin_port);
  return fd;
}

int Connect(const Options& options, std::uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, options.address.c_str(), &address.sin_addr);
  if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    Die("connect");
  }
  return fd;
}

void NoDelay(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// False: the other end is done. Spinning asks again and again; waiting sleeps in the call.
bool ReceiveAll(int fd, char* data, std::size_t size, bool spin) {
  for (std::size_t have = 0; have < size;) {
    const ssize_t got = recv(fd, data + have, size - have, spin ? MSG_DONTWAIT : 0);
    if (got > 0) have += static_cast<std::size_t>(got);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return false;
  }
  return true;
}

bool SendAll(int fd, const char* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t sent = send(fd, data + done, size - done, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) return false;
    if (sent > 0) done += static_cast<std::size_t>(sent);
  }
  return true;
}

nlohmann::json Percentiles(std::vector<std::int64_t>& samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double part) {
    return samples[static_cast<std::size_t>(part * static_cast<double>(samples.size() - 1))];
  };
  return {{"p50", at(0.5)}, {"p99", at(0.99)}, {"count", samples.size()}};
}

void EchoForEver(int fd, const Options& options) {
  std::vector<char> data(options.size);
  while (ReceiveAll(fd, data.data(), data.size(), options.wait == "spin") &&
         SendAll(fd, data.data(), data.size())) {
  }
}

nlohmann::json PingPong(int fd, const Options& options) {
  std::vector<char> data(options.size, 'x');
  std::vector<std::int64_t> samples;
  samples.reserve(1 << 20);
  const std::int64_t end = NowNs() + static_cast<std::int64_t>(options.seconds * 1e9);
  for (std::int64_t before = NowNs(); before < end && samples.size() < samples.capacity();) {
    if (!SendAll(fd, data.data(), data.size()) ||
        !ReceiveAll(fd, data.data(), data.size(), options.wait == "spin")) {
      Die("ping-pong");
    }
    const std::int64_t after = NowNs();
    samples.push_back((after - before) / 2);
    before = after;
  }
  return {{"half_round_trip_ns", Percentiles(samples)}};
}

void SwallowForEver(int fd, const Options& options) {
  std::vector<char> data(options.size);
  while (ReceiveAll(fd, data.data(), data.size(), false)) {
  }
}

nlohmann::json Stream(int fd, const Options& options) {
  const std::vector<char> data(options.size, 'x');
  const std::int64_t start = NowNs();
  const auto length = static_cast<std::int64_t>(options.seconds * 1e9);
  std::uint64_t bytes = 0;
  while (NowNs() - start < length) {
    if (!SendAll(fd, data.data(), data.size())) Die("stream");
    bytes += data.size();
  }
  const double taken = static_cast<double>(NowNs() - start) / 1e9;
  return {{"bytes_per_second", static_cast<double>(bytes) / taken}};
}

template <typename Far, typename Near>
nlohmann::json OverTcp(const Options& options, Far far, Near near) {
  int ready[2];
  if (pipe(ready) != 0) Die("pipe");
  const pid_t child = fork();
  if (child < 0) Die("fork");
  if (child == 0) {
    Settle(options.far_netns, options.far_cpu);
    std::uint16_t port = 0;
    const int listener = Listen(options, &port);
    if (write(ready[1], &port, sizeof port) != sizeof port) Die("write");
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) Die("accept");
    NoDelay(fd);
    far(fd, options);
    std::exit(0);
  }
  Settle(options.near_netns, options.near_cpu);
  close(ready[1]);
  std::uint16_t port = 0;
  if (read(ready[0], &port, sizeof port) != sizeof port) Die("the far end failed");
  const int fd = Connect(options, port);
  NoDelay(fd);
  nlohmann::json result = near(fd, options);
  close(fd);
  waitpid(child, nullptr, 0);
  return result;
}

// The other process only lends its memory. Each side's buffer is as large as perftest's.
nlohmann::json Copy(const Options& options) {
  int ready[2];
  if (pipe(ready) != 0) Die("pipe");
  const auto map = [&] {
    void* memory = mmap(nullptr, options.size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) Die("mmap");
    std::memset(memory, 1, options.size);
    return memory;
  };
  const pid_t child = fork();
  if (child < 0) Die("fork");
  if (child == 0) {
    void* memory = map();
    if (write(ready[1], &memory, sizeof memory) != sizeof memory) Die("write");
    for (;;) pause();
  }
  Settle("", options.near_cpu);
  void* remote = nullptr;
  if (read(ready[0], &remote, sizeof remote) != sizeof remote) Die("the far end failed");
  const iovec ours{map(), options.size};
  const iovec theirs{remote, options.size};
  std::vector<std::int64_t> samples;
  samples.reserve(1 << 20);
  std::uint64_t bytes = 0;
  const std::int64_t start = NowNs();
  const std::int64_t end = start + static_cast<std::int64_t>(options.seconds * 1e9);
  std::int64_t before = start;
  const bool reads = options.direction == "read";
  while (before < end && samples.size() < samples.capacity()) {
    const ssize_t moved = reads ? process_vm_readv(child, &ours, 1, &theirs, 1, 0)
                                : process_vm_writev(child, &ours, 1, &theirs, 1, 0);
    if (moved != static_cast<ssize_t>(options.size)) Die("process_vm");
    const std::int64_t after = NowNs();
    samples.push_back(after - before);
    before = after;
    bytes += options.size;
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return {
      {"latency_ns", Percentiles(samples)},
      {"bytes_per_second", static_cast<double>(bytes) * 1e9 / static_cast<double>(before - start)}};
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("The ceilings of nex: raw system calls between two processes");
  app.require_subcommand(1);
  const auto common = [&options](CLI::App* mode) {
    mode->add_option("--size", options.size, "bytes")->check(CLI::Range(1, 1 << 30));
    mode->add_option("--seconds", options.seconds, "length of the run");
    mode->add_option("--near-cpu", options.near_cpu, "CPU of this end");
    mode->add_option("--far-cpu", options.far_cpu, "CPU of the other end");
  };
  const auto network = [&](CLI::App* mode) {
    common(mode);
    mode->add_option("--address", options.address, "IPv4 address of the far end");
    mode->add_option("--near-netns", options.near_netns, "network namespace of this end");
    mode->add_option("--far-netns", options.far_netns, "network namespace of the other end");
  };
  CLI::App* copy = app.add_subcommand("copy", "process_vm_readv or process_vm_writev");
  common(copy);
  copy->add_option("--direction", options.direction)->check(CLI::IsMember({"read", "write"}));
  CLI::App* pingpong = app.add_subcommand("pingpong", "a TCP ping-pong");
  network(pingpong);
  pingpong->add_option("--wait", options.wait)->check(CLI::IsMember({"spin", "block"}));
  CLI::App* stream = app.add_subcommand("stream", "a TCP stream, one way");
  network(stream);
  CLI11_PARSE(app, argc, argv);
  nlohmann::json result;
  if (*copy) result = Copy(options);
  if (*pingpong) result = OverTcp(options, EchoForEver, PingPong);
  if (*stream) result = OverTcp(options, SwallowForEver, Stream);
  result["size"] = options.size;
  std::puts(result.dump().c_str());
  return 0;
}
