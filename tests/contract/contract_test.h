#ifndef TESTS_CONTRACT_CONTRACT_TEST_H_
#define TESTS_CONTRACT_CONTRACT_TEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/contract/harness.h"
#include "transport/api/channel.h"

namespace oxmem::transport {

// The seed of the random tests, which print it: OXMEM_SEED, or a fixed one.
uint64_t TestSeed();

// The fixture of the whole suite: a fresh channel to fresh memory for every test, and calls that
// wait for it with a bound, so that a channel that loses a request fails instead of hanging.
class ChannelContract : public testing::TestWithParam<Transport> {
 protected:
  void SetUp() override { Open({}); }
  void TearDown() override;

  // Opens another channel instead of the one SetUp opened. If that is impossible, the test is
  // skipped: IsSkipped() is true and the caller returns.
  void Open(const HarnessOptions& options);

  Harness& harness() { return *harness_; }
  Channel& channel() { return harness_->channel(); }
  uint64_t size() { return channel().limits().size_bytes; }

  // `length` up to a multiple of the channel's alignment and within its largest request.
  uint64_t Length(uint64_t length);
  // A random offset, aligned, at which `length` bytes fit.
  uint64_t RandomOffset(uint64_t length);

  // Polls once, with a turn for the far side; never sleeps.
  std::size_t PollOnce(std::span<Completion> completions);

  // Polls until something is finished, sleeping by the contract's rule in between. Fails the test
  // and returns 0 when nothing is for 20 seconds.
  std::size_t PollOrSleep(std::span<Completion> completions);

  // Submits everything, polling when the channel is full, and returns all completions in the order
  // they came. Checks that each request completed exactly once.
  std::vector<Completion> RunAll(std::vector<Request> requests);

  // `count` reads of the region's first bytes, with cookies from 0 and memory of their own, which
  // lives as long as the test: two requests under way must not fill the same bytes.
  std::vector<Request> Reads(uint64_t count, uint64_t length);

  // One request; the completion must come.
  Completion RunOne(Request request);

  // One request that must work.
  void Write(uint64_t offset, std::span<const std::byte> bytes);
  std::vector<std::byte> Read(uint64_t offset, uint64_t length);

  // Random bytes from the test's seed.
  std::vector<std::byte> RandomBytes(std::size_t count);
  uint64_t RandomBelow(uint64_t bound) { return random_() % bound; }

 private:
  void Sleep(Instant until);

  std::vector<std::vector<std::byte>> read_buffers_;  // outlive the channel
  std::unique_ptr<Harness> harness_;
  bool gave_up_ = false;
  std::mt19937_64 random_{TestSeed()};
};

}  // namespace oxmem::transport

#endif  // TESTS_CONTRACT_CONTRACT_TEST_H_
