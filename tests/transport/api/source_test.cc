#include "transport/api/source.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string ErrorOf(std::string_view text) {
  const auto source = ParseSource(text);
  return source.ok() ? "OK: " + source->Format() : std::string(source.status().message());
}

TEST(ParseSource, ReadsABareScheme) {
  const auto source = ParseSource("mem:");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->scheme, "mem");
  EXPECT_FALSE(source->has_authority);
  EXPECT_EQ(source->path, "");
  EXPECT_TRUE(source->parameters.empty());
  EXPECT_EQ(*ParseSource("mem:?"), *source);
}

TEST(ParseSource, ReadsAuthorityPathAndParameters) {
  const auto source = ParseSource("tloe://eth1/04:3f:72:dd:0b:05?size=8G&base=0x0&link=packet,xdp");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->scheme, "tloe");
  EXPECT_TRUE(source->has_authority);
  EXPECT_EQ(source->authority, "eth1");
  EXPECT_EQ(source->path, "/04:3f:72:dd:0b:05");
  EXPECT_EQ(source->path_name(), "04:3f:72:dd:0b:05");
  ASSERT_EQ(source->parameters.size(), 3u);
  EXPECT_EQ(*source->Find("size"), "8G");
  EXPECT_EQ(*source->Find("base"), "0x0");
  EXPECT_EQ(*source->Find("link"), "packet,xdp");
  EXPECT_EQ(source->Find("vc"), nullptr);
}

TEST(ParseSource, ReadsAPathWithoutAuthority) {
  const auto source = ParseSource("unix:/run/oxmem/node.sock?region=data");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_FALSE(source->has_authority);
  EXPECT_EQ(source->path, "/run/oxmem/node.sock");
  EXPECT_EQ(ParseSource("unix:node.sock")->path, "node.sock");
}

TEST(ParseSource, ReadsNestedSources) {
  const auto source = ParseSource(
      "stripe:(mem:?size=1G,mirror:(tloe://eth0/02:00:00:00:00:01?size=1G,unix:/"
      "n.sock))?chunk=64K");
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_EQ(source->nested.size(), 2u);
  EXPECT_EQ(*source->nested[0].Find("size"), "1G");
  ASSERT_EQ(source->nested[1].nested.size(), 2u);
  EXPECT_EQ(source->nested[1].nested[0].authority, "eth0");
  EXPECT_EQ(source->nested[1].nested[1].path, "/n.sock");
  EXPECT_EQ(*source->Find("chunk"), "64K");
}

TEST(ParseSource, LowersTheSchemeAlone) {
  const auto source = ParseSource("MEM:/Path?Key=Value");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->Format(), "mem:/Path?Key=Value");
}

TEST(ParseSource, DecodesPercentEverywhereButInKeys) {
  const auto source = ParseSource("x://a%2Fb/c%20d%3f?k=1%262%25");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->authority, "a/b");
  EXPECT_EQ(source->path, "/c d?");
  EXPECT_EQ(*source->Find("k"), "1&2%");
  EXPECT_THAT(ErrorOf("x:?a%20b=1"), HasSubstr("has no \"=value\""));
}

TEST(ParseSource, KeepsFurtherEqualSignsAndEmptyValues) {
  const auto source = ParseSource("x:?a=b=c&d=");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(*source->Find("a"), "b=c");
  EXPECT_EQ(*source->Find("d"), "");
}

TEST(ParseSource, CanonicalTextIsReadBackAsTheSameSource) {
  for (const char* text : {
           "mem:",
           "mem:?size=1G",
           "shm://node",
           "unix:/run/a.sock?region=data",
           "tloe://eth1/04:3f:72:dd:0b:05?size=8G&base=0x0",
           "tloe+udp://[::1]:4000?size=8G",
           "stripe:(mem:,mem:?a=1)?chunk=64K",
           "x:%2F/two/slashes",
           "x:////y",
           "x:/a%28b%29%2C%23",
           "x://h%2Fh/p?v=%26%3F%3D=",
           "mirror:(stripe:(a:,b:),c://h/p?q=1%2C2)",
           "x:\xc3\xa4",
       }) {
    const auto source = ParseSource(text);
    ASSERT_TRUE(source.ok()) << text << ": " << source.status();
    const auto again = ParseSource(source->Format());
    ASSERT_TRUE(again.ok()) << source->Format() << ": " << again.status();
    EXPECT_EQ(*again, *source) << text;
    EXPECT_EQ(again->Format(), source->Format());
  }
}

TEST(ParseSource, CanonicalTextSurvivesBeingNested) {
  const auto inner = ParseSource("tloe://eth0/m?link=packet,xdp&n=%28x%29");
  ASSERT_TRUE(inner.ok());
  const auto outer = ParseSource("mirror:(" + inner->Format() + ",mem:)");
  ASSERT_TRUE(outer.ok()) << outer.status();
  ASSERT_EQ(outer->nested.size(), 2u);
  EXPECT_EQ(outer->nested[0], *inner);
}

TEST(ParseSource, SaysWhatIsMissingOrTooMuch) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("is empty; write for example mem:"));
  EXPECT_THAT(ErrorOf("/tmp/file"), HasSubstr("no scheme"));
  EXPECT_THAT(ErrorOf("mem"), HasSubstr("no scheme"));
  EXPECT_THAT(ErrorOf(":x"), HasSubstr("no scheme"));
  EXPECT_THAT(ErrorOf("1x:"), HasSubstr("no scheme"));
  EXPECT_THAT(ErrorOf("mem:?size"), HasSubstr("option \"size\" has no \"=value\" at character 6"));
  EXPECT_THAT(ErrorOf("mem:?=1"), HasSubstr("option name (key=value) is missing"));
  EXPECT_THAT(ErrorOf("mem:?a=1&"), HasSubstr("option name (key=value) is missing"));
  EXPECT_THAT(ErrorOf("mem:?a=1&b=2&a=1"),
              HasSubstr("option \"a\" is there twice at character 14"));
  EXPECT_THAT(ErrorOf("mem:/a b"), HasSubstr("a space (write it %20"));
  EXPECT_THAT(ErrorOf("mem:/%4"), HasSubstr("\"%\" without two hexadecimal digits"));
  EXPECT_THAT(ErrorOf("mem:/%zz"), HasSubstr("\"%\" without two hexadecimal digits"));
}

TEST(ParseSource, RefusesUnbalancedParentheses) {
  EXPECT_THAT(ErrorOf("stripe:(mem:"), HasSubstr("\"(\" without its \")\" at character 8"));
  EXPECT_THAT(ErrorOf("stripe:(mem:,mirror:(mem:)"), HasSubstr("\"(\" without its \")\""));
  EXPECT_THAT(ErrorOf("stripe:(mem:))"), HasSubstr("unexpected \")\" at character 14"));
  EXPECT_THAT(ErrorOf("stripe:(mem:)x"), HasSubstr("unexpected \"x\""));
  EXPECT_THAT(ErrorOf("stripe:()"), HasSubstr("no scheme"));
  EXPECT_THAT(ErrorOf("stripe:(mem:,)"), HasSubstr("no scheme"));
  EXPECT_THAT(ErrorOf("unix:/a(b"), HasSubstr("unexpected \"(\" (write it %28"));
  EXPECT_THAT(ErrorOf("mem:?a=)"), HasSubstr("unexpected \")\" (write it %29"));
}

TEST(ParseSource, HintsAtACommaThatSeparatesNoSources) {
  EXPECT_THAT(ErrorOf("mirror:(tloe://e/m?link=packet,xdp,mem:)"), HasSubstr("%2C"));
}

TEST(ParseSource, RefusesControlCharactersAndShowsThemEscaped) {
  const std::string message = ErrorOf("mem:/a\nb");
  EXPECT_THAT(message, HasSubstr("a control character at character 7"));
  EXPECT_THAT(message, Not(HasSubstr("\n")));
  EXPECT_THAT(ErrorOf("mem:/%00"), HasSubstr("a control character"));
  EXPECT_THAT(ErrorOf("mem:?a=%0a"), HasSubstr("a control character"));
}

TEST(ParseSource, BoundsNestingBreadthAndLength) {
  const auto nest = [](int depth) {
    std::string text;
    for (int i = 1; i < depth; ++i) text += "mirror:(";
    return text + "mem:" + std::string(static_cast<std::size_t>(depth - 1), ')');
  };
  EXPECT_TRUE(ParseSource(nest(kMaxSourceDepth)).ok());
  EXPECT_THAT(ErrorOf(nest(kMaxSourceDepth + 1)), HasSubstr("levels of sources"));

  std::string broad = "stripe:(mem:";
  for (std::size_t i = 1; i < kMaxNestedSources; ++i) broad += ",mem:";
  EXPECT_TRUE(ParseSource(broad + ")").ok());
  EXPECT_THAT(ErrorOf(broad + ",mem:)"), HasSubstr("side by side"));

  const std::string longest = "mem:" + std::string(kMaxSourceBytes - 4, 'x');
  EXPECT_TRUE(ParseSource(longest).ok());
  const std::string message = ErrorOf(longest + "x");
  EXPECT_THAT(message, HasSubstr("is longer than"));
  EXPECT_LT(message.size(), 400u) << "a message does not repeat all of a huge source";
}

TEST(Source, FormatWithoutParametersKeepsThoseOfNestedSources) {
  EXPECT_EQ(ParseSource("tloe://e/m?size=1G")->FormatWithoutParameters(), "tloe://e/m");
  EXPECT_EQ(ParseSource("stripe:(mem:?size=1G,mem:)?chunk=4K")->FormatWithoutParameters(),
            "stripe:(mem:?size=1G,mem:)");
}

TEST(ParseHostPort, ReadsNamesAndBothAddressFamilies) {
  EXPECT_EQ(ParseHostPort("node-1:4000")->host, "node-1");
  EXPECT_EQ(ParseHostPort("127.0.0.1:65535")->port, 65535);
  EXPECT_EQ(ParseHostPort("[fe80::1%25eth0]:1")->host, "fe80::1%25eth0");
  EXPECT_EQ(ParseHostPort("[::1]:4000")->port, 4000);
}

TEST(ParseHostPort, RefusesWhatIsIncompleteAndQuotesIt) {
  for (const char* text : {"", "host", "host:", "host:0", "host:65536", "host:-1", "host:1x", ":1",
                           "::1", "::1:4000", "[::1]", "[::1", "[]:1", "[::1]4000"}) {
    const auto result = ParseHostPort(text);
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(std::string("\"") + text + "\""));
  }
}

}  // namespace
}  // namespace oxmem::transport
