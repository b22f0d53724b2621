#include "fs/volume/read_only_volume.h"

#include <utility>

namespace oxmem::fs {

ReadOnlyVolume::ReadOnlyVolume(std::unique_ptr<Volume> under)
    : ForwardingVolume(std::move(under)), info_(beneath().info()) {
  info_.read_only = true;
}

void ReadOnlyVolume::Start(IoOp& op) {
  if (op.is_write()) {
    op.Finish(transport::Code::kReadOnly, 0);
    return;
  }
  beneath().Start(op);
}

}  // namespace oxmem::fs
