#ifndef RDMA_NEX_OBJECTS_H_
#define RDMA_NEX_OBJECTS_H_

#include <infiniband/verbs.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "rdma/nex/datagram.h"
#include "rdma/nex/debug.h"
#include "rdma/nex/direct/neighbour.h"
#include "rdma/nex/event_queue.h"
#include "rdma/nex/qp/queue_pair.h"
#include "rdma/nex/receive_queue.h"
#include "rdma/nex/stream.h"

// The objects behind the handles of the verbs. Each begins with the structure that programs see,
// so a handle and its object are the same address. Lock order: Qp, ReceiveQueue, Cq, Channel.
// Their memory is never freed (object_pool.h): `alive` says whether a handle still stands for one.
namespace oxmem::nex {

struct Cq;
struct Qp;

struct ContextVerbs {
  verbs_context verbs{};
};

struct Context : ContextVerbs {
  static constexpr const char* kKind = "context";
  std::atomic<bool> alive{false};
  std::atomic<bool> inherited{false};  // from the parent of a fork
  std::unique_ptr<EventQueue<ibv_async_event>> events;
  std::atomic<int> users{0};  // objects made from it
  UniqueFd command;           // what programs know as its descriptor, and contexts may share
  ino_t file = 0;             // of the descriptor

  static Context* From(ibv_context* context) {
    auto* verbs = reinterpret_cast<char*>(context) - offsetof(verbs_context, context);
    return static_cast<Context*>(reinterpret_cast<ContextVerbs*>(verbs));
  }
};

struct Pd {
  ibv_pd base{};
  static constexpr const char* kKind = "protection domain";
  std::atomic<bool> alive{false};
  std::uint32_t domain = 0;
  Pd* parent = nullptr;  // of a parent domain, or one that is imported
  bool imported = false;
  std::atomic<int> users{0};
};

struct Mr {
  ibv_mr base{};
  static constexpr const char* kKind = "memory region";
  std::atomic<bool> alive{false};
  Region* region = nullptr;
  std::uint32_t access = 0;
  std::uint64_t first = 0;
  bool imported = false;
};

struct Mw {
  ibv_mw base{};
  static constexpr const char* kKind = "memory window";
  std::atomic<bool> alive{false};
  Region* region = nullptr;
};

struct Channel {
  ibv_comp_channel base{};
  static constexpr const char* kKind = "completion channel";
  std::atomic<bool> alive{false};
  std::unique_ptr<EventQueue<Cq*>> events;
};

// A completion as it lies in a queue.
struct CqEntry {
  ibv_wc wc;
  std::uint64_t time_ns;
  std::atomic<std::uint32_t>* slots;  // Qp::unpolled of a request; else null
};

struct Cq {
  ibv_cq_ex base{};
  static constexpr const char* kKind = "completion queue";
  std::atomic<bool> alive{false};
  std::mutex mutex;
  std::vector<CqEntry> ring;  // capacity base.cqe
  std::size_t head = 0;
  // Changed under the lock; that there is nothing can be seen without it.
  std::atomic<std::size_t> count{0};
  bool armed = false;
  bool solicited_only = false;
  std::atomic<bool> overrun{false};  // for good; nothing is taken any more
  bool ignore_overrun = false;
  bool timestamps = false;
  std::uint32_t reported = 0;  // channel events handed to the program
  std::uint32_t async_reported = 0;
  std::atomic<bool> awaits_acks{false};  // of these, to be gone for good
  CqEntry current{};  // what the extended readers look at
  std::atomic<int> users{0};
  // When it has only so many queue pairs, they are polled directly, without epoll.
  static constexpr int kDirect = 2;
  std::array<std::atomic<Qp*>, kDirect> direct{};
  std::atomic<int> attached{0};   // queue pairs
  std::atomic<int> elsewhere{0};  // of these, not in `direct`
  // By whoever polls; exactness does not matter.
  std::atomic<std::uint32_t> polls{0};
  std::atomic<std::uint32_t> empty_polls{0};
};

struct Srq {
  ibv_srq base{};
  static constexpr const char* kKind = "shared receive queue";
  std::atomic<bool> alive{false};
  // XRC targets that have taken from it keep it, closed, when this is destroyed.
  std::shared_ptr<ReceiveQueue> queue;
  std::uint32_t number = 0;
  Cq* cq = nullptr;  // of an XRC queue
  ibv_xrcd* xrcd = nullptr;
  std::atomic<int> users{0};
  std::uint32_t async_reported = 0;
};

struct Xrcd {
  ibv_xrcd base{};
  static constexpr const char* kKind = "XRC domain";
  std::atomic<bool> alive{false};
  dev_t device = 0;
  ino_t inode = 0;
  int opens = 1;
  std::atomic<int> users{0};
};

struct Ah {
  ibv_ah base{};
  static constexpr const char* kKind = "address handle";
  std::atomic<bool> alive{false};
  ibv_ah_attr attributes{};
};

// How a queue pair reaches a receive queue: remembers itself as the waiter.
class QpReceives : public ReceiveSource {
 public:
  QpReceives(Qp* qp, ReceiveQueue* queue, Srq* shared) : qp_(qp), queue_(queue), shared_(shared) {}
  bool Take(ReceiveWork* work) override;
  std::uint32_t Await() override { return queue_->Await(qp_); }
  std::uint32_t domain() const override { return queue_->domain(); }

 private:
  Qp* const qp_;
  ReceiveQueue* const queue_;
  Srq* const shared_;
};

// What an XRC message names by its number, as it is at that moment.
struct XrcQueue {
  Srq* srq = nullptr;  // none
  std::shared_ptr<ReceiveQueue> receives;
  Cq* cq = nullptr;
  ibv_xrcd* xrcd = nullptr;
};

// The shared queues from which an XRC target has taken. A number stands for the same queue until
// that is closed, so the library is asked once for each.
class XrcQueues : public SharedQueueFinder {
 public:
  explicit XrcQueues(Qp* qp) : qp_(qp) {}
  ReceiveSource* FindSharedQueue(std::uint32_t number) override;
  // Where the receives of a source that was found complete; nullptr when it is gone.
  Cq* CompletionQueueOf(const ReceiveSource* source) const;
  void Forget();

 private:
  struct Known {
    std::uint32_t number;
    XrcQueue queue;
    std::unique_ptr<QpReceives> source;
  };

  Qp* const qp_;
  std::vector<Known> known_;
};

// A queue pair. The objects of an index live as long as the process and are used again, so a
// stale handle finds a queue pair that is not alive instead of freed memory.
struct Qp {
  ibv_qp_ex base{};
  static constexpr const char* kKind = "queue pair";
  std::mutex mutex;  // guards everything below that is not atomic
  std::uint32_t index = 0;
  std::atomic<bool> taken{false};  // the index is in use
  std::atomic<bool> alive{false};
  std::atomic<ibv_qp_state> state{IBV_QPS_RESET};
  ibv_qp_attr attributes{};
  ibv_qp_init_attr init{};
  Pd* pd = nullptr;
  std::atomic<Cq*> send_cq{nullptr};
  std::atomic<Cq*> recv_cq{nullptr};
  Srq* srq = nullptr;
  Xrcd* xrcd = nullptr;
  std::unique_ptr<ReceiveQueue> own_receives;
  std::unique_ptr<QpReceives> receives;
  std::unique_ptr<XrcQueues> xrc;
  std::unique_ptr<QueuePair> machine;     // connected types
  std::unique_ptr<DatagramQp> datagrams;  // UD
  // What it sends to a group of which it is a member does not come back. Any thread reads it.
  std::atomic<bool> deaf_to_itself{false};
  // Requests that have completed and whose completions the program has not polled: they still take
  // their places in the send queue. Changed under the lock of send_cq.
  std::atomic<std::uint32_t> unpolled{0};
  Stream stream;
  // Who greeted before this queue pair was ready to receive (again), and knew who its peer is.
  struct Held {
    UniqueFd fd;
    Greeting hello;
  };
  std::vector<Held> held;
  Way way;                                // to the peer's memory, on the same host
  bool connects = false;                  // it greets its peer; else it waits for a greeting
  Instant connect_at = Instant::Never();  // next attempt
  int connect_tries = 0;
  bool hurried = false;  // requests that wait have shortened the time until the next attempt
  Instant look_at = Instant::Never();  // when to see whether unanswered requests got on
  std::uint64_t looked_bytes = 0;      // what had come in by the last look
  Instant timer = Instant::Never();    // what the engine has for it
  std::uint32_t polls_seen = 0;        // of its queues, by the engine's thread; nobody else's
  std::atomic<bool> listed{false};     // in the engine's list of delayed acknowledgements
  std::uint32_t async_reported = 0;
  bool drain_notify = false;
  // What happened to the stream (EPOLL*) that nobody has looked at yet. Whoever gives up `mutex`
  // looks here afterwards: see QpLock.
  std::atomic<std::uint32_t> signals{0};
  // The ibv_wr_* builders. From start to complete or abort it is one thread's, which has the lock;
  // taken before that of the queue pair.
  struct Builder {
    struct Request {
      ibv_send_wr wr{};
      std::vector<ibv_sge> sges;
      std::vector<std::byte> copy;
    };
    std::mutex mutex;
    std::atomic<std::thread::id> owner{};
    std::vector<Request> requests;
    Request refused;  // takes what is said of one that found no room
    int error = 0;
  };
  std::unique_ptr<Builder> builder;

  ibv_qp* handle() { return &base.qp_base; }
  static Qp* From(ibv_qp* qp) { return reinterpret_cast<Qp*>(qp); }
  bool connected_type() const { return machine != nullptr; }
};

// Whether a handle stands for an object of this process; if not, it says so on stderr, once for
// each verb, and sets errno to EINVAL.
template <typename Object>
bool Usable(const Object* object, const char* verb) {
  if (object->alive.load(std::memory_order_acquire)) [[likely]]
    return true;
  ComplainOfHandle(verb, Object::kKind);
  return false;
}

// Completion queues (completion_queue.cc). Push is called with the queue pair's lock held. False:
// the queue overran, so the completion is lost and the queue pair cannot go on. `slots`: see
// CqEntry.
bool PushCompletion(Cq* cq, const ibv_wc& wc, bool solicited,
                    std::atomic<std::uint32_t>* slots = nullptr);
// Takes out what a queue pair that is reset or destroyed has left behind.
void PurgeCompletions(Cq* cq, std::uint32_t qpn);
int PopCompletions(Cq* cq, int max, CqEntry* out);

// Reports an asynchronous event of a context.
void PushAsync(ibv_context* context, const ibv_async_event& event);
void PushQpEvent(Qp* qp, ibv_event_type type);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_OBJECTS_H_
