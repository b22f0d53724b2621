#ifndef APPS_MOUNT_KEEPER_PROCESS_H_
#define APPS_MOUNT_KEEPER_PROCESS_H_

#include <sys/types.h>

#include "apps/mount/keeper.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// The whole life of a keeper, in its own process; `server` is the process at the other end of the
// socket. Every other descriptor is closed.
//
//            things              server dies             taken
//   waiting ────────▶ serving ──────────────▶ orphaned ─────────▶ end
//      │                 │                      │
//      └─ server dies ───┴─ bye, mount gone ────┴─ let go, patience over, mount gone ──▶ end
//
// A server that leaves for a successor which has gone by then hears nothing but the keeper's end,
// and goes on. One with no patience is lent to a successor, and ends without harm when that has
// gone or never comes. With the end without a successor the mount is dead: the kernel fails every
// request of it.
[[noreturn]] void RunKeeper(UniqueFd socket, pid_t server, const KeeperPlan& plan);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_KEEPER_PROCESS_H_
