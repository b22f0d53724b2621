#ifndef RDMA_NEX_QP_TRANSITIONS_H_
#define RDMA_NEX_QP_TRANSITIONS_H_

#include <infiniband/verbs.h>

namespace oxmem::nex {

// The queue pair state table (InfiniBand 10.3.1, ibv_modify_qp(3)): whether a transition exists,
// and that every attribute it needs and none it does not know is in the mask.
//
//   RESET -> INIT -> RTR -> RTS <-> SQD        any -> RESET, any -> ERR
//            INIT -> INIT   RTS -> RTS  SQD -> SQD   SQE -> RTS (UD, UC)
bool TransitionAllowed(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to, int mask);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_QP_TRANSITIONS_H_
