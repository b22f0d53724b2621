// What every volume does, whatever it is made of.
#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>

#include "fs/volume/mapped_volume.h"
#include "fs/volume/remote_volume.h"
#include "fs/volume/statistics_volume.h"
#include "tests/fs/volume/awkward_channel.h"
#include "tests/fs/volume/volume_support.h"

namespace oxmem::fs {
namespace {

using transport::Code;

constexpr uint64_t kSize = 256 << 10;

struct Kind {
  std::string name;
  std::function<std::unique_ptr<Volume>()> make;
};

std::unique_ptr<Volume> Awkward(const AwkwardChannel::Habits& habits) {
  return std::make_unique<RemoteVolume>(
      std::make_unique<AwkwardChannel>(Memory("256K").OpenChannel(), habits));
}

std::unique_ptr<Volume> Mapped() {
  auto volume = MappedVolume::Create(std::make_unique<RemoteVolume>(Memory("256K").OpenChannel()));
  EXPECT_TRUE(volume.ok()) << volume.status();
  return *std::move(volume);
}

const Kind kKinds[] = {
    {"Memory", [] { return std::make_unique<RemoteVolume>(Memory("256K").OpenChannel()); }},
    {"Mapped", Mapped},
    {"SmallParts", [] { return Awkward({.largest_request_bytes = 1000, .depth = 3}); }},
    {"OnePart", [] { return Awkward({.largest_request_bytes = 64, .depth = 1}); }},
    {"Aligned64", [] { return Awkward({.alignment_bytes = 64, .largest_request_bytes = 256}); }},
    {"Aligned4096",
     [] { return Awkward({.alignment_bytes = 4096, .largest_request_bytes = 8192, .depth = 64}); }},
    {"AlignedZero", [] { return Awkward({.alignment_bytes = 512, .zero = true}); }},
    {"Statistics",
     [] { return std::make_unique<StatisticsVolume>(Awkward({.alignment_bytes = 8})); }},
};

class VolumeContract : public testing::TestWithParam<Kind> {
 protected:
  std::unique_ptr<Volume> volume_ = GetParam().make();
};

TEST_P(VolumeContract, TellsItsSize) { EXPECT_EQ(volume_->info().size_bytes, kSize); }

TEST_P(VolumeContract, ReadsZerosAtFirstAndThenWhatWasWritten) {
  TestOp before = TestOp::Read(100, 3000);
  EXPECT_EQ(RunOp(*volume_, before), Code::kOk);
  EXPECT_EQ(before.Bytes(), Filled(3000, 0));
  TestOp write = TestOp::Write(333, 20000, 7);
  EXPECT_EQ(RunOp(*volume_, write), Code::kOk);
  TestOp after = TestOp::Read(332, 20002);
  EXPECT_EQ(RunOp(*volume_, after), Code::kOk);
  std::vector<std::byte> expected = Filled(20002, 7);
  expected.front() = expected.back() = std::byte{0};
  EXPECT_EQ(after.Bytes(), expected);
}

TEST_P(VolumeContract, RefusesWhatLiesPastTheEnd) {
  for (const auto& [offset, length] : {std::pair<uint64_t, uint64_t>{kSize - 1, 2},
                                       {kSize, 1},
                                       {~uint64_t{0}, 2},
                                       {0, kSize + 1}}) {
    TestOp read = TestOp::Read(offset, length);
    EXPECT_EQ(RunOp(*volume_, read), Code::kOutOfRange);
    TestOp write = TestOp::Write(offset, length, 1);
    EXPECT_EQ(RunOp(*volume_, write), Code::kOutOfRange);
    TestOp zero = TestOp::Zero(offset, length);
    EXPECT_EQ(RunOp(*volume_, zero), Code::kOutOfRange);
  }
  TestOp last = TestOp::Write(kSize - 1, 1, 1);
  EXPECT_EQ(RunOp(*volume_, last), Code::kOk);
}

TEST_P(VolumeContract, NothingToDoIsDoneAtOnce) {
  TestOp read = TestOp::Read(kSize, 0);
  EXPECT_EQ(RunOp(*volume_, read), Code::kOk);
}

TEST_P(VolumeContract, FlushEndsAfterWhatWasStartedBefore) {
  std::deque<TestOp> writes;
  for (int i = 0; i < 20; ++i) {
    writes.emplace_back(IoKind::kWrite, 1000u * i + 3, Filled(900, i));
  };
  for (TestOp& write : writes) volume_->Start(write.op());
  TestOp flush = TestOp::Flush();
  EXPECT_EQ(RunOp(*volume_, flush), Code::kOk);
  for (TestOp& write : writes) EXPECT_EQ(write.code(), Code::kOk);
}

// Many operations at once, every range of bytes by one writer at a time, against a model.
TEST_P(VolumeContract, ManyAtOnceDoWhatTheModelDoes) {
  std::vector<std::byte> model(kSize);
  std::mt19937 random(20240607);
  for (int round = 0; round < 60; ++round) {
    std::deque<TestOp> ops;
    std::vector<std::byte> next = model;
    uint64_t at = random() % 500;
    // Neighbours share blocks where the volume has blocks.
    while (at < kSize) {
      const uint64_t length = std::min<uint64_t>(1 + random() % 9000, kSize - at);
      switch (random() % 4) {
        case 0:
          ops.emplace_back(IoKind::kRead, at, Filled(length, 0xee));
          break;
        case 1:
          ops.emplace_back(IoKind::kZero, at, Filled(length, 0));
          std::fill_n(next.begin() + static_cast<std::ptrdiff_t>(at), length, std::byte{0});
          break;
        default: {
          const int value = static_cast<int>(random() % 256);
          ops.emplace_back(IoKind::kWrite, at, Filled(length, value));
          std::fill_n(next.begin() + static_cast<std::ptrdiff_t>(at), length, std::byte(value));
        }
      }
      at += length + (random() % 3 == 0 ? random() % 700 : 0);
    }
    for (TestOp& op : ops) {
      volume_->Start(op.op());
      if (random() % 4 == 0) volume_->Poll();
    }
    Drain(*volume_);
    for (TestOp& op : ops) {
      ASSERT_EQ(op.code(), Code::kOk);
      if (op.op().kind != IoKind::kRead) continue;
      const auto from = model.begin() + static_cast<std::ptrdiff_t>(op.op().offset);
      ASSERT_EQ(op.Bytes(),
                std::vector<std::byte>(from, from + static_cast<std::ptrdiff_t>(op.op().length)));
    }
    model = next;
    TestOp all = TestOp::Read(0, kSize);
    ASSERT_EQ(RunOp(*volume_, all), Code::kOk);
    ASSERT_EQ(all.Bytes(), model) << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Volumes, VolumeContract, testing::ValuesIn(kKinds),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace oxmem::fs
