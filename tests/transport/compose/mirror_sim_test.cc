// Mirrors under random loss of legs, on a virtual clock, from seeds: what a write said it did is
// what later reads see, and in the end the legs are equal.

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "tests/transport/compose/leg_fixture.h"
#include "transport/compose/mirrored_channel.h"
#include "transport/compose/random.h"

namespace oxmem::transport {
namespace {

constexpr uint64_t kCells = 40;
constexpr uint64_t kCellBytes = 512;
constexpr uint64_t kSize = kCells * kCellBytes;

class MirrorSim {
 public:
  MirrorSim(uint64_t seed, bool forgetful) : random_(seed), forgetful_(forgetful) {
    legs_.resize(2 + Below(2));
    for (TestLeg& leg : legs_) leg.memory = *CreateMemory(kSize, HugePages::kNo);
    state_ = *MirrorState::Create(legs_.size());
    channels_.resize(1 + Below(3));
    faults_.resize(legs_.size());
    for (auto& channel : channels_) channel = MakeChannel();
    for (auto& possible : possible_) possible = {0};
  }

  std::unique_ptr<MirroredChannel> MakeChannel() {
    std::vector<std::unique_ptr<Channel>> channels;
    for (std::size_t leg = 0; leg < legs_.size(); ++leg) {
      const FaultOptions options{.fail = forgetful_ ? 0.0 : 0.01,
                                 .fail_after = forgetful_ ? 0.0 : 0.01,
                                 .short_submit = 0.2,
                                 .seed = NextRandom(random_),
                                 .timeout = Duration::Milliseconds(100),
                                 .clock = [this] { return now_; }};
      channels.push_back(OpenLeg(legs_[leg], options, {.depth = 8, .largest_request_bytes = 2048}));
      faults_[leg].push_back(legs_[leg].fault);
    }
    const auto read = Below(2) == 0 ? MirrorOptions::Read::kFirst : MirrorOptions::Read::kSpread;
    return *MirroredChannel::Create(
        std::move(channels), {.read = read, .state = state_, .clock = [this] { return now_; }});
  }

  void Run() {
    for (int step = 0; step < 1500 && !testing::Test::HasFailure(); ++step) {
      if (Below(3) != 0) SubmitOne();
      if (Below(60) == 0) ToggleLeg();
      now_ = now_ + Duration::Microseconds(static_cast<int64_t>(Below(8000)));
      PollAll();
    }
    for (std::size_t leg = 0; leg < legs_.size(); ++leg) Restore(leg);
    PollAll();  // the mirror learns of it
    for (int i = 0; i < 3000 && (!busy_.empty() || !Healthy()); ++i) {
      now_ = now_ + Duration::Milliseconds(5);
      PollAll();
    }
    EXPECT_TRUE(busy_.empty()) << "requests that never completed";
    EXPECT_TRUE(Healthy()) << channels_[0]->health();
    for (const TestLeg& leg : legs_) {
      EXPECT_EQ(std::memcmp(leg.memory->data(), legs_[0].memory->data(), kSize), 0);
    }
  }

 private:
  struct Operation {
    Request request;
    uint64_t cell = 0;
    int value = 0;
    std::vector<std::byte> buffer;
  };

  uint64_t Below(uint64_t bound) { return NextRandom(random_) % bound; }

  // At most one operation a cell, so that the model knows what each read may see.
  void SubmitOne() {
    const uint64_t cell = Below(kCells);
    if (busy_.contains(cell)) return;
    Operation operation{.cell = cell};
    const bool write = Below(2) == 0;
    operation.value = write ? static_cast<int>(Below(255)) + 1 : 0;
    operation.buffer = Filled(kCellBytes, operation.value);
    operation.request = {.op = write ? Op::kWrite : Op::kRead,
                         .offset = cell * kCellBytes,
                         .length = kCellBytes,
                         .buffer = operation.buffer.data(),
                         .cookie = cell};
    MirroredChannel& channel = *channels_[Below(channels_.size())];
    if (channel.Submit({&operation.request, 1}) == 1) busy_[cell] = std::move(operation);
  }

  void ToggleLeg() {
    if (!forgetful_) {
      const std::size_t leg = Below(legs_.size());
      faults_[leg][0]->health().ok() ? Cut(leg) : Restore(leg);
      return;
    }
    // Peers that forget everything: one at a time, and not before the last is in sync again.
    if (cut_leg_.has_value()) {
      Restore(*cut_leg_);
      cut_leg_.reset();
    } else if (Healthy()) {
      cut_leg_ = Below(legs_.size());
      Cut(*cut_leg_);
      std::memset(legs_[*cut_leg_].memory->data(), 0xdd, kSize);
    }
  }

  // For all channels at once.
  void Cut(std::size_t leg) {
    for (FaultChannel* fault : faults_[leg]) fault->CutPeer();
  }
  void Restore(std::size_t leg) {
    for (FaultChannel* fault : faults_[leg]) fault->RestorePeer();
  }
  bool Healthy() const {
    return std::all_of(channels_.begin(), channels_.end(),
                       [](const auto& channel) { return channel->health().ok(); });
  }

  void PollAll() {
    for (auto& channel : channels_) PollOne(*channel);
  }

  void PollOne(MirroredChannel& channel) {
    std::array<Completion, 8> completions;
    std::size_t count = completions.size();
    while (count == completions.size()) {
      count = channel.Poll(completions);
      for (const Completion& completion : std::span(completions).first(count)) Finish(completion);
    }
  }

  void Finish(const Completion& completion) {
    const auto found = busy_.find(completion.cookie);
    ASSERT_NE(found, busy_.end()) << "a completion that nobody waits for";
    const Operation& operation = found->second;
    std::set<int>& possible = possible_[operation.cell];
    if (operation.request.op == Op::kWrite) {
      if (completion.code == Code::kOk) possible.clear();
      possible.insert(operation.value);
    } else if (completion.code == Code::kOk) {
      const int value = std::to_integer<int>(operation.buffer[0]);
      ASSERT_EQ(operation.buffer, Filled(kCellBytes, value)) << "a torn cell";
      ASSERT_TRUE(possible.contains(value)) << "cell " << operation.cell << " holds " << value;
      possible = {value};  // seen once, it stays
    }
    busy_.erase(found);
  }

  uint64_t random_;
  const bool forgetful_;
  Instant now_ = Instant::FromNanoseconds(1);
  std::vector<TestLeg> legs_;
  std::vector<std::vector<FaultChannel*>> faults_;  // of each leg, one of each channel
  std::shared_ptr<MirrorState> state_;
  std::map<uint64_t, Operation> busy_;  // before the channels, which may still use its buffers
  std::vector<std::unique_ptr<MirroredChannel>> channels_;  // as of several reactors
  std::array<std::set<int>, kCells> possible_;
  std::optional<std::size_t> cut_leg_;
};

void RunSeeds(bool forgetful) {
  spdlog::set_level(spdlog::level::err);
  const char* text = std::getenv("OXMEM_SEED");
  const uint64_t first = text == nullptr ? 1 : std::strtoull(text, nullptr, 0);
  const uint64_t count = text == nullptr ? 400 : 1;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("repeat with OXMEM_SEED=" + std::to_string(seed));
    MirrorSim(seed, forgetful).Run();
    if (testing::Test::HasFailure()) return;
  }
}

TEST(MirrorSim, LegsThatComeAndGoLoseNoAcknowledgedWrite) { RunSeeds(false); }

TEST(MirrorSim, PeersThatForgetEverythingLoseNoAcknowledgedWrite) { RunSeeds(true); }

}  // namespace
}  // namespace oxmem::transport
