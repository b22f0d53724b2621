#include "transport/base/status.h"

#include <sys/resource.h>

#include <cerrno>

#include "gtest/gtest.h"

namespace oxmem {
namespace {

TEST(Status, EveryErrnoComesBackAsItWentIn) {
  for (int error = 1; error < 134; ++error) {
    const absl::Status status = ErrnoStatus(error, "opening");
    if (absl::ErrnoToStatusCode(error) == absl::StatusCode::kOk) continue;
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(ErrnoOf(status), error);
    EXPECT_EQ(ErrnoOf(Annotate(status, "mount")), error);
  }
}

TEST(Status, EveryCanonicalCodeHasAnErrno) {
  EXPECT_EQ(ErrnoOf(absl::OkStatus()), 0);
  for (int code = 1; code <= 16; ++code) {
    EXPECT_NE(ErrnoOf(absl::Status(static_cast<absl::StatusCode>(code), "x")), 0) << code;
  }
}

TEST(Status, AFileThatMayNotGrowNamesTheLimitThatSaysSo) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limited = before;
  limited.rlim_cur = 1 << 20;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  const absl::Status status = ErrnoStatus(EFBIG, "growing it");
  EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(status.message(),
            "growing it: File too large (ulimit -f is 1M here, for memory too; raise it)");
}

TEST(Status, AnnotatePutsThePrefixFirst) {
  EXPECT_EQ(Annotate(absl::NotFoundError("no such interface"), "tloe").message(),
            "tloe: no such interface");
}

}  // namespace
}  // namespace oxmem
