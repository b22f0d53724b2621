#ifndef TESTS_CONTRACT_HARNESS_H_
#define TESTS_CONTRACT_HARNESS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "transport/api/channel.h"
#include "transport/base/clock.h"

namespace oxmem::transport {

// What a contract test asks of the memory behind its channel.
struct HarnessOptions {
  uint64_t size_bytes = 1 << 20;  // zero at the beginning
  bool read_only = false;
};

// One channel and whatever must exist for it to work: a peer, a link, temporary files. A far side
// that runs in the test's own thread gets its turns from Pump; one with a thread or process of its
// own overrides nothing.
class Harness {
 public:
  virtual ~Harness() = default;

  virtual Channel& channel() = 0;

  virtual void Pump() {}
  virtual int peer_fd() { return -1; }  // the test sleeps on it beside event_fd
  virtual Instant peer_deadline() { return Instant::Never(); }

  // Takes the peer away, so that it neither answers nor changes anything. False if this transport
  // has no peer that can be lost.
  virtual bool CutPeer() { return false; }
  // Brings it back, with the memory it had if the channel's limits say so.
  virtual void RestorePeer() {}
  // By when, at the latest, a request ends whose peer is gone.
  virtual Duration request_timeout() { return Duration::Seconds(5); }
};

// A transport as the suite sees it. `make` returns null if this machine cannot run it, which the
// test reports as skipped, with `name` and the reason it wrote.
struct Transport {
  std::string name;  // letters and digits: part of the tests' names
  std::function<std::unique_ptr<Harness>(const HarnessOptions& options, std::string* why_not)> make;
};

inline void PrintTo(const Transport& transport, std::ostream* out) { *out << transport.name; }

// Every transport there is: the one list, in transports.cc.
std::vector<Transport> AllTransports();

}  // namespace oxmem::transport

#endif  // TESTS_CONTRACT_HARNESS_H_
