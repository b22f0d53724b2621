#ifndef APPS_MOUNT_SERVE_AGAIN_H_
#define APPS_MOUNT_SERVE_AGAIN_H_

#include <functional>
#include <memory>
#include <string>

#include "apps/mount/keeper.h"
#include "apps/mount/mount_spec.h"
#include "spdlog/sinks/dist_sink.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// Where the process logs to, in one piece that can be exchanged while threads log; the logger
// itself cannot be.
using LogPlace = std::shared_ptr<spdlog::sinks::dist_sink_mt>;

// To be called before any thread is started.
LogPlace MakeLogMovable();

// A process in the background keeps no terminal, no directory and no pipe of who started it; what
// it has to say goes to the system's log.
void LeaveTheTerminal(const LogPlace& log);

// Nor any other descriptor that it was started with: a lock, say, would be held as long as the
// mount is there. What the process opened itself closes when it executes another program, by which
// the two are told apart.
void CloseInherited();

// KeeperPlan::restart of a mount in the background. Relative paths begin at `directory`. The spec
// outlives it.
std::function<void(UniqueFd keeper, const KeeperPlan& plan)> ServingAgain(
    const MountSpec& spec, const std::string& directory);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_SERVE_AGAIN_H_
