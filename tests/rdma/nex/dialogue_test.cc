#include "rdma/nex/cm/dialogue.h"

#include <gtest/gtest.h>

#include <vector>

namespace oxmem::nex {
namespace {

using State = CmDialogue::State;
using enum CmMessageType;

constexpr CmMessageType kAllTypes[] = {kRequest, kReply, kReadyToUse, kReject, kDisconnect};

constexpr Instant kStart = Instant::FromNanoseconds(1000);

CmEnds Ends() {
  CmEnds ends;
  ends.own[15] = 1;
  ends.peer[15] = 2;
  ends.own_port = 11;
  ends.peer_port = 22;
  return ends;
}

CmMessage Message(CmMessageType type, CmService service = CmService::kReliable) {
  CmMessage message;
  message.type = type;
  message.service = service;
  message.source = Ends().peer;
  message.destination = Ends().own;
  message.source_port = Ends().peer_port;
  message.destination_port = Ends().own_port;
  return message;
}

CmNews Hear(CmDialogue& dialogue, CmMessageType type, CmService service = CmService::kReliable) {
  return dialogue.OnMessage(Message(type, service), Ends(), kStart);
}

// A dialogue that has come to a state by the shortest way.
CmDialogue At(State state, bool accepting, CmService service = CmService::kReliable) {
  CmDialogue dialogue;
  dialogue.SetService(service);
  if (accepting) {
    dialogue.SetAccepting(service);
    if (state != State::kIdle) Hear(dialogue, kRequest, service);
    if (state != State::kIdle && state != State::kRequestReceived) dialogue.Accept(kStart);
    if (state == State::kConnected && service != CmService::kDatagram) {
      Hear(dialogue, kReadyToUse, service);
    }
  } else {
    if (state != State::kIdle) dialogue.Connect();
    if (state != State::kIdle && state != State::kConnecting) dialogue.OnConnected(kStart);
    if (state == State::kReplyReceived || state == State::kConnected) {
      Hear(dialogue, kReply, service);
    }
    if (state == State::kConnected) dialogue.Accept(kStart);
  }
  if (state == State::kDone) dialogue.OnEnd();
  EXPECT_EQ(state, dialogue.state());
  return dialogue;
}

struct Point {
  State state;
  bool accepting;
  CmNews at_end;  // what the program is told when the connection ends here
};
constexpr Point kPoints[] = {
    {State::kIdle, false, CmNews::kNothing},
    {State::kConnecting, false, CmNews::kUnreachable},
    {State::kRequestSent, false, CmNews::kUnreachable},
    {State::kReplyReceived, false, CmNews::kUnreachable},
    {State::kConnected, false, CmNews::kDisconnected},
    {State::kDone, false, CmNews::kNothing},
    {State::kIdle, true, CmNews::kNothing},
    {State::kRequestReceived, true, CmNews::kNothing},
    {State::kReplySent, true, CmNews::kUnreachable},
    {State::kConnected, true, CmNews::kDisconnected},
    {State::kDone, true, CmNews::kNothing},
};

TEST(CmDialogue, ConnectsAndDisconnects) {
  CmDialogue client = At(State::kReplyReceived, false);
  EXPECT_TRUE(client.Accept(kStart));
  EXPECT_EQ(State::kConnected, client.state());
  CmDialogue server = At(State::kReplySent, true);
  EXPECT_EQ(CmNews::kEstablished, Hear(server, kReadyToUse));
  EXPECT_TRUE(server.Disconnect());
  EXPECT_EQ(CmNews::kDisconnected, Hear(client, kDisconnect));
  EXPECT_EQ(CmNews::kNothing, Hear(server, kDisconnect));
  EXPECT_FALSE(client.Disconnect());
}

TEST(CmDialogue, DatagramsAreConnectedByTheReply) {
  CmDialogue client = At(State::kRequestSent, false, CmService::kDatagram);
  EXPECT_EQ(CmNews::kEstablished, Hear(client, kReply, CmService::kDatagram));
  EXPECT_EQ(State::kConnected, client.state());
  EXPECT_EQ(CmNews::kNothing, client.OnEnd());
  EXPECT_EQ(State::kConnected, At(State::kConnected, true, CmService::kDatagram).state());
}

TEST(CmDialogue, OnlyTheExpectedMessageIsMoreThanTheEnd) {
  for (const Point& point : kPoints) {
    for (const CmMessageType type : kAllTypes) {
      CmDialogue dialogue = At(point.state, point.accepting);
      CmNews expected = point.at_end;
      State next = State::kDone;
      if (point.accepting && point.state == State::kIdle && type == kRequest) {
        expected = CmNews::kRequest;
        next = State::kRequestReceived;
      } else if (point.state == State::kRequestSent && type == kReply) {
        expected = CmNews::kResponse;
        next = State::kReplyReceived;
      } else if (point.state == State::kReplySent && type == kReadyToUse) {
        expected = CmNews::kEstablished;
        next = State::kConnected;
      } else if (type == kReject &&
                 (point.state == State::kRequestSent || point.state == State::kReplySent)) {
        expected = CmNews::kRejected;
      }
      EXPECT_EQ(expected, Hear(dialogue, type))
          << static_cast<int>(point.state) << " " << static_cast<int>(type);
      EXPECT_EQ(next, dialogue.state());
    }
  }
}

TEST(CmDialogue, WhoSpeaksForSomebodyElseIsNotHeard) {
  const auto heard = [](auto change) {
    CmDialogue dialogue = At(State::kIdle, true);
    CmMessage message = Message(kRequest);
    change(message);
    return dialogue.OnMessage(message, Ends(), kStart) == CmNews::kRequest;
  };
  EXPECT_TRUE(heard([](CmMessage&) {}));
  EXPECT_FALSE(heard([](CmMessage& message) { message.source[15] = 9; }));
  EXPECT_FALSE(heard([](CmMessage& message) { message.destination[0] = 9; }));
  EXPECT_FALSE(heard([](CmMessage& message) { message.source_port = 9; }));
  EXPECT_FALSE(heard([](CmMessage& message) { message.destination_port = 9; }));
  EXPECT_FALSE(heard([](CmMessage& message) { message.service = CmService::kXrc; }));
}

TEST(CmDialogue, WhatTheProgramDoesAtTheWrongTimeChangesNothing) {
  for (const Point& point : kPoints) {
    const State state = point.state;
    CmDialogue dialogue = At(state, point.accepting);
    EXPECT_EQ(state == State::kRequestReceived || state == State::kReplyReceived,
              dialogue.Accept(kStart));
    dialogue = At(state, point.accepting);
    EXPECT_EQ(state == State::kRequestReceived || state == State::kReplyReceived,
              dialogue.Reject());
    dialogue = At(state, point.accepting);
    EXPECT_EQ(state == State::kConnected || state == State::kReplySent, dialogue.Disconnect());
    dialogue = At(state, point.accepting);
    EXPECT_EQ(state == State::kIdle && !point.accepting, dialogue.Connect());
    dialogue = At(state, point.accepting);
    EXPECT_EQ(state == State::kIdle, dialogue.Listen());
  }
}

TEST(CmDialogue, AnAnswerThatNeverComesIsNotAwaitedForEver) {
  for (const Point& point : kPoints) {
    CmDialogue dialogue = At(point.state, point.accepting);
    const bool waits = point.state == State::kRequestSent || point.state == State::kReplySent;
    ASSERT_EQ(!waits, dialogue.deadline().is_never());
    if (!waits) continue;
    EXPECT_EQ(kStart + CmDialogue::kAnswerTime, dialogue.deadline());
    EXPECT_EQ(CmNews::kNothing,
              dialogue.OnDeadline(dialogue.deadline() - Duration::Nanoseconds(1)));
    EXPECT_EQ(CmNews::kUnreachable, dialogue.OnDeadline(dialogue.deadline()));
    EXPECT_EQ(State::kDone, dialogue.state());
    EXPECT_TRUE(dialogue.deadline().is_never());
  }
}

}  // namespace
}  // namespace oxmem::nex
