#!/usr/bin/env python3
"""A thousand connected queue pairs in one process, each of which writes and sends, and what they cost.

Run under nexrun with the interpreter pyverbs is installed for. Exits 77 without pyverbs.
"""
import os
import sys
import time

try:
    import pyverbs.enums as e
    from pyverbs.addr import AHAttr, GlobalRoute
    from pyverbs.cq import CQ
    from pyverbs.device import Context
    from pyverbs.mr import MR
    from pyverbs.pd import PD
    from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
    from pyverbs.wr import SGE, RecvWR, SendWR
except ImportError:
    sys.exit(77)

PAIRS = 500
DEPTH = 4
# What a queue pair may cost beyond its rings: DEPTH requests each way, with 512 bytes of inline data.
LIMIT_KIB = 64


def resident_kib():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def fresh(pd, init):
    """A queue pair in the state INIT."""
    attr = QPAttr(port_num=1)
    attr.qp_access_flags = e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_LOCAL_WRITE
    return QP(pd, init, attr)


def attributes(context, peer):
    attr = QPAttr(port_num=1)
    attr.dest_qp_num = peer.qp_num
    attr.path_mtu = e.IBV_MTU_1024
    attr.max_rd_atomic = attr.max_dest_rd_atomic = 1
    attr.min_rnr_timer, attr.timeout, attr.retry_cnt, attr.rnr_retry = 12, 14, 7, 7
    route = GlobalRoute(dgid=context.query_gid(1, 0), sgid_index=0)
    attr.ah_attr = AHAttr(port_num=1, is_global=1, gr=route, dlid=1)
    return attr


def collect(cq, wanted):
    done = []
    deadline = time.monotonic() + 60
    while len(done) < wanted:
        assert time.monotonic() < deadline, f"{len(done)} of {wanted} completions"
        _, entries = cq.poll(16)
        done += entries
    for entry in done:
        assert entry.status == e.IBV_WC_SUCCESS, entry
    return done


def main():
    context = Context(name="nex0")
    pd = PD(context)
    cq = CQ(context, 8 * PAIRS)
    mr = MR(pd, 1 << 16, e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_LOCAL_WRITE)
    cap = QPCap(max_send_wr=DEPTH, max_recv_wr=DEPTH, max_send_sge=1, max_recv_sge=1)
    init = QPInitAttr(qp_type=e.IBV_QPT_RC, scq=cq, rcq=cq, cap=cap, sq_sig_all=1)
    before = resident_kib()
    qps = [fresh(pd, init) for _ in range(2 * PAIRS)]
    for first, second in zip(qps[::2], qps[1::2]):
        first.to_rts(attributes(context, second))
        second.to_rts(attributes(context, first))
    for number, qp in enumerate(qps):
        # Every request has bytes of its own to write to.
        qp.post_recv(RecvWR(sg=[SGE(mr.buf + (1 << 15) + 8 * number, 8, mr.lkey)], num_sge=1))
        wr = SendWR(wr_id=number, opcode=e.IBV_WR_RDMA_WRITE, num_sge=1, sg=[SGE(mr.buf, 8, mr.lkey)])
        wr.set_wr_rdma(mr.rkey, mr.buf + 8 * (number + 1))
        qp.post_send(wr)
        qp.post_send(SendWR(wr_id=number, opcode=e.IBV_WR_SEND, num_sge=1, sg=[SGE(mr.buf, 8, mr.lkey)]))
    collect(cq, 3 * len(qps))
    each = (resident_kib() - before) / len(qps)
    print(f"{len(qps)} queue pairs, {each:.1f} KiB each with their rings")
    # A sanitizer keeps memory of its own for every object.
    assert each <= LIMIT_KIB or "libclang_rt." in os.environ.get("LD_PRELOAD", ""), each
    # What was destroyed can be made again.
    for qp in qps:
        qp.close()
    again = [fresh(pd, init) for _ in range(2 * PAIRS)]
    for qp in again:
        qp.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
