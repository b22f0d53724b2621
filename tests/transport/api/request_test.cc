#include "transport/api/request.h"

#include <cerrno>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace oxmem::transport {
namespace {

TEST(Code, EveryCodeHasAnErrnoAndANameOfItsOwn) {
  std::set<std::string> names;
  for (int number = 0; number < kCodeCount; ++number) {
    const auto code = static_cast<Code>(number);
    EXPECT_TRUE(names.insert(CodeName(code)).second) << CodeName(code);
    EXPECT_EQ(ErrnoOfCode(code) == 0, code == Code::kOk) << CodeName(code);
  }
}

TEST(Code, TheTableIsWhatApplicationsSee) {
  EXPECT_EQ(ErrnoOfCode(Code::kOk), 0);
  EXPECT_EQ(ErrnoOfCode(Code::kOutOfRange), ENXIO);
  EXPECT_EQ(ErrnoOfCode(Code::kInvalid), EINVAL);
  EXPECT_EQ(ErrnoOfCode(Code::kUnsupported), EOPNOTSUPP);
  EXPECT_EQ(ErrnoOfCode(Code::kReadOnly), EROFS);
  EXPECT_EQ(ErrnoOfCode(Code::kClosed), ESHUTDOWN);
  for (const Code code :
       {Code::kDenied, Code::kCorrupt, Code::kTimedOut, Code::kPeerLost, Code::kFailed}) {
    EXPECT_EQ(ErrnoOfCode(code), EIO) << CodeName(code);
  }
}

TEST(CodeDeathTest, ANumberThatIsNoCodeStopsTheProgram) {
  const auto code = static_cast<Code>(kCodeCount);
  EXPECT_DEATH(CodeName(code), "internal error");
  EXPECT_DEATH(ErrnoOfCode(code), "internal error");
}

TEST(AtomicOps, IsASet) {
  const AtomicOps none;
  EXPECT_TRUE(none.empty());
  for (int i = 0; i < kAtomicOpCount; ++i) {
    const auto op = static_cast<AtomicOp>(i);
    EXPECT_FALSE(none.Has(op));
    EXPECT_TRUE(AtomicOps::All().Has(op));
    const AtomicOps one = none.With(op);
    for (int j = 0; j < kAtomicOpCount; ++j) {
      EXPECT_EQ(one.Has(static_cast<AtomicOp>(j)), i == j);
    }
  }
  const AtomicOps two = AtomicOps().With(AtomicOp::kAdd).With(AtomicOp::kXor);
  EXPECT_TRUE(two.Intersect(AtomicOps().With(AtomicOp::kXor)).Has(AtomicOp::kXor));
  EXPECT_FALSE(two.Intersect(AtomicOps().With(AtomicOp::kXor)).Has(AtomicOp::kAdd));
  EXPECT_TRUE(two.Intersect(none).empty());
}

}  // namespace
}  // namespace oxmem::transport
