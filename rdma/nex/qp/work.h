#ifndef RDMA_NEX_QP_WORK_H_
#define RDMA_NEX_QP_WORK_H_

#include <infiniband/verbs.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "rdma/nex/region_table.h"

namespace oxmem::nex {

inline constexpr int kMaxSges = 16;
inline constexpr std::uint32_t kMaxInlineBytes = 512;

// A posted receive, taken off its queue for one message.
struct ReceiveWork {
  std::uint64_t wr_id = 0;
  std::uint32_t domain = 0;  // of the queue: a shared queue has its own
  int sge_count = 0;
  std::array<ibv_sge, kMaxSges> sges;
};

// What BIND_MW binds; the caller knows the objects behind the handles of the request.
struct BindWork {
  Region* window = nullptr;
  std::uint32_t key = 0;
  RegionTable::WindowBinding binding;
};

// Where a responder takes receives from: the queue pair's own queue or a shared one.
class ReceiveSource {
 public:
  virtual ~ReceiveSource() = default;
  // False when there is none; the queue then tells its waiter when that changes.
  virtual bool Take(ReceiveWork* work) = 0;
  // How many are posted. While these are few, the queue tells its waiter when there are more.
  virtual std::uint32_t Await() = 0;
  // The protection domain of the queue.
  virtual std::uint32_t domain() const = 0;
};

// Finds the shared receive queue that an XRC message names; nullptr refuses the message.
class SharedQueueFinder {
 public:
  virtual ~SharedQueueFinder() = default;
  virtual ReceiveSource* FindSharedQueue(std::uint32_t number) = 0;
};

// What a queue pair reports to its owner, in order.
struct Completion {
  ibv_wc wc{};
  bool receive = false;
  bool solicited = false;
  ReceiveSource* source = nullptr;  // where the receive came from
};

// Bytes a message reads or writes: local scatter/gather entries, one remote range, or a copy.
struct Payload {
  const ibv_sge* sges = nullptr;
  int count = 0;
  const std::byte* copy = nullptr;  // inline data; then sges are unused
  RegionUse use = RegionUse::kLocal;
  std::uint32_t access = 0;
  std::uint32_t domain = 0;
  std::uint32_t qpn = 0;
};

std::uint64_t PayloadLength(const Payload& payload);

// A few pieces of memory for one system call, with the regions that must stay until it is done.
struct IoBatch {
  static constexpr int kPieces = 64;
  std::array<iovec, kPieces> pieces;
  std::array<Region*, kPieces> pinned;
  int piece_count = 0;
  int pinned_count = 0;
  std::size_t bytes = 0;

  bool full() const { return piece_count == kPieces; }
  void Add(const void* memory, std::size_t length);
  void Release();  // unpins; the pieces must not be used any more
};

enum class MapResult : std::uint8_t { kOk, kRefused };

// Adds the bytes [offset, offset + limit) of the payload, or as many as the batch has room for,
// pinning what they lie in. kRefused: some entry fails its checks, nothing stays pinned of it.
MapResult MapPayload(RegionTable& regions, const Payload& payload, std::uint64_t offset,
                     std::uint64_t limit, IoBatch* batch);

// Checks every entry up to `length` bytes without keeping pins.
MapResult CheckPayload(RegionTable& regions, const Payload& payload, std::uint64_t length);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_QP_WORK_H_
