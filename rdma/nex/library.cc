#include "rdma/nex/library.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include <cstring>

#include "rdma/nex/cm/manager.h"
#include "rdma/nex/debug.h"

namespace oxmem::nex {
namespace {

// The one global object of the library: a preloaded library has no other place to start from.
std::atomic<Library*> current{nullptr};
// Ready before any constructor ran: those of other libraries may look at files, or ask for devices.
constinit std::mutex first_creation;
constinit std::mutex* creation = &first_creation;

// The devices of this process and, after forks, of its parents; the newest first.
std::atomic<const Library::Device*> devices{nullptr};

std::uint32_t RandomKey() { return static_cast<std::uint32_t>(Engine::Random()); }

}  // namespace

Library::Library(const Config& config)
    : config_(config),
      neighbours_(config.direct ? std::shared_ptr(Segment::Create(Engine::Random())) : nullptr),
      regions_(neighbours_.usable() ? RegionTable(neighbours_.own()->regions(), RandomKey,
                                                  [this](std::uint32_t region) {
                                                    neighbours_.WaitForVisitors(region);
                                                  })
                                    : RegionTable(kMaxRegions, RandomKey)),
      engine_(config_, &regions_, &neighbours_) {
  ibv_device& device = device_.base;
  device.node_type = IBV_NODE_CA;
  device.transport_type = IBV_TRANSPORT_IB;
  std::strncpy(device.name, config_.device.c_str(), sizeof device.name - 1);
  std::strncpy(device.dev_name, "uverbs0", sizeof device.dev_name - 1);
  std::strncpy(device.dev_path, "/sys/class/infiniband_verbs/uverbs0", sizeof device.dev_path - 1);
  const std::string path = "/sys/class/infiniband/" + config_.device;
  std::strncpy(device.ibdev_path, path.c_str(), sizeof device.ibdev_path - 1);
  device_.older = devices.load();
  devices.store(&device_);
}

void Objects::AbandonInChild() {
  // A context may still be closed; nothing else can be done with it.
  contexts.ForEach([](Context& context) { context.inherited = context.alive.load(); });
  contexts.AbandonInChild();
  domains.AbandonInChild();
  regions.AbandonInChild();
  windows.AbandonInChild();
  channels.AbandonInChild();
  completion_queues.AbandonInChild();
  receive_queues.AbandonInChild();
  xrc_domains.AbandonInChild();
  addresses.AbandonInChild();
}

bool IsOurs(const ibv_device* device) {
  if (device == nullptr) return false;
  for (const Library::Device* known = devices.load(std::memory_order_acquire); known != nullptr;
       known = known->older) {
    if (&known->base == device) return true;
  }
  return false;
}

void Library::InChild() {
  creation = new std::mutex;  // the old one may be locked by a thread that is not here
  if (Library* library = current.exchange(nullptr); library != nullptr) {
    library->engine_.AbandonInChild();
    library->objects_.AbandonInChild();
    CmManager::AbandonInChild();
  }
}

Library* Library::Get() {
  if (Library* library = current.load(std::memory_order_acquire); library != nullptr) {
    return library;
  }
  const std::lock_guard lock(*creation);
  if (Library* library = current.load(); library != nullptr) return library;
  std::string error;
  const auto config = ReadConfig(&error);
  if (!config) {
    const int why = errno;
    Complain(error.c_str());
    errno = why;
    return nullptr;
  }
  debug_level = config->debug;
  static const int registered = pthread_atfork(nullptr, nullptr, &Library::InChild);
  static_cast<void>(registered);
  auto* library = new Library(*config);
  current.store(library, std::memory_order_release);
  return library;
}

int Library::StartEngine() {
  const std::lock_guard lock(mutex_);
  std::string error;
  const int result = engine_.Start(&error);
  if (result != 0) Complain(error.c_str());
  return result;
}

void Library::AddSharedQueue(Srq* srq) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < shared_queues_.size(); ++i) {
    if (shared_queues_[i] != nullptr) continue;
    shared_queues_[i] = srq;
    srq->number = static_cast<std::uint32_t>(i + 1);
    return;
  }
  shared_queues_.push_back(srq);
  srq->number = static_cast<std::uint32_t>(shared_queues_.size());
}

void Library::RemoveSharedQueue(Srq* srq) {
  const std::lock_guard lock(mutex_);
  if (srq->number != 0) shared_queues_[srq->number - 1] = nullptr;
}

XrcQueue Library::FindSharedQueue(std::uint32_t number) {
  const std::lock_guard lock(mutex_);
  if (number == 0 || number > shared_queues_.size()) return {};
  Srq* const srq = shared_queues_[number - 1];
  return srq == nullptr ? XrcQueue{} : XrcQueue{srq, srq->queue, srq->cq, srq->xrcd};
}

Xrcd* Library::OpenXrcDomain(dev_t device, ino_t inode, int flags, int* error) {
  const std::lock_guard lock(mutex_);
  if (inode != 0) {
    for (Xrcd* known : xrc_domains_) {
      if (known->device != device || known->inode != inode) continue;
      if ((flags & O_EXCL) != 0) {
        *error = EEXIST;
        return nullptr;
      }
      ++known->opens;
      return known;
    }
    if ((flags & O_CREAT) == 0) {
      *error = ENOENT;
      return nullptr;
    }
  }
  Xrcd* xrcd = Renewed(objects_.xrc_domains.Take());
  xrcd->device = device;
  xrcd->inode = inode;
  xrcd->alive = true;
  xrc_domains_.push_back(xrcd);
  return xrcd;
}

bool Library::CloseXrcDomain(Xrcd* xrcd) {
  const std::lock_guard lock(mutex_);
  if (xrcd->opens == 1 && xrcd->users.load() != 0) return false;
  if (--xrcd->opens > 0) return true;
  std::erase(xrc_domains_, xrcd);
  xrcd->alive = false;
  objects_.xrc_domains.Give(xrcd);
  return true;
}

}  // namespace oxmem::nex
