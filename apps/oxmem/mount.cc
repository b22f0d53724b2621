#include <memory>
#include <string>
#include <vector>

#include "apps/mount/mount_run.h"
#include "apps/oxmem/command.h"

namespace oxmem::apps {
namespace {

struct MountWords {
  std::vector<std::string> words;
  std::vector<std::string> option_lists;
  bool foreground = false;
};

struct UmountWords {
  std::string directory;
  bool lazy = false;
};

}  // namespace

void AddMountCommand(CLI::App& app, Run& run) {
  auto words = std::make_shared<MountWords>();
  CLI::App* command = app.add_subcommand(
      "mount", "Make memory a file in a directory; without a SOURCE, 1G of this host's");
  command->add_option("words", words->words, "Where the memory is, and the directory")
      ->type_name("[SOURCE]... DIR");
  command->add_option("-o", words->option_lists, "Options, see below")
      ->type_name("LIST")
      ->allow_extra_args(false);
  command->add_flag("-f,--foreground", words->foreground,
                    "Serve in this process and log to stderr");
  command->footer(kMountOptionsHelp);
  command->callback([words, &run] {
    run = [words] {
      return MountCommand("oxmem mount", words->words, words->option_lists, words->foreground);
    };
  });
}

void AddUmountCommand(CLI::App& app, Run& run) {
  auto words = std::make_shared<UmountWords>();
  CLI::App* command = app.add_subcommand("umount", "Unmount a directory, or say who keeps it busy");
  command->add_option("DIR", words->directory, "What was mounted")->required();
  command->add_flag("-l,--lazy", words->lazy,
                    "Take it out of sight now; it ends when nobody uses it any more");
  command->callback([words, &run] {
    run = [words] { return UmountCommand("oxmem umount", words->directory, words->lazy); };
  });
}

}  // namespace oxmem::apps
