#include "apps/load/load_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "transport/local/memory_channel.h"
#include "transport/local/memory_source.h"

namespace oxmem::apps {
namespace {

using ::testing::HasSubstr;

class LoadWorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto memory = transport::CreateMemory(1 << 20, transport::HugePages::kNo);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    channel_ =
        std::make_unique<transport::MemoryChannel>(memory_, transport::MemoryChannelOptions{});
    options_.range = 1 << 20;
    options_.depth = 8;
    options_.count = 1000;
  }
  std::unique_ptr<LoadWorker> Worker() {
    auto worker = LoadWorker::Create(channel_.get(), options_);
    EXPECT_TRUE(worker.ok()) << worker.status();
    return *std::move(worker);
  }
  std::string Refusal() {
    return std::string(LoadWorker::Create(channel_.get(), options_).status().message());
  }

  std::shared_ptr<transport::MappedMemory> memory_;
  std::unique_ptr<transport::Channel> channel_;
  LoadOptions options_;
  std::atomic<LoadControl> control_ = LoadControl::kGo;
};

TEST_F(LoadWorkerTest, DoesTheCountOfOperationsAndNoMore) {
  const auto worker = Worker();
  worker->Run(control_);
  EXPECT_FALSE(worker->failure().has_value());
  EXPECT_EQ(worker->counters().operations.value(), 1000u);
  EXPECT_EQ(worker->counters().bytes.value(), 1000u * 4096);
  EXPECT_EQ(worker->counters().latency.count(), 1000u);
  EXPECT_EQ(channel_->stats().reads.value(), 1000u);
  EXPECT_EQ(channel_->stats().writes.value(), 0u);
}

TEST_F(LoadWorkerTest, ASequentialWriteCoversTheRangeFromItsFirstBlock) {
  options_.op = LoadOp::kWrite;
  options_.pattern = AccessPattern::kSequential;
  options_.range = 64 << 10;
  options_.first_block = 12;
  options_.count = 4;
  const auto worker = Worker();
  worker->Run(control_);
  for (std::size_t block = 0; block < 20; ++block) {
    const bool written = memory_->data()[block * 4096] != std::byte{0} ||
                         memory_->data()[block * 4096 + 1] != std::byte{0};
    EXPECT_EQ(written, block >= 12 && block < 16) << block;
  }
}

TEST_F(LoadWorkerTest, AMixedLoadKeepsItsShare) {
  options_.op = LoadOp::kMixed;
  options_.read_share = 0.9;
  options_.count = 10000;
  const auto worker = Worker();
  worker->Run(control_);
  EXPECT_NEAR(static_cast<double>(channel_->stats().reads.value()), 9000.0, 300.0);
  EXPECT_EQ(channel_->stats().reads.value() + channel_->stats().writes.value(), 10000u);
}

TEST_F(LoadWorkerTest, AtomicsAddOne) {
  options_.op = LoadOp::kAtomic;
  options_.offset = 64;
  options_.range = 16;
  const auto worker = Worker();
  worker->Run(control_);
  uint64_t words[2];
  std::memcpy(words, memory_->data() + 64, sizeof words);
  EXPECT_EQ(words[0] + words[1], 1000u);
}

class VerifyingLoad : public LoadWorkerTest, public testing::WithParamInterface<LoadOp> {
 protected:
  void SetUp() override {
    LoadWorkerTest::SetUp();
    options_.verify = true;
    options_.op = GetParam();
    options_.offset = 4096;
    options_.range = 128 << 10;
    options_.size = 1024;
  }
};

TEST_P(VerifyingLoad, FindsNothingWrongWithMemoryThatWorks) {
  const auto worker = Worker();
  worker->Prepare(control_);
  worker->Run(control_);
  worker->Finish(control_);
  EXPECT_FALSE(worker->failure().has_value()) << worker->failure()->what;
  EXPECT_EQ(worker->counters().operations.value(), 1000u);
}

TEST_P(VerifyingLoad, NamesTheByteThatIsWrong) {
  options_.count = 20;
  const auto worker = Worker();
  worker->Prepare(control_);
  worker->Run(control_);
  ASSERT_FALSE(worker->failure().has_value()) << worker->failure()->what;
  memory_->data()[4096 + 5003] ^= std::byte{0x10};
  worker->Finish(control_);
  ASSERT_TRUE(worker->failure().has_value());
  EXPECT_TRUE(worker->failure()->is_mismatch);
  EXPECT_EQ(worker->failure()->offset, 4096u + 5003u);
  EXPECT_THAT(worker->failure()->what, HasSubstr("offset 0x238b of mem"));
  EXPECT_EQ(worker->counters().mismatches.value(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Ops, VerifyingLoad,
                         testing::Values(LoadOp::kRead, LoadOp::kWrite, LoadOp::kMixed,
                                         LoadOp::kAtomic),
                         [](const auto& of) { return LoadOpName(of.param); });

TEST_F(LoadWorkerTest, AVerifyingReadChecksWhileItRuns) {
  options_.verify = true;
  options_.range = 64 << 10;
  const auto worker = Worker();
  worker->Prepare(control_);
  std::memset(memory_->data(), 0, 64 << 10);
  worker->Run(control_);
  ASSERT_TRUE(worker->failure().has_value());
  EXPECT_TRUE(worker->failure()->is_mismatch);
  EXPECT_LT(worker->counters().operations.value(), 1000u);
}

TEST_F(LoadWorkerTest, EndsWhenToldAndMayBeCheckedAfterwards) {
  options_.count = 0;
  options_.verify = true;
  options_.op = LoadOp::kMixed;
  const auto worker = Worker();
  std::thread thread([&] {
    worker->Prepare(control_);
    worker->Run(control_);
    worker->Finish(control_);
  });
  while (worker->counters().operations.value() < 100) std::this_thread::yield();
  control_ = LoadControl::kEndRun;
  thread.join();
  EXPECT_FALSE(worker->failure().has_value()) << worker->failure()->what;
}

TEST_F(LoadWorkerTest, AnAbortClosesTheChannel) {
  options_.count = 0;
  const auto worker = Worker();
  std::thread thread([&] { worker->Run(control_); });
  while (worker->counters().operations.value() < 100) std::this_thread::yield();
  control_ = LoadControl::kAbort;
  thread.join();
  EXPECT_FALSE(worker->failure().has_value()) << worker->failure()->what;
}

TEST_F(LoadWorkerTest, AFailureEndsTheRunAndNamesWhatFailed) {
  channel_->Close();
  const auto worker = Worker();
  worker->Run(control_);
  ASSERT_TRUE(worker->failure().has_value());
  EXPECT_EQ(worker->failure()->code, transport::Code::kClosed);
  EXPECT_THAT(worker->failure()->what, HasSubstr("read of 4K at offset 0x"));
  EXPECT_THAT(worker->failure()->what, HasSubstr("of mem failed: "));
  EXPECT_LE(worker->counters().failures.value(), 8u);
}

TEST_F(LoadWorkerTest, OptionsTheChannelCannotServeAreRefused) {
  options_.depth = 100000;
  EXPECT_THAT(Refusal(), HasSubstr("depth 100000"));
  options_.depth = 1;
  options_.range = 2 << 20;
  EXPECT_THAT(Refusal(), HasSubstr("does not lie within the 1M"));
  options_.range = 4095;
  EXPECT_THAT(Refusal(), HasSubstr("no block of 4K"));
  options_.range = 1 << 20;
  options_.op = LoadOp::kAtomic;
  options_.offset = 4;
  options_.range = 64;
  EXPECT_THAT(Refusal(), HasSubstr("multiple of 8"));
}

TEST_F(LoadWorkerTest, WritesToAReadOnlyChannelAreRefusedBeforeTheFirst) {
  transport::MemoryChannelOptions read_only;
  read_only.read_only = true;
  channel_ = std::make_unique<transport::MemoryChannel>(memory_, read_only);
  EXPECT_EQ(Refusal(), "");
  options_.verify = true;
  EXPECT_THAT(Refusal(), HasSubstr("read-only"));
}

}  // namespace
}  // namespace oxmem::apps
