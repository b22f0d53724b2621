#ifndef FS_VOLUME_INTRUSIVE_LIST_H_
#define FS_VOLUME_INTRUSIVE_LIST_H_

#include <cstddef>

#include "transport/base/check.h"

namespace oxmem::fs {

// The place in a list that an element carries in itself. Copying an element copies no place.
template <typename T>
struct ListLink {
  T* previous = nullptr;
  T* next = nullptr;
  bool linked = false;
};

// A doubly linked list through the member `link` of its elements. It owns nothing and allocates
// nothing; an element is in one list of a given link at a time. One thread.
template <typename T, ListLink<T> T::*link>
class IntrusiveList {
 public:
  bool empty() const { return head_ == nullptr; }
  T* front() const { return head_; }
  static T* Next(const T& element) { return (element.*link).next; }
  static bool Linked(const T& element) { return (element.*link).linked; }

  void PushBack(T& element) {
    ListLink<T>& place = element.*link;
    OXMEM_CHECK(!place.linked);
    place = {.previous = tail_, .next = nullptr, .linked = true};
    (tail_ == nullptr ? head_ : (tail_->*link).next) = &element;
    tail_ = &element;
  }

  void PushFront(T& element) {
    ListLink<T>& place = element.*link;
    OXMEM_CHECK(!place.linked);
    place = {.previous = nullptr, .next = head_, .linked = true};
    (head_ == nullptr ? tail_ : (head_->*link).previous) = &element;
    head_ = &element;
  }

  void Remove(T& element) {
    ListLink<T>& place = element.*link;
    OXMEM_CHECK(place.linked);
    (place.previous == nullptr ? head_ : (place.previous->*link).next) = place.next;
    (place.next == nullptr ? tail_ : (place.next->*link).previous) = place.previous;
    place = {};
  }

 private:
  T* head_ = nullptr;
  T* tail_ = nullptr;
};

}  // namespace oxmem::fs

#endif  // FS_VOLUME_INTRUSIVE_LIST_H_
