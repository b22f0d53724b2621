#include "rdma/nex/cm/kernel_manager.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace oxmem::nex {
namespace {

constexpr std::size_t kMaxCommandBytes = 512;

}  // namespace

dev_t KernelManager::Device() {
  struct stat node;
  if (syscall(SYS_newfstatat, AT_FDCWD, kCmPath, &node, 0) != 0) return 0;
  return node.st_rdev;
}

KernelManager::KernelManager()
    : fd_(static_cast<int>(
          syscall(SYS_openat, AT_FDCWD, kCmPath, O_RDWR | O_CLOEXEC | O_NONBLOCK, 0))) {}

int KernelManager::Pass(std::uint32_t command, const void* in, std::size_t in_size,
                        std::size_t out_size) const {
  std::array<char, sizeof(rdma_ucm_cmd_hdr) + kMaxCommandBytes> bytes;
  if (in_size > kMaxCommandBytes) return EINVAL;
  const rdma_ucm_cmd_hdr header{.cmd = command,
                                .in = static_cast<std::uint16_t>(in_size),
                                .out = static_cast<std::uint16_t>(out_size)};
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, in, in_size);
  const std::size_t size = sizeof header + in_size;
  return syscall(SYS_write, fd_.get(), bytes.data(), size) == static_cast<ssize_t>(size) ? 0
                                                                                         : errno;
}

std::uint32_t KernelManager::Create(rdma_ucm_create_id command) const {
  if (!there()) return 0;
  rdma_ucm_create_id_resp response{};
  command.response = reinterpret_cast<std::uintptr_t>(&response);
  const auto create = [&] {
    return Pass(RDMA_USER_CM_CMD_CREATE_ID, &command, sizeof command, sizeof response) == 0;
  };
  // The first one of a host may be 0, which means none here; it goes with the file.
  if (!create() || (response.id == 0 && !create())) return 0;
  return response.id;
}

void KernelManager::Destroy(std::uint32_t handle) const {
  rdma_ucm_destroy_id_resp response{};
  rdma_ucm_destroy_id command{};
  command.response = reinterpret_cast<std::uintptr_t>(&response);
  command.id = handle;
  Pass(RDMA_USER_CM_CMD_DESTROY_ID, &command, sizeof command, sizeof response);
}

void KernelManager::Take(std::uint32_t handle, const KernelManager& from) const {
  rdma_ucm_migrate_resp response{};
  rdma_ucm_migrate_id command{};
  command.response = reinterpret_cast<std::uintptr_t>(&response);
  command.id = handle;
  command.fd = static_cast<std::uint32_t>(from.fd());
  Pass(RDMA_USER_CM_CMD_MIGRATE_ID, &command, sizeof command, sizeof response);
}

bool KernelManager::HasEvent() const {
  pollfd readable{fd_.get(), POLLIN, 0};
  return poll(&readable, 1, 0) == 1;
}

}  // namespace oxmem::nex
