#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "apps/common/cli.h"
#include "apps/common/version.h"
#include "apps/oxmem/command.h"

namespace oxmem::apps {
namespace {

constexpr char kDescription[] =
    "Memory of other machines: serve it, mount it, look at it, measure it.\n"
    "\n"
    "A SOURCE says where memory is:\n"
    "  mem:?size=1G                            memory of this process, to try things out\n"
    "  tloe://IFACE/MAC?size=8G                an OmniXtend endpoint on Ethernet\n"
    "  tloe+udp://HOST:PORT?size=8G            the same frames in UDP\n"
    "  unix:/path.sock?region=NAME             a node on this host: its memory itself, no copies\n"
    "  shm://NAME                              shared memory of this host\n"
    "  stripe:(SOURCE,SOURCE)?chunk=64K        one region over several sources\n"
    "  mirror:(SOURCE,SOURCE)                  one region, a copy in each source\n"
    "Sizes take K, M, G and T, powers of 1024. oxmem-sources(7) has all keys.\n";

// The words that could stand first: a mistyped command deserves better than "not expected".
std::string CommandNames(const CLI::App& app) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands({})) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", command->get_name());
  }
  return names;
}

bool IsCommand(const CLI::App& app, std::string_view word) {
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == word) return true;
  }
  return false;
}

// What the user typed. Behind a word of a list the parser takes what follows -- for options, so
// names that begin with a dash get another beginning there, which means the same of a directory.
std::vector<std::string> WordsOf(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  const auto mark = std::find(words.begin(), words.end(), "--");
  if (mark == words.end() || (words[0] != "mount" && words[0] != "umount")) return words;
  for (auto word = mark + 1; word != words.end(); ++word) {
    if (absl::StartsWith(*word, "-")) word->insert(0, "./");
  }
  words.erase(mark);
  return words;
}

int WrongUsage(const CLI::App& app, const CLI::ParseError& error) {
  std::string program = app.get_name();
  for (const CLI::App* command : app.get_subcommands()) {
    absl::StrAppend(&program, " ", command->get_name());
  }
  return Fail(program, absl::InvalidArgumentError(
                           absl::StrCat(error.what(), " (see ", program, " --help)")));
}

int Main(int argc, char** argv) {
  CLI::App app(kDescription, "oxmem");
  app.set_version_flag("--version", absl::StrCat("oxmem ", kVersion), "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.require_subcommand(1);
  Run run;
  AddBenchCommand(app, run);
  AddInfoCommand(app, run);
  AddMountCommand(app, run);
  AddPingCommand(app, run);
  AddServeCommand(app, run);
  AddStatsCommand(app, run);
  AddTopCommand(app, run);
  AddUmountCommand(app, run);
  if (argc > 1 && argv[1][0] != '-' && !IsCommand(app, argv[1])) {
    return Fail("oxmem", absl::InvalidArgumentError(absl::StrCat(
                             "there is no command \"", argv[1],
                             "\" in this version; the commands are ", CommandNames(app))));
  }
  if (argc == 1) {
    return Fail("oxmem", absl::InvalidArgumentError(absl::StrCat(
                             "a command is missing: ", CommandNames(app), " (see oxmem --help)")));
  }
  try {
    std::vector<std::string> words = WordsOf(argc, argv);
    std::reverse(words.begin(), words.end());  // as it takes them
    app.parse(std::move(words));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help and --version
      const int code = app.exit(error);
      std::cout.flush();
      return EndOutput("oxmem", code);
    }
    return WrongUsage(app, error);
  }
  return run();
}

}  // namespace
}  // namespace oxmem::apps

int main(int argc, char** argv) {
  oxmem::apps::OpenStandardDescriptors();
  oxmem::apps::SetUpSignals();
  oxmem::apps::RunAsPartOfAMount(argc, argv);
  return oxmem::apps::Main(argc, argv);
}
