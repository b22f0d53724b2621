#include "fs/fuse/negotiation.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "fs/fuse/init_reply.h"
#include "fs/fuse/libfuse.h"
#include "fs/fuse/libfuse_log.h"
#include "fs/fuse/operations.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace oxmem::fs {
namespace {

// Stands for the kernel.
struct Listener {
  const InitReply* reply = nullptr;
  std::vector<std::byte> answer;
};

ssize_t Listen(int, iovec* pieces, int count, void* listener) {
  ssize_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += static_cast<ssize_t>(pieces[i].iov_len);
  if (count != 2) return bytes;
  auto& own = *static_cast<Listener*>(listener);
  const std::span<std::byte> answer(static_cast<std::byte*>(pieces[1].iov_base), pieces[1].iov_len);
  if (own.reply->Extend(answer)) own.answer.assign(answer.begin(), answer.end());
  return bytes;
}

ssize_t ReadNothing(int, void*, std::size_t, void*) { return 0; }

}  // namespace

absl::StatusOr<std::vector<std::byte>> InitAnswerTo(std::span<const std::byte> init_request) {
  OXMEM_ASSIGN_OR_RETURN(const InitReply reply, InitReply::FromRequest(init_request));
  LibfuseLog log;
  Listener listener{.reply = &reply, .answer = {}};
  fuse_args arguments = FUSE_ARGS_INIT(0, nullptr);
  fuse_opt_add_arg(&arguments, "oxmem");
  const std::unique_ptr<fuse_session, void (*)(fuse_session*)> session(
      fuse_session_new(&arguments, &FuseOperations(), sizeof(fuse_lowlevel_ops), &listener),
      fuse_session_destroy);
  fuse_opt_free_args(&arguments);
  if (session == nullptr) return absl::InternalError("libfuse makes no session");
  UniqueFd nowhere(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nowhere.valid()) return ErrnoStatus(errno, "/dev/null");
  fuse_custom_io io{};
  io.writev = Listen;
  io.read = ReadNothing;
  const int error = fuse_session_custom_io(session.get(), &io, nowhere.get());
  if (error != 0) return ErrnoStatus(-error, "libfuse: custom I/O");
  (void)nowhere.Release();  // the session's now
  std::vector<std::byte> request(init_request.begin(), init_request.end());
  fuse_buf received{};
  received.size = request.size();
  received.mem = request.data();
  fuse_session_process_buf(session.get(), &received);
  if (listener.answer.empty()) {
    return absl::InternalError("libfuse does not accept the kernel's FUSE_INIT");
  }
  return std::move(listener.answer);
}

}  // namespace oxmem::fs
