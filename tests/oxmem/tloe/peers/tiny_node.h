#ifndef TESTS_OXMEM_TLOE_PEERS_TINY_NODE_H_
#define TESTS_OXMEM_TLOE_PEERS_TINY_NODE_H_

#include <cstring>
#include <vector>

#include "oxmem/tloe/engine.h"

namespace oxmem::tloe {

// Executes requests on memory and answers in their order, as far as the engine takes the answers.
class TinyNode {
 public:
  TinyNode(Engine& engine, std::size_t bytes) : memory(bytes), engine_(engine) {}

  void Serve() {
    while (const tilelink::DecodedMessage* request = engine_.PeekMessage()) {
      const tilelink::Message& message = request->message;
      const bool get = static_cast<tilelink::OpcodeA>(message.opcode) == tilelink::OpcodeA::kGet;
      const std::size_t count = std::size_t{1} << message.size;
      const std::size_t start = message.address % (memory.size() - count + 1);
      tilelink::Message answer =
          tilelink::MakeD(get ? tilelink::OpcodeD::kAccessAckData : tilelink::OpcodeD::kAccessAck,
                          message.size, message.source);
      answer.address = message.address;
      if (!engine_.CanEnqueue(answer.channel, tilelink::FlitsOf(answer))) break;
      if (!get)
        tilelink::CopyData(message, request->payload, engine_.data_order(),
                           std::span(memory).subspan(start, count));
      engine_.Enqueue(answer, {get ? std::span<const std::byte>(memory).subspan(start, count)
                                   : std::span<const std::byte>(),
                               {}});
      engine_.NextMessage();
      ++executed;
    }
    engine_.Retain();
  }

  std::vector<std::byte> memory;
  int executed = 0;

 private:
  Engine& engine_;
};

}  // namespace oxmem::tloe

#endif  // TESTS_OXMEM_TLOE_PEERS_TINY_NODE_H_
