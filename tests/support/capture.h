#ifndef TESTS_SUPPORT_CAPTURE_H_
#define TESTS_SUPPORT_CAPTURE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace oxmem::test {

struct CapturedFrame {
  std::array<std::byte, 6> destination;
  std::array<std::byte, 6> source;
  uint16_t ether_type = 0;
  std::vector<std::byte> payload;  // TLoE header to mask
};

// The Ethernet frames of a pcap or pcapng file of this host's byte order. Empty if the file cannot
// be read or is neither.
std::vector<CapturedFrame> ReadCapture(const std::string& path);

}  // namespace oxmem::test

#endif  // TESTS_SUPPORT_CAPTURE_H_
