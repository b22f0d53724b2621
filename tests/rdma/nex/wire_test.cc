#include "rdma/nex/wire.h"

#include <gtest/gtest.h>

#include <cstring>

#include "rdma/nex/cm/message.h"

namespace oxmem::nex {
namespace {

TEST(Wire, AHeaderHasItsDocumentedBytes) {
  FrameHeader header;
  header.type = FrameType::kWriteImmediate;
  header.flags = kFlagSolicited;
  header.sequence = 0x01020304;
  header.length = 0x00050607;
  header.immediate = 0x08090a0b;
  header.key = 0x0c0d0e0f;
  header.srq_number = 0x10111213;
  header.address = 0x1415161718191a1b;
  header.operand = 0x1c1d1e1f20212223;
  header.swap = 0x2425262728292a2b;
  std::array<std::byte, kHeaderBytes> bytes;
  EncodeHeader(header, bytes);
  const std::uint8_t expected[kHeaderBytes] = {
      5,    1,    0,    0,    0x01, 0x02, 0x03, 0x04, 0x00, 0x05, 0x06, 0x07,
      0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13,
      0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
      0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b};
  EXPECT_EQ(0, std::memcmp(expected, bytes.data(), kHeaderBytes));
  EXPECT_EQ(header, DecodeHeader(bytes));
}

TEST(Wire, WhatIsNotKnownIsRefused) {
  std::array<std::byte, kHeaderBytes> bytes{};
  EXPECT_FALSE(DecodeHeader(bytes));  // type 0
  FrameHeader header;
  header.length = kMaxMessageBytes + 1;
  EncodeHeader(header, bytes);
  EXPECT_FALSE(DecodeHeader(bytes));
  header = {};
  header.flags = 2;
  EncodeHeader(header, bytes);
  EXPECT_FALSE(DecodeHeader(bytes));
  header = {};
  header.type = FrameType::kAck;
  header.length = 1;
  EncodeHeader(header, bytes);
  EXPECT_FALSE(DecodeHeader(bytes));
  header = {};
  header.type = FrameType::kNak;
  EncodeHeader(header, bytes);
  EXPECT_FALSE(DecodeHeader(bytes));  // a NAK without a reason
}

TEST(Wire, GreetingsOfAnotherVersionAreRefused) {
  const Greeting greeting{GreetingType::kWelcome, 1, 2, 3, 4, 5};
  std::array<std::byte, kGreetingBytes> bytes;
  EncodeGreeting(greeting, bytes);
  EXPECT_EQ(greeting, DecodeGreeting(bytes));
  bytes[5] = std::byte{3};
  EXPECT_FALSE(DecodeGreeting(bytes));
}

TEST(Wire, MessagesOfTheConnectionManagerSurviveARoundTrip) {
  for (const CmService service :
       {CmService::kReliable, CmService::kDatagram, CmService::kUnreliable, CmService::kXrc}) {
    CmMessage message;
    message.type = CmMessageType::kReply;
    message.service = service;
    message.qpn = 0xabcdef;
    message.private_length = 4;
    message.private_data[3] = 9;
    std::array<std::byte, kCmMessageBytes> bytes;
    EncodeCm(message, bytes);
    EXPECT_EQ(message, DecodeCm(bytes));
    bytes[7] = std::byte{4};
    EXPECT_FALSE(DecodeCm(bytes));
  }
}

TEST(Wire, OnlyRequestsOfTheConnectionManagerHaveATicket) {
  for (int type = 1; type <= 5; ++type) {
    CmMessage message;
    message.type = static_cast<CmMessageType>(type);
    message.ticket = 0x0102030405060708;
    std::array<std::byte, kCmMessageBytes> bytes;
    EncodeCm(message, bytes);
    EXPECT_EQ(std::byte{1}, bytes[64]);
    EXPECT_EQ(std::byte{8}, bytes[71]);
    EXPECT_EQ(type == 1, DecodeCm(bytes) == message);
  }
}

TEST(Wire, AProofIsGoodForOneMessageOfOneConversation) {
  CmMessage message;
  message.type = CmMessageType::kReply;
  message.source[15] = 1;
  const SecretKey key("secret");
  const std::uint64_t proof = ProofOf(message, 7, key);
  EXPECT_NE(0u, proof);
  CmMessage proven = message;
  proven.proof = proof;
  EXPECT_EQ(proof, ProofOf(proven, 7, key));
  std::array<std::byte, kCmMessageBytes> bytes;
  EncodeCm(proven, bytes);
  EXPECT_EQ(proven, DecodeCm(bytes));
  EXPECT_NE(proof, ProofOf(message, 8, key));
  EXPECT_NE(proof, ProofOf(message, 7, SecretKey("secrets")));
  EXPECT_EQ(0u, ProofOf(message, 7, SecretKey("")));
  EXPECT_EQ(0u, ProofOf(message, 7, SecretKey()));
  // Whatever is another message has another proof.
  for (std::size_t at = 8; at < kCmMessageBytes - sizeof proof; ++at) {
    std::array<std::byte, kCmMessageBytes> changed = bytes;
    changed[at] ^= std::byte{1};
    const auto other = DecodeCm(changed);
    if (other) {
      EXPECT_NE(proof, ProofOf(*other, 7, key)) << at;
    }
  }
}

TEST(Wire, DatagramHeadersSurviveARoundTrip) {
  DatagramHeader header;
  header.source_qpn = 1;
  header.destination_qpn = 0xffffff;
  header.queue_key = 0x11111111;
  header.flags = kFlagSolicited;
  header.has_immediate = header.has_grh = true;
  header.immediate = 9;
  header.source_gid[15] = 1;
  header.destination_gid[0] = 0xff;
  std::array<std::byte, kDatagramHeaderBytes> bytes;
  EncodeDatagram(header, bytes);
  EXPECT_EQ(header, DecodeDatagram(bytes));
  bytes[6] = std::byte{0x80};
  EXPECT_FALSE(DecodeDatagram(bytes));
}

}  // namespace
}  // namespace oxmem::nex
