#include "rdma/nex/cm/dialogue.h"

#include <utility>

namespace oxmem::nex {

bool CmDialogue::Move(State from, State to) {
  if (state_ != from) return false;
  state_ = to;
  deadline_ = Instant::Never();
  return true;
}

void CmDialogue::Await(State next, Instant now) {
  state_ = next;
  deadline_ = now + kAnswerTime;
}

bool CmDialogue::Accept(Instant now) {
  if (Move(State::kReplyReceived, State::kConnected)) return true;
  if (state_ != State::kRequestReceived) return false;
  if (datagram()) return Move(State::kRequestReceived, State::kConnected);
  Await(State::kReplySent, now);
  return true;
}

bool CmDialogue::Reject() {
  return Move(State::kRequestReceived, State::kDone) || Move(State::kReplyReceived, State::kDone);
}

bool CmDialogue::Disconnect() {
  return Move(State::kConnected, State::kDone) || Move(State::kReplySent, State::kDone);
}

void CmDialogue::OnConnected(Instant now) {
  if (state_ == State::kConnecting) Await(State::kRequestSent, now);
}

bool CmDialogue::Expects(CmMessageType type) const {
  switch (type) {
    case CmMessageType::kRequest:
      return accepting_ && state_ == State::kIdle;
    case CmMessageType::kReply:
      return state_ == State::kRequestSent;
    case CmMessageType::kReadyToUse:
      return state_ == State::kReplySent;
    case CmMessageType::kReject:
      return state_ == State::kRequestSent || state_ == State::kReplySent;
    case CmMessageType::kDisconnect:
      return false;  // it is the end in every state
  }
  return false;
}

CmNews CmDialogue::OnMessage(const CmMessage& message, const CmEnds& ends, Instant) {
  const bool from_there = message.service == service_ && message.source == ends.peer &&
                          message.destination == ends.own &&
                          message.source_port == ends.peer_port &&
                          message.destination_port == ends.own_port;
  if (!from_there || !Expects(message.type)) return OnEnd();
  switch (message.type) {
    case CmMessageType::kRequest:
      Move(State::kIdle, State::kRequestReceived);
      return CmNews::kRequest;
    case CmMessageType::kReply:
      Move(State::kRequestSent, datagram() ? State::kConnected : State::kReplyReceived);
      return datagram() ? CmNews::kEstablished : CmNews::kResponse;
    case CmMessageType::kReadyToUse:
      Move(State::kReplySent, State::kConnected);
      return CmNews::kEstablished;
    case CmMessageType::kReject:
      Move(state_, State::kDone);
      return CmNews::kRejected;
    case CmMessageType::kDisconnect:
      break;
  }
  return OnEnd();
}

CmNews CmDialogue::OnEnd() {
  deadline_ = Instant::Never();
  switch (std::exchange(state_, State::kDone)) {
    case State::kConnected:
      return datagram() ? CmNews::kNothing : CmNews::kDisconnected;
    case State::kConnecting:
    case State::kRequestSent:
    case State::kReplySent:
    case State::kReplyReceived:
      return CmNews::kUnreachable;
    case State::kIdle:
    case State::kListening:
    case State::kRequestReceived:
    case State::kDone:
      break;
  }
  return CmNews::kNothing;
}

CmNews CmDialogue::OnDeadline(Instant now) {
  return now < deadline_ ? CmNews::kNothing : OnEnd();
}

}  // namespace oxmem::nex
