#include "apps/common/figures_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace oxmem::apps {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string TextOf(const char* json) { return FiguresText(Json::parse(json)); }

TEST(FiguresText, HasALineForTheProcessAndOneForWhatEachPartCounted) {
  EXPECT_EQ(TextOf(R"({"command":"serve","name":"n","pid":7,"uptime_seconds":12.4,
                      "resident_bytes":2048,"parts":[{"kind":"node","name":"tloe://v0",
                      "facts":{"mac":"m"},"counters":{"reads":3,"writes":0},
                      "service_time":{"count":1,"min_us":1.5}}]})"),
            "serve \"n\", process 7, up 12 s, 2 KiB resident\n"
            "  node tloe://v0\n"
            "    mac           m\n"
            "    reads         3\n"
            "    service_time  min 1.50 us, mean 0 ns, p50 0 ns, p99 0 ns, p999 0 ns, max 0 ns\n");
}

TEST(FiguresText, NothingOfAnAnswerReachesTheTerminalAsAControlCharacter) {
  const std::string text = TextOf(R"({"command":"\u001b[2J","name":["\u0007"],"parts":[
      {"kind":"\u001b","facts":{"\u001b[1m":"\u0000"},"counters":{"\u001b[3m":"\u001b"},
       "\u001b[4m":{"count":1}}]})");
  for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20);
  EXPECT_THAT(text, HasSubstr("\\x1b[1m"));
}

TEST(FiguresText, WhatIsNotAsExpectedIsLeftOut) {
  EXPECT_THAT(TextOf(R"({"parts":"none","resident_bytes":-1,"uptime_seconds":"long"})"),
              HasSubstr("up 0 s, 0 B resident\n"));
  EXPECT_THAT(TextOf(R"({"resident_bytes":1e300})"), HasSubstr(" resident\n"));
  EXPECT_THAT(TextOf(R"({"parts":[1,[],{"counters":[2]}]})"), Not(HasSubstr("2")));
}

TEST(FiguresText, AProcessIsCalledByItsNumberAndByItsNameAsItIsAndAsItIsShown) {
  Json process;
  process["pid"] = 12;
  process["name"] = "/mnt/line\nbreak";
  for (const char* which : {"12", "/mnt/line\nbreak", "/mnt/line\\x0abreak"}) {
    EXPECT_TRUE(IsCalled(process, which)) << which;
  }
  EXPECT_FALSE(IsCalled(process, "/mnt/line"));
  process["name"] = "caf\xef\xbf\xbd";
  EXPECT_TRUE(IsCalled(process, "caf\xe9"));
  EXPECT_FALSE(IsCalled(Json::object(), "12"));
}

}  // namespace
}  // namespace oxmem::apps
