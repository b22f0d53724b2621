#ifndef FS_VOLUME_READ_ONLY_VOLUME_H_
#define FS_VOLUME_READ_ONLY_VOLUME_H_

#include <memory>

#include "fs/volume/volume.h"

namespace oxmem::fs {

// Refuses writes and zeroes with kReadOnly before they reach the volume beneath.
class ReadOnlyVolume final : public ForwardingVolume {
 public:
  explicit ReadOnlyVolume(std::unique_ptr<Volume> beneath);

  void Start(IoOp& op) override;
  const VolumeInfo& info() const override { return info_; }

 private:
  VolumeInfo info_;
};

}  // namespace oxmem::fs

#endif  // FS_VOLUME_READ_ONLY_VOLUME_H_
