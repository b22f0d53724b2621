#ifndef APPS_OXMEM_COMMAND_H_
#define APPS_OXMEM_COMMAND_H_

#include <functional>

#include "CLI/CLI.hpp"

namespace oxmem::apps {

// The command the user asked for, to be run when all words are parsed; returns the exit code.
using Run = std::function<int()>;

// Each adds its subcommand, and sets `run` when the user chose it.
void AddBenchCommand(CLI::App& app, Run& run);
void AddInfoCommand(CLI::App& app, Run& run);
void AddMountCommand(CLI::App& app, Run& run);
void AddPingCommand(CLI::App& app, Run& run);
void AddServeCommand(CLI::App& app, Run& run);
void AddStatsCommand(CLI::App& app, Run& run);
void AddTopCommand(CLI::App& app, Run& run);
void AddUmountCommand(CLI::App& app, Run& run);

// Does not return if this program was started by itself, as the keeper of a mount.
void RunAsPartOfAMount(int argc, char** argv);

}  // namespace oxmem::apps

#endif  // APPS_OXMEM_COMMAND_H_
