#ifndef APPS_COMMON_FACTS_H_
#define APPS_COMMON_FACTS_H_

#include <string>
#include <utility>
#include <vector>

namespace oxmem::apps {

// What there is to say about something, in the order in which people want to read it.
using Facts = std::vector<std::pair<std::string, std::string>>;

// What is said under a name; empty if nothing is.
inline std::string FactOf(const Facts& facts, const std::string& name) {
  for (const auto& [key, value] : facts) {
    if (key == name) return value;
  }
  return "";
}

}  // namespace oxmem::apps

#endif  // APPS_COMMON_FACTS_H_
