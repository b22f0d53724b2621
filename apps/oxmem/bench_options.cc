#include "apps/oxmem/bench_options.h"

#include <algorithm>
#include <limits>
#include <map>

#include "absl/strings/str_cat.h"
#include "apps/oxmem/number_option.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

constexpr uint64_t kAtomicBytes = 8;
// A verifying run writes its range first and reads it last; more than this is for those who ask.
constexpr uint64_t kVerifyRangeBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxVerifyBlocks = uint64_t{1} << 24;

const std::map<std::string, LoadOp> kOps = {{"read", LoadOp::kRead},
                                            {"write", LoadOp::kWrite},
                                            {"mixed", LoadOp::kMixed},
                                            {"atomic", LoadOp::kAtomic}};
const std::map<std::string, AccessPattern> kPatterns = {{"random", AccessPattern::kRandom},
                                                        {"sequential", AccessPattern::kSequential}};

template <typename E>
std::vector<std::string> Words(const std::map<std::string, E>& values) {
  std::vector<std::string> words;
  for (const auto& [word, value] : values) words.push_back(word);
  return words;
}

absl::StatusOr<uint64_t> Size(const char* option, const std::string& text) {
  const absl::StatusOr<uint64_t> size = ParseSize(text);
  if (!size.ok()) return Annotate(size.status(), option);
  return *size;
}

}  // namespace

void AddBenchOptions(CLI::App* command, BenchOptions* options) {
  command->add_option("SOURCE", options->source, "Where the memory is (see oxmem --help)")
      ->required();
  command
      ->add_option_function<std::string>(
          "--op", [options](const std::string& word) { options->op = kOps.at(word); },
          "read (default), write, mixed, or atomic (fetch-and-add of 8 bytes); all but "
          "read overwrite the range")
      ->type_name("OP")
      ->check(CLI::IsMember(Words(kOps)).description(""));
  command
      ->add_option_function<std::string>(
          "--pattern",
          [options](const std::string& word) { options->pattern = kPatterns.at(word); },
          "random (default) or sequential")
      ->type_name("PATTERN")
      ->check(CLI::IsMember(Words(kPatterns)).description(""));
  command->add_option("-s,--size", options->size, "Bytes of an operation (default 4K)")
      ->type_name("BYTES");
  command->add_option("-d,--depth", options->depth, "Operations under way per thread (default 32)")
      ->type_name("N")
      ->check(WholeNumber(1, 65536));
  command->add_option("-j,--threads", options->threads, "Threads, each with a channel (default 1)")
      ->type_name("N")
      ->check(WholeNumber(1, 64));
  CLI::Option* time =
      command->add_option("-t,--time", options->seconds, "Seconds to run (default 5)")
          ->type_name("SEC")
          ->check(DecimalNumber(0.01, 1e6));
  command
      ->add_option("-c,--count", options->count, "Stop after N operations of each thread instead")
      ->type_name("N")
      ->check(WholeNumber(1, uint64_t{1} << 62))
      ->excludes(time);
  command->add_option("--offset", options->offset, "Where the range begins (default 0)")
      ->type_name("BYTES");
  command
      ->add_option("--range", options->range,
                   "How much of the region to use (default all; with --verify 64M)")
      ->type_name("BYTES")
      ->check(NotEmpty());
  command->add_option("--read-percent", options->read_percent, "Reads of a mixed load (default 50)")
      ->type_name("PERCENT")
      ->check(DecimalNumber(0, 100));
  command->add_option("--seed", options->seed, "Of the random walk and of the data (default 1)")
      ->type_name("N")
      ->check(WholeNumber(0, UINT64_MAX));
  command
      ->add_option("--spin", options->spin_us,
                   "Microseconds to poll for completions before sleeping (default 50)")
      ->type_name("US")
      ->check(WholeNumber(0, 1000000));
  command->add_option("--cpu", options->cpus, "CPUs to keep the threads on, in turn, like 0,2-3")
      ->type_name("LIST")
      ->check(NotEmpty());
  command->add_flag("--verify", options->verify,
                    "Fill the range first, check every byte that is read, and the whole range at "
                    "the end; overwrites it");
  command->add_flag("--keep-going", options->keep_going,
                    "Count operations that fail and go on, to see how faults heal");
  command->add_flag("--json", options->json, "Print JSON");
}

absl::StatusOr<std::vector<LoadOptions>> LoadOfThreads(const BenchOptions& options,
                                                       const transport::Limits& limits) {
  LoadOptions load;
  load.op = options.op;
  load.pattern = options.pattern;
  OXMEM_ASSIGN_OR_RETURN(load.size, Size("--size", options.size));
  if (options.op == LoadOp::kAtomic) load.size = kAtomicBytes;
  if (load.size == 0) return absl::InvalidArgumentError("--size must not be zero");
  OXMEM_ASSIGN_OR_RETURN(load.offset, Size("--offset", options.offset));
  if (load.offset >= limits.size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("--offset ", options.offset,
                                                   " is behind the end of the region (",
                                                   FormatSize(limits.size_bytes), ")"));
  }
  load.range = limits.size_bytes - load.offset;
  if (!options.range.empty()) {
    OXMEM_ASSIGN_OR_RETURN(load.range, Size("--range", options.range));
  } else if (options.verify) {
    const uint64_t enough = std::max(kVerifyRangeBytes / 4096 * std::min<uint64_t>(load.size, 4096),
                                     load.size * options.depth * 2 * options.threads);
    load.range = std::min(load.range, enough);
  }
  if (options.verify && load.range / load.size > kMaxVerifyBlocks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--verify remembers at most ", kMaxVerifyBlocks, " blocks: choose a smaller --range than ",
        FormatSize(load.range), " or a larger --size than ", FormatSize(load.size)));
  }
  load.depth = options.depth;
  load.count = options.count;
  if (options.read_percent) {
    if (options.op != LoadOp::kMixed) {
      return absl::InvalidArgumentError("--read-percent is of a mixed load: give --op mixed, too");
    }
    load.read_share = *options.read_percent / 100.0;
  }
  load.verify = options.verify;
  load.keep_going = options.keep_going;
  load.spin = Duration::Microseconds(options.spin_us);
  std::vector<LoadOptions> threads(options.threads, load);
  const uint64_t blocks_each = load.range / load.size / options.threads;
  if (options.verify && blocks_each == 0) {
    return absl::InvalidArgumentError(absl::StrCat("the range of ", FormatSize(load.range),
                                                   " is too small for ", options.threads,
                                                   " threads with a block each"));
  }
  for (uint32_t i = 0; i < options.threads; ++i) {
    threads[i].seed = options.seed + i;
    threads[i].first_block = options.verify ? 0 : blocks_each * i;
    if (!options.verify) continue;
    threads[i].offset = load.offset + blocks_each * load.size * i;
    threads[i].range = blocks_each * load.size;
  }
  return threads;
}

}  // namespace oxmem::apps
