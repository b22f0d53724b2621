#include "transport/base/log.h"

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "spdlog/sinks/stdout_color_sinks.h"

namespace oxmem {

absl::Status SetUpLogging(std::string_view level) {
  const auto parsed = spdlog::level::from_str(std::string(level));
  if (parsed == spdlog::level::off || parsed == spdlog::level::critical) {
    return absl::InvalidArgumentError(absl::StrCat(
        "log level \"", std::string(level), "\" is not one of error, warning, info, debug, trace"));
  }
  auto logger = std::make_shared<spdlog::logger>(
      "oxmem", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::trace);
  const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
  logger->set_pattern(journal ? "%^%l%$: %v" : "%Y-%m-%d %H:%M:%S.%e %^%l%$: %v");
  spdlog::set_default_logger(std::move(logger));
  return absl::OkStatus();
}

}  // namespace oxmem
