#ifndef TESTS_E2E_NEX_VERBS_DEVICE_H_
#define TESTS_E2E_NEX_VERBS_DEVICE_H_

#include <gtest/gtest.h>
#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace oxmem::nex {

inline constexpr int kAllAccess = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                                  IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC |
                                  IBV_ACCESS_MW_BIND;

// How a queue pair is brought up.
struct QpOptions {
  ibv_qp_type type = IBV_QPT_RC;
  std::uint32_t depth = 64;
  int access = kAllAccess;
  std::uint8_t rnr_retry = 7;
  std::uint8_t min_rnr_timer = 12;  // 0.64 ms
  std::uint8_t timeout = 14;
  std::uint8_t retry_count = 7;
  std::uint8_t reads = 16;
  bool by_lid = false;  // the peer is known by its LID only
  ibv_srq* srq = nullptr;
};

// Where a queue pair is, as programs tell it each other.
struct QpAddress {
  std::uint32_t qpn = 0;
  ibv_gid gid{};
  std::uint16_t lid = 0;
};

inline constexpr std::uint32_t kTestQueueKey = 0x11111111;

// One opened device with a protection domain, a completion queue and a registered buffer: the one
// that VERBS_DEVICE names, or else the first. Where the program is linked with libnex in front of
// libibverbs, or runs under nexrun, that is nex0.
class VerbsTest : public testing::Test {
 protected:
  static constexpr std::size_t kBuffer = 1 << 20;

  void SetUp() override;
  void TearDown() override;

  ibv_qp* MakeQp(const QpOptions& options, ibv_cq* cq = nullptr);
  // A domain of its own, and what receives in it.
  ibv_xrcd* OpenXrcd();
  ibv_srq* MakeXrcQueue(ibv_xrcd* xrcd, ibv_cq* cq);
  ibv_qp* MakeXrcTarget(ibv_xrcd* xrcd);
  void ToInit(ibv_qp* qp, const QpOptions& options);
  void ToRtr(ibv_qp* qp, const QpAddress& peer, const QpOptions& options);
  void ToRts(ibv_qp* qp, const QpAddress& peer, const QpOptions& options);  // from INIT
  QpAddress AddressOf(const ibv_qp* qp) const;
  // Both in RTS, connected with each other.
  void Connect(ibv_qp* a, ibv_qp* b, const QpOptions& options);

  ibv_sge Range(std::size_t offset, std::uint32_t length) const {
    return {reinterpret_cast<std::uintptr_t>(buffer_.data()) + offset, length, mr_->lkey};
  }
  std::uint64_t At(std::size_t offset) const { return Range(offset, 0).addr; }

  // The code of ibv_post_send / ibv_post_recv.
  static int Send(ibv_qp* qp, ibv_send_wr wr, std::vector<ibv_sge> sges);
  static int Receive(ibv_qp* qp, std::uint64_t id, std::vector<ibv_sge> sges);
  static int Receive(ibv_srq* srq, std::uint64_t id, std::vector<ibv_sge> sges);
  static ibv_send_wr Wr(std::uint64_t id, ibv_wr_opcode opcode);

  // So many completions; fails the test when they do not come within 20 s.
  static std::vector<ibv_wc> Wait(ibv_cq* cq, std::size_t count);
  // The next asynchronous event within 20 s, acknowledged.
  std::optional<ibv_async_event> NextEvent();
  bool HasEvent() const;  // without waiting

  ibv_context* context_ = nullptr;
  std::uint8_t gid_index_ = 0;  // of the port's first RoCE v2 address
  ibv_pd* pd_ = nullptr;
  ibv_cq* cq_ = nullptr;
  ibv_mr* mr_ = nullptr;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kBuffer);
  std::vector<ibv_qp*> qps_;  // destroyed at the end of the test
};

// Runs `action` and returns what it wrote to stderr.
template <typename Action>
std::string ErrorsOf(Action action) {
  testing::internal::CaptureStderr();
  action();
  return testing::internal::GetCapturedStderr();
}

}  // namespace oxmem::nex

#endif  // TESTS_E2E_NEX_VERBS_DEVICE_H_
