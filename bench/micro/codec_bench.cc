// The TileLink codec alone. Bytes per second are those of the data.

#include <benchmark/benchmark.h>

#include <vector>

#include "oxmem/tilelink/codec.h"

namespace oxmem::tilelink {
namespace {

DataOrder OrderOf(const benchmark::State& state) {
  return state.range(1) == 0 ? DataOrder::kSpec : DataOrder::kMemory;
}

void Label(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * (int64_t{1} << state.range(0)));
  state.SetLabel(OrderOf(state) == DataOrder::kSpec ? "spec order" : "memory order");
}

void BM_EncodeGet(benchmark::State& state) {
  std::vector<std::byte> wire(16);
  const Message get = MakeA(OpcodeA::kGet, 12, 7, 0x1000);
  for (auto _ : state) {
    benchmark::DoNotOptimize(EncodeMessage(get, {}, DataOrder::kSpec, wire));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_EncodeGet);

void BM_DecodeGet(benchmark::State& state) {
  std::vector<std::byte> wire(16);
  EncodeMessage(MakeA(OpcodeA::kGet, 12, 7, 0x1000), {}, DataOrder::kSpec, wire);
  for (auto _ : state) {
    benchmark::DoNotOptimize(wire.data());
    benchmark::DoNotOptimize(DecodeMessage(wire));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_DecodeGet);

void BM_EncodePut(benchmark::State& state) {
  const std::vector<std::byte> data(std::size_t{1} << state.range(0), std::byte{0x5a});
  const Message put = MakeA(OpcodeA::kPutFullData, static_cast<uint8_t>(state.range(0)), 7, 0);
  std::vector<std::byte> wire(FlitsOf(put) * kFlitBytes);
  for (auto _ : state) {
    benchmark::DoNotOptimize(EncodeMessage(put, {data, {}}, OrderOf(state), wire));
    benchmark::ClobberMemory();
  }
  Label(state);
}
BENCHMARK(BM_EncodePut)->ArgsProduct({{6, 10, 12, 15}, {0, 1}});

void BM_CopyData(benchmark::State& state) {
  std::vector<std::byte> data(std::size_t{1} << state.range(0), std::byte{0x5a});
  const Message put = MakeA(OpcodeA::kPutFullData, static_cast<uint8_t>(state.range(0)), 7, 0);
  std::vector<std::byte> wire(FlitsOf(put) * kFlitBytes);
  EncodeMessage(put, {data, {}}, OrderOf(state), wire);
  const auto decoded = DecodeMessage(wire);
  for (auto _ : state) {
    CopyData(decoded->message, decoded->payload, OrderOf(state), data);
    benchmark::ClobberMemory();
  }
  Label(state);
}
BENCHMARK(BM_CopyData)->ArgsProduct({{6, 10, 12, 15}, {0, 1}});

void BM_CopyMaskedData(benchmark::State& state) {
  std::vector<std::byte> data(std::size_t{1} << state.range(0), std::byte{0x5a});
  // All bytes but the first and the last, as a write that is not aligned has it.
  std::vector<uint64_t> mask((data.size() + 63) / 64, ~uint64_t{0});
  mask.front() &= ~uint64_t{1};
  mask.back() &= ~uint64_t{0} >> 1;
  const Message put = MakeA(OpcodeA::kPutPartialData, static_cast<uint8_t>(state.range(0)), 7, 0);
  std::vector<std::byte> wire(FlitsOf(put) * kFlitBytes);
  EncodeMessage(put, {data, mask}, OrderOf(state), wire);
  const auto decoded = DecodeMessage(wire);
  for (auto _ : state) {
    CopyMaskedData(decoded->message, decoded->payload, OrderOf(state), data);
    benchmark::ClobberMemory();
  }
  Label(state);
}
BENCHMARK(BM_CopyMaskedData)->ArgsProduct({{6, 12}, {0, 1}});

}  // namespace
}  // namespace oxmem::tilelink
