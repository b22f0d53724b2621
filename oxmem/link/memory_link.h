#ifndef OXMEM_LINK_MEMORY_LINK_H_
#define OXMEM_LINK_MEMORY_LINK_H_

#include <cstddef>
#include <memory>
#include <utility>

#include "oxmem/link/link.h"

namespace oxmem::link {

struct MemoryNetworkOptions {
  std::size_t max_frame_bytes = 1500;
  // Frames that wait for one receiver; further ones are dropped and counted by the receiver.
  std::size_t queue_frames = 1024;
};

// A network within the process, for tests and for trying things out: any link attached to it
// reaches every other by its local_address(). Each link is used by a thread of its own. Links may
// outlive this object.
class MemoryNetwork {
 public:
  explicit MemoryNetwork(const MemoryNetworkOptions& options = {});
  ~MemoryNetwork();
  MemoryNetwork(const MemoryNetwork&) = delete;
  MemoryNetwork& operator=(const MemoryNetwork&) = delete;

  std::unique_ptr<Link> Attach();

  // Switches a link of this network off and on, like pulling its cable: while it is off Send fails
  // and frames to it are lost. Any thread.
  void SetUp(const Link& link, bool up);

  struct Shared;

 private:
  std::shared_ptr<Shared> shared_;
};

// Two links that reach each other.
std::pair<std::unique_ptr<Link>, std::unique_ptr<Link>> MakeMemoryLinkPair(
    const MemoryNetworkOptions& options = {});

}  // namespace oxmem::link

#endif  // OXMEM_LINK_MEMORY_LINK_H_
