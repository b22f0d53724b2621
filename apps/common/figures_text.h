#ifndef APPS_COMMON_FIGURES_TEXT_H_
#define APPS_COMMON_FIGURES_TEXT_H_

#include <string>

#include "apps/common/figures_json.h"

namespace oxmem::apps {

// For people: what a process answered to `stats`, one line for the process, one for each part and
// what it counted indented below. The answer may be of any origin: what is not in it as expected is
// left out, and nothing in it reaches a terminal as a control character.
std::string FiguresText(const Json& process);

// Whether a user who says `which` means this process: by its number, or by its name, as it is or as
// FiguresText writes it.
bool IsCalled(const Json& process, const std::string& which);

// A member as text without control characters, whatever its type; empty if it is not there.
std::string MemberText(const Json& json, const char* key);

}  // namespace oxmem::apps

#endif  // APPS_COMMON_FIGURES_TEXT_H_
