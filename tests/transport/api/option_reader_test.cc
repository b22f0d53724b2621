#include "transport/api/option_reader.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

enum class Color { kRed, kBlue };

Source Parsed(std::string_view text) {
  auto source = ParseSource(text);
  EXPECT_TRUE(source.ok()) << source.status();
  return *std::move(source);
}

// The message Finish gives after `read` has used a reader of the source.
template <typename Read>
std::string MessageOf(std::string_view text, Read&& read) {
  const Source source = Parsed(text);
  OptionReader options(source);
  read(options);
  return std::string(options.Finish().message());
}

TEST(OptionReader, GivesTypedValues) {
  const Source source = Parsed(
      "x:?size=64K&count=0x10&on=yes&off=0&color=blue&wait=200ms&loss=2%25&share=0.25&name=n");
  OptionReader options(source);
  EXPECT_EQ(options.Size("size", 1), 65536u);
  EXPECT_EQ(options.Number("count", 1), 16u);
  EXPECT_TRUE(options.Bool("on", false));
  EXPECT_FALSE(options.Bool("off", true));
  EXPECT_EQ(options.Enum("color", Color::kRed, {{"red", Color::kRed}, {"blue", Color::kBlue}}),
            Color::kBlue);
  EXPECT_EQ(options.Time("wait", Duration()), Duration::Milliseconds(200));
  EXPECT_DOUBLE_EQ(options.Fraction("loss", 0), 0.02);
  EXPECT_DOUBLE_EQ(options.Fraction("share", 0), 0.25);
  EXPECT_EQ(options.Text("name", "x"), "n");
  EXPECT_TRUE(options.Finish().ok()) << options.Finish();
}

TEST(OptionReader, GivesFallbacksForAbsentKeys) {
  const Source source = Parsed("x:");
  OptionReader options(source);
  EXPECT_EQ(options.Size("size", 7), 7u);
  EXPECT_EQ(options.Number("count", 8), 8u);
  EXPECT_TRUE(options.Bool("on", true));
  EXPECT_EQ(options.Enum("color", Color::kBlue, {{"red", Color::kRed}}), Color::kBlue);
  EXPECT_EQ(options.Time("wait", Duration::Seconds(5)), Duration::Seconds(5));
  EXPECT_DOUBLE_EQ(options.Fraction("loss", 0.5), 0.5);
  EXPECT_EQ(options.Text("name", "x"), "x");
  EXPECT_TRUE(options.Finish().ok()) << options.Finish();
}

TEST(OptionReader, UnknownKeysAreRefusedListingTheKnownOnes) {
  const std::string message = MessageOf("mem:?sise=1G", [](OptionReader& options) {
    options.Size("size", 0);
    options.Bool("huge", false);
    options.Size("size", 0);
  });
  EXPECT_EQ(message, R"(source "mem:": unknown option "sise" (known: size, huge))");
  EXPECT_EQ(MessageOf("mem:?a=1", [](OptionReader&) {}),
            R"(source "mem:": unknown option "a" (it takes none))");
}

TEST(OptionReader, WrongValuesNameSourceKeyAndReason) {
  const struct {
    const char* text;
    const char* message;
  } kCases[] = {
      {"x:?size=8X", "source \"x:\": size: \"8X\" is not a size"},
      {"x:?size=4K", "source \"x:\": size: 4K is not within 8K to 1G"},
      {"x:?size=2G", "source \"x:\": size: 2G is not within 8K to 1G"},
      {"x:?count=1K", "source \"x:\": count: \"1K\" is not a number"},
      {"x:?count=1", "source \"x:\": count: 1 is too little (the least is 2)"},
      {"x:?on=maybe", "source \"x:\": on: \"maybe\" is neither yes nor no"},
      {"x:?color=green", "source \"x:\": color: \"green\" is not one of red, blue"},
      {"x:?wait=5", "source \"x:\": wait: \"5\" is not a time"},
      {"x:?wait=61s", "source \"x:\": wait: 61s is not within 1ms to 1min"},
      {"x:?loss=1.5", "source \"x:\": loss: \"1.5\" is not a share"},
      {"x:?loss=-0.1", "source \"x:\": loss: \"-0.1\" is not a share"},
      {"x:?loss=nan", "source \"x:\": loss: \"nan\" is not a share"},
      {"x:?loss=", "source \"x:\": loss: \"\" is not a share"},
      {"x:?name=", "source \"x:\": name: is empty"},
  };
  for (const auto& each : kCases) {
    EXPECT_THAT(
        MessageOf(
            each.text,
            [](OptionReader& options) {
              options.Size("size", 8192, 8192, uint64_t{1} << 30);
              options.Number("count", 2, 2);
              options.Bool("on", false);
              options.Enum("color", Color::kRed, {{"red", Color::kRed}, {"blue", Color::kBlue}});
              options.Time("wait", Duration::Seconds(1), Duration::Milliseconds(1),
                           Duration::Seconds(60));
              options.Fraction("loss", 0);
              options.Text("name", "x");
            }),
        StartsWith(each.message));
  }
}

TEST(OptionReader, RequiredKeysAreMissed) {
  EXPECT_THAT(MessageOf("shm://n", [](OptionReader& options) { options.RequiredSize("size"); }),
              HasSubstr("shm://n\": option \"size\" is missing (write for example size=1G)"));
  EXPECT_THAT(MessageOf("x:", [](OptionReader& options) { options.RequiredText("region"); }),
              HasSubstr("option \"region\" is missing"));
  EXPECT_EQ(MessageOf("x:?size=3&region=r",
                      [](OptionReader& options) {
                        EXPECT_EQ(options.RequiredSize("size"), 3u);
                        EXPECT_EQ(options.RequiredText("region"), "r");
                      }),
            "");
}

TEST(OptionReader, TheFirstOfSeveralErrorsIsReported) {
  EXPECT_THAT(MessageOf("x:?a=q&b=q",
                        [](OptionReader& options) {
                          options.Number("a", 0);
                          options.Number("b", 0);
                          options.Fail("b", "never seen");
                        }),
              StartsWith("source \"x:\": a: \"q\""));
}

TEST(OptionReader, ATransportAddsItsOwnErrors) {
  EXPECT_EQ(MessageOf("x:?chunk=5",
                      [](OptionReader& options) {
                        options.Size("chunk", 0);
                        options.Fail("chunk", "5 is no power of two");
                      }),
            "source \"x:\": chunk: 5 is no power of two");
}

}  // namespace
}  // namespace oxmem::transport
