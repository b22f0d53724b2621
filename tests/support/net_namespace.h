#ifndef TESTS_SUPPORT_NET_NAMESPACE_H_
#define TESTS_SUPPORT_NET_NAMESPACE_H_

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "oxmem/link/mac_address.h"
#include "transport/base/unique_fd.h"

namespace oxmem::test {

// Why this process cannot make network namespaces, or empty if it can. Tests skip with it.
std::string WhyNoNetNamespaces();

// A network namespace without a name: it lives as long as this object, or a process in it, and
// leaves nothing behind when the test is killed. Its loopback interface is up.
class NetNamespace {
 public:
  static absl::StatusOr<NetNamespace> Create();

  int fd() const { return fd_.get(); }
  // For `ip link set … netns PATH` and `nsenter --net=PATH`, while this process lives.
  std::string path() const;

  // Runs the body in the namespace, on a thread of its own; returns when it has ended. Sockets it
  // opens stay in the namespace.
  void Run(const std::function<void()>& body) const;

  // Runs a program in it to the end; its output, or an error with what it said.
  absl::StatusOr<std::string> Command(const std::vector<std::string>& argv) const;

 private:
  UniqueFd fd_;
};

struct VethEnd {
  NetNamespace space;
  std::string interface;
  link::MacAddress mac;
};

// Waits until the interface is up and has its carrier.
absl::Status WaitUntilRunning(const VethEnd& end);

// Two namespaces joined by a veth pair, both ends up.
class VethPair {
 public:
  static absl::StatusOr<VethPair> Create(std::size_t mtu = 1500);

  const VethEnd& left() const { return left_; }
  const VethEnd& right() const { return right_; }

  // Creates the pair, after one of the ends was deleted, anew under the same names and addresses.
  absl::Status Recreate();

 private:
  VethEnd left_;
  VethEnd right_;
  std::size_t mtu_ = 0;
};

}  // namespace oxmem::test

#endif  // TESTS_SUPPORT_NET_NAMESPACE_H_
