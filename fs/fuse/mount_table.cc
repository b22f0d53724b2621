#include "fs/fuse/mount_table.h"

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace oxmem::fs {
namespace {

// The mount table writes blanks and backslashes as \ooo.
std::string Unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::vector<MountTableEntry> ReadMountTable(const std::string& process) {
  std::vector<MountTableEntry> entries;
  std::ifstream table("/proc/" + process + "/mountinfo");
  for (std::string line; std::getline(table, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    for (std::size_t i = 6; i + 2 < fields.size(); ++i) {
      if (fields[i] != "-") continue;
      entries.push_back({.id = fields[0],
                         .path = Unescape(fields[4]),
                         .type = fields[i + 1],
                         .source = Unescape(fields[i + 2]),
                         .device = absl::StrReplaceAll(fields[2], {{":", "-"}}),
                         .options = fields[5],
                         .super_options = i + 3 < fields.size() ? fields[i + 3] : ""});
      break;
    }
  }
  return entries;
}

}  // namespace oxmem::fs
