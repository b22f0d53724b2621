#include "rdma/nex/handshake.h"

#include <gtest/gtest.h>

namespace oxmem::nex {
namespace {

// The first vectors of the SipHash paper's reference output: key 00 01 … 0f, input 00 01 … n-1.
TEST(KeyedHash, MatchesTheReferenceVectors) {
  const std::uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  std::uint8_t input[16];
  for (std::uint8_t i = 0; i < 16; ++i) input[i] = i;
  EXPECT_EQ(0x726fdb47dd0e0e31u, KeyedHash(key, input, 0));
  EXPECT_EQ(0xa129ca6149be45e5u, KeyedHash(key, input, 15));
}

TEST(Handshake, BothSidesAgree) {
  Handshake connecting(1, 2, 11, "secret");
  Handshake accepting(2, 1, 22, "secret");
  const auto welcome = accepting.OnHello(connecting.Hello());
  ASSERT_TRUE(welcome);
  const auto confirm = connecting.OnWelcome(*welcome);
  ASSERT_TRUE(confirm);
  EXPECT_TRUE(accepting.OnConfirm(*confirm));
}

TEST(Handshake, ADifferentSecretIsRefusedByBothSides) {
  Handshake connecting(1, 2, 11, "secret");
  Handshake accepting(2, 1, 22, "other");
  const auto welcome = accepting.OnHello(connecting.Hello());
  ASSERT_TRUE(welcome);
  EXPECT_FALSE(connecting.OnWelcome(*welcome));
  Greeting forged;
  forged.type = GreetingType::kConfirm;
  forged.source_qpn = 1;
  forged.destination_qpn = 2;
  forged.nonce = 11;
  forged.peer_nonce = 22;
  EXPECT_FALSE(accepting.OnConfirm(forged));
}

TEST(Handshake, OtherQueuePairsAndOldNoncesAreRefused) {
  Handshake accepting(2, 1, 22, "");
  EXPECT_FALSE(accepting.OnHello(Handshake(7, 2, 11, "").Hello()));
  Handshake connecting(1, 2, 11, "");
  const Greeting hello = connecting.Hello();
  const auto welcome = accepting.OnHello(hello);
  ASSERT_TRUE(welcome);
  const auto confirm = connecting.OnWelcome(*welcome);
  ASSERT_TRUE(confirm);
  Handshake later(2, 1, 23, "");
  ASSERT_TRUE(later.OnHello(hello));
  EXPECT_FALSE(later.OnConfirm(*confirm));  // a replay of another connection
}

}  // namespace
}  // namespace oxmem::nex
