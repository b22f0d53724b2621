#include "transport/base/status.h"

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

TEST(Status, AnnotatePutsThePrefixFirst) {
  EXPECT_EQ(Annotate(absl::NotFoundError("no such interface"), "tloe").message(),
            "tloe: no such interface");
}

}  // namespace
}  // namespace oxmem
