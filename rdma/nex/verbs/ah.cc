// Address handles.
#include <errno.h>

#include <cstring>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {

ibv_ah* CreateAh(ibv_pd* pd, ibv_ah_attr* attributes) {
  if (!Usable(reinterpret_cast<Pd*>(pd), "ibv_create_ah")) return nullptr;
  // An address is a GID, as on every RoCE port, or a LID: programs that exchange LIDs only work
  // then.
  const Config& config = Library::Get()->config();
  const bool global = attributes->is_global != 0;
  if (attributes->port_num != 1 || (!global && attributes->dlid == 0) ||
      (global && attributes->grh.sgid_index >= config.addresses.size())) {
    errno = EINVAL;
    return nullptr;
  }
  Ah* ah = Renewed(Library::Get()->objects().addresses.Take());
  ah->base.context = pd->context;
  ah->base.pd = pd;
  ah->attributes = *attributes;
  ah->alive = true;
  reinterpret_cast<Pd*>(pd)->users.fetch_add(1);
  return &ah->base;
}

int DestroyAh(ibv_ah* handle) {
  auto* ah = reinterpret_cast<Ah*>(handle);
  if (!Usable(ah, "ibv_destroy_ah")) return EINVAL;
  ah->alive = false;
  reinterpret_cast<Pd*>(handle->pd)->users.fetch_sub(1);
  Library::Get()->objects().addresses.Give(ah);
  return 0;
}

int InitAhFromWc(std::uint8_t port, const ibv_wc& wc, const ibv_grh* grh, ibv_ah_attr* out) {
  const Config& config = Library::Get()->config();
  *out = {};
  out->dlid = wc.slid;
  out->sl = wc.sl;
  out->src_path_bits = wc.dlid_path_bits;
  out->port_num = port;
  if ((wc.wc_flags & IBV_WC_GRH) == 0) return 0;
  if (grh == nullptr) return EINVAL;
  // The two headers that a RoCE v2 packet can have lie differently in the 40 bytes.
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(grh);
  Gid own{}, peer{};
  if ((bytes[0] >> 4) == 6) {
    std::memcpy(peer.data(), bytes + 8, 16);
    std::memcpy(own.data(), bytes + 24, 16);
  } else {
    own[10] = own[11] = peer[10] = peer[11] = 0xff;
    std::memcpy(&peer[12], bytes + 20 + 12, 4);
    std::memcpy(&own[12], bytes + 20 + 16, 4);
  }
  out->is_global = 1;
  std::memcpy(out->grh.dgid.raw, peer.data(), peer.size());
  out->grh.hop_limit = 0xff;
  for (std::size_t i = 0; i < config.addresses.size(); ++i) {
    if (config.addresses[i].gid == own) out->grh.sgid_index = static_cast<std::uint8_t>(i);
  }
  return 0;
}

}  // namespace oxmem::nex
