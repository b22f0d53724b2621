#include "rdma/nex/cm/lookup.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

namespace oxmem::nex {
namespace {

std::vector<std::byte> Bytes(const CmLookup& lookup) {
  std::vector<std::byte> bytes(kCmLookupBytes);
  EncodeLookup(lookup, std::span<std::byte, kCmLookupBytes>(bytes));
  return bytes;
}

TEST(CmLookup, AnAnswerHasItsDocumentedBytes) {
  const CmLookup answer{true, 0x0102030405060708, 0x090a, 0x1112131415161718};
  const std::uint8_t expected[kCmLookupBytes] = {
      'n',  'e',  'x', 'l', 0, 3, 2, 0, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
      0x09, 0x0a, 0,   0,   0, 0, 0, 0, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18};
  EXPECT_EQ(0, std::memcmp(expected, Bytes(answer).data(), kCmLookupBytes));
}

TEST(CmLookup, SurvivesARoundTrip) {
  for (const CmLookup& lookup : {CmLookup{.nonce = 7}, CmLookup{true, 7, 0, 0},
                                 CmLookup{true, 7, 65535, 8}, CmLookup{true, 0, 1, 0}}) {
    EXPECT_EQ(lookup, DecodeLookup(Bytes(lookup)));
  }
}

TEST(CmLookup, WhatIsNotKnownIsRefused) {
  const auto with = [](const CmLookup& lookup, std::size_t at, std::uint8_t value) {
    auto bytes = Bytes(lookup);
    EXPECT_NE(std::byte{value}, bytes[at]);
    bytes[at] = std::byte{value};
    return DecodeLookup(bytes).has_value();
  };
  const CmLookup question{.nonce = 7}, answer{true, 7, 80, 9}, nobody{true, 7, 0, 0};
  for (const CmLookup& lookup : {question, answer, nobody}) {
    EXPECT_TRUE(with(lookup, 8, 1));
    EXPECT_FALSE(with(lookup, 0, 'x'));
    EXPECT_FALSE(with(lookup, 5, 2));
    EXPECT_FALSE(with(lookup, 5, 4));
    EXPECT_FALSE(with(lookup, 6, 0));
    EXPECT_FALSE(with(lookup, 6, 3));
    EXPECT_FALSE(with(lookup, 7, 1));
    for (std::size_t at = 18; at < 24; ++at) EXPECT_FALSE(with(lookup, at, 1));
  }
  EXPECT_FALSE(with(question, 17, 1));  // a question with a port
  EXPECT_FALSE(with(question, 31, 1));
  EXPECT_FALSE(with(nobody, 31, 1));  // a ticket to nobody
}

TEST(CmLookup, OtherSizesAreRefused) {
  auto bytes = Bytes({.nonce = 7});
  bytes.resize(2 * kCmLookupBytes);
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    EXPECT_EQ(size == kCmLookupBytes, DecodeLookup(std::span(bytes).first(size)).has_value());
  }
}

TEST(CmTickets, AreOthersForEveryAskerNumberAndKey) {
  const CmTickets tickets(1, 2), others(1, 3);
  CmTickets::Address first{}, second{};
  second[15] = 1;
  EXPECT_EQ(tickets.For(first, 1, second, 2), CmTickets(1, 2).For(first, 1, second, 2));
  const std::set<std::uint64_t> all{
      tickets.For(first, 1, second, 2), tickets.For(first, 2, second, 2),
      tickets.For(first, 1, second, 1), tickets.For(second, 1, second, 2),
      tickets.For(first, 1, first, 2),  tickets.For(second, 2, first, 1),
      others.For(first, 1, second, 2)};
  EXPECT_EQ(7u, all.size());
}

}  // namespace
}  // namespace oxmem::nex
