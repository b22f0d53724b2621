#include "rdma/nex/direct/neighbour.h"

#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "transport/base/clock.h"

namespace oxmem::nex {
namespace {

// Writes longer than this have their end written separately: programs wait for the last bytes of
// a message to change, and a copy of many bytes may reach memory in any order.
constexpr std::uint64_t kOrderedBytes = 64;
constexpr std::uint64_t kLastBytes = 8;
// A visitor that has not left after this is looked after less often, and asked whether it still
// lives and is on its way.
constexpr Duration kPatience = Duration::Microseconds(100);
constexpr timespec kBetweenLooks{0, 500000};
constexpr Duration kJustNow = Duration::Milliseconds(1);

// The calling thread's number; `self` is the process, which changes with a fork.
std::uint32_t ThreadOf(pid_t self) {
  thread_local pid_t process = 0;
  thread_local std::uint32_t thread = 0;
  if (process != self) {
    process = self;
    thread = static_cast<std::uint32_t>(syscall(SYS_gettid));
  }
  return thread;
}

// The beginning of a file of /proc, or "".
std::string ReadProc(const std::string& path) {
  char text[512];
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const ssize_t got = fd.valid() ? read(fd.get(), text, sizeof text) : 0;
  return got > 0 ? std::string(text, static_cast<std::size_t>(got)) : std::string();
}

class Visit {
 public:
  Visit(const Way& way, std::uint32_t region)
      : door_(*way.door),
        mark_(DoorMark::Make(way.self, way.connection, region)),
        inside_(door_.connection.load(std::memory_order_relaxed) == way.connection) {
    std::uint64_t nobody = 0;
    inside_ = inside_ && door_.busy.compare_exchange_strong(nobody, mark_);
    if (inside_) door_.visitor.store(ThreadOf(way.self));
    if (inside_ && door_.connection.load() != way.connection) Leave();
  }
  ~Visit() {
    if (inside_) Leave();
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  bool inside() const { return inside_; }

 private:
  void Leave() {
    std::uint64_t expected = mark_;
    door_.busy.compare_exchange_strong(expected, 0);
    inside_ = false;
  }

  Door& door_;
  const std::uint64_t mark_;
  bool inside_;
};

}  // namespace

bool Neighbour::Gone() const {
  pollfd ended{pidfd_.get(), POLLIN, 0};
  return poll(&ended, 1, 0) == 1;
}

bool Neighbour::LivedJustNow() const {
  const std::int64_t now = Now().nanoseconds();
  if (now - lived_ns_.load(std::memory_order_relaxed) < kJustNow.nanoseconds()) return true;
  if (Gone()) return false;
  lived_ns_.store(now, std::memory_order_relaxed);
  return true;
}

bool Neighbour::HasStoppedBehindItsCopy(pid_t thread) const {
  // A stop by a signal happens on the way out of a system call, and these two are never begun
  // again. Tracing stops threads on the way in as well, and has a letter of its own ('t').
  const std::string folder =
      "/proc/" + std::to_string(pid_) + "/task/" + std::to_string(thread) + "/";
  const std::string call = ReadProc(folder + "syscall");
  if (call.rfind(std::to_string(SYS_process_vm_readv) + " ", 0) != 0 &&
      call.rfind(std::to_string(SYS_process_vm_writev) + " ", 0) != 0) {
    return false;
  }
  const std::string state = ReadProc(folder + "stat");
  const std::size_t name_end = state.rfind(") ");
  return name_end != std::string::npos && state.compare(name_end, 3, ") T") == 0;
}

bool CopyThroughDoor(const Way& way, CopyDirection direction, std::span<const iovec> local,
                     const RemoteRange& remote, bool* hopeless) {
  *hopeless = !way.peer->LivedJustNow();
  if (*hopeless) return false;
  const RegionStorage storage = way.peer->segment().regions();
  Region* const region = FindRegion(storage, remote.key);
  if (region == nullptr) return false;
  const Visit visit(way, static_cast<std::uint32_t>(region - storage.regions));
  if (!visit.inside() || region->key.load() != remote.key) return false;
  const bool reads = direction == CopyDirection::kRead;
  const std::uint32_t access = reads ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE;
  if ((way.door->access.load(std::memory_order_relaxed) & access) == 0) return false;
  const RegionQuery query{.use = RegionUse::kRemote,
                          .key = remote.key,
                          .address = remote.address,
                          .length = remote.length,
                          .access = access,
                          .domain = way.door->domain.load(std::memory_order_relaxed),
                          .qpn = way.door->qpn.load(std::memory_order_relaxed)};
  if (!RegionAllows(*region, query)) return false;
  // The process is looked at last: its number can be given away only after it has died.
  if (!way.peer->segment().alive()) return false;
  std::byte* const memory = region->memory + (remote.address - region->first);
  const std::uint64_t last = !reads && remote.length > kOrderedBytes ? kLastBytes : 0;
  const iovec theirs[2] = {{memory, remote.length - last}, {memory + remote.length - last, last}};
  const unsigned long pieces = last == 0 ? 1 : 2;
  const ssize_t moved =
      reads ? process_vm_readv(way.peer->pid(), local.data(), local.size(), theirs, pieces, 0)
            : process_vm_writev(way.peer->pid(), local.data(), local.size(), theirs, pieces, 0);
  *hopeless = moved < 0 && (errno == EPERM || errno == ENOSYS || errno == ESRCH);
  return moved == static_cast<ssize_t>(remote.length);
}

std::shared_ptr<const Neighbour> Neighbourhood::Meet(const HostIdentity& host) {
  if (own_ == nullptr || host == HostIdentity{}) return nullptr;
  const std::lock_guard lock(mutex_);
  std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
  if (const auto found = known_.find(host.token); found != known_.end()) {
    if (auto known = found->second.lock(); known != nullptr) return known;
  }
  std::shared_ptr<Segment> segment =
      host.token == own_->identity().token ? own_ : std::shared_ptr(Segment::Open(host));
  if (segment == nullptr) return nullptr;
  const auto pid = static_cast<pid_t>(host.pid);
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  // The token in its own memory says that the number means the same process to both of us, and
  // that copying is allowed at all.
  std::uint64_t token = 0;
  const iovec here{&token, sizeof token};
  const iovec there{reinterpret_cast<void*>(segment->probe()), sizeof token};
  if (!pidfd.valid() || process_vm_readv(pid, &here, 1, &there, 1, 0) != sizeof token ||
      token != host.token || !segment->alive()) {
    return nullptr;
  }
  auto neighbour = std::make_shared<const Neighbour>(pid, std::move(pidfd), std::move(segment));
  known_[host.token] = neighbour;
  return neighbour;
}

void Neighbourhood::OpenDoor(std::uint32_t index, const DoorFacts& facts,
                             std::shared_ptr<const Neighbour> peer) {
  Door& door = own_->door(index);
  door.busy.store(0);
  door.visitor.store(0);
  door.domain.store(facts.domain);
  door.access.store(facts.access);
  door.qpn.store(facts.qpn);
  {
    const std::lock_guard lock(mutex_);
    open_doors_[index] = std::move(peer);
  }
  door.connection.store(facts.connection);
}

void Neighbourhood::ChangeAccess(std::uint32_t index, std::uint32_t access) {
  own_->door(index).access.store(access);
}

void Neighbourhood::WaitWhile(Door& door, const Neighbour& peer, std::uint64_t mark) {
  const Instant patient_until = Now() + kPatience;
  while (door.busy.load() == mark) {
    if (Now() < patient_until) {
      sched_yield();
      continue;
    }
    // Whoever enters from here on looks at the door and the key after leaving its number, and
    // finds them invalid; so this is the thread that may be copying, or nobody is.
    const auto visitor = static_cast<pid_t>(door.visitor.load());
    if (peer.Gone() || peer.HasStoppedBehindItsCopy(visitor)) {
      door.busy.compare_exchange_strong(mark, 0);
      return;
    }
    nanosleep(&kBetweenLooks, nullptr);
  }
}

bool Neighbourhood::CloseDoor(std::uint32_t index) {
  Door& door = own_->door(index);
  door.connection.store(0);
  std::shared_ptr<const Neighbour> peer;
  {
    const std::lock_guard lock(mutex_);
    const auto found = open_doors_.find(index);
    if (found == open_doors_.end()) return false;
    peer = found->second;
  }
  const std::uint64_t mark = door.busy.load();
  if (mark != 0) WaitWhile(door, *peer, mark);
  // Only now: until the visitor has left, whoever deregisters memory must know of the door.
  const std::lock_guard lock(mutex_);
  open_doors_.erase(index);
  return door.visitor.load() != 0;
}

void Neighbourhood::WaitForVisitors(std::uint32_t region) {
  if (own_ == nullptr) return;
  std::vector<std::pair<std::uint32_t, std::shared_ptr<const Neighbour>>> visited;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [index, peer] : open_doors_) {
      if (DoorMark::IsIn(own_->door(index).busy.load(), region)) visited.emplace_back(index, peer);
    }
  }
  for (const auto& [index, peer] : visited) {
    Door& door = own_->door(index);
    const std::uint64_t mark = door.busy.load();
    if (DoorMark::IsIn(mark, region)) WaitWhile(door, *peer, mark);
  }
}

}  // namespace oxmem::nex
