// In place of mount.cc where libfuse3 was not there to build with.
#include "absl/status/status.h"
#include "apps/common/cli.h"
#include "apps/oxmem/command.h"

namespace oxmem::apps {
namespace {

void AddMissing(CLI::App& app, Run& run, const std::string& name) {
  CLI::App* command = app.add_subcommand(name, "Not in this build: it was made without libfuse3");
  command->allow_extras();
  command->callback([name, &run] {
    run = [name] {
      return Fail("oxmem " + name,
                  absl::UnimplementedError("this oxmem was built without libfuse3 (libfuse3-dev)"));
    };
  });
}

}  // namespace

void RunAsPartOfAMount(int, char**) {}
void AddMountCommand(CLI::App& app, Run& run) { AddMissing(app, run, "mount"); }
void AddUmountCommand(CLI::App& app, Run& run) { AddMissing(app, run, "umount"); }

}  // namespace oxmem::apps
