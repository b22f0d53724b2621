#include "oxmem/channel/request_table.h"

#include <deque>
#include <random>

#include "gtest/gtest.h"

namespace oxmem::channel {
namespace {

transport::Request WithCookie(uint64_t cookie) {
  transport::Request request;
  request.cookie = cookie;
  return request;
}

TEST(RequestTable, KeepsTheOrderOfAcceptance) {
  RequestTable table(3);
  const uint32_t a = table.Add(WithCookie(1), Instant());
  const uint32_t b = table.Add(WithCookie(2), Instant());
  EXPECT_EQ(table.oldest(), a);
  table.Remove(a);
  EXPECT_EQ(table.oldest(), b);
  table.Remove(b);
  EXPECT_EQ(table.oldest(), RequestTable::kNone);
}

TEST(RequestTable, TheCursorSkipsWhatWasSentAndWhatWasRemoved) {
  RequestTable table(3);
  const uint32_t a = table.Add(WithCookie(1), Instant());
  const uint32_t b = table.Add(WithCookie(2), Instant());
  const uint32_t c = table.Add(WithCookie(3), Instant());
  EXPECT_EQ(table.unsent(), a);
  table.AdvanceUnsent();
  EXPECT_EQ(table.unsent(), b);
  table.Remove(b);
  EXPECT_EQ(table.unsent(), c);
  table.AdvanceUnsent();
  EXPECT_EQ(table.unsent(), RequestTable::kNone);
  const uint32_t d = table.Add(WithCookie(4), Instant());
  EXPECT_EQ(table.unsent(), d);
  table.RewindUnsent();
  EXPECT_EQ(table.unsent(), a);
}

TEST(RequestTable, AgreesWithAModelThroughRandomUse) {
  std::mt19937 random(3);
  RequestTable table(16);
  std::deque<uint32_t> model;
  for (int step = 0; step < 20000; ++step) {
    if (!table.full() && random() % 2 == 0) {
      model.push_back(table.Add(WithCookie(static_cast<uint64_t>(step)), Instant()));
    } else if (!model.empty()) {
      const auto at = model.begin() + static_cast<long>(random() % model.size());
      table.Remove(*at);
      model.erase(at);
    }
    ASSERT_EQ(table.count(), model.size());
    ASSERT_EQ(table.full(), model.size() == 16);
    uint32_t index = table.oldest();
    for (const uint32_t expected : model) {
      ASSERT_EQ(index, expected);
      index = table[index].next;
    }
    ASSERT_EQ(index, RequestTable::kNone);
  }
}

}  // namespace
}  // namespace oxmem::channel
