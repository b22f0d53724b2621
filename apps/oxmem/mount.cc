#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "apps/common/cli.h"
#include "apps/mount/keeper_command.h"
#include "apps/mount/mount_config.h"
#include "apps/mount/mount_run.h"
#include "apps/mount/remount.h"
#include "apps/oxmem/command.h"

namespace oxmem::apps {
namespace {

struct MountWords {
  std::vector<std::string> words;
  std::vector<std::string> option_lists;
  std::string config;
  bool all = false;
  bool foreground = false;
  bool replace = false;
};

struct UmountWords {
  std::string directory;
  std::string config;
  bool lazy = false;
};

int RunRemount(const std::string& program, const MountWords& words) {
  if (words.all || words.foreground || words.replace || !words.config.empty() ||
      words.words.empty()) {
    return Fail(program, absl::InvalidArgumentError(
                             "-o remount: goes with the directory of a mount and no other option"));
  }
  const std::vector<std::string> sources(words.words.begin(), words.words.end() - 1);
  return RemountCommand(program, absl::StrJoin(sources, " "), words.words.back(),
                        words.option_lists);
}

int RunMount(const MountWords& words) {
  constexpr char kProgram[] = "oxmem mount";
  if (AsksForRemount(words.option_lists)) return RunRemount(kProgram, words);
  if (words.all) return MountAllCommand(kProgram, words.option_lists);
  absl::StatusOr<MountSpec> spec =
      words.config.empty() ? ParseMountSpec(words.words, words.option_lists)
                           : ReadMountConfig(ConfigPath(words.config), words.option_lists);
  if (spec.ok()) spec->replace = words.replace;
  const bool described = spec.ok() && !words.config.empty();
  return MountCommand(described ? absl::StrCat(kProgram, ": ", ConfigPath(words.config)) : kProgram,
                      spec, words.foreground);
}

int RunUmount(const UmountWords& words) {
  constexpr char kProgram[] = "oxmem umount";
  std::string directory = words.directory;
  if (!words.config.empty()) {
    const absl::StatusOr<MountSpec> spec = ReadMountConfig(ConfigPath(words.config), {});
    if (!spec.ok()) return Fail(kProgram, spec.status());
    directory = spec->options.directory;
  } else if (directory.empty()) {
    return Fail(kProgram, absl::InvalidArgumentError("the directory to unmount is missing"));
  }
  return UmountCommand(kProgram, directory, words.lazy);
}

}  // namespace

void RunAsPartOfAMount(int argc, char** argv) { BecomeKeeperIfAsked(argc, argv); }

void AddMountCommand(CLI::App& app, Run& run) {
  auto words = std::make_shared<MountWords>();
  CLI::App* command = app.add_subcommand(
      "mount", "Make memory a file in a directory; without a SOURCE, 1G of this host's");
  CLI::Option* words_option =
      command->add_option("SOURCE-and-DIR", words->words, "Where the memory is, and the directory")
          ->type_name("[SOURCE]... DIR");
  command->add_option("-o", words->option_lists, "Options, see below")
      ->type_name("LIST")
      ->allow_extra_args(false);
  CLI::Option* config =
      command
          ->add_option("-c,--config", words->config,
                       "What /etc/oxmem/NAME.conf describes, or a file with a slash in its name")
          ->type_name("NAME")
          ->excludes(words_option);
  CLI::Option* foreground = command->add_flag("-f,--foreground", words->foreground,
                                              "Serve in this process and log to stderr");
  command->add_flag("--replace", words->replace,
                    "Go on with the mount at DIR in place of the process that serves it");
  command->add_flag("-a,--all", words->all, "Everything that /etc/oxmem/*.conf describe")
      ->excludes(words_option)
      ->excludes(config)
      ->excludes(foreground);
  command->footer(kMountOptionsHelp);
  command->callback([words, &run] { run = [words] { return RunMount(*words); }; });
}

void AddUmountCommand(CLI::App& app, Run& run) {
  auto words = std::make_shared<UmountWords>();
  CLI::App* command = app.add_subcommand("umount", "Unmount a directory, or say who keeps it busy");
  CLI::Option* directory = command->add_option("DIR", words->directory, "What was mounted");
  command->add_option("-c,--config", words->config, "Where /etc/oxmem/NAME.conf mounts it")
      ->type_name("NAME")
      ->excludes(directory);
  command->add_flag("-l,--lazy", words->lazy,
                    "Take it out of sight now; it ends when nobody uses it any more");
  command->callback([words, &run] { run = [words] { return RunUmount(*words); }; });
}

}  // namespace oxmem::apps
