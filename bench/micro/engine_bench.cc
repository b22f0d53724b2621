// Two engines in one thread that hand each other their frames: requests one way, answers the other.
// An item is a message, enqueued and encoded by one engine, carried in a frame, parsed and handed
// out by the other: the cost of both ends of it. A core that runs one end does about twice as many.

#include <benchmark/benchmark.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "oxmem/tloe/engine.h"

namespace oxmem::tloe {
namespace {

using tilelink::MakeA;
using tilelink::MakeD;
using tilelink::Message;
using tilelink::OpcodeA;
using tilelink::OpcodeD;

class Loop {
 public:
  Loop(std::size_t max_frame_bytes, tilelink::DataOrder order)
      : initiator_(ConfigOf(Role::kInitiator, max_frame_bytes, order)),
        responder_(ConfigOf(Role::kResponder, max_frame_bytes, order)) {
    initiator_.Open(now_);
    for (int i = 0; i < 10; ++i) {
      Carry(initiator_, responder_, [](const auto&) {});
      Carry(responder_, initiator_, [](const auto&) {});
    }
    if (initiator_.state() != State::kOpen) std::abort();
  }

  // `depth` requests and their answers. Copies the data at both ends, as a user does.
  void Round(const Message& request, const Message& answer, int depth) {
    now_ = now_ + Duration::Microseconds(20);
    const std::size_t sent = tilelink::DataBytes(request);
    for (int i = 0; i < depth; ++i)
      if (!initiator_.Enqueue(request, {std::span(data_).first(sent), {}})) std::abort();
    int unanswered = 0;
    Carry(initiator_, responder_, [&](const tilelink::DecodedMessage& received) {
      if (sent != 0) Copy(received);
      ++unanswered;
    });
    const std::size_t answered = tilelink::DataBytes(answer);
    int done = 0;
    while (done < depth) {
      while (unanswered > 0 && responder_.Enqueue(answer, {std::span(data_).first(answered), {}}))
        --unanswered;
      Carry(responder_, initiator_, [&](const tilelink::DecodedMessage& received) {
        if (answered != 0) Copy(received);
        ++done;
      });
      Carry(initiator_, responder_, [](const auto&) {});
    }
  }

 private:
  static EngineConfig ConfigOf(Role role, std::size_t max_frame_bytes, tilelink::DataOrder order) {
    EngineConfig config;
    config.role = role;
    config.peer = PeerProfile::kSpec;
    config.max_frame_bytes = max_frame_bytes;
    config.data_order = order;
    return config;
  }

  void Copy(const tilelink::DecodedMessage& received) {
    tilelink::CopyData(received.message, received.payload, initiator_.data_order(),
                       std::span(copy_).first(tilelink::DataBytes(received.message)));
  }

  template <typename OnMessage>
  void Carry(Engine& from, Engine& to, OnMessage on_message) {
    for (auto frame = from.NextFrame(now_); !frame.empty(); frame = from.NextFrame(now_)) {
      to.OnFrame(now_, frame);
      while (const tilelink::DecodedMessage* message = to.NextMessage()) on_message(*message);
    }
  }

  Instant now_ = Instant::FromNanoseconds(1000000000);
  Engine initiator_;
  Engine responder_;
  std::vector<std::byte> data_ = std::vector<std::byte>(32768, std::byte{0x5a});
  std::vector<std::byte> copy_ = std::vector<std::byte>(32768);
};

void Run(benchmark::State& state, std::size_t mtu, const Message& request, const Message& answer,
         std::size_t data_bytes) {
  const auto order =
      state.range(1) == 0 ? tilelink::DataOrder::kSpec : tilelink::DataOrder::kMemory;
  Loop loop(mtu, order);
  const int depth = static_cast<int>(state.range(0));
  for (auto _ : state) loop.Round(request, answer, depth);
  state.SetItemsProcessed(state.iterations() * depth * 2);
  if (data_bytes != 0)
    state.SetBytesProcessed(state.iterations() * depth * static_cast<int64_t>(data_bytes));
}

void BM_SmallGetAndAccessAckData(benchmark::State& state) {
  Run(state, 1500, MakeA(OpcodeA::kGet, 3, 1, 0), MakeD(OpcodeD::kAccessAckData, 3, 1), 8);
}
BENCHMARK(BM_SmallGetAndAccessAckData)->Args({1, 0})->Args({4, 0})->Args({32, 0})->Args({128, 0});

void BM_GetAndAccessAck(benchmark::State& state) {
  Run(state, 1500, MakeA(OpcodeA::kGet, 3, 1, 0), MakeD(OpcodeD::kAccessAck, 3, 1), 0);
}
BENCHMARK(BM_GetAndAccessAck)->Args({1, 0})->Args({4, 0})->Args({32, 0})->Args({128, 0});

void BM_Read4K(benchmark::State& state) {
  Run(state, 9000, MakeA(OpcodeA::kGet, 12, 1, 0), MakeD(OpcodeD::kAccessAckData, 12, 1), 4096);
}
BENCHMARK(BM_Read4K)->ArgsProduct({{1, 32}, {0, 1}});

void BM_Write4K(benchmark::State& state) {
  Run(state, 9000, MakeA(OpcodeA::kPutFullData, 12, 1, 0), MakeD(OpcodeD::kAccessAck, 12, 1), 4096);
}
BENCHMARK(BM_Write4K)->ArgsProduct({{1, 32}, {0, 1}});

void BM_Read1KMtu1500(benchmark::State& state) {
  Run(state, 1500, MakeA(OpcodeA::kGet, 10, 1, 0), MakeD(OpcodeD::kAccessAckData, 10, 1), 1024);
}
BENCHMARK(BM_Read1KMtu1500)->ArgsProduct({{1, 32}, {0, 1}});

}  // namespace
}  // namespace oxmem::tloe
