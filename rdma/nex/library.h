#ifndef RDMA_NEX_LIBRARY_H_
#define RDMA_NEX_LIBRARY_H_

#include <infiniband/verbs.h>
#include <sys/types.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rdma/nex/config.h"
#include "rdma/nex/engine.h"
#include "rdma/nex/object_pool.h"
#include "rdma/nex/objects.h"
#include "rdma/nex/region_table.h"

namespace oxmem::nex {

// Limits that the device announces and enforces.
inline constexpr int kMaxQps = Engine::kMaxQps;
inline constexpr int kMaxQueueDepth = 16384;
inline constexpr int kMaxCqs = 1 << 16;
inline constexpr int kMaxDomains = 1 << 16;
inline constexpr int kMaxAddresses = 1 << 20;
inline constexpr int kMaxSharedQueues = 1 << 16;
inline constexpr int kMaxCqe = 1 << 22;
inline constexpr int kMaxRegions = Segment::kRegions;
inline constexpr int kMaxReadsPerQp = 128;

// All objects behind handles, but queue pairs, which the engine keeps.
struct Objects {
  ObjectPool<Context> contexts;
  ObjectPool<Pd> domains{kMaxDomains};
  ObjectPool<Mr> regions;
  ObjectPool<Mw> windows;
  ObjectPool<Channel> channels;
  ObjectPool<Cq> completion_queues{kMaxCqs};
  ObjectPool<Srq> receive_queues{kMaxSharedQueues};
  ObjectPool<Xrcd> xrc_domains;
  ObjectPool<Ah> addresses{kMaxAddresses};

  void AbandonInChild();
};

// Everything of nex0 in one process. Made when a program first asks for devices, never
// destroyed; a forked child gets a new one when it asks.
class Library {
 public:
  // nullptr with errno set when the environment is wrong; the reason was printed once.
  static Library* Get();

  // The object that programs see; real providers look behind it, so zeros follow.
  struct Device {
    ibv_device base;
    char padding[4096];
    const Device* older;
  };

  const Config& config() const { return config_; }
  RegionTable& regions() { return regions_; }
  Engine& engine() { return engine_; }
  const Engine& engine() const { return engine_; }
  ibv_device* device() { return &device_.base; }
  Objects& objects() { return objects_; }
  int StartEngine();  // 0 or errno, after a message

  std::uint32_t NewDomain() { return next_domain_.fetch_add(1); }
  void AddSharedQueue(Srq* srq);  // gives it its number
  void RemoveSharedQueue(Srq* srq);
  XrcQueue FindSharedQueue(std::uint32_t number);
  // A device and inode of 0 make a domain of its own. nullptr with *error.
  Xrcd* OpenXrcDomain(dev_t device, ino_t inode, int flags, int* error);
  bool CloseXrcDomain(Xrcd* xrcd);  // false: in use

 private:
  explicit Library(const Config& config);
  static void InChild();

  const Config config_;
  Neighbourhood neighbours_;
  RegionTable regions_;
  Engine engine_;
  Device device_{};
  Objects objects_;
  std::mutex mutex_;
  std::vector<Srq*> shared_queues_;
  std::vector<Xrcd*> xrc_domains_;
  std::atomic<std::uint32_t> next_domain_{1};
};

// Whether a handle belongs to nex0 (and not to a real device that is passed through).
bool IsOurs(const ibv_device* device);
inline bool IsOurs(const ibv_context* context) {
  return context != nullptr && IsOurs(context->device);
}

// Fills what programs ask about the device and its port.
void FillDeviceAttributes(const Library& library, ibv_device_attr* attributes);
void FillPortAttributes(const Library& library, ibv_port_attr* attributes);
void FillContextOperations(verbs_context* verbs);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_LIBRARY_H_
