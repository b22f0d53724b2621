// What other processes answer to `oxmem stats` and `oxmem top`: any bytes are shown without harm,
// and without a control character that they brought.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_split.h"
#include "apps/common/control_client.h"
#include "apps/common/figures_text.h"
#include "apps/top/top_model.h"
#include "apps/top/top_text.h"
#include "transport/base/check.h"

namespace {

using oxmem::Duration;
using oxmem::Instant;
using oxmem::apps::Json;
using oxmem::apps::TopModel;
using oxmem::apps::TopRow;

void CheckPrintable(std::string_view text) {
  for (const char c : text) {
    OXMEM_CHECK(c == '\n' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f));
  }
}

void Show(TopModel& model, const std::vector<Json>& processes, Instant now) {
  for (const TopRow& row : model.Update(processes, now)) {
    CheckPrintable(row.name);
    for (const int columns : {80, 120}) CheckPrintable(oxmem::apps::TopLine(row, columns));
    OXMEM_CHECK(
        !oxmem::apps::TopJson(row).dump(-1, ' ', false, Json::error_handler_t::replace).empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<Json> processes;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    auto answer = oxmem::apps::ParseAnswer(std::string(line));
    if (!answer.ok()) continue;
    CheckPrintable(oxmem::apps::FiguresText(*answer));
    processes.push_back(*std::move(answer));
  }
  if (processes.empty()) return 0;
  // The first line before the others, so that there are rates.
  TopModel model;
  const Instant start = Instant::FromNanoseconds(1000000000);
  Show(model, {processes.front()}, start);
  Show(model, processes, start + Duration::Seconds(1));
  Show(model, {processes.back()}, start + Duration::Seconds(2));
  return 0;
}
