#ifndef RDMA_NEX_MULTICAST_H_
#define RDMA_NEX_MULTICAST_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "rdma/nex/config.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {

struct Qp;

bool IsMulticast(const Gid& gid);

// Which queue pairs are members of which multicast groups, and the sockets that hear these: one for
// each group and interface of nex0, bound to the address of the group. So nothing arrives there
// that was sent to another address or, on another interface, to the same group, and the system's
// limit of groups for one socket (net.ipv4.igmp_max_memberships) does not matter; descriptors do.
//
// Thread-safe. Its lock may be taken with that of a queue pair held, and takes no other.
class MulticastGroups {
 public:
  static constexpr int kMaxGroups = 8192;
  static constexpr int kMaxMembers = 1024;  // of each

  // The first member of a group opens its sockets and adds them to the epoll set, under a tag with
  // the descriptor below it. 0 or an errno.
  int Join(Qp* qp, const Gid& group, const Config& config, int epoll, std::uint64_t tag);
  void Leave(Qp* qp, const Gid& group);

  struct Received {
    ssize_t bytes = -1;  // -1: there was none
    Gid group{};
    std::vector<Qp*> members;  // none, if it came in on an interface that is not of nex0
  };
  // The next packet of a descriptor that epoll has reported; another thread may have closed it.
  Received Receive(int fd, std::span<std::byte> buffer);

  // In the child of a fork, where the lock may be held by a thread that does not exist.
  void CloseInChild();

 private:
  struct Socket {
    UniqueFd fd;
    std::uint32_t interface_index = 0;
    bool v6 = false;
  };
  struct Group {
    std::vector<Qp*> members;
    std::vector<Socket> sockets;
  };
  static int Open(const Gid& group, const LocalAddress& address, std::uint16_t port,
                  Socket* socket);
  static int OpenAll(const Gid& group, const Config& config, std::vector<Socket>* sockets);

  std::mutex mutex_;  // guards the next two
  std::map<Gid, Group> groups_;
  std::map<int, Gid> group_of_;  // of each descriptor
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_MULTICAST_H_
