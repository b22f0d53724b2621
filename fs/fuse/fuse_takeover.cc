// The half of a mount that lets one process go on where another one ended.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/fuse/fuse_mount.h"
#include "fs/fuse/kernel_abi.h"
#include "fs/fuse/mount_point.h"
#include "fs/fuse/negotiation.h"
#include "fs/fuse/passthrough.h"
#include "spdlog/spdlog.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

const char* DaxName(Dax dax) {
  switch (dax) {
    case Dax::kAuto:
      return "auto";
    case Dax::kAlways:
      return "always";
    case Dax::kNever:
      return "never";
  }
  return "";
}

// What the kernel was told at mounting, or what programs may have looked at since.
std::string LastingOptions(const MountOptions& options) {
  return absl::StrCat(options.read_only ? "ro" : "rw", ",dax=", DaxName(options.dax),
                      options.allow_other ? ",allow_other" : "");
}

absl::Status Differs(const MountRecord& record, const std::string& what) {
  return absl::FailedPreconditionError(
      absl::StrCat(record.directory, ": cannot be taken over: ", what));
}

absl::Status DisagreesWithKernel(const MountRecord& record) {
  return Differs(record,
                 "this version of oxmem or libfuse agrees on something else with the kernel than "
                 "the one that made the mount; mount it anew");
}

// And nothing else: reactors read the rest.
void CopyChangeable(const MountOptions& from, MountOptions* to) {
  to->uid = from.uid;
  to->gid = from.gid;
  to->umask = from.umask;
  to->timeout = from.timeout;
  to->read_ahead_bytes = from.read_ahead_bytes;
  to->read_only = from.read_only;
  to->words = from.words;
}

FileTable::File FileOf(const MountRecord::File& kept, const Volume& volume) {
  return {.name = kept.name,
          .source = kept.source,
          .provider = volume.name(),
          .size_bytes = kept.size_bytes,
          .block_bytes = volume.info().block_bytes,
          .read_only = kept.read_only,
          .persistent = volume.info().persistent};
}

}  // namespace

absl::Status FuseMount::WriteRecord(std::vector<std::byte> init_request) {
  init_request_ = std::move(init_request);
  MountRecord record{.directory = options_.directory,
                     .device = options_.device,
                     .options = LastingOptions(options_),
                     .uid = options_.uid,
                     .gid = options_.gid,
                     .umask = options_.umask,
                     .read_ahead_bytes = options_.read_ahead_bytes,
                     .words = options_.words,
                     .init_request = init_request_,
                     .init_answer = reactors_[0]->init_answer(),
                     .files = {}};
  for (std::size_t i = 0; i < files_->size(); ++i) {
    const FileTable::File& file = files_->file(i);
    record.files.push_back({.name = file.name,
                            .source = file.source,
                            .size_bytes = file.size_bytes,
                            .read_only = file.read_only,
                            .mode = file.mode,
                            .mode_reason = file.mode_reason});
  }
  OXMEM_ASSIGN_OR_RETURN(record_fd_, WriteMountRecord(record));
  return absl::OkStatus();
}

absl::Status FuseMount::CheckTakeOver(const MountRecord& record, const MountOptions& options,
                                      const std::vector<MountFile>& files,
                                      std::span<const std::unique_ptr<Volume>> volumes) {
  if (record.options != LastingOptions(options)) {
    return Differs(record, absl::StrCat("its options are ", record.options, ", not ",
                                        LastingOptions(options)));
  }
  if (record.files.size() != files.size()) {
    return Differs(record,
                   absl::StrCat("it has ", record.files.size(), " files, not ", files.size()));
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    const MountRecord::File& kept = record.files[i];
    if (kept.name != files[i].name || kept.source != files[i].source) {
      return Differs(record, absl::StrCat("a file of it is ", kept.name, " of ", kept.source,
                                          ", not ", files[i].name, " of ", files[i].source));
    }
    if (volumes.empty()) continue;
    const VolumeInfo& info = volumes[i]->info();
    if (kept.mode == FileMode::kPassthrough) {
      const absl::Status possible = PassthroughPossible(info, true);
      if (!possible.ok()) return Differs(record, std::string(possible.message()));
    }
    if (kept.size_bytes != info.size_bytes || (info.read_only && !kept.read_only)) {
      return Differs(record, absl::StrCat(kept.name, " has ", kept.size_bytes, " bytes there and ",
                                          info.size_bytes, info.read_only ? " read-only" : "",
                                          " at the source now"));
    }
  }
  OXMEM_ASSIGN_OR_RETURN(const std::vector<std::byte> answer, InitAnswerTo(record.init_request));
  return answer == record.init_answer ? absl::OkStatus() : DisagreesWithKernel(record);
}

absl::StatusOr<std::unique_ptr<FuseMount>> FuseMount::PrepareTakeOver(
    MountOptions options, std::vector<MountFile> files,
    std::vector<std::vector<std::unique_ptr<Volume>>> volumes, LiveMount life) {
  OXMEM_CHECK(!volumes.empty());
  OXMEM_ASSIGN_OR_RETURN(const MountRecord record, ReadMountRecord(life.record.get()));
  OXMEM_RETURN_IF_ERROR(CheckTakeOver(record, options, files, volumes[0]));
  options.device = record.device;
  if (options.device.empty()) {
    const auto mount = FindMount(options.directory);
    if (mount.ok()) options.device = mount->device;
  }
  // It may have been said from another place, and moved.
  options.directory = PlaceOf(options.device, record.directory).value_or(record.directory);
  std::vector<FileTable::File> table;
  for (std::size_t i = 0; i < files.size(); ++i) {
    table.push_back(FileOf(record.files[i], *volumes[0][i]));
  }
  OXMEM_ASSIGN_OR_RETURN(auto store,
                         AttributeStore::Adopt(std::move(life.attributes), table.size() + 1));
  auto file_table = std::make_unique<FileTable>(std::move(table), std::move(store));
  file_table->SetMountReadOnly(options.read_only);
  std::unique_ptr<FuseMount> mount(new FuseMount(std::move(options), std::move(file_table)));
  mount->record_fd_ = std::move(life.record);
  OXMEM_RETURN_IF_ERROR(mount->MakeReactors(std::move(volumes)));
  OXMEM_RETURN_IF_ERROR(mount->MakeSessions());
  return mount;
}

absl::Status FuseMount::TakeOver(std::vector<UniqueFd> fuse_fds) {
  OXMEM_ASSIGN_OR_RETURN(const MountRecord record, ReadMountRecord(record_fd_.get()));
  if (fuse_fds.empty()) return Differs(record, "its descriptor is missing");
  OXMEM_RETURN_IF_ERROR(Annotate(files_->attributes().Claim(), record.directory));
  OXMEM_ASSIGN_OR_RETURN(const InitReply reply, InitReply::FromRequest(record.init_request));
  // Clones are made before the first descriptor is given away.
  while (fuse_fds.size() < reactors_.size()) {
    OXMEM_ASSIGN_OR_RETURN(UniqueFd clone, CloneFuseFd(fuse_fds[0].get()));
    fuse_fds.push_back(std::move(clone));
  }
  for (std::size_t i = 0; i < reactors_.size(); ++i) {
    OXMEM_RETURN_IF_ERROR(reactors_[i]->Attach(fuse_fds[i].Release()));
    OXMEM_RETURN_IF_ERROR(reactors_[i]->Initialize(record.init_request, reply, false));
    if (reactors_[i]->init_answer() != record.init_answer) return DisagreesWithKernel(record);
  }
  for (std::size_t i = reactors_.size(); i < fuse_fds.size(); ++i) {
    surplus_fds_.push_back(std::move(fuse_fds[i]));
  }
  AdoptModes(record);
  OXMEM_RETURN_IF_ERROR(ApplyOptions(record));
  survives_its_server_ = reply.kernel_has_resend();
  taken_over_ = true;
  mounted_ = true;
  return absl::OkStatus();
}

void FuseMount::AdoptModes(const MountRecord& record) {
  for (std::size_t i = 0; i < files_->size(); ++i) {
    const MountRecord::File& kept = record.files[i];
    files_->SetMode(i, kept.mode, kept.mode_reason);
    if (kept.mode != FileMode::kPassthrough) continue;
    // The node may have been replaced meanwhile.
    reactors_[0]->CheckMemory(i);
  }
}

absl::Status FuseMount::ApplyOptions(const MountRecord& record) {
  owners_changed_ =
      record.uid != options_.uid || record.gid != options_.gid || record.umask != options_.umask;
  read_ahead_changed_ = record.read_ahead_bytes != options_.read_ahead_bytes;
  OXMEM_RETURN_IF_ERROR(WriteRecord(record.init_request));
  if (owners_changed_) files_->ApplyOwners(record.uid, record.gid, record.umask, options_);
  return absl::OkStatus();
}

absl::Status FuseMount::Change(const MountOptions& options) {
  const MountOptions before = options_;
  CopyChangeable(options, &options_);
  absl::Status status;
  if (options_.read_ahead_bytes != before.read_ahead_bytes) status = SetReadAhead();
  if (status.ok()) status = WriteRecord(init_request_);
  if (!status.ok()) {
    CopyChangeable(before, &options_);
    return status;
  }
  files_->SetMountReadOnly(options_.read_only);
  for (auto& reactor : reactors_) reactor->SetTimeout(options_.timeout);
  if (options_.uid != before.uid || options_.gid != before.gid || options_.umask != before.umask) {
    files_->ApplyOwners(before.uid, before.gid, before.umask, options_);
    ForgetAttributes();
  }
  return absl::OkStatus();
}

// The kernel keeps attributes until it is told.
void FuseMount::ForgetAttributes() const {
  struct Message {
    fuse_out_header header;
    fuse_notify_inval_inode_out inode;
  };
  for (uint64_t inode = FileTable::kRootInode; inode <= files_->size() + 1; ++inode) {
    const Message message{
        .header = {.len = sizeof message, .error = FUSE_NOTIFY_INVAL_INODE, .unique = 0},
        .inode = {.ino = inode, .off = -1, .len = 0}};
    // It does not know every inode.
    if (write(reactors_[0]->fuse_fd(), &message, sizeof message) < 0 && errno != ENOENT) {
      spdlog::warn("{}: the kernel may show the owners from before: {}", options_.directory,
                   std::strerror(errno));
    }
  }
}

void FuseMount::AskAgain() {
  fuse_out_header resend{.len = sizeof resend, .error = kernel::kNotifyResend, .unique = 0};
  if (survives_its_server_ &&
      write(reactors_[0]->fuse_fd(), &resend, sizeof resend) != sizeof resend) {
    spdlog::error("{}: the kernel does not give again what was not answered: {}",
                  options_.directory, std::strerror(errno));
  }
  // Only now: what was read from them and not answered would fail with them.
  surplus_fds_.clear();
}

std::vector<int> FuseMount::fuse_fds() const {
  std::vector<int> fds;
  for (const auto& reactor : reactors_) fds.push_back(reactor->fuse_fd());
  return fds;
}

LiveMount FuseMount::Leave() {
  mounted_ = false;
  for (auto& reactor : reactors_) reactor->Leave(/*answer_all=*/!survives_its_server_);
  Join();
  LiveMount life;
  const auto duplicate = [](int fd) { return UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0)); };
  life.attributes = duplicate(attributes_fd());
  for (const int fd : fuse_fds()) life.fuse_fds.push_back(duplicate(fd));
  reactors_.clear();
  life.record = std::move(record_fd_);
  files_->attributes().Release();
  return life;
}

}  // namespace oxmem::fs
