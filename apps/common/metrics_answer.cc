#include "apps/common/metrics_answer.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "apps/common/prometheus.h"

namespace oxmem::apps {
namespace {

std::string HttpAnswer(const char* status, const char* type, const std::string& body,
                       bool with_body) {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", type,
                      "\r\nContent-Length: ", body.size(), "\r\nConnection: close\r\n\r\n",
                      with_body ? body : "");
}

}  // namespace

std::string MetricsAnswer(const std::string& request,
                          const std::function<ProcessFigures()>& figures) {
  constexpr char kPlain[] = "text/plain; charset=utf-8";
  const std::string line = request.substr(0, request.find("\r\n"));
  const std::size_t first = line.find(' ');
  const std::size_t second = first == std::string::npos ? first : line.find(' ', first + 1);
  if (second == std::string::npos || line.compare(second + 1, 5, "HTTP/") != 0) {
    return HttpAnswer("400 Bad Request", kPlain, "not an HTTP request\n", true);
  }
  const std::string method = line.substr(0, first);
  if (method != "GET" && method != "HEAD") {
    return HttpAnswer("405 Method Not Allowed", kPlain, "only GET and HEAD\n", true);
  }
  std::string path = line.substr(first + 1, second - first - 1);
  path = path.substr(0, path.find('?'));
  const bool with_body = method == "GET";
  if (path != "/metrics") {
    return HttpAnswer("404 Not Found", kPlain, "the figures are at /metrics\n", with_body);
  }
  return HttpAnswer("200 OK", "text/plain; version=0.0.4; charset=utf-8", PrometheusText(figures()),
                    with_body);
}

}  // namespace oxmem::apps
