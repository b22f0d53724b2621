// What nex0 says about itself.
#include <endian.h>
#include <errno.h>
#include <time.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/device.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {
namespace {

constexpr std::uint32_t kVendorId = 0x4e5801;
constexpr const char* kFirmware = "1.0.0";

int QueryPortEx(ibv_context*, std::uint8_t port, ibv_port_attr* out, std::size_t size) {
  if (IsNull(out, "ibv_query_port", "attributes") || port != 1) return EINVAL;
  ibv_port_attr attributes{};
  FillPortAttributes(*Library::Get(), &attributes);
  std::memset(out, 0, size);
  std::memcpy(out, &attributes, std::min(size, sizeof attributes));
  return 0;
}

int QueryDeviceEx(ibv_context*, const ibv_query_device_ex_input* input,
                  ibv_device_attr_ex* attributes, std::size_t size) {
  if (IsNull(attributes, "ibv_query_device_ex", "attributes")) return EINVAL;
  if (input != nullptr && input->comp_mask != 0) return EINVAL;
  if (size < sizeof attributes->orig_attr) return EINVAL;
  ibv_device_attr_ex full{};
  FillDeviceAttributes(*Library::Get(), &full.orig_attr);
  full.device_cap_flags_ex = full.orig_attr.device_cap_flags;
  full.completion_timestamp_mask = ~std::uint64_t{0};
  full.hca_core_clock = 1000000;  // kHz: timestamps count nanoseconds
  full.phys_port_cnt_ex = 1;
  std::memset(attributes, 0, size);
  std::memcpy(attributes, &full, std::min(size, sizeof full));
  return 0;
}

int QueryClock(ibv_context*, ibv_values_ex* values) {
  if (IsNull(values, "ibv_query_rt_values_ex", "values")) return EINVAL;
  if ((values->comp_mask & ~IBV_VALUES_MASK_RAW_CLOCK) != 0) return EINVAL;
  // The clock of the completion timestamps.
  if (values->comp_mask != 0) clock_gettime(CLOCK_REALTIME, &values->raw_clock);
  return 0;
}

}  // namespace

std::uint64_t NodeGuid(const Library& library) {
  // Locally administered, made of the primary address: the same for all processes of a host.
  const Gid& gid = library.config().addresses[0].gid;
  std::uint64_t guid = 0x0200000000000000u;
  for (int i = 10; i < 16; ++i) {
    guid |= static_cast<std::uint64_t>(gid[static_cast<std::size_t>(i)]) << (8 * (15 - i));
  }
  return htobe64(guid);
}

void FillDeviceAttributes(const Library& library, ibv_device_attr* a) {
  *a = {};
  std::strncpy(a->fw_ver, kFirmware, sizeof a->fw_ver - 1);
  a->node_guid = a->sys_image_guid = NodeGuid(library);
  a->max_mr_size = ~std::uint64_t{0};
  a->page_size_cap = 0xfffffffffffff000;
  a->vendor_id = kVendorId;
  a->vendor_part_id = 1;
  a->hw_ver = 1;
  a->max_qp = kMaxQps;
  a->max_qp_wr = kMaxQueueDepth;
  a->device_cap_flags = IBV_DEVICE_RC_RNR_NAK_GEN | IBV_DEVICE_SYS_IMAGE_GUID |
                        IBV_DEVICE_SRQ_RESIZE | IBV_DEVICE_CURR_QP_STATE_MOD |
                        IBV_DEVICE_MEM_WINDOW | IBV_DEVICE_MEM_WINDOW_TYPE_2B |
                        IBV_DEVICE_MEM_MGT_EXTENSIONS | IBV_DEVICE_XRC;
  a->max_sge = a->max_sge_rd = kMaxSges;
  a->max_cq = kMaxCqs;
  a->max_cqe = kMaxCqe;
  a->max_mr = kMaxRegions;
  a->max_pd = kMaxDomains;
  a->max_qp_rd_atom = a->max_qp_init_rd_atom = kMaxReadsPerQp;
  a->max_res_rd_atom = kMaxReadsPerQp * kMaxQps;
  // They are atomic for processors too (IBV_ATOMIC_GLOB), but devices say HCA, and UCX looks for
  // just that.
  a->atomic_cap = IBV_ATOMIC_HCA;
  a->max_mw = kMaxRegions;
  a->max_mcast_grp = MulticastGroups::kMaxGroups;
  a->max_mcast_qp_attach = MulticastGroups::kMaxMembers;
  a->max_total_mcast_qp_attach = MulticastGroups::kMaxGroups * MulticastGroups::kMaxMembers;
  a->max_ah = kMaxAddresses;
  a->max_srq = kMaxSharedQueues;
  a->max_srq_wr = kMaxQueueDepth;
  a->max_srq_sge = kMaxSges;
  a->max_pkeys = 1;
  a->local_ca_ack_delay = 15;
  a->phys_port_cnt = 1;
}

void FillPortAttributes(const Library& library, ibv_port_attr* a) {
  *a = {};
  a->state = IBV_PORT_ACTIVE;
  a->max_mtu = a->active_mtu = IBV_MTU_4096;
  a->gid_tbl_len = static_cast<int>(library.config().addresses.size());
  a->port_cap_flags = IBV_PORT_CM_SUP | IBV_PORT_IP_BASED_GIDS;
  a->max_msg_sz = kMaxMessageBytes;
  a->qkey_viol_cntr = library.engine().wrong_keys();
  a->pkey_tbl_len = 1;
  a->lid = LidOf(library.config().addresses[0].gid);
  a->max_vl_num = 1;
  a->active_width = 2;   // 4X
  a->active_speed = 32;  // EDR
  a->phys_state = 5;     // LinkUp
  a->link_layer = IBV_LINK_LAYER_ETHERNET;
}

void FillContextOperations(verbs_context* v) {
  v->sz = sizeof *v;
  v->context.abi_compat = __VERBS_ABI_IS_EXTENDED;
  v->query_port = QueryPortEx;
  v->query_device_ex = QueryDeviceEx;
  v->query_rt_values = QueryClock;
  v->create_cq_ex = kGuarded<CreateCqEx>;
  v->create_qp_ex = kGuarded<CreateQpEx>;
  v->alloc_parent_domain = kGuarded<AllocParentDomain>;
  v->create_srq_ex = kGuarded<CreateSrqEx>;
  v->get_srq_num = GetSrqNumber;
  v->open_xrcd = kGuarded<OpenXrcd>;
  v->close_xrcd = CloseXrcd;
  ibv_context_ops& ops = v->context.ops;
  ops.poll_cq = PollCq;
  ops.req_notify_cq = RequestNotify;
  ops.post_send = PostSend;
  ops.post_recv = PostReceive;
  ops.post_srq_recv = PostSrqReceive;
  ops.alloc_mw = kGuarded<AllocMw>;
  ops.bind_mw = BindMw;
  ops.dealloc_mw = DeallocMw;
}

}  // namespace oxmem::nex
