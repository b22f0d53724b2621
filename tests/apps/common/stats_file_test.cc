#include "apps/common/stats_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <ctime>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/apps/common/temporary_directory.h"

namespace oxmem::apps {
namespace {

ProcessFigures WithReads(uint64_t count, uint64_t bytes) {
  ProcessFigures process;
  for (const char* kind : {"node", "node", "channel"}) {
    Part part;
    part.kind = kind;
    part.figures = {{"reads", false, "", count},
                    {"read_bytes", false, "", bytes},
                    {"writes", false, "", 1},
                    {"write_bytes", false, "", 8}};
    process.parts.push_back(part);
  }
  return process;
}

std::string Contents(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

TEST(StatsFile, HasTheFieldsProgramsKnow) {
  StatsFile file("unused", 2.0);
  const Json json = file.Next(WithReads(10, 4096), "node");
  EXPECT_NEAR(json["timestamp"].get<double>(), static_cast<double>(std::time(nullptr)), 2.0);
  EXPECT_EQ(json["interval_seconds"], 2.0);
  EXPECT_EQ(json["read"].dump(),
            R"({"count":20,"bytes":8192,"count_per_period":20,"bytes_per_period":8192})");
  EXPECT_EQ(json["write"]["bytes"], 16);
}

TEST(StatsFile, APeriodCountsWhatCameSinceTheLast) {
  StatsFile file("unused", 2.0);
  file.Next(WithReads(10, 4096), "node");
  const Json json = file.Next(WithReads(15, 5000), "node");
  EXPECT_EQ(json["read"]["count"], 30);
  EXPECT_EQ(json["read"]["count_per_period"], 10);
  EXPECT_EQ(json["read"]["bytes_per_period"], 2 * (5000 - 4096));
  EXPECT_EQ(json["write"]["count_per_period"], 0);
}

TEST(StatsFile, NamesOfAnyBytesBecomeText) {
  const TemporaryDirectory directory;
  StatsFile file(directory.path() + "/stats.json", 0.1);
  ProcessFigures process = WithReads(0, 0);
  process.name = "/mnt/caf\xe9";
  ASSERT_TRUE(file.Write(process, "node").ok());
  EXPECT_EQ(Json::parse(Contents(file.path()))["oxmem"]["name"], "/mnt/caf\uFFFD");
}

TEST(StatsFile, AReaderNeverSeesAPartOfIt) {
  const TemporaryDirectory directory;
  StatsFile file(directory.path() + "/stats.json", 0.1);
  ASSERT_TRUE(file.Write(WithReads(0, 0), "node").ok());
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (uint64_t i = 0; i < 300; ++i) {
      EXPECT_TRUE(file.Write(WithReads(i, i << 40), "node").ok());
    }
    done = true;
  });
  int reads = 0;
  while (!done) {
    const Json json = Json::parse(Contents(file.path()), nullptr, false);
    ASSERT_TRUE(json.is_object());
    EXPECT_TRUE(json.contains("read"));
    ++reads;
  }
  writer.join();
  EXPECT_GT(reads, 0);
}

TEST(StatsFile, AFailureNamesThePathAndLeavesNothingBehind) {
  const TemporaryDirectory directory;
  const absl::Status missing = WriteFileAtomically(directory.path() + "/none/stats.json", "x");
  EXPECT_THAT(std::string(missing.message()), testing::HasSubstr("/none/stats.json"));
  // The target is a directory: the text is written, the rename fails.
  std::filesystem::create_directory(directory.path() + "/taken");
  EXPECT_FALSE(WriteFileAtomically(directory.path() + "/taken", "x").ok());
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    ++entries;
  }
  EXPECT_EQ(entries, 1);
}

}  // namespace
}  // namespace oxmem::apps
