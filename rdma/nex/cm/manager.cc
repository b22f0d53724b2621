#include "rdma/nex/cm/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/debug.h"
#include "rdma/nex/library.h"

namespace oxmem::nex {
namespace {

std::atomic<CmManager*> current{nullptr};

}  // namespace

CmManager::CmManager() : tickets_(Engine::Random(), Engine::Random()) {}

CmManager* CmManager::Get() {
  CmManager* manager = current.load(std::memory_order_acquire);
  if (manager != nullptr) return manager;
  auto* fresh = new CmManager;
  if (!current.compare_exchange_strong(manager, fresh)) {
    delete fresh;
    return manager;
  }
  return fresh;
}

bool CmManager::Exists() { return current.load(std::memory_order_acquire) != nullptr; }

void CmManager::AbandonInChild() {
  CmManager* manager = current.exchange(nullptr);
  if (manager == nullptr) return;
  for (auto& [handle, id] : manager->ids_) {
    id->sockets.clear();
    id->places.clear();
  }
  for (auto& [fd, file] : manager->files_) file->kernel.Close();
  manager->epoll_.Reset();
  manager->wake_.Reset();
}

bool CmManager::Owns(int fd) const {
  return fd >= 0 && fd < kFdLimit && own_fds_[static_cast<std::size_t>(fd)].load();
}

int CmManager::Open(int flags) {
  Library* library = Library::Get();
  if (library == nullptr) return -1;
  const std::lock_guard lock(mutex_);
  if (const int error = Start(); error != 0) {
    errno = error;
    return -1;
  }
  auto file = std::make_shared<File>();
  const int fd = file->events.fd();
  if (fd < 0 || fd >= kFdLimit) {
    errno = EMFILE;
    return -1;
  }
  if ((flags & O_NONBLOCK) != 0) fcntl(fd, F_SETFL, O_NONBLOCK);
  if (file->kernel.there()) WatchKernel(*file, true);
  files_[fd] = std::move(file);
  own_fds_[static_cast<std::size_t>(fd)] = true;
  return fd;
}

void CmManager::Close(int fd) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(fd);
  if (found == files_.end()) return;
  // As in the kernel, closing the file destroys the identifiers made through it. The last owner
  // of the file closes the descriptor.
  std::erase_if(ids_, [&](const auto& entry) { return entry.second->file == found->second; });
  own_fds_[static_cast<std::size_t>(fd)] = false;
  files_.erase(found);
}

int CmManager::Start() {
  if (epoll_.valid()) return 0;
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return errno;
  wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  // Each write is an edge of its own, so nobody has to read it. Its tag is that of no file.
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = static_cast<std::uint32_t>(wake_.get());
  if (!wake_.valid() || epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) {
    const int error = errno;
    epoll_.Reset();
    return error;
  }
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int result = pthread_create(&thread, nullptr, &CmManager::ThreadMain, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (result == 0) pthread_detach(thread);
  return result;
}

void* CmManager::ThreadMain(void* self) {
  pthread_setname_np(pthread_self(), "nex-cm");
  static_cast<CmManager*>(self)->Run();
  return nullptr;
}

void CmManager::Run() {
  int wait_ms = -1;
  for (;;) {
    epoll_event events[32];
    const int count = epoll_wait(epoll_.get(), events, 32, wait_ms);
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < count; ++i) {
      const auto handle = static_cast<std::uint32_t>(events[i].data.u64 >> 32);
      const auto fd = static_cast<int>(events[i].data.u64 & 0xffffffff);
      if (handle != kKernelMarker) {
        OnReady(handle, fd);
      } else if (const auto file = files_.find(fd); file != files_.end()) {
        Event marker;
        marker.account = kKernelMarker;
        file->second->events.Push(marker);
      }
    }
    wait_ms = RunTimers();
  }
}

std::uint32_t CmManager::NewHandle() {
  // They wrap in time, and an old one may still be there.
  for (;; ++next_handle_) {
    if (next_handle_ == kEndOfHandles) next_handle_ = kOwnHandles;
    if (!ids_.contains(next_handle_)) return next_handle_++;
  }
}

CmManager::Id* CmManager::Find(std::uint32_t handle) {
  const auto found = ids_.find(handle);
  return found == ids_.end() ? nullptr : found->second.get();
}

bool CmManager::IsOfKernel(const File& file, std::uint32_t handle) const {
  return handle < kOwnHandles && file.kernel.there() && !ids_.contains(handle);
}

bool CmManager::HandOver(Id& id) {
  if (id.handle >= kOwnHandles) return false;
  NEX_DEBUG(1, "identifier %u is not of nex0 but of the kernel", id.handle);
  const std::uint32_t handle = id.handle;
  CloseSockets(id);
  if (id.bound.addr.sin6_family != 0) {
    id.file->kernel.Pass(RDMA_USER_CM_CMD_BIND_IP, &id.bound, sizeof id.bound, 0);
  }
  ids_.erase(handle);
  return true;
}

void CmManager::WatchKernel(const File& file, bool first) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u64 =
      std::uint64_t{kKernelMarker} << 32 | static_cast<std::uint32_t>(file.events.fd());
  epoll_ctl(epoll_.get(), first ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, file.kernel.fd(), &event);
}

int CmManager::GetKernelEvent(File& file, const rdma_ucm_get_event& command, std::size_t out_size) {
  const int error =
      file.kernel.Pass(RDMA_USER_CM_CMD_GET_EVENT, &command, sizeof command, out_size);
  if (file.kernel.HasEvent()) {
    Event marker;
    marker.account = kKernelMarker;
    file.events.Push(marker);
  } else {
    WatchKernel(file, false);
  }
  return error;
}

int CmManager::PassMigration(rdma_ucm_migrate_id command, const File& file, std::size_t out_size) {
  const auto from = files_.find(static_cast<int>(command.fd));
  if (from == files_.end()) return EINVAL;
  command.fd = static_cast<std::uint32_t>(from->second->kernel.fd());
  return file.kernel.Pass(RDMA_USER_CM_CMD_MIGRATE_ID, &command, sizeof command, out_size);
}

CmManager::Event CmManager::MakeEvent(const Id& id, std::uint32_t type, int status) const {
  Event event;
  event.body.uid = id.uid;
  event.body.id = id.handle;
  event.body.event = type;
  event.body.status = static_cast<std::uint32_t>(status);
  event.owner = event.account = id.handle;
  return event;
}

void CmManager::Push(Id& id, std::uint32_t type, int status,
                     const rdma_ucm_conn_param* parameters) {
  Event event = MakeEvent(id, type, status);
  if (parameters != nullptr) event.body.param.conn = *parameters;
  NEX_DEBUG(1, "connection %u: event %u, status %d", id.handle, type, status);
  id.file->events.Push(event);
}

void CmManager::PushDatagram(Id& id, std::uint32_t type, const ib_uverbs_ah_attr& path,
                             std::uint32_t qpn, std::uint32_t qkey, const CmMessage* message) {
  Event event = MakeEvent(id, type, 0);
  rdma_ucm_ud_param& ud = event.body.param.ud;
  ud.qp_num = qpn;
  ud.qkey = qkey;
  ud.ah_attr = path;
  if (message != nullptr) {
    ud.private_data_len = message->private_length;
    std::memcpy(ud.private_data, message->private_data.data(), sizeof ud.private_data);
  }
  id.file->events.Push(event);
}

ib_uverbs_ah_attr CmManager::PathTo(const Id& id, const Gid& gid) const {
  const Config& config = Library::Get()->config();
  ib_uverbs_ah_attr path{};
  path.is_global = 1;
  path.port_num = 1;
  path.grh.hop_limit = 64;
  std::memcpy(path.grh.dgid, gid.data(), gid.size());
  const Gid own = GidOf(id.source);
  for (std::size_t i = 0; i < config.addresses.size(); ++i) {
    if (config.addresses[i].gid == own) path.grh.sgid_index = static_cast<std::uint8_t>(i);
  }
  return path;
}

void CmManager::Send(Id& id, CmMessageType type, const rdma_ucm_conn_param* parameters) {
  if (id.sockets.empty()) return;
  CmMessage message;
  message.type = type;
  message.service = id.dialogue.service();
  message.source = id.ends.own;
  message.destination = id.ends.peer;
  message.source_port = id.ends.own_port;
  message.destination_port = id.ends.peer_port;
  if (type == CmMessageType::kRequest) message.ticket = id.ticket;
  if (parameters != nullptr) {
    message.qpn = parameters->qp_num & 0xffffff;
    message.queue_key = parameters->qkey;
    message.srq = parameters->srq != 0 ? 1 : 0;
    message.responder_resources = parameters->responder_resources;
    message.initiator_depth = parameters->initiator_depth;
    message.flow_control = parameters->flow_control != 0 ? 1 : 0;
    message.retry_count = std::min(parameters->retry_count, kCmMaxRetries);
    message.rnr_retry_count = std::min(parameters->rnr_retry_count, kCmMaxRetries);
    message.private_length = parameters->private_data_len;
    std::memcpy(message.private_data.data(), parameters->private_data, message.private_length);
  }
  message.proof = ProofOf(message, id.ticket, SecretKey(Library::Get()->config().secret));
  std::array<std::byte, kCmMessageBytes> bytes;
  EncodeCm(message, bytes);
  // A handful of small messages a connection always fits into the socket's buffer.
  [[maybe_unused]] const ssize_t sent =
      send(id.sockets[0].get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace oxmem::nex
