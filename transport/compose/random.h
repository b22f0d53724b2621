#ifndef TRANSPORT_COMPOSE_RANDOM_H_
#define TRANSPORT_COMPOSE_RANDOM_H_

#include <cstdint>

namespace oxmem::transport {

// The SplitMix64 generator: the same numbers from the same seed with every library and compiler,
// which <random>'s distributions do not promise.
inline uint64_t NextRandom(uint64_t& state) {
  state += 0x9e3779b97f4a7c15u;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Evenly between 0 (included) and 1 (not).
inline double NextFraction(uint64_t& state) {
  return static_cast<double>(NextRandom(state) >> 11) * 0x1.0p-53;
}

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_RANDOM_H_
