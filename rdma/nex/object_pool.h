#ifndef RDMA_NEX_OBJECT_POOL_H_
#define RDMA_NEX_OBJECT_POOL_H_

#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <new>

namespace oxmem::nex {

// The objects of one kind behind handles of the verbs, each with an atomic `alive`. Their memory
// stays theirs as long as the process lives and is used again late, so a stale handle, or a thread
// that is just looking, finds an object that is not alive instead of freed memory. Thread-safe.
template <typename Object>
class ObjectPool {
 public:
  static constexpr std::size_t kNoLimit = ~std::size_t{0};
  // So many objects may be taken at a time.
  explicit ObjectPool(std::size_t limit = kNoLimit) : limit_(limit) {}
  ObjectPool(const ObjectPool&) = delete;
  ObjectPool& operator=(const ObjectPool&) = delete;

  // An object that is not alive, as it was given back or new. Whoever takes it makes it alive.
  // Where there are as many as there may be, that is as if there were no memory: std::bad_alloc.
  Object* Take() {
    {
      const std::lock_guard lock(mutex_);
      if (taken_ == limit_) throw std::bad_alloc();
      ++taken_;
      if (resting_.size() > kResting) {
        Object* object = resting_.front();
        resting_.pop_front();
        return object;
      }
    }
    Node* node;
    try {
      node = new Node;
    } catch (...) {
      const std::lock_guard lock(mutex_);
      --taken_;
      throw;
    }
    node->next = made_.load();
    while (!made_.compare_exchange_weak(node->next, node)) {
    }
    return &node->object;
  }

  // `object` is not alive any more.
  void Give(Object* object) {
    const std::lock_guard lock(mutex_);
    --taken_;
    try {
      resting_.push_back(object);
    } catch (const std::bad_alloc&) {
      // It is not used again.
    }
  }

  // Takes no lock, so it works in the child of a fork, where another thread may hold it for ever.
  template <typename Visit>
  void ForEach(Visit visit) {
    for (Node* node = made_.load(); node != nullptr; node = node->next) visit(node->object);
  }
  void AbandonInChild() {
    ForEach([](Object& object) { object.alive = false; });
  }

 private:
  struct Node {
    Object object;
    Node* next = nullptr;
  };
  // So many rest before the first is used again.
  static constexpr std::size_t kResting = 256;

  const std::size_t limit_;
  std::atomic<Node*> made_{nullptr};
  std::mutex mutex_;  // guards the next two
  std::size_t taken_ = 0;
  std::deque<Object*> resting_;
};

// Gives an object that is not alive its first state; not for objects that other threads look at.
template <typename Object>
Object* Renewed(Object* object) {
  std::destroy_at(object);
  return std::construct_at(object);
}

}  // namespace oxmem::nex

#endif  // RDMA_NEX_OBJECT_POOL_H_
