#ifndef TESTS_SIM_NETWORK_H_
#define TESTS_SIM_NETWORK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "oxmem/link/link.h"
#include "transport/base/clock.h"

namespace oxmem::sim {

// Numbers from a seed, the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t Next() { return engine_(); }
  // 0 to bound - 1; bound is not zero.
  uint64_t Below(uint64_t bound) { return engine_() % bound; }
  bool Chance(double probability) {
    return probability > 0 && static_cast<double>(engine_() >> 11) * 0x1p-53 < probability;
  }

 private:
  std::mt19937_64 engine_;
};

// What happens to frames. Probabilities are for each frame.
struct Faults {
  double loss = 0;
  double duplication = 0;
  double reorder = 0;     // the frame takes up to reorder_delay longer and others pass it
  double corruption = 0;  // with a frame check sequence the frame vanishes, else bytes change
  double stall = 0;       // the sender's direction stands still for up to stall_time
  bool frame_check = true;
  Duration reorder_delay = Duration::Milliseconds(1);
  Duration stall_time = Duration::Milliseconds(20);
  Duration delay = Duration::Microseconds(10);
  uint64_t bytes_per_second = 0;  // 0: no limit
  std::size_t longest_frame = SIZE_MAX;  // longer ones vanish
};

class SimLink;

// Links between hosts on a virtual clock: nothing happens but what AdvanceTo lets happen, and the
// same seed gives the same run. For one thread.
class Network {
 public:
  explicit Network(uint64_t seed);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  Instant now() const { return now_; }
  // Frames sent from now on.
  void SetFaults(const Faults& faults) { faults_ = faults; }
  const Faults& faults() const { return faults_; }

  // The link must not outlive this object. Frames to it that are under way when it goes are lost.
  std::unique_ptr<link::Link> Attach(std::size_t max_frame_bytes);
  // While it is off, Send fails and frames to it are lost.
  void SetUp(const link::Link& link, bool up);
  // The next link attached has the address of this one, which must be gone: a host that restarts.
  void ReuseAddress(const link::Address& address) { reused_.push_back(address); }

  // When the next frame arrives.
  Instant next_arrival() const;
  // Lets time pass, and the frames arrive that do until then.
  void AdvanceTo(Instant until);

  // All frames under way are lost.
  void Clear();

 private:
  friend class SimLink;
  struct Flight {
    Instant arrival;
    uint64_t order = 0;
    link::Address from;
    link::Address to;
    std::vector<std::byte> bytes;
    friend bool operator>(const Flight& a, const Flight& b) {
      return a.arrival != b.arrival ? a.arrival > b.arrival : a.order > b.order;
    }
  };

  // What is known of one sender.
  struct Direction {
    Instant free_at;       // the wire has taken what was sent before
    Instant last_arrival;  // frames stay in order unless they are reordered
  };

  void Send(SimLink& from, const link::OutgoingFrame& frame);
  void Launch(const link::Address& from, const link::Address& to, std::span<const std::byte> bytes,
              Instant arrival);
  void Corrupt(std::vector<std::byte>* bytes);
  void Detach(SimLink* link);

  Random random_;
  Instant now_ = Instant::FromNanoseconds(1000000);
  Faults faults_;
  uint64_t order_ = 0;
  uint64_t next_address_ = 1;
  std::vector<link::Address> reused_;
  std::vector<SimLink*> links_;
  std::unordered_map<const SimLink*, Direction> directions_;
  std::priority_queue<Flight, std::vector<Flight>, std::greater<>> flights_;
};

}  // namespace oxmem::sim

#endif  // TESTS_SIM_NETWORK_H_
