// Requests to a process's sockets for people and programs: any bytes get one whole answer.

#include <cstddef>
#include <cstdint>
#include <string>

#include "apps/common/metrics_answer.h"
#include "transport/base/check.h"

namespace {

oxmem::apps::ProcessFigures Figures() {
  oxmem::apps::ProcessFigures figures;
  figures.command = "serve";
  figures.name = "a\"b\\c\n";
  return figures;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::string request(reinterpret_cast<const char*>(data), size);
  const std::string answer = oxmem::apps::MetricsAnswer(request, Figures);
  OXMEM_CHECK(answer.rfind("HTTP/1.1 ", 0) == 0);
  const std::size_t end = answer.find("\r\n\r\n");
  OXMEM_CHECK(end != std::string::npos);
  constexpr char kLength[] = "\r\nContent-Length: ";
  const std::size_t at = answer.find(kLength);
  OXMEM_CHECK(at < end);
  const std::size_t body = answer.size() - end - 4;
  const bool is_head = request.rfind("HEAD ", 0) == 0;
  OXMEM_CHECK(is_head ? body == 0 || answer.find("400 ") == 9
                      : std::stoull(answer.substr(at + sizeof kLength - 1)) == body);
  // The rest of the request is not looked at.
  if (const std::size_t line = request.find("\r\n"); line != std::string::npos) {
    OXMEM_CHECK(oxmem::apps::MetricsAnswer(request.substr(0, line), Figures) == answer);
  }
  return 0;
}
