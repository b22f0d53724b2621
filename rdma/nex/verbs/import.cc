// Contexts, protection domains and regions that another part of this process made, taken over by
// the descriptor of its context and their handles.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {
namespace {

constexpr char kCommandFile[] = "nex-context";

// What two descriptors of one context have in common.
ino_t FileOf(int fd) {
  struct stat what;
  return syscall(SYS_fstat, fd, &what) == 0 ? what.st_ino : 0;
}

// The live object of this handle among those of the context's descriptor.
template <typename Object>
Object* Find(ObjectPool<Object>& pool, const Context* context, std::uint32_t handle) {
  Object* found = nullptr;
  pool.ForEach([&](Object& object) {
    if (!object.alive || object.base.handle != handle || object.imported) return;
    if (Context::From(object.base.context)->file == context->file) found = &object;
  });
  if (found == nullptr) errno = ENOENT;
  return found;
}

}  // namespace

int NewCommandFile(Context* context) {
  context->command.Reset(static_cast<int>(syscall(SYS_memfd_create, kCommandFile, 1u)));
  context->file = context->command.valid() ? FileOf(context->command.get()) : 0;
  context->verbs.context.cmd_fd = context->command.get();
  return context->command.valid() ? 0 : EMFILE;
}

bool IsCommandFile(int fd) {
  const ino_t file = FileOf(fd);
  bool found = false;
  Library::Get()->objects().contexts.ForEach([&](Context& context) {
    found = found || (file != 0 && context.alive && context.file == file);
  });
  return found;
}

bool IsForeignCommandFile(int fd) {
  char link[64], target[sizeof kCommandFile + 64];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, target, sizeof target);
  const std::string prefix = std::string("/memfd:") + kCommandFile;
  return length > 0 && !IsCommandFile(fd) &&
         std::string_view(target, static_cast<std::size_t>(length)).starts_with(prefix);
}

void AdoptCommandFile(Context* context, int fd) {
  context->command.Reset(fd);
  context->file = FileOf(fd);
  context->verbs.context.cmd_fd = fd;
}

ibv_pd* ImportPd(ibv_context* context, std::uint32_t handle) {
  if (!Usable(Context::From(context), "ibv_import_pd")) return nullptr;
  Pd* origin = Find(Library::Get()->objects().domains, Context::From(context), handle);
  if (origin == nullptr) return nullptr;
  Pd* pd = Renewed(Library::Get()->objects().domains.Take());
  pd->parent = origin;
  pd->domain = origin->domain;
  pd->imported = true;
  pd->base.context = context;
  pd->base.handle = handle;
  pd->alive = true;
  origin->users.fetch_add(1);
  Context::From(context)->users.fetch_add(1);
  return &pd->base;
}

void UnimportPd(ibv_pd* handle) {
  auto* pd = reinterpret_cast<Pd*>(handle);
  if (!Usable(pd, "ibv_unimport_pd") || !pd->imported) return;
  pd->alive = false;
  pd->parent->users.fetch_sub(1);
  Context::From(handle->context)->users.fetch_sub(1);
  // What was made with it may live on, and counts itself here when it goes.
  if (pd->users.load() == 0) Library::Get()->objects().domains.Give(pd);
}

ibv_mr* ImportMr(ibv_pd* pd, std::uint32_t handle) {
  auto* domain = reinterpret_cast<Pd*>(pd);
  if (!Usable(domain, "ibv_import_mr")) return nullptr;
  Mr* origin = Find(Library::Get()->objects().regions, Context::From(pd->context), handle);
  if (origin == nullptr) return nullptr;
  Mr* mr = Renewed(Library::Get()->objects().regions.Take());
  mr->region = origin->region;
  mr->access = origin->access;
  mr->first = origin->first;
  mr->imported = true;
  mr->base = origin->base;
  mr->base.context = pd->context;
  mr->base.pd = pd;
  mr->base.addr = nullptr;  // it may be mapped elsewhere, or nowhere: ibv_import_mr(3)
  mr->alive = true;
  domain->users.fetch_add(1);
  return &mr->base;
}

void UnimportMr(ibv_mr* handle) {
  auto* mr = reinterpret_cast<Mr*>(handle);
  if (!Usable(mr, "ibv_unimport_mr") || !mr->imported) return;
  mr->alive = false;
  reinterpret_cast<Pd*>(handle->pd)->users.fetch_sub(1);
  Library::Get()->objects().regions.Give(mr);
}

}  // namespace oxmem::nex
