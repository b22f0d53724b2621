#ifndef APPS_MOUNT_KEPT_MOUNT_H_
#define APPS_MOUNT_KEPT_MOUNT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/fuse/mount_record.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// Everything that must outlive a process for the next one to go on with its mount.
struct KeptMount {
  fs::LiveMount mount;
  std::vector<UniqueFd> memory;     // of mem: sources
  std::vector<UniqueFd> listening;  // sockets for metrics
};

// What the server of a mount, its keeper and a successor say to each other: packets of a word and a
// text, some with a descriptor.
//
//   server ── things, kEnd ──▶ keeper ── kKept ──▶ server
//   keeper ── things, kServing or kOrphaned ──▶ successor ── kTake ──▶ keeper
//   keeper ── kLeave ──▶ server ── kLeft ──▶ keeper         (if there is one)
//   keeper ── kFuse…, kEnd ──▶ successor ── kTaken ──▶ keeper, which ends
//   keeper ── kLeft ──▶ server                   (the successor has the mount)
//
// A server that has left and does not hear that goes on with the mount. Where its keeper was killed
// after the successor had everything, the one goes on who claims the attributes first.
//
// A kRecord that the server sends later takes the place of the first.
// kBye from the server ends the keeper, and so does kLetGo from anybody if there is no server.
enum class KeeperWord : uint8_t {
  kRecord = 1,
  kAttributes,
  kMemory,
  kFuse,
  kEnd,
  kKept,
  kServing,
  kOrphaned,
  kTake,
  kTaken,
  kLeave,
  kLeft,
  kLetGo,
  kBye,
  kListening,
};

struct KeeperMessage {
  KeeperWord word = KeeperWord::kEnd;
  std::string text;
  UniqueFd fd;
};

absl::Status SendWord(int socket, KeeperWord word, const std::string& text = "", int fd = -1);

// Waits for the next one. kUnavailable if the other side has ended.
absl::StatusOr<KeeperMessage> ReceiveWord(int socket, Instant deadline);

// Puts a thing where it belongs; an error for a word that is none.
absl::Status Store(KeeperMessage message, KeptMount* kept);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_KEPT_MOUNT_H_
