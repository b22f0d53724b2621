#include "oxmem/node/executor.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "oxmem/node/backing.h"

namespace oxmem::node {
namespace {

using tilelink::DataOrder;
using tilelink::MakeA;
using tilelink::Message;
using tilelink::OpcodeA;
using tilelink::OpcodeC;
using tilelink::OpcodeD;

constexpr uint64_t kBase = 0x10000;
constexpr std::size_t kSize = 16384;

class ExecutorTest : public testing::TestWithParam<DataOrder> {
 protected:
  ExecutorTest() : memory_(kSize), fixed_(4096), executor_(&regions_) {
    std::iota(reinterpret_cast<uint8_t*>(memory_.data()),
              reinterpret_cast<uint8_t*>(memory_.data()) + kSize, uint8_t{1});
    Region data{.name = "data", .base = kBase, .memory = memory_};
    Region fixed{.name = "fixed", .base = 0x80000, .memory = fixed_, .read_only = true};
    EXPECT_TRUE(regions_.Add(data).ok());
    EXPECT_TRUE(regions_.Add(fixed).ok());
  }

  // Sends the request through the codec, as it would come from the wire.
  Answer Execute(const Message& request, std::vector<std::byte> data = {},
                 std::vector<uint64_t> mask = {}) {
    if (data.empty()) data.resize(tilelink::DataBytes(request));
    if (mask.empty()) mask.resize(data.size() / 64 + 1, ~uint64_t{0});
    wire_.assign(tilelink::FlitsOf(request) * tilelink::kFlitBytes, std::byte{0});
    tilelink::EncodeMessage(request, {.data = data, .mask = mask}, GetParam(), wire_);
    const auto decoded = tilelink::DecodeMessage(wire_);
    EXPECT_TRUE(decoded.has_value());
    EXPECT_TRUE(Executor::WantsAnswer(request));
    const std::size_t flits = Executor::AnswerFlits(request, limits_);
    const Answer answer = executor_.Execute(*decoded, GetParam(), limits_);
    EXPECT_EQ(tilelink::FlitsOf(answer.message), flits) << "room is reserved for this many";
    EXPECT_EQ(answer.payload.data.size(), tilelink::DataBytes(answer.message));
    EXPECT_EQ(answer.message.source, request.source);
    return answer;
  }

  std::vector<std::byte> memory_;
  std::vector<std::byte> fixed_;
  RegionMap regions_;
  Executor executor_;
  ExecutorLimits limits_{.largest_data_size = 10};
  std::vector<std::byte> wire_;
};

std::vector<std::byte> Bytes(uint64_t value, std::size_t count) {
  std::vector<std::byte> bytes(count);
  std::memcpy(bytes.data(), &value, count);
  return bytes;
}

uint64_t ValueOf(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data(), bytes.size());
  return value;
}

TEST_P(ExecutorTest, GetReturnsMemoryOfEverySize) {
  for (uint8_t size = 0; size <= 10; ++size) {
    const uint64_t offset = uint64_t{1} << size;
    const Answer answer = Execute(MakeA(OpcodeA::kGet, size, 77, kBase + offset));
    EXPECT_EQ(static_cast<OpcodeD>(answer.message.opcode), OpcodeD::kAccessAckData);
    EXPECT_FALSE(answer.message.denied);
    EXPECT_EQ(std::memcmp(answer.payload.data.data(), memory_.data() + offset, offset), 0);
  }
}

TEST_P(ExecutorTest, PutFullDataWritesItsBytesAndNoOthers) {
  for (uint8_t size = 0; size <= 10; ++size) {
    const std::size_t length = std::size_t{1} << size;
    std::vector<std::byte> expected = memory_;
    std::vector<std::byte> data(length);
    for (std::size_t i = 0; i < length; ++i) data[i] = static_cast<std::byte>(200 + i + size);
    std::memcpy(expected.data() + length * 2, data.data(), length);
    const Answer answer = Execute(MakeA(OpcodeA::kPutFullData, size, 1, kBase + length * 2), data);
    EXPECT_EQ(static_cast<OpcodeD>(answer.message.opcode), OpcodeD::kAccessAck);
    EXPECT_EQ(memory_, expected) << "size " << int{size};
  }
}

TEST_P(ExecutorTest, PutPartialDataWritesOnlyMaskedBytes) {
  for (const uint8_t size : {0, 1, 2, 3, 5, 6, 8}) {
    const std::size_t length = std::size_t{1} << size;
    const std::vector<std::byte> before = memory_;
    const std::vector<std::byte> data(length, std::byte{0xee});
    std::vector<uint64_t> mask(length / 64 + 1);
    for (std::size_t i = 0; i < length; i += 3) mask[i / 64] |= uint64_t{1} << i % 64;
    Execute(MakeA(OpcodeA::kPutPartialData, size, 1, kBase + 1024 + length), data, mask);
    for (std::size_t i = 0; i < kSize; ++i) {
      const std::size_t at = i - (1024 + length);
      const bool written = i >= 1024 + length && at < length && at % 3 == 0;
      ASSERT_EQ(memory_[i], written ? std::byte{0xee} : before[i]) << "size " << int{size};
    }
    memory_ = before;
    regions_ = RegionMap();
    ASSERT_TRUE(regions_.Add({.name = "data", .base = kBase, .memory = memory_}).ok());
  }
}

struct AtomicCase {
  OpcodeA opcode;
  uint8_t param;
  uint8_t size;
  uint64_t before;
  uint64_t operand;
  uint64_t after;
};

TEST_P(ExecutorTest, ReadModifyWriteReturnsTheOldValueAndStoresTheNew) {
  constexpr auto kArithmetic = OpcodeA::kArithmeticData;
  constexpr auto kLogical = OpcodeA::kLogicalData;
  const AtomicCase cases[] = {
      {kArithmetic, 4, 3, 41, 7, 48},
      {kArithmetic, 4, 2, 0xffffffff, 1, 0},
      {kArithmetic, 4, 0, 0xff, 2, 1},
      {kArithmetic, 0, 3, ~uint64_t{0}, 5, ~uint64_t{0}},  // MIN: -1 is less
      {kArithmetic, 1, 3, ~uint64_t{0}, 5, 5},             // MAX
      {kArithmetic, 2, 3, ~uint64_t{0}, 5, 5},             // MINU
      {kArithmetic, 3, 3, ~uint64_t{0}, 5, ~uint64_t{0}},  // MAXU
      {kArithmetic, 1, 1, 0x8000, 1, 1},
      {kLogical, 0, 2, 0xf0f0, 0xff00, 0x0ff0},
      {kLogical, 1, 2, 0xf0f0, 0x0f00, 0xfff0},
      {kLogical, 2, 2, 0xf0f0, 0xff00, 0xf000},
      {kLogical, 3, 2, 0xf0f0, 0x1234, 0x1234},
  };
  for (const AtomicCase& c : cases) {
    const std::size_t length = std::size_t{1} << c.size;
    std::memcpy(memory_.data() + 64, &c.before, length);
    const Answer answer =
        Execute(MakeA(c.opcode, c.size, 9, kBase + 64, c.param), Bytes(c.operand, length));
    EXPECT_EQ(static_cast<OpcodeD>(answer.message.opcode), OpcodeD::kAccessAckData);
    EXPECT_EQ(ValueOf(answer.payload.data), ValueOf(Bytes(c.before, length)));
    EXPECT_EQ(ValueOf(std::span(memory_).subspan(64, length)), ValueOf(Bytes(c.after, length)));
  }
}

TEST_P(ExecutorTest, IntentIsAcknowledged) {
  const Answer answer = Execute(MakeA(OpcodeA::kIntent, 12, 3, kBase, 1));
  EXPECT_EQ(static_cast<OpcodeD>(answer.message.opcode), OpcodeD::kHintAck);
  EXPECT_FALSE(answer.message.denied);
}

TEST_P(ExecutorTest, WhatIsOutOfRangeIsDeniedAndChangesNothing) {
  const std::vector<std::byte> before = memory_;
  for (const uint64_t address :
       {kBase - 8, kBase + kSize, uint64_t{0}, UINT64_MAX - 7, kBase - 4096}) {
    const Answer get = Execute(MakeA(OpcodeA::kGet, 3, 5, address));
    EXPECT_TRUE(get.message.denied);
    EXPECT_TRUE(get.message.corrupt) << "denied data is marked corrupt";
    EXPECT_EQ(get.payload.data.size(), 8u) << "all its beats are sent";
    const Answer put = Execute(MakeA(OpcodeA::kPutFullData, 3, 5, address));
    EXPECT_TRUE(put.message.denied);
    EXPECT_FALSE(put.message.corrupt);
    EXPECT_TRUE(Execute(MakeA(OpcodeA::kArithmeticData, 3, 5, address, 4)).message.denied);
  }
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kGet, 15, 5, 0)).message.denied);
  EXPECT_EQ(memory_, before);
  EXPECT_EQ(executor_.stats().denied_range.value(), 15u);
}

TEST_P(ExecutorTest, WritesToAReadOnlyRegionAreDenied) {
  EXPECT_FALSE(Execute(MakeA(OpcodeA::kGet, 3, 5, 0x80000)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kPutFullData, 3, 5, 0x80000)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kPutPartialData, 3, 5, 0x80000)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kLogicalData, 3, 5, 0x80000, 3)).message.denied);
  EXPECT_EQ(executor_.stats().denied_read_only.value(), 3u);
}

TEST_P(ExecutorTest, WhatIsNotSupportedIsDenied) {
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kArithmeticData, 4, 1, kBase, 4)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kArithmeticData, 3, 1, kBase, 5)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kLogicalData, 3, 1, kBase, 4)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kIntent, 3, 1, kBase, 2)).message.denied);
  const Answer acquire = Execute(MakeA(OpcodeA::kAcquireBlock, 6, 1, kBase));
  EXPECT_EQ(static_cast<OpcodeD>(acquire.message.opcode), OpcodeD::kGrant);
  EXPECT_TRUE(acquire.message.denied);
  const Answer too_long = Execute(MakeA(OpcodeA::kGet, 11, 1, kBase));
  EXPECT_TRUE(too_long.message.denied);
  EXPECT_FALSE(tilelink::HasData(too_long.message)) << "its data would fit no frame";
  EXPECT_EQ(executor_.stats().denied_unsupported.value(), 6u);
}

TEST_P(ExecutorTest, AReleaseWithoutAGrantIsDenied) {
  Message release;
  release.channel = tilelink::Channel::kC;
  release.opcode = static_cast<uint8_t>(OpcodeC::kReleaseData);
  release.size = 6;
  release.address = kBase;
  const Answer answer = Execute(release);
  EXPECT_EQ(static_cast<OpcodeD>(answer.message.opcode), OpcodeD::kReleaseAck);
  EXPECT_TRUE(answer.message.denied);
}

TEST_P(ExecutorTest, MisalignedRequestsAreDeniedUnlessThePeerIsKnownToSendThem) {
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kGet, 4, 1, kBase + 8)).message.denied);
  Message damaged = MakeA(OpcodeA::kPutFullData, 3, 1, kBase);
  damaged.corrupt = true;
  EXPECT_TRUE(Execute(damaged).message.denied);
  EXPECT_EQ(executor_.stats().denied_malformed.value(), 2u);
  limits_.allow_misaligned = true;
  EXPECT_FALSE(Execute(MakeA(OpcodeA::kGet, 4, 1, kBase + 8)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kArithmeticData, 3, 1, kBase + 4, 4)).message.denied);
}

TEST(Executor, MessagesThatAreNoRequestsWantNoAnswer) {
  EXPECT_FALSE(Executor::WantsAnswer(tilelink::MakeD(OpcodeD::kAccessAck, 3, 1)));
  Message message;
  message.channel = tilelink::Channel::kE;
  EXPECT_FALSE(Executor::WantsAnswer(message));
  message.channel = tilelink::Channel::kC;
  message.opcode = static_cast<uint8_t>(OpcodeC::kProbeAck);
  EXPECT_FALSE(Executor::WantsAnswer(message));
}

// A file of 64 KiB at 0x100000, cut to 5000 bytes after the region was served.
class LostMemoryTest : public ExecutorTest {
 protected:
  LostMemoryTest() {
    std::string path = testing::TempDir() + "lost-XXXXXX";
    const int fd = mkstemp(path.data());
    close(fd);
    auto backing =
        Backing::Create({.kind = BackingKind::kFile, .size_bytes = 64 << 10, .path = path});
    EXPECT_TRUE(backing.ok()) << backing.status();
    backing_ = std::make_unique<Backing>(*std::move(backing));
    unlink(path.c_str());
    EXPECT_TRUE(regions_
                    .Add({.name = "file",
                          .base = kFile,
                          .memory = backing_->memory(),
                          .guard = backing_->guard()})
                    .ok());
  }
  void Cut() { EXPECT_EQ(ftruncate(backing_->fd(), 5000), 0); }

  static constexpr uint64_t kFile = 0x100000;
  std::unique_ptr<Backing> backing_;
};

TEST_P(LostMemoryTest, RequestsForWhatWentAwayAreDeniedAndTheRestIsServed) {
  Cut();
  const Answer read = Execute(MakeA(OpcodeA::kGet, 6, 1, kFile + 8192));
  EXPECT_TRUE(read.message.denied);
  EXPECT_TRUE(read.message.corrupt);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kPutFullData, 6, 1, kFile + 16384)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kPutPartialData, 6, 1, kFile + 20480)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kLogicalData, 3, 1, kFile + 12288)).message.denied);
  EXPECT_TRUE(Execute(MakeA(OpcodeA::kGet, 6, 1, kFile + 8192 - 64)).message.denied)
      << "behind the end within its last page";
  EXPECT_FALSE(Execute(MakeA(OpcodeA::kGet, 10, 1, kFile)).message.denied);
  EXPECT_FALSE(Execute(MakeA(OpcodeA::kPutFullData, 6, 1, kFile + 4096)).message.denied);
  EXPECT_EQ(executor_.stats().denied_lost.value(), 5u);
}

TEST_P(LostMemoryTest, DataThatWentAwayBeforeItWasCopiedIsFoundOut) {
  const Answer read = Execute(MakeA(OpcodeA::kGet, 6, 1, kFile + 8192));
  EXPECT_FALSE(read.message.denied);
  EXPECT_TRUE(executor_.IsIntact(read));
  Cut();
  std::vector<std::byte> copy(read.payload.data.begin(), read.payload.data.end());
  EXPECT_EQ(copy, std::vector<std::byte>(64)) << "zeros, and alive";
  EXPECT_FALSE(executor_.IsIntact(read));
}

INSTANTIATE_TEST_SUITE_P(Orders, LostMemoryTest,
                         testing::Values(DataOrder::kSpec, DataOrder::kMemory));

TEST_P(ExecutorTest, AMalformedRequestIsDeniedWithItsSourceAndSize) {
  for (const OpcodeA opcode : {OpcodeA::kGet, OpcodeA::kPutFullData, OpcodeA::kPutPartialData,
                               OpcodeA::kArithmeticData, OpcodeA::kIntent}) {
    const Message message = MakeA(opcode, 9, 77, 0);
    const tilelink::DecodedMessage request{
        .message = message, .payload = {}, .flit_count = 1, .malformed = true};
    const Answer answer = executor_.Execute(request, GetParam(), limits_);
    EXPECT_TRUE(answer.message.denied);
    EXPECT_EQ(answer.message.source, 77u);
    EXPECT_EQ(answer.message.size, 9);
    EXPECT_EQ(answer.message.corrupt, tilelink::HasData(answer.message));
    EXPECT_EQ(tilelink::FlitsOf(answer.message), Executor::AnswerFlits(message, limits_));
  }
  EXPECT_EQ(executor_.stats().denied_malformed.value(), 5u);
}

INSTANTIATE_TEST_SUITE_P(Orders, ExecutorTest,
                         testing::Values(DataOrder::kSpec, DataOrder::kMemory),
                         [](const auto& order) {
                           return order.param == DataOrder::kSpec ? "Spec" : "Memory";
                         });

}  // namespace
}  // namespace oxmem::node
