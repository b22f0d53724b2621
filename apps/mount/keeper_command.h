#ifndef APPS_MOUNT_KEEPER_COMMAND_H_
#define APPS_MOUNT_KEEPER_COMMAND_H_

#include <sys/types.h>

#include "absl/status/statusor.h"
#include "apps/mount/keeper.h"

namespace oxmem::apps {

// A process with threads cannot fork what goes on without exec. A keeper that is started later than
// the threads of its server is therefore the same program again, with words that are for it alone:
//
//   PROGRAM --as-keeper SOCKET SERVER-PID PATIENCE-NS RESTARTS DIRECTORY KEY=VALUE…
//
// RESTARTS is "no" for a keeper that starts no server, otherwise the times of those it comes from.

// Starts it, with the keeper's end of the socket. Signals are as in a program just started.
absl::StatusOr<pid_t> SpawnKeeper(int socket, const KeeperPlan& plan);

// What a program of ours does first: does not return if it was started to be a keeper.
void BecomeKeeperIfAsked(int argc, char** argv);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_KEEPER_COMMAND_H_
