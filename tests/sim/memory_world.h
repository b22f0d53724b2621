#ifndef TESTS_SIM_MEMORY_WORLD_H_
#define TESTS_SIM_MEMORY_WORLD_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "oxmem/channel/tloe_channel.h"
#include "oxmem/node/node.h"
#include "tests/sim/network.h"

namespace oxmem::sim {

struct WorldOptions {
  tloe::Protocol protocol = tloe::Protocol::k11;
  bool check_contents = true;
};

// A node and some requesters on the simulated network, and users above the requesters that read,
// write and add at random and compare everything they read with a model.
//
// Operations under way never overlap where one of them writes, so that the model knows each byte. A
// write that fails leaves its bytes uncertain until they are written again.
class MemoryWorld {
 public:
  MemoryWorld(uint64_t seed, const WorldOptions& options);
  ~MemoryWorld();

  Network& network() { return network_; }
  Random& random() { return random_; }

  // Lets everything run for this long; the users begin operations while `busy`.
  void RunFor(Duration time, bool busy);
  // Until nothing is under way, at most this long. True if that happened.
  bool RunUntilIdle(Duration at_most);

  void KillNode();
  void StartNode();
  // The requester's host restarts: its operations are forgotten, what they wrote is uncertain.
  void RestartRequester();

  uint64_t begun() const { return begun_; }
  uint64_t succeeded() const { return succeeded_; }
  uint64_t failed() const { return failed_; }
  // Whether a requester sends shorter frames than its link takes.
  bool has_shortened() const;
  // Compares the node's memory with the model where that is certain.
  void CheckMemory();
  // The first thing that was wrong, empty if nothing was.
  const std::string& error() const { return error_; }

 private:
  static constexpr uint64_t kSize = 128 << 10;
  static constexpr uint64_t kBase = 0x10000;
  static constexpr std::size_t kDead = SIZE_MAX;  // the requester of operations that outlived it

  struct Operation {
    transport::Request request;
    std::vector<std::byte> data;
    std::size_t requester = 0;
  };
  struct Requester {
    std::unique_ptr<channel::TloeChannel> channel;
    link::Address address;
    Instant next_begin;
  };

  void AddRequester();
  void Step(bool busy);
  Instant NextEvent(bool busy) const;
  void Begin(std::size_t requester);
  bool Overlaps(uint64_t offset, uint64_t length, bool writes) const;
  void Collect(std::size_t requester);
  void OnCompletion(const transport::Completion& completion);
  void CheckRead(const Operation& operation);
  void CheckAtomic(const Operation& operation, const transport::Completion& completion);
  void MakeUncertain(const Operation& operation);
  void Wrong(const std::string& what);

  Random random_;
  WorldOptions options_;
  Network network_;
  std::size_t max_frame_bytes_;
  uint32_t initial_sequence_;
  std::vector<std::byte> memory_;
  std::vector<std::byte> model_;
  std::vector<bool> uncertain_;
  link::Address node_address_;
  std::unique_ptr<node::Node> node_;
  std::vector<Requester> requesters_;
  std::map<uint64_t, Operation> under_way_;
  uint64_t next_cookie_ = 1;
  uint64_t begun_ = 0;
  uint64_t succeeded_ = 0;
  uint64_t failed_ = 0;
  std::string error_;
};

}  // namespace oxmem::sim

#endif  // TESTS_SIM_MEMORY_WORLD_H_
