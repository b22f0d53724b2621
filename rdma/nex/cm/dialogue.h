#ifndef RDMA_NEX_CM_DIALOGUE_H_
#define RDMA_NEX_CM_DIALOGUE_H_

#include <cstdint>

#include "rdma/nex/cm/message.h"
#include "transport/base/clock.h"

namespace oxmem::nex {

// Where the two ends of the connection of an identifier are, as this side sees it.
struct CmEnds {
  std::array<std::uint8_t, 16> own{};
  std::array<std::uint8_t, 16> peer{};
  std::uint16_t own_port = 0;
  std::uint16_t peer_port = 0;
};

// What the program is to be told.
enum class CmNews : std::uint8_t {
  kNothing,
  kRequest,
  kResponse,     // the reply to a request of this side
  kEstablished,
  kRejected,
  kDisconnected,
  kUnreachable,
};

// What is said on the connection of one identifier, and when, as a pure machine: messages, moments
// and what the program does go in; news for the program come out. It knows no socket.
//
//   connecting side                          accepting side
//   kIdle                                    kIdle
//     | Connect                                |
//   kConnecting                                |
//     | OnConnected                            |
//   kRequestSent    ------ request ------->  kRequestReceived
//     |                                        | Accept
//   kReplyReceived  <------ reply ---------  kReplySent (datagrams: kConnected)
//     | Accept (datagrams: at once)            |
//   kConnected      ---- ready to use ---->  kConnected
//
// From everywhere to kDone: Reject, Disconnect, a message that is not expected, the end of the
// connection, and an answer that does not come within kAnswerTime. An unexpected message is no more
// than the end of the connection. A program is not told of one that it has not accepted yet: it
// learns that when it accepts.
class CmDialogue {
 public:
  enum class State : std::uint8_t {
    kIdle,
    kListening,
    kConnecting,
    kRequestSent,
    kRequestReceived,
    kReplySent,
    kReplyReceived,
    kConnected,
    kDone,
  };
  // A kernel asks 15 times, and its peer's asks for 68.7 s of patience each time.
  static constexpr Duration kAnswerTime = Duration::Seconds(18 * 60);

  State state() const { return state_; }
  // Of the accepting side the kind is the listener's.
  CmService service() const { return service_; }
  bool datagram() const { return service_ == CmService::kDatagram; }
  void SetService(CmService service) { service_ = service; }
  void SetAccepting(CmService service) {
    service_ = service;
    accepting_ = true;
  }
  bool accepting() const { return accepting_; }

  // What the program does. False: not in this state.
  bool Listen() { return Move(State::kIdle, State::kListening); }
  bool Connect() { return !accepting_ && Move(State::kIdle, State::kConnecting); }
  bool Accept(Instant now);  // a request, or as the connecting side the reply
  bool Reject();
  bool Disconnect();

  // What the connection does.
  void OnConnected(Instant now);
  CmNews OnMessage(const CmMessage& message, const CmEnds& ends, Instant now);
  CmNews OnEnd();
  Instant deadline() const { return deadline_; }
  CmNews OnDeadline(Instant now);

 private:
  bool Move(State from, State to);
  void Await(State next, Instant now);
  bool Expects(CmMessageType type) const;

  State state_ = State::kIdle;
  CmService service_ = CmService::kReliable;
  bool accepting_ = false;
  Instant deadline_ = Instant::Never();
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_CM_DIALOGUE_H_
