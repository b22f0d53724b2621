#include "fs/volume/remote_volume.h"

#include <memory>

#include "fs/volume/read_only_volume.h"
#include "fs/volume/statistics_volume.h"
#include "tests/fs/volume/awkward_channel.h"
#include "tests/fs/volume/volume_support.h"

namespace oxmem::fs {
namespace {

using transport::Code;
using transport::Op;

struct Fixture {
  explicit Fixture(const AwkwardChannel::Habits& habits) {
    auto made = std::make_unique<AwkwardChannel>(Memory("64K").OpenChannel(), habits);
    channel = made.get();
    volume = std::make_unique<RemoteVolume>(std::move(made));
  }
  AwkwardChannel* channel;
  std::unique_ptr<RemoteVolume> volume;
};

TEST(RemoteVolume, SplitsByTheLargestRequest) {
  Fixture f({.largest_request_bytes = 1024, .depth = 2});
  TestOp write = TestOp::Write(10, 2500, 1);
  EXPECT_EQ(RunOp(*f.volume, write), Code::kOk);
  ASSERT_EQ(f.channel->submitted().size(), 3u);
  EXPECT_EQ(f.channel->submitted()[2].length, 2500u - 2048u);
}

TEST(RemoteVolume, ReportsTheErrorOfAPartAndIssuesNoMore) {
  Fixture f({.largest_request_bytes = 1024, .depth = 1});
  f.channel->FailAt(1024, Code::kDenied);
  TestOp read = TestOp::Read(0, 8192);
  EXPECT_EQ(RunOp(*f.volume, read), Code::kDenied);
  EXPECT_LE(f.channel->submitted().size(), 3u);
}

TEST(RemoteVolume, FailedEndOfAnUnalignedWriteWritesNothingThere) {
  Fixture f({.alignment_bytes = 512, .largest_request_bytes = 4096});
  f.channel->FailAt(512, Code::kPeerLost);
  TestOp write = TestOp::Write(600, 10, 9);
  EXPECT_EQ(RunOp(*f.volume, write), Code::kPeerLost);
  for (const auto& request : f.channel->submitted()) EXPECT_EQ(request.op, Op::kRead);
  TestOp next = TestOp::Write(4096, 10, 9);
  EXPECT_EQ(RunOp(*f.volume, next), Code::kOk);
}

TEST(RemoteVolume, WritesZerosWhereTheChannelCannotZero) {
  Fixture f({.largest_request_bytes = 16384, .zero = false});
  TestOp fill = TestOp::Write(0, 65536, 5);
  ASSERT_EQ(RunOp(*f.volume, fill), Code::kOk);
  TestOp zero = TestOp::Zero(1, 65534);
  ASSERT_EQ(RunOp(*f.volume, zero), Code::kOk);
  for (const auto& request : f.channel->submitted()) EXPECT_EQ(request.op, Op::kWrite);
  TestOp read = TestOp::Read(0, 65536);
  ASSERT_EQ(RunOp(*f.volume, read), Code::kOk);
  std::vector<std::byte> expected = Filled(65536, 0);
  expected.front() = expected.back() = std::byte{5};
  EXPECT_EQ(read.Bytes(), expected);
}

TEST(RemoteVolume, ZeroIsOneRequestWhereTheChannelCan) {
  Fixture f({.largest_request_bytes = 64, .zero = true});
  TestOp zero = TestOp::Zero(1, 65534);
  ASSERT_EQ(RunOp(*f.volume, zero), Code::kOk);
  ASSERT_EQ(f.channel->submitted().size(), 1u);
  EXPECT_EQ(f.channel->submitted()[0].op, Op::kZero);
}

TEST(RemoteVolume, ReadOnlyChannelsTakeNoWrites) {
  Fixture f({.read_only = true});
  TestOp write = TestOp::Write(0, 1, 1);
  EXPECT_EQ(RunOp(*f.volume, write), Code::kReadOnly);
  EXPECT_TRUE(f.channel->submitted().empty());
}

TEST(RemoteVolume, GivingUpEndsAtOnceWhatTheChannelNeverGot) {
  Fixture f({.depth = 1});
  f.channel->Release(0);
  TestOp first = TestOp::Write(0, 8, 1);
  TestOp second = TestOp::Write(100, 8, 2);
  f.volume->Start(first.op());
  f.volume->Start(second.op());
  f.volume->Poll();
  f.volume->Cancel(second.op());
  EXPECT_TRUE(second.done());
  EXPECT_EQ(second.code(), Code::kTimedOut);
  EXPECT_FALSE(first.done());
  f.channel->Release(AwkwardChannel::kAll);
  Drain(*f.volume);
  EXPECT_EQ(first.code(), Code::kOk);
  EXPECT_EQ(f.channel->submitted().size(), 1u);
}

TEST(RemoteVolume, LaterWriteWaitsForOneThatWasGivenUp) {
  Fixture f({.depth = 8});
  f.channel->Release(0);
  TestOp old_write = TestOp::Write(0, 4096, 1);
  f.volume->Start(old_write.op());
  f.volume->Poll();
  f.volume->Cancel(old_write.op());
  EXPECT_FALSE(old_write.done()) << "the channel still has its buffer";
  TestOp new_write = TestOp::Write(4000, 96, 2);
  TestOp elsewhere = TestOp::Write(4096, 10, 3);
  f.volume->Start(new_write.op());
  f.volume->Start(elsewhere.op());
  f.volume->Poll();
  ASSERT_EQ(f.channel->submitted().size(), 2u);
  EXPECT_EQ(f.channel->submitted()[1].offset, 4096u);
  f.channel->Release(AwkwardChannel::kAll);
  Drain(*f.volume);
  EXPECT_EQ(old_write.code(), Code::kTimedOut);
  EXPECT_EQ(new_write.code(), Code::kOk);
  TestOp read = TestOp::Read(4000, 96);
  ASSERT_EQ(RunOp(*f.volume, read), Code::kOk);
  EXPECT_EQ(read.Bytes(), Filled(96, 2));
}

TEST(RemoteVolume, GivingUpOneThatWaitsLetsThoseBehindItIn) {
  Fixture f({.depth = 8});
  f.channel->Release(0);
  TestOp given_up = TestOp::Write(0, 100, 1);
  f.volume->Start(given_up.op());
  f.volume->Poll();
  f.volume->Cancel(given_up.op());
  TestOp waiting = TestOp::Write(50, 100, 2);
  TestOp behind = TestOp::Write(120, 10, 3);
  f.volume->Start(waiting.op());
  f.volume->Start(behind.op());
  f.volume->Cancel(waiting.op());
  EXPECT_TRUE(waiting.done());
  f.volume->Poll();
  EXPECT_EQ(f.channel->submitted().size(), 2u);
  f.channel->Release(AwkwardChannel::kAll);
  Drain(*f.volume);
  EXPECT_EQ(behind.code(), Code::kOk);
}

TEST(RemoteVolume, FlushFollowsUnalignedWritesThatAreBeingWrittenBack) {
  Fixture f({.alignment_bytes = 512});
  f.channel->Release(0);
  TestOp write = TestOp::Write(10, 10, 1);
  TestOp flush = TestOp::Flush();
  f.volume->Start(write.op());
  f.volume->Start(flush.op());
  f.volume->Poll();
  ASSERT_EQ(f.channel->submitted().size(), 1u);
  f.channel->Release(AwkwardChannel::kAll);
  Drain(*f.volume);
  EXPECT_EQ(f.channel->submitted().back().op, Op::kFlush);
}

TEST(RemoteVolume, CloseEndsWhatWasNeverSent) {
  Fixture f({.depth = 1});
  f.channel->Release(0);
  TestOp sent = TestOp::Write(0, 8, 1);
  TestOp never_sent = TestOp::Write(100, 8192, 2);
  f.volume->Start(sent.op());
  f.volume->Start(never_sent.op());
  f.volume->Poll();
  f.volume->Close();
  EXPECT_EQ(never_sent.code(), Code::kClosed);
  f.channel->Release(AwkwardChannel::kAll);
  Drain(*f.volume);
  EXPECT_TRUE(sent.done());
}

TEST(ReadOnlyVolume, LetsReadsThroughAndRefusesWrites) {
  ReadOnlyVolume volume(std::make_unique<RemoteVolume>(Memory("64K").OpenChannel()));
  EXPECT_TRUE(volume.info().read_only);
  TestOp read = TestOp::Read(0, 10);
  EXPECT_EQ(RunOp(volume, read), Code::kOk);
  TestOp write = TestOp::Write(0, 10, 1);
  EXPECT_EQ(RunOp(volume, write), Code::kReadOnly);
  TestOp zero = TestOp::Zero(0, 10);
  EXPECT_EQ(RunOp(volume, zero), Code::kReadOnly);
}

TEST(StatisticsVolume, CountsWhatWasDoneAndWhatFailed) {
  StatisticsVolume volume(std::make_unique<RemoteVolume>(Memory("64K").OpenChannel()));
  TestOp write = TestOp::Write(0, 5000, 1);
  TestOp read = TestOp::Read(0, 100);
  TestOp bad = TestOp::Read(65536, 1);
  RunOp(volume, write);
  RunOp(volume, read);
  RunOp(volume, bad);
  EXPECT_EQ(volume.stats().write_bytes.value(), 5000u);
  EXPECT_EQ(volume.stats().read_bytes.value(), 100u);
  EXPECT_EQ(volume.stats().failures.value(), 1u);
  EXPECT_EQ(volume.stats().in_flight.value(), 0u);
  EXPECT_EQ(volume.stats().read_latency.count(), 1u);
}

}  // namespace
}  // namespace oxmem::fs
