// What requests do to the memory: every size and alignment against a model, overlaps, atomics,
// zeroing, and that nothing beside the asked bytes is touched on either side.

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>

#include "tests/contract/contract_test.h"
#include "transport/local/memory_ops.h"

namespace oxmem::transport {
namespace {

class Data : public ChannelContract {
 protected:
  // Reads everything there is and compares it to the model.
  void ExpectRegion(const std::vector<std::byte>& model) {
    std::vector<std::byte> seen(model.size());
    std::vector<Request> requests;
    const uint64_t part = Length(64 << 10);
    for (uint64_t offset = 0; offset < model.size(); offset += part) {
      requests.push_back({.op = Op::kRead,
                          .offset = offset,
                          .length = std::min<uint64_t>(part, model.size() - offset),
                          .buffer = seen.data() + offset,
                          .cookie = offset});
    }
    for (const Completion& completion : RunAll(requests)) {
      ASSERT_EQ(completion.code, Code::kOk) << CodeName(completion.code);
    }
    const auto difference = std::mismatch(model.begin(), model.end(), seen.begin());
    ASSERT_TRUE(difference.first == model.end())
        << "first difference at " << difference.first - model.begin();
  }
};

TEST_P(Data, MemoryIsZeroAtTheBeginning) { ExpectRegion(std::vector<std::byte>(size())); }

TEST_P(Data, EverySizeAtEveryAlignmentIsWrittenAndReadExactly) {
  std::vector<std::byte> model(size());
  std::set<uint64_t> lengths;
  for (const uint64_t around : {1, 2, 4, 8, 16, 32, 64, 128, 512, 1024, 1500, 4096, 8192, 65536}) {
    for (const uint64_t length : {around - 1, around, around + 1}) lengths.insert(Length(length));
  }
  uint64_t base = 0;
  for (const uint64_t length : lengths) {
    for (const uint64_t shift : {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 63, 64, 4095}) {
      const uint64_t alignment = channel().limits().alignment_bytes;
      const uint64_t offset = (base + shift) / alignment * alignment;
      const auto bytes = RandomBytes(length);
      Write(offset, bytes);
      std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<int64_t>(offset));
      ASSERT_EQ(Read(offset, length), bytes) << "length " << length << " at " << offset;
    }
    base += 12288;
    if (base + 4096 + 65600 > size()) base = 0;
  }
  ExpectRegion(model);
}

TEST_P(Data, TheFirstAndTheLastByteAreThere) {
  const uint64_t length = Length(1);
  const auto first = RandomBytes(length);
  const auto last = RandomBytes(length);
  Write(0, first);
  Write(size() - length, last);
  EXPECT_EQ(Read(0, length), first);
  EXPECT_EQ(Read(size() - length, length), last);
}

TEST_P(Data, TheLargestRequestWorks) {
  const uint64_t length = Length(std::min(channel().limits().largest_request_bytes, size()));
  const auto bytes = RandomBytes(length);
  Write(size() - length, bytes);
  EXPECT_EQ(Read(size() - length, length), bytes);
}

// Requests on disjoint pieces, many at once, in random order: the memory is what a model says.
TEST_P(Data, ManyRequestsAtOnceMatchAModel) {
  constexpr uint64_t kPieces = 64;
  const uint64_t piece = size() / kPieces;
  std::vector<std::byte> model(size());
  for (int round = 0; round < 12; ++round) {
    std::vector<std::vector<std::byte>> buffers(kPieces);
    std::vector<Request> requests;
    for (uint64_t i = 0; i < kPieces; ++i) {
      const uint64_t length = Length(RandomBelow(piece - channel().limits().alignment_bytes) + 1);
      const uint64_t alignment = channel().limits().alignment_bytes;
      const uint64_t offset = i * piece + RandomBelow(piece - length + 1) / alignment * alignment;
      const bool write = RandomBelow(2) == 0;
      buffers[i] = write ? RandomBytes(length) : std::vector<std::byte>(length);
      requests.push_back({.op = write ? Op::kWrite : Op::kRead,
                          .offset = offset,
                          .length = length,
                          .buffer = buffers[i].data(),
                          .cookie = i});
    }
    for (const Completion& completion : RunAll(requests)) {
      const Request& request = requests[completion.cookie];
      const auto& buffer = buffers[completion.cookie];
      ASSERT_EQ(completion.code, Code::kOk) << CodeName(completion.code);
      ASSERT_EQ(completion.bytes, request.length);
      const auto at = model.begin() + static_cast<int64_t>(request.offset);
      if (request.op == Op::kWrite) {
        std::copy(buffer.begin(), buffer.end(), at);
      } else {
        ASSERT_TRUE(std::equal(buffer.begin(), buffer.end(), at)) << "read " << completion.cookie;
      }
    }
  }
  ExpectRegion(model);
}

TEST_P(Data, OverlappingWritesLeaveEachByteFromOneOfThem) {
  for (int round = 0; round < 20; ++round) {
    const uint64_t length = Length(6000);
    const uint64_t alignment = channel().limits().alignment_bytes;
    std::vector<std::byte> ones(length, std::byte{0x11});
    std::vector<std::byte> twos(length, std::byte{0x22});
    const uint64_t shift = (RandomBelow(length - 1) + 1) / alignment * alignment;
    const std::vector<Request> requests = {
        {.op = Op::kWrite, .offset = 0, .length = length, .buffer = ones.data(), .cookie = 1},
        {.op = Op::kWrite, .offset = shift, .length = length, .buffer = twos.data(), .cookie = 2}};
    for (const Completion& completion : RunAll(requests)) ASSERT_EQ(completion.code, Code::kOk);
    const auto seen = Read(0, Length(2 * length));
    for (uint64_t i = 0; i < shift; ++i) ASSERT_EQ(seen[i], std::byte{0x11}) << i;
    for (uint64_t i = shift; i < std::min<uint64_t>(length, seen.size()); ++i) {
      ASSERT_TRUE(seen[i] == std::byte{0x11} || seen[i] == std::byte{0x22}) << i;
    }
    for (uint64_t i = length; i < std::min<uint64_t>(shift + length, seen.size()); ++i) {
      ASSERT_EQ(seen[i], std::byte{0x22}) << i;
    }
  }
}

TEST_P(Data, ARequestSeesTheEffectOfThoseCompletedBefore) {
  const uint64_t length = Length(3000);
  for (int round = 0; round < 100; ++round) {
    const auto bytes = RandomBytes(length);
    Write(Length(777), bytes);
    ASSERT_EQ(Read(Length(777), length), bytes) << "round " << round;
  }
}

TEST_P(Data, BytesAroundABufferAndAWritersBufferAreNeverTouched) {
  constexpr std::size_t kGuard = 64;
  for (const uint64_t wanted : {1, 7, 64, 1000, 4096, 9000}) {
    const uint64_t length = Length(wanted);
    const auto bytes = RandomBytes(length);
    auto sent = bytes;
    Write(0, sent);
    EXPECT_EQ(sent, bytes) << "a write changed its buffer";
    std::vector<std::byte> guarded(length + 2 * kGuard, std::byte{0xee});
    ASSERT_EQ(
        RunOne({.op = Op::kRead, .offset = 0, .length = length, .buffer = guarded.data() + kGuard})
            .code,
        Code::kOk);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), guarded.begin() + kGuard));
    for (std::size_t i = 0; i < kGuard; ++i) {
      ASSERT_EQ(guarded[i], std::byte{0xee});
      ASSERT_EQ(guarded[kGuard + length + i], std::byte{0xee});
    }
  }
}

TEST_P(Data, ABufferIsTheCallersAgainAfterItsCompletion) {
  const uint64_t length = Length(2048);
  Write(0, std::vector<std::byte>(length, std::byte{1}));
  std::vector<std::byte> kept(length);
  ASSERT_EQ(RunOne({.op = Op::kRead, .length = length, .buffer = kept.data()}).code, Code::kOk);
  std::fill(kept.begin(), kept.end(), std::byte{0x77});
  std::vector<std::byte> sent(length, std::byte{2});
  Write(0, sent);
  std::fill(sent.begin(), sent.end(), std::byte{0x99});  // a late resend would send this
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(Read(0, length), std::vector<std::byte>(length, std::byte{2}));
  }
  EXPECT_EQ(kept, std::vector<std::byte>(length, std::byte{0x77}));
}

TEST_P(Data, EveryAtomicMatchesAModel) {
  if (channel().limits().alignment_bytes > 8) GTEST_SKIP() << "cells cannot be read one by one";
  int tried = 0;
  for (int number = 0; number < kAtomicOpCount; ++number) {
    const auto op = static_cast<AtomicOp>(number);
    if (!channel().limits().atomics.Has(op)) continue;
    for (const uint64_t length : {4, 8}) {
      for (int round = 0; round < 20; ++round) {
        const uint64_t offset =
            RandomBelow(size() / 8) * 8 + (length == 4 ? RandomBelow(2) * 4 : 0);
        const uint64_t start = offset / 8 * 8;
        auto cells = RandomBytes(8);
        Write(start, cells);
        uint64_t operand = 0;
        std::memcpy(&operand, RandomBytes(8).data(), 8);
        uint64_t compare = 0;
        std::memcpy(&compare, cells.data() + (offset - start), length);
        if (round % 2 == 1) compare ^= 1;
        alignas(8) std::array<std::byte, 8> expected;
        std::copy(cells.begin(), cells.end(), expected.begin());
        const uint64_t old_value =
            ExecuteAtomic(op, expected.data() + (offset - start), length, operand, compare);
        const Completion completion = RunOne({.op = Op::kAtomic,
                                              .atomic_op = op,
                                              .offset = offset,
                                              .length = length,
                                              .operand = operand,
                                              .compare = compare});
        ASSERT_EQ(completion.code, Code::kOk) << CodeName(completion.code) << ", op " << number;
        ASSERT_EQ(completion.old_value, old_value) << "op " << number << ", length " << length;
        const auto seen = Read(start, 8);
        ASSERT_TRUE(std::equal(seen.begin(), seen.end(), expected.begin()))
            << "op " << number << ", length " << length;
        ++tried;
      }
    }
  }
  if (tried == 0) GTEST_SKIP() << "this channel has no atomics";
}

TEST_P(Data, AtomicAdditionsInFlightTogetherAllCount) {
  if (!channel().limits().atomics.Has(AtomicOp::kAdd)) GTEST_SKIP() << "no atomic addition";
  constexpr uint64_t kAdds = 500;
  std::vector<Request> requests;
  for (uint64_t i = 0; i < kAdds; ++i) {
    requests.push_back({.op = Op::kAtomic, .offset = 16, .length = 8, .operand = 1, .cookie = i});
  }
  std::set<uint64_t> old_values;
  for (const Completion& completion : RunAll(requests)) {
    ASSERT_EQ(completion.code, Code::kOk) << CodeName(completion.code);
    old_values.insert(completion.old_value);
  }
  EXPECT_EQ(old_values.size(), kAdds) << "two additions found the same value";
  EXPECT_EQ(*old_values.rbegin(), kAdds - 1);
}

TEST_P(Data, ZeroTouchesExactlyItsRange) {
  if (!channel().limits().zero) GTEST_SKIP() << "this channel has no zero operation";
  std::vector<std::byte> model = RandomBytes(size());
  for (uint64_t offset = 0; offset < size(); offset += Length(65536)) {
    Write(offset, std::span(model).subspan(offset, std::min(Length(65536), size() - offset)));
  }
  for (const uint64_t wanted : {1, 100, 4096, 70000, 400000}) {
    const uint64_t alignment = channel().limits().alignment_bytes;
    const uint64_t length = (wanted + alignment - 1) / alignment * alignment;
    const uint64_t offset = RandomOffset(length);
    const Completion completion = RunOne({.op = Op::kZero, .offset = offset, .length = length});
    ASSERT_EQ(completion.code, Code::kOk) << CodeName(completion.code);
    EXPECT_EQ(completion.bytes, length);
    std::fill_n(model.begin() + static_cast<int64_t>(offset), length, std::byte{0});
  }
  ExpectRegion(model);
}

TEST_P(Data, PrefetchIsAHintWithoutEffect) {
  if (!channel().limits().prefetch) GTEST_SKIP() << "this channel has no prefetch operation";
  const auto bytes = RandomBytes(Length(5000));
  Write(0, bytes);
  EXPECT_EQ(RunOne({.op = Op::kPrefetch, .offset = 0, .length = bytes.size()}).code, Code::kOk);
  EXPECT_EQ(Read(0, bytes.size()), bytes);
}

TEST_P(Data, RegisteredMemoryWorksAndIsGivenBack) {
  std::vector<std::byte> pool(1 << 16);
  {
    auto handle = channel().Register(pool);
    ASSERT_TRUE(handle.ok()) << handle.status();
    auto other = channel().Register(std::span(pool).subspan(4096, 100));
    EXPECT_TRUE(other.ok()) << other.status();
    const uint64_t length = Length(4000);
    const auto bytes = RandomBytes(length);
    std::copy(bytes.begin(), bytes.end(), pool.begin());
    ASSERT_EQ(RunOne({.op = Op::kWrite, .length = length, .buffer = pool.data()}).code, Code::kOk);
    ASSERT_EQ(RunOne({.op = Op::kRead, .length = length, .buffer = pool.data() + 8192}).code,
              Code::kOk);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), pool.begin() + 8192));
    MemoryHandle moved = *std::move(handle);
    EXPECT_NE(moved, nullptr);
  }
  const auto bytes = RandomBytes(Length(100));
  Write(0, bytes);
  EXPECT_EQ(Read(0, bytes.size()), bytes) << "memory that is not registered still works";
}

INSTANTIATE_TEST_SUITE_P(Channels, Data, testing::ValuesIn(AllTransports()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace oxmem::transport
