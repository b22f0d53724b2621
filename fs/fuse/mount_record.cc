#include "fs/fuse/mount_record.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/byte_order.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

constexpr uint64_t kMagic = 0x6f786d656d4d4e54;  // "oxmemMNT"
constexpr uint32_t kVersionWithoutDevice = 4;
constexpr uint32_t kVersion = 5;
constexpr std::size_t kLongest = 1 << 20;

class Encoder {
 public:
  template <std::unsigned_integral T>
  void Number(T value) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + sizeof value);
    StoreBigEndian(bytes_.data() + at, value);
  }
  void Bytes(std::span<const std::byte> bytes) {
    Number(static_cast<uint32_t>(bytes.size()));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void Text(const std::string& text) { Bytes(std::as_bytes(std::span(text))); }
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// After the first field that is not there all others are empty, and ok() says so.
class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> bytes) : reader_(bytes) {}

  template <std::unsigned_integral T>
  T Number() {
    const std::optional<T> value = ok_ ? reader_.ReadBigEndian<T>() : std::nullopt;
    ok_ = value.has_value();
    return value.value_or(0);
  }
  std::vector<std::byte> Bytes() {
    const auto length = Number<uint32_t>();
    const auto bytes = ok_ ? reader_.ReadBytes(length) : std::nullopt;
    ok_ = bytes.has_value();
    return ok_ ? std::vector<std::byte>(bytes->begin(), bytes->end()) : std::vector<std::byte>();
  }
  std::string Text() {
    const std::vector<std::byte> bytes = Bytes();
    std::string text(bytes.size(), '\0');
    if (!bytes.empty()) std::memcpy(text.data(), bytes.data(), bytes.size());
    return text;
  }
  bool ok() const { return ok_; }
  std::size_t remaining() const { return reader_.remaining(); }

 private:
  ByteReader reader_;
  bool ok_ = true;
};

MountRecord::File DecodeFile(Decoder& in, bool* mode_known) {
  MountRecord::File file;
  file.name = in.Text();
  file.source = in.Text();
  file.size_bytes = in.Number<uint64_t>();
  file.read_only = in.Number<uint8_t>() != 0;
  const auto mode = in.Number<uint8_t>();
  *mode_known = mode <= static_cast<uint8_t>(FileMode::kDirect);
  if (*mode_known) file.mode = static_cast<FileMode>(mode);
  file.mode_reason = in.Text();
  return file;
}

}  // namespace

std::vector<std::byte> EncodeMountRecord(const MountRecord& record) {
  Encoder out;
  out.Number(kMagic);
  out.Number(record.device.empty() ? kVersionWithoutDevice : kVersion);
  out.Text(record.directory);
  if (!record.device.empty()) out.Text(record.device);
  out.Text(record.options);
  out.Number(record.uid);
  out.Number(record.gid);
  out.Number(record.umask);
  out.Number(record.read_ahead_bytes);
  out.Number(static_cast<uint32_t>(record.words.size()));
  for (const std::string& word : record.words) out.Text(word);
  out.Bytes(record.init_request);
  out.Bytes(record.init_answer);
  out.Number(static_cast<uint32_t>(record.files.size()));
  for (const MountRecord::File& file : record.files) {
    out.Text(file.name);
    out.Text(file.source);
    out.Number(file.size_bytes);
    out.Number(static_cast<uint8_t>(file.read_only));
    out.Number(static_cast<uint8_t>(file.mode));
    out.Text(file.mode_reason);
  }
  return out.Take();
}

absl::StatusOr<MountRecord> DecodeMountRecord(std::span<const std::byte> bytes) {
  const absl::Status unreadable =
      absl::FailedPreconditionError("what was kept of the mount cannot be read");
  Decoder in(bytes);
  if (in.Number<uint64_t>() != kMagic) return unreadable;
  const auto version = in.Number<uint32_t>();
  if (version != kVersion && version != kVersionWithoutDevice) {
    return absl::FailedPreconditionError(
        absl::StrCat("the mount was made by another version of oxmem (its record has version ",
                     version, ", this one knows ", kVersion, ")"));
  }
  MountRecord record;
  record.directory = in.Text();
  if (version == kVersion) {
    record.device = in.Text();
    if (record.device.empty()) return unreadable;
  }
  record.options = in.Text();
  record.uid = in.Number<uint32_t>();
  record.gid = in.Number<uint32_t>();
  record.umask = in.Number<uint32_t>();
  record.read_ahead_bytes = in.Number<uint64_t>();
  const auto words = in.Number<uint32_t>();
  for (uint32_t i = 0; i < words && in.ok(); ++i) record.words.push_back(in.Text());
  record.init_request = in.Bytes();
  record.init_answer = in.Bytes();
  const auto count = in.Number<uint32_t>();
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    bool mode_known = false;
    record.files.push_back(DecodeFile(in, &mode_known));
    if (in.ok() && !mode_known) return unreadable;
  }
  if (!in.ok() || in.remaining() != 0) return unreadable;
  return record;
}

absl::StatusOr<UniqueFd> WriteMountRecord(const MountRecord& record) {
  const std::vector<std::byte> bytes = EncodeMountRecord(record);
  if (bytes.size() > kLongest) {
    return absl::InvalidArgumentError(absl::StrCat(
        record.directory, ": the words of the mount are too many to be kept: ", bytes.size(),
        " bytes, of ", kLongest));
  }
  UniqueFd fd(memfd_create("oxmem-mount", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid() ||
      pwrite(fd.get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()) ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
    return ErrnoStatus(errno, "memory for the record of the mount");
  }
  return fd;
}

absl::StatusOr<MountRecord> ReadMountRecord(int fd) {
  struct stat attributes;
  if (fstat(fd, &attributes) != 0) return ErrnoStatus(errno, "the record of the mount");
  std::vector<std::byte> bytes(std::min(static_cast<std::size_t>(attributes.st_size), kLongest));
  const ssize_t count = pread(fd, bytes.data(), bytes.size(), 0);
  if (count < 0) return ErrnoStatus(errno, "the record of the mount");
  bytes.resize(static_cast<std::size_t>(count));
  return DecodeMountRecord(bytes);
}

}  // namespace oxmem::fs
