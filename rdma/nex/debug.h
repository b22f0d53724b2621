#ifndef RDMA_NEX_DEBUG_H_
#define RDMA_NEX_DEBUG_H_

namespace oxmem::nex {

// NEX_DEBUG: 0 quiet, 1 connections and errors, 2 every verb that makes or changes an object.
extern int debug_level;

[[gnu::format(printf, 1, 2)]] void DebugLine(const char* format, ...);

// One line on stderr, once for each text.
void Complain(const char* what);

// For Complain: what a connection of two queue pairs needs cannot be had.
inline constexpr char kNoDescriptors[] =
    "no file descriptors left for connections of queue pairs (see `ulimit -n`): requests will fail "
    "as if the peer were lost";

// The same for a handle that stands for nothing; errno is EINVAL afterwards.
void ComplainOfHandle(const char* verb, const char* kind);

// The same for an argument that is not there.
void ComplainOfNull(const char* verb, const char* what);
inline bool IsNull(const void* argument, const char* verb, const char* what) {
  if (argument != nullptr) [[likely]]
    return false;
  ComplainOfNull(verb, what);
  return true;
}

}  // namespace oxmem::nex

#define NEX_DEBUG(level, ...)                                \
  (__builtin_expect(::oxmem::nex::debug_level >= (level), 0) \
       ? ::oxmem::nex::DebugLine(__VA_ARGS__)                \
       : static_cast<void>(0))

#endif  // RDMA_NEX_DEBUG_H_
