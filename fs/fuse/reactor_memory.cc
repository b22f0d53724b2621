// The half of the reactor that sees to it that a file's memory is the one its node has.
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "fs/fuse/libfuse_passthrough.h"
#include "fs/fuse/mount_point.h"
#include "fs/fuse/passthrough.h"
#include "fs/fuse/reactor.h"
#include "spdlog/spdlog.h"
#include "transport/base/status.h"

namespace oxmem::fs {

absl::StatusOr<int32_t> Reactor::BackingOf(std::size_t file) {
  const VolumeInfo& info = volumes_[file]->info();
  OXMEM_ASSIGN_OR_RETURN(const auto memory, FileTable::MemoryFileOf(info.local_memory->fd));
  return files_->Backing(file, memory, [&]() -> absl::StatusOr<int32_t> {
    OXMEM_RETURN_IF_ERROR(PassthroughPossible(info, true));
    return OpenBacking(fuse_fd_, info.local_memory->fd);
  });
}

void Reactor::CheckMemory(std::size_t file) {
  const Volume& volume = *volumes_[file];
  const auto memory = FileTable::MemoryFileOf(volume.info().local_memory->fd);
  if (!memory.ok()) return;
  const absl::Status health = volume.health();
  const bool lost = health.ok() ? files_->LoseAllBut(file, *memory) : files_->Lose(file, *memory);
  if (!lost) return;
  const std::string path = absl::StrCat(options_.directory, "/", files_->file(file).name);
  spdlog::warn("{}: {}; files that are open on the memory it had fail from now on: open them again",
               path,
               health.ok() ? absl::StrCat(volume.name(), " has other memory now")
                           : std::string(health.message()));
  if (!running_) return;
  const auto directory = PlaceOf(options_.device, options_.directory);
  if (directory.has_value()) LookUpAgain(absl::StrCat(*directory, "/", files_->file(file).name));
}

void Reactor::NoteMemoryTime(std::size_t file) {
  struct stat memory;
  if (files_->file(file).mode != FileMode::kPassthrough ||
      fstat(volumes_[file]->info().local_memory->fd, &memory) != 0) {
    return;
  }
  files_->NoteMemoryTime(file,
                         memory.st_mtim.tv_sec * int64_t{1000000000} + memory.st_mtim.tv_nsec);
}

void Reactor::WatchNodes() {
  running_ = true;
  for (std::size_t i = 0; i < volumes_.size(); ++i) {
    if (files_->file(i).mode != FileMode::kPassthrough || volumes_[i]->event_fd() < 0) continue;
    watched_.push_back({.file = i, .reconnects = 0});
  }
}

void Reactor::NoticeLostMemory() {
  for (Watched& watched : watched_) {
    const uint64_t reconnects = volumes_[watched.file]->channel_stats().reconnects.value();
    if (reconnects == watched.reconnects && volumes_[watched.file]->health().ok()) continue;
    watched.reconnects = reconnects;
    CheckMemory(watched.file);
  }
}

void Reactor::StartOpen(fuse_req_t request, std::size_t file) {
  Volume& volume = *volumes_[file];
  // A node that was lost is noticed when its channel looks, which it does after being armed.
  if (volume.event_fd() >= 0) {
    volume.Arm();
    volume.Poll();
  }
  if (volume.health().ok()) {
    AnswerOpen(request, file);
    return;
  }
  CheckMemory(file);
  current_->losses = files_->losses(file);
  if (!files_->MayOpen(file)) {
    // On an inode from before other memory could not be opened later; the kernel looks the name up
    // and comes again.
    fuse_reply_err(request, ESTALE);
    return;
  }
  // As any other request does, it waits for the node.
  Start(request, file, IoKind::kFlush, 0, 0, nullptr, Purpose::kOpen);
}

void Reactor::AnswerOpen(fuse_req_t request, std::size_t file) {
  CheckMemory(file);
  const absl::StatusOr<int32_t> backing = BackingOf(file);
  if (!backing.ok()) {
    const int error = ErrnoOf(backing.status());
    if (error != ESTALE) {
      spdlog::error("{}/{}: {}", options_.directory, files_->file(file).name,
                    std::string(backing.status().message()));
    }
    fuse_reply_err(request, error == ESTALE ? ESTALE : EIO);
    return;
  }
  ReplyPassthroughOpen(request, *backing);
}

}  // namespace oxmem::fs
