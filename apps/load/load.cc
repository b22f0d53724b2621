#include "apps/load/load.h"

namespace oxmem::apps {

const char* LoadOpName(LoadOp op) {
  switch (op) {
    case LoadOp::kRead:
      return "read";
    case LoadOp::kWrite:
      return "write";
    case LoadOp::kMixed:
      return "mixed";
    case LoadOp::kAtomic:
      return "atomic";
  }
  return "";
}

const char* AccessPatternName(AccessPattern pattern) {
  switch (pattern) {
    case AccessPattern::kRandom:
      return "random";
    case AccessPattern::kSequential:
      return "sequential";
  }
  return "";
}

}  // namespace oxmem::apps
