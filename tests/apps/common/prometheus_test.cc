#include "apps/common/prometheus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/common/figures_json.h"

namespace oxmem::apps {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ProcessFigures Example() {
  ProcessFigures process;
  process.pid = 7;
  process.command = "serve";
  process.name = "a\"b";
  process.uptime = Duration::Milliseconds(1500);
  for (const char* name : {"tloe://eth0", "unix:/x"}) {
    Part part;
    part.kind = "node";
    part.name = name;
    part.facts = {{"protocol", "1.1"}};
    part.figures = {{"reads", false, "reads answered", 3}, {"connections", true, "open", 2}};
    Histogram latency;
    latency.Record(Duration::Microseconds(3));
    latency.Record(Duration::Milliseconds(3));
    part.AddLatency("service_time", "time to answer", latency);
    process.parts.push_back(part);
  }
  return process;
}

TEST(Prometheus, SumsAreCountersAndLevelsAreGauges) {
  const std::string text = PrometheusText(Example());
  EXPECT_THAT(text, HasSubstr("# HELP oxmem_node_reads_total reads answered\n"
                              "# TYPE oxmem_node_reads_total counter\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE oxmem_node_connections gauge\n"));
  EXPECT_THAT(text, HasSubstr("oxmem_uptime_seconds{process=\"a\\\"b\"} 1.500\n"));
}

TEST(Prometheus, NamesThatAreNotUtf8BecomeSo) {
  ProcessFigures process = Example();
  process.name = "caf\xe9";
  process.parts[0].name = "\xff\"\xc3\xa9\n";
  const std::string text = PrometheusText(process);
  EXPECT_THAT(text, HasSubstr("oxmem_node_reads_total{process=\"caf\xef\xbf\xbd\","
                              "node=\"\xef\xbf\xbd\\\"\xc3\xa9\\n\"} 3\n"));
  EXPECT_THAT(text, Not(HasSubstr("\xe9\"")));
  EXPECT_THAT(text, Not(HasSubstr("\xff")));
}

TEST(Prometheus, SamplesOfOneMetricStandTogetherUnderOneHeader) {
  const std::string text = PrometheusText(Example());
  EXPECT_THAT(text, HasSubstr("oxmem_node_reads_total{process=\"a\\\"b\",node=\"tloe://eth0\"} 3\n"
                              "oxmem_node_reads_total{process=\"a\\\"b\",node=\"unix:/x\"} 3\n"));
  const std::size_t first = text.find("# TYPE oxmem_node_reads_total");
  EXPECT_EQ(text.find("# TYPE oxmem_node_reads_total", first + 1), std::string::npos);
}

TEST(Prometheus, LatencyIsACumulativeHistogramInSeconds) {
  const std::string text = PrometheusText(Example());
  EXPECT_THAT(text, HasSubstr("# TYPE oxmem_node_service_time_seconds histogram\n"));
  EXPECT_THAT(text, HasSubstr("node=\"unix:/x\",le=\"2e-06\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("node=\"unix:/x\",le=\"5e-06\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("node=\"unix:/x\",le=\"0.005\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("node=\"unix:/x\",le=\"+Inf\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("node=\"unix:/x\"} 0.003003\n"));
  EXPECT_THAT(text, Not(HasSubstr("nan")));
}

TEST(FiguresJson, HasEveryFigureFactAndPercentile) {
  const Json json = FiguresJson(Example());
  EXPECT_EQ(json["version"], kFiguresVersion);
  EXPECT_EQ(json["pid"], 7);
  EXPECT_EQ(json["uptime_seconds"], 1.5);
  ASSERT_EQ(json["parts"].size(), 2u);
  const Json& part = json["parts"][1];
  EXPECT_EQ(part["name"], "unix:/x");
  EXPECT_EQ(part["facts"]["protocol"], "1.1");
  EXPECT_EQ(part["counters"]["reads"], 3);
  EXPECT_EQ(part["service_time"]["count"], 2);
  EXPECT_EQ(part["service_time"]["min_us"], 3.0);
  EXPECT_EQ(part["service_time"]["max_us"], 3000.0);
}

TEST(FiguresJson, NothingRecordedIsACountOfZeroAndNoNumbers) {
  EXPECT_EQ(LatencyJson(Histogram()).dump(), R"({"count":0})");
}

}  // namespace
}  // namespace oxmem::apps
