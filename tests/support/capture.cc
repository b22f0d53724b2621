#include "tests/support/capture.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>

#include "transport/base/byte_order.h"

namespace oxmem::test {
namespace {

constexpr uint32_t kPcapMagic = 0xa1b2c3d4;
constexpr uint32_t kPcapNanosecondMagic = 0xa1b23c4d;
constexpr std::size_t kPcapHeaderBytes = 24;
constexpr std::size_t kPcapRecordBytes = 16;
constexpr uint32_t kPcapngSection = 0x0a0d0d0a;
constexpr uint32_t kPcapngEnhancedPacket = 6;
constexpr std::size_t kEthernetHeaderBytes = 14;

using Bytes = std::span<const std::byte>;

uint32_t Word(Bytes bytes, std::size_t offset) {
  return offset + 4 <= bytes.size() ? LoadLittleEndian<uint32_t>(bytes.data() + offset) : 0;
}

std::optional<CapturedFrame> FrameOf(Bytes packet) {
  if (packet.size() < kEthernetHeaderBytes) return std::nullopt;
  CapturedFrame frame;
  std::copy_n(packet.begin(), 6, frame.destination.begin());
  std::copy_n(packet.begin() + 6, 6, frame.source.begin());
  frame.ether_type = LoadBigEndian<uint16_t>(packet.data() + 12);
  const Bytes payload = packet.subspan(kEthernetHeaderBytes);
  frame.payload.assign(payload.begin(), payload.end());
  return frame;
}

// Where the packets lie in the file.
std::vector<Bytes> PcapPackets(Bytes file) {
  std::vector<Bytes> packets;
  for (std::size_t at = kPcapHeaderBytes; at + kPcapRecordBytes <= file.size();) {
    const std::size_t length = Word(file, at + 8);
    at += kPcapRecordBytes;
    if (length > file.size() - at) break;
    packets.push_back(file.subspan(at, length));
    at += length;
  }
  return packets;
}

std::vector<Bytes> PcapngPackets(Bytes file) {
  std::vector<Bytes> packets;
  for (std::size_t at = 0; at + 12 <= file.size();) {
    const std::size_t block = Word(file, at + 4);
    if (block < 12 || block > file.size() - at) break;
    const std::size_t length = Word(file, at + 20);
    if (Word(file, at) == kPcapngEnhancedPacket && block >= 32 && length <= block - 32)
      packets.push_back(file.subspan(at + 28, length));
    at += block;
  }
  return packets;
}

}  // namespace

std::vector<CapturedFrame> ReadCapture(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(stream), {}};
  const Bytes file = std::as_bytes(std::span(chars));
  std::vector<Bytes> packets;
  const uint32_t magic = Word(file, 0);
  if (magic == kPcapMagic || magic == kPcapNanosecondMagic) packets = PcapPackets(file);
  if (magic == kPcapngSection) packets = PcapngPackets(file);
  std::vector<CapturedFrame> frames;
  for (const Bytes packet : packets)
    if (auto frame = FrameOf(packet)) frames.push_back(*std::move(frame));
  return frames;
}

}  // namespace oxmem::test
