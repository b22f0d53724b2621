#include "transport/compose/compose_source.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/api/blocking.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;

absl::StatusOr<std::unique_ptr<Channel>> Open(const Source& source) {
  if (IsComposed(source)) return OpenComposed(source, Open);
  if (source.scheme == "mem") return OpenMemory(source);
  return absl::NotFoundError("no such scheme");
}

std::string ErrorOf(std::string_view text) {
  const auto source = ParseSource(text);
  EXPECT_TRUE(source.ok()) << source.status();
  return std::string(Open(*source).status().message());
}

TEST(ComposeSource, OpensWhatIsNested) {
  const auto channel = Open(*ParseSource(
      "stripe:(mirror:(mem:?size=1M,delay:(mem:?size=1M)?latency=1us),rate:(fault:(mem:?size=2M))"
      "?bandwidth=10G)?chunk=4K"));
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_EQ((*channel)->limits().size_bytes, 2u << 20);
  EXPECT_EQ((*channel)->name(), "stripe (mirror (mem 1M, delay (mem 1M)), rate (fault (mem 2M)))");
  const std::vector<std::byte> sent(100000, std::byte{3});
  std::vector<std::byte> seen(100000);
  ASSERT_TRUE(BlockingWrite(**channel, 1234, sent).ok());
  ASSERT_TRUE(BlockingRead(**channel, 1234, seen).ok());
  EXPECT_EQ(seen, sent);
}

TEST(ComposeSource, OptionsReachTheShims) {
  const auto failing = Open(*ParseSource("fault:(mem:?size=1M)?fail=100%25&code=denied"));
  ASSERT_TRUE(failing.ok()) << failing.status();
  EXPECT_EQ(transport::Run(**failing, {.op = Op::kZero, .length = 8}).code, Code::kDenied);
  const auto slow = Open(*ParseSource("delay:(mem:?size=1M)?latency=2ms"));
  ASSERT_TRUE(slow.ok()) << slow.status();
  ASSERT_TRUE(BlockingFlush(**slow).ok());
  EXPECT_GE((*slow)->stats().latency.min_ns(), 2000000u);
}

TEST(ComposeSource, KnowsItsSchemesOnly) {
  EXPECT_TRUE(IsComposed(*ParseSource("mirror:(a:,b:)")));
  EXPECT_FALSE(IsComposed(*ParseSource("mem:")));
  EXPECT_FALSE(OpenComposed(*ParseSource("mem:"), Open).ok());
}

TEST(ComposeSource, SaysWhatIsWrongInOneLine) {
  EXPECT_THAT(ErrorOf("stripe:(mem:)"), HasSubstr("before 2 to 64 sources in parentheses"));
  EXPECT_THAT(ErrorOf("mirror:"), HasSubstr("before 2 to 64 sources in parentheses"));
  EXPECT_THAT(ErrorOf("delay:(mem:,mem:)"), HasSubstr("before one source in parentheses"));
  EXPECT_THAT(ErrorOf("stripe:(mem:,mem:)?chunk=0"), HasSubstr("chunk: 0 is too little"));
  EXPECT_THAT(ErrorOf("stripe:(mem:,mem:)?chunk=12"), HasSubstr("is not a multiple of 8"));
  EXPECT_THAT(ErrorOf("stripe:(mem:,mem:)?chank=4K"), HasSubstr("known: chunk"));
  EXPECT_THAT(ErrorOf("mirror:(mem:,mem:)?read=all"), HasSubstr("not one of first, spread"));
  EXPECT_THAT(ErrorOf("rate:(mem:)"), HasSubstr("neither bandwidth nor requests is bounded"));
  EXPECT_THAT(ErrorOf("delay:(mem:)?latency=5"), HasSubstr("is not a time"));
  EXPECT_THAT(ErrorOf("fault:(mem:)?fail=2"), HasSubstr("is not a share"));
  EXPECT_THAT(ErrorOf("fault:(mem:)?code=ok"), HasSubstr("is not one of failed, timed_out"));
  EXPECT_THAT(ErrorOf("mirror:(mem:,nonsense:)"), HasSubstr("no such scheme"));
}

}  // namespace
}  // namespace oxmem::transport
