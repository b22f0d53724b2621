// The exported verbs around devices and contexts. nex0 is listed before the real devices; calls on
// a real device go to the real library.
#include <errno.h>
#include <infiniband/verbs.h>

#include <cstring>
#include <vector>

#include "rdma/nex/library.h"
#include "rdma/nex/preload/arguments.h"
#include "rdma/nex/preload/real.h"
#include "rdma/nex/verbs/device.h"
#include "rdma/nex/verbs/operations.h"

#undef ibv_get_device_list
#undef ibv_query_port

namespace nex = oxmem::nex;

namespace {

int Fail(int error) {
  errno = error;
  return -1;
}

std::size_t GidCount() { return nex::Library::Get()->config().addresses.size(); }

void FillGid(std::size_t index, ibv_gid* gid) {
  std::memcpy(gid->raw, nex::Library::Get()->config().addresses[index].gid.data(), 16);
}

void FillGidEntry(std::size_t index, ibv_gid_entry* entry) {
  FillGid(index, &entry->gid);
  entry->gid_index = static_cast<std::uint32_t>(index);
  entry->port_num = 1;
  entry->gid_type = IBV_GID_TYPE_ROCE_V2;
  entry->ndev_ifindex = nex::Library::Get()->config().addresses[index].interface_index;
}

}  // namespace

NEX_EXPORT ibv_device** ibv_get_device_list(int* count) {
  nex::Library* library = nex::Library::Get();
  const int why_not = errno;
  int real_count = 0;
  ibv_device** real = NEX_REAL(ibv_get_device_list)(&real_count);
  const int own = library == nullptr ? 0 : 1;
  // The list of the real library hangs behind the end of ours: some programs give the list to
  // free(3) instead of ibv_free_device_list, so it has to begin its allocation.
  const auto count_all = static_cast<std::size_t>(real_count + own);
  auto** list = static_cast<ibv_device**>(std::calloc(count_all + 2, sizeof(ibv_device*)));
  if (list == nullptr) return nullptr;
  if (own != 0) list[0] = library->device();
  for (int i = 0; i < real_count; ++i) list[own + i] = real[i];
  std::memcpy(&list[count_all + 1], &real, sizeof real);
  if (count != nullptr) *count = real_count + own;
  if (own == 0) errno = why_not;
  return list;
}

NEX_EXPORT void ibv_free_device_list(ibv_device** list) {
  if (list == nullptr) return;
  std::size_t count = 0;
  while (list[count] != nullptr) ++count;
  ibv_device** real;
  std::memcpy(&real, &list[count + 1], sizeof real);
  if (real != nullptr) NEX_REAL(ibv_free_device_list)(real);
  std::free(list);
}

NEX_EXPORT const char* ibv_get_device_name(ibv_device* device) {
  NEX_REFUSE_NULL(device, nullptr);
  return device->name;
}

NEX_EXPORT __be64 ibv_get_device_guid(ibv_device* device) {
  NEX_REFUSE_NULL(device, 0);
  if (!nex::IsOurs(device)) return NEX_REAL(ibv_get_device_guid)(device);
  return nex::NodeGuid(*nex::Library::Get());
}

NEX_EXPORT int ibv_get_device_index(ibv_device* device) {
  NEX_REFUSE_NULL(device, -1);
  return nex::IsOurs(device) ? nex::kDeviceIndex : NEX_REAL(ibv_get_device_index)(device);
}

namespace {

// A context with the descriptor of another one, or with one of its own.
ibv_context* NewContext(int command_fd) {
  nex::Library* library = nex::Library::Get();
  if (library == nullptr) return nullptr;
  if (const int error = library->StartEngine(); error != 0) {
    errno = error;
    return nullptr;
  }
  auto events = std::make_unique<nex::EventQueue<ibv_async_event>>();
  if (events->fd() < 0) {
    errno = EMFILE;
    return nullptr;
  }
  nex::Context* context = nex::Renewed(library->objects().contexts.Take());
  context->events = std::move(events);
  nex::FillContextOperations(&context->verbs);
  ibv_context& base = context->verbs.context;
  base.device = library->device();
  base.async_fd = context->events->fd();
  base.num_comp_vectors = 1;
  pthread_mutex_init(&base.mutex, nullptr);
  if (command_fd >= 0) {
    nex::AdoptCommandFile(context, command_fd);
  } else if (const int error = nex::NewCommandFile(context); error != 0) {
    context->events.reset();
    library->objects().contexts.Give(context);
    errno = error;
    return nullptr;
  }
  context->alive = true;
  return &base;
}

}  // namespace

NEX_EXPORT ibv_context* ibv_open_device(ibv_device* device) {
  NEX_REFUSE_NULL(device, nullptr);
  if (!nex::IsOurs(device)) return NEX_REAL(ibv_open_device)(device);
  return nex::kGuarded<NewContext>(-1);
}

NEX_EXPORT int ibv_close_device(ibv_context* context) {
  NEX_REFUSE_NULL(context, EINVAL);
  if (!nex::IsOurs(context)) return NEX_REAL(ibv_close_device)(context);
  nex::Context* own = nex::Context::From(context);
  if (own->inherited.exchange(false)) return 0;  // what it had is the parent's
  if (!nex::Usable(own, "ibv_close_device")) return EINVAL;
  own->alive = false;
  // Objects that are left over go with the process, as with a device; they still point here.
  if (own->users.load() != 0) return 0;
  own->events.reset();
  own->command.Reset();
  nex::Library::Get()->objects().contexts.Give(own);
  return 0;
}

NEX_EXPORT int ibv_get_async_event(ibv_context* context, ibv_async_event* event) {
  NEX_REFUSE_NULL(context, -1);
  NEX_REFUSE_NULL(event, -1);
  if (!nex::IsOurs(context)) return NEX_REAL(ibv_get_async_event)(context, event);
  return nex::GetAsyncEvent(context, event);
}

NEX_EXPORT int ibv_query_device(ibv_context* context, ibv_device_attr* attributes) {
  NEX_REFUSE_NULL(context, EINVAL);
  NEX_REFUSE_NULL(attributes, EINVAL);
  if (!nex::IsOurs(context)) return NEX_REAL(ibv_query_device)(context, attributes);
  nex::FillDeviceAttributes(*nex::Library::Get(), attributes);
  return 0;
}

NEX_EXPORT int ibv_query_port(ibv_context* context, std::uint8_t port,
                              _compat_ibv_port_attr* attributes) {
  NEX_REFUSE_NULL(context, EINVAL);
  NEX_REFUSE_NULL(attributes, EINVAL);
  if (!nex::IsOurs(context)) return NEX_REAL(ibv_query_port)(context, port, attributes);
  if (port != 1) return EINVAL;
  ibv_port_attr full;
  nex::FillPortAttributes(*nex::Library::Get(), &full);
  // The structure of old programs ends before the field that came after `flags`.
  std::memcpy(attributes, &full, offsetof(ibv_port_attr, port_cap_flags2));
  return 0;
}

NEX_EXPORT int ibv_query_gid(ibv_context* context, std::uint8_t port, int index, ibv_gid* gid) {
  NEX_REFUSE_NULL(context, -1);
  NEX_REFUSE_NULL(gid, -1);
  if (!nex::IsOurs(context)) return NEX_REAL(ibv_query_gid)(context, port, index, gid);
  if (port != 1 || index < 0 || static_cast<std::size_t>(index) >= GidCount()) return Fail(EINVAL);
  FillGid(static_cast<std::size_t>(index), gid);
  return 0;
}

// Not public, but programs of the distribution import it.
extern "C" int ibv_query_gid_type(ibv_context*, std::uint8_t, unsigned, int*);
NEX_EXPORT int ibv_query_gid_type(ibv_context* context, std::uint8_t port, unsigned index,
                                  int* type) {
  NEX_REFUSE_NULL(context, -1);
  NEX_REFUSE_NULL(type, -1);
  if (!nex::IsOurs(context)) return NEX_REAL(ibv_query_gid_type)(context, port, index, type);
  if (port != 1 || index >= GidCount()) return Fail(EINVAL);
  *type = 1;  // RoCE v2
  return 0;
}

NEX_EXPORT int _ibv_query_gid_ex(ibv_context* context, std::uint32_t port, std::uint32_t index,
                                 ibv_gid_entry* entry, std::uint32_t flags, std::size_t size) {
  NEX_REFUSE_NULL(context, EINVAL);
  NEX_REFUSE_NULL(entry, EINVAL);
  if (!nex::IsOurs(context)) {
    return NEX_REAL(_ibv_query_gid_ex)(context, port, index, entry, flags, size);
  }
  if (flags != 0 || port != 1 || index >= GidCount()) return EINVAL;
  if (size < sizeof *entry) return EINVAL;
  std::memset(entry, 0, size);
  FillGidEntry(index, entry);
  return 0;
}

NEX_EXPORT ssize_t _ibv_query_gid_table(ibv_context* context, ibv_gid_entry* entries,
                                        std::size_t max, std::uint32_t flags, std::size_t size) {
  NEX_REFUSE_NULL(context, -EINVAL);
  NEX_REFUSE_NULL(entries, -EINVAL);
  if (!nex::IsOurs(context)) {
    return NEX_REAL(_ibv_query_gid_table)(context, entries, max, flags, size);
  }
  if (flags != 0 || size < sizeof *entries || max < GidCount()) return -EINVAL;
  for (std::size_t i = 0; i < GidCount(); ++i) {
    char* entry = reinterpret_cast<char*>(entries) + i * size;
    std::memset(entry, 0, size);
    FillGidEntry(i, reinterpret_cast<ibv_gid_entry*>(entry));
  }
  return static_cast<ssize_t>(GidCount());
}

NEX_EXPORT int ibv_query_pkey(ibv_context* context, std::uint8_t port, int index, __be16* key) {
  NEX_REFUSE_NULL(context, -1);
  NEX_REFUSE_NULL(key, -1);
  if (!nex::IsOurs(context)) return NEX_REAL(ibv_query_pkey)(context, port, index, key);
  if (port != 1 || index != 0) return Fail(EINVAL);
  *key = 0xffff;
  return 0;
}

NEX_EXPORT int ibv_get_pkey_index(ibv_context* context, std::uint8_t port, __be16 key) {
  NEX_REFUSE_NULL(context, -1);
  if (!nex::IsOurs(context)) return NEX_REAL(ibv_get_pkey_index)(context, port, key);
  return port == 1 && key == 0xffff ? 0 : Fail(EINVAL);
}

NEX_EXPORT int ibv_resolve_eth_l2_from_gid(ibv_context* context, ibv_ah_attr* attributes,
                                           std::uint8_t* mac, std::uint16_t* vlan) {
  NEX_REFUSE_NULL(context, -1);
  if (!nex::IsOurs(context)) {
    return NEX_REAL(ibv_resolve_eth_l2_from_gid)(context, attributes, mac, vlan);
  }
  return Fail(EOPNOTSUPP);  // there is no Ethernet under nex0
}

NEX_EXPORT ibv_context* ibv_import_device(int fd) {
  if (nex::Library::Get() == nullptr) return NEX_REAL(ibv_import_device)(fd);
  if (nex::IsCommandFile(fd)) return nex::kGuarded<NewContext>(fd);
  if (!nex::IsForeignCommandFile(fd)) return NEX_REAL(ibv_import_device)(fd);
  nex::Complain(
      "ibv_import_device: the device was opened by another process, and what that has "
      "registered cannot be used from here");
  errno = EOPNOTSUPP;
  return nullptr;
}
