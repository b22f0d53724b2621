// What one server of a mount leaves to the next: any bytes are a record or none, a record encodes
// to the same bytes' meaning, and what it remembers of the kernel's first request is read within
// its length.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fs/fuse/init_reply.h"
#include "fs/fuse/mount_record.h"
#include "transport/base/check.h"

namespace {

void CheckInit(const oxmem::fs::MountRecord& record) {
  const auto reply = oxmem::fs::InitReply::FromRequest(record.init_request);
  if (!reply.ok()) return;
  std::vector<std::byte> answer = record.init_answer;
  const bool extended = reply->Extend(answer);
  OXMEM_CHECK(extended || answer == record.init_answer);
  std::vector<std::byte> again = answer;
  OXMEM_CHECK(reply->Extend(again) == extended && again == answer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using oxmem::fs::DecodeMountRecord;
  const auto record = DecodeMountRecord(std::as_bytes(std::span(data, size)));
  if (!record.ok()) {
    OXMEM_CHECK(!record.status().message().empty());
    return 0;
  }
  const std::vector<std::byte> encoded = oxmem::fs::EncodeMountRecord(*record);
  OXMEM_CHECK(encoded.size() == size);
  const auto again = DecodeMountRecord(encoded);
  OXMEM_CHECK(again.ok() && *again == *record);
  CheckInit(*record);
  return 0;
}
