#include "tests/support/net_namespace.h"

#include <fcntl.h>
#include <sched.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/process.h"
#include "transport/base/check.h"
#include "transport/base/clock.h"
#include "transport/base/status.h"

namespace oxmem::test {
namespace {

// Opens a new namespace by making one on a thread that ends at once.
absl::StatusOr<UniqueFd> NewNamespace() {
  UniqueFd fd;
  int error = 0;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) == 0) {
      fd.Reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    }
    if (!fd.valid()) error = errno;
  }).join();
  if (!fd.valid()) return ErrnoStatus(error, "making a network namespace");
  return fd;
}

// Addresses the kernel makes up for IPv6 would send frames of their own through the pair.
void SwitchOffIpv6() {
  const UniqueFd file(open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC));
  // Without the file there is no IPv6.
  if (file.valid()) OXMEM_CHECK(write(file.get(), "1", 1) == 1);
}

}  // namespace

std::string WhyNoNetNamespaces() {
  if (const auto fd = NewNamespace(); !fd.ok()) {
    return absl::StrCat(std::string(fd.status().message()), " (needs root)");
  }
  return "";
}

absl::StatusOr<NetNamespace> NetNamespace::Create() {
  NetNamespace space;
  OXMEM_ASSIGN_OR_RETURN(space.fd_, NewNamespace());
  OXMEM_RETURN_IF_ERROR(space.Command({"ip", "link", "set", "lo", "up"}).status());
  space.Run(SwitchOffIpv6);
  return space;
}

std::string NetNamespace::path() const { return absl::StrCat("/proc/", getpid(), "/fd/", fd()); }

void NetNamespace::Run(const std::function<void()>& body) const {
  std::thread([&] {
    OXMEM_CHECK(setns(fd(), CLONE_NEWNET) == 0);
    body();
  }).join();
}

absl::StatusOr<std::string> NetNamespace::Command(const std::vector<std::string>& argv) const {
  return RunCommand(argv, fd());
}

absl::Status WaitUntilRunning(const VethEnd& end) {
  // Asking for the state by netlink makes newer kernels bring it up to date at once; by themselves
  // they look once a second, and frames before that are lost.
  const Instant until = Now() + Duration::Seconds(10);
  while (Now() < until) {
    OXMEM_ASSIGN_OR_RETURN(const std::string state,
                           end.space.Command({"ip", "-o", "link", "show", end.interface}));
    if (state.find("state UP") != std::string::npos) return absl::OkStatus();
  }
  return absl::DeadlineExceededError(absl::StrCat(end.interface, " did not come up"));
}

absl::StatusOr<VethPair> VethPair::Create(std::size_t mtu) {
  VethPair pair;
  pair.mtu_ = mtu;
  OXMEM_ASSIGN_OR_RETURN(pair.left_.space, NetNamespace::Create());
  OXMEM_ASSIGN_OR_RETURN(pair.right_.space, NetNamespace::Create());
  pair.left_.interface = "left0";
  pair.right_.interface = "right0";
  pair.left_.mac = {{0x02, 0, 0, 0, 0, 0x0a}};
  pair.right_.mac = {{0x02, 0, 0, 0, 0, 0x0b}};
  OXMEM_RETURN_IF_ERROR(pair.Recreate());
  return pair;
}

absl::Status VethPair::Recreate() {
  const std::string mtu = absl::StrCat(mtu_);
  OXMEM_RETURN_IF_ERROR(left_.space
                            .Command({"ip",
                                      "link",
                                      "add",
                                      "name",
                                      left_.interface,
                                      "mtu",
                                      mtu,
                                      "address",
                                      link::FormatMacAddress(left_.mac),
                                      "type",
                                      "veth",
                                      "peer",
                                      "name",
                                      right_.interface,
                                      "mtu",
                                      mtu,
                                      "address",
                                      link::FormatMacAddress(right_.mac),
                                      "netns",
                                      right_.space.path()})
                            .status());
  for (const VethEnd* end : {&left_, &right_}) {
    OXMEM_RETURN_IF_ERROR(end->space.Command({"ip", "link", "set", end->interface, "up"}).status());
  }
  for (const VethEnd* end : {&left_, &right_}) {
    OXMEM_RETURN_IF_ERROR(WaitUntilRunning(*end));
  }
  return absl::OkStatus();
}

}  // namespace oxmem::test
