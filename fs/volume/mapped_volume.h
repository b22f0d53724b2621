#ifndef FS_VOLUME_MAPPED_VOLUME_H_
#define FS_VOLUME_MAPPED_VOLUME_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "fs/volume/volume.h"

namespace oxmem::fs {

// A volume whose memory lies on this host: reads hand out the mapped bytes themselves, writes are
// one copy, both over when Start returns. Flushes go to the volume beneath.
class MappedVolume final : public ForwardingVolume {
 public:
  // Maps the local memory of `beneath`, which must have some that cannot shrink (a store to a page
  // that was cut off would kill the process). The error says why it cannot be had.
  static absl::StatusOr<std::unique_ptr<Volume>> Create(std::unique_ptr<Volume> beneath);

  // Whether Create would work, and if not, why.
  static absl::Status Mappable(const VolumeInfo& info);

  ~MappedVolume() override;

  void Start(IoOp& op) override;

 private:
  MappedVolume(std::unique_ptr<Volume> beneath, void* mapping, std::size_t mapping_bytes,
               std::size_t skip_bytes, std::size_t page_bytes, uint64_t* mapped);

  void Zero(uint64_t offset, uint64_t length);
  void MapPages(uint64_t offset, uint64_t length);
  void ForgetPages(uint64_t offset, uint64_t length);

  void* mapping_;
  std::size_t mapping_bytes_;
  std::size_t page_bytes_;
  std::byte* memory_;  // the region's first byte
  std::size_t skip_bytes_;
  uint64_t* mapped_;  // a bit for each page of the mapping: it was mapped once
};

}  // namespace oxmem::fs

#endif  // FS_VOLUME_MAPPED_VOLUME_H_
