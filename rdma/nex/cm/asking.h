#ifndef RDMA_NEX_CM_ASKING_H_
#define RDMA_NEX_CM_ASKING_H_

#include <cstdint>

#include "transport/base/clock.h"

namespace oxmem::nex {

// When an identifier that connects asks its peer's number (again), and when it gives up, as a pure
// machine. Questions and answers get lost, so a question is repeated.
//
// Where nobody has the number, the system refuses. A request takes a moment on a fabric, and
// programs count on it: a listener that is just being made again still gets it. A system refuses
// only now and then (ICMP is limited to one in a second), so after the first time silence is no
// longer than that either.
class CmAsking {
 public:
  enum class Step : std::uint8_t {
    kNothing,
    kAsk,
    kRefused,     // for good
    kUnanswered,  // nobody has said anything for so long
  };
  static constexpr Duration kFirstPause = Duration::Milliseconds(20);
  static constexpr Duration kLongestPause = Duration::Seconds(1);
  // A kernel's connection manager over RoCE gives up after about as long.
  static constexpr Duration kPatience = Duration::Seconds(60);
  static constexpr Duration kRefusalPause = Duration::Milliseconds(30);
  static constexpr int kRefusals = 10;       // so many are followed by a question
  static constexpr int kAfterRefusals = 33;  // so many questions are asked after the first

  void Start(Instant now);  // the first question is asked now
  // A connection is being made, which takes its own time and ends in one of the two below.
  void OnAnswered() { deadline_ = Instant::Never(); }
  Step OnRefused(Instant now);
  void Stop() { deadline_ = Instant::Never(); }
  bool asks() const { return !deadline_.is_never(); }
  bool was_refused() const { return refusals_ > 0; }

  Instant deadline() const { return deadline_; }
  Step OnDeadline(Instant now);

 private:
  Instant deadline_ = Instant::Never();
  Instant gives_up_ = Instant::Never();
  Duration pause_;
  int refusals_ = 0;
  int asked_after_ = 0;
  bool heard_ = false;  // a refusal since the last question
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_CM_ASKING_H_
