#ifndef TESTS_TRANSPORT_COMPOSE_LEG_FIXTURE_H_
#define TESTS_TRANSPORT_COMPOSE_LEG_FIXTURE_H_

#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "transport/compose/fault_channel.h"
#include "transport/local/memory_channel.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {

// Memory whose content the test sees, behind a shim that the test makes fail.
struct TestLeg {
  std::shared_ptr<MappedMemory> memory;
  FaultChannel* fault = nullptr;  // owned by the composition

  bool Holds(uint64_t offset, std::span<const std::byte> bytes) const {
    return std::memcmp(memory->data() + offset, bytes.data(), bytes.size()) == 0;
  }
};

// One more way to the leg's memory.
inline std::unique_ptr<Channel> OpenLeg(TestLeg& leg, FaultOptions options,
                                        MemoryChannelOptions memory_options = {.depth = 32}) {
  auto fault = std::make_unique<FaultChannel>(
      std::make_unique<MemoryChannel>(leg.memory, std::move(memory_options)), std::move(options));
  leg.fault = fault.get();
  return fault;
}

inline std::unique_ptr<Channel> MakeLeg(TestLeg& leg, uint64_t size, FaultOptions options,
                                        MemoryChannelOptions memory_options = {.depth = 32}) {
  leg.memory = *CreateMemory(size, HugePages::kNo);
  return OpenLeg(leg, std::move(options), std::move(memory_options));
}

inline std::vector<std::byte> Filled(std::size_t count, int value) {
  return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

// Polls up to 1000 times for one completion.
inline bool PollFor(Channel& channel, Completion* completion) {
  for (int i = 0; i < 1000; ++i) {
    if (channel.Poll({completion, 1}) == 1) return true;
  }
  return false;
}

}  // namespace oxmem::transport

#endif  // TESTS_TRANSPORT_COMPOSE_LEG_FIXTURE_H_
