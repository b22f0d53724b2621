#include "oxmem/tilelink/message.h"

#include <array>

namespace oxmem::tilelink {
namespace {

// What follows the header flit, by channel and opcode (OmniXtend 1.0.3, figures 10 to 14).
enum Form : uint8_t {
  kUnknown = 0,
  kKnown = 1,
  kAddress = 2,
  kData = 4,
  kMask = 8,
  kSink = 16,
};

constexpr uint8_t kPlain = kKnown;
constexpr uint8_t kAddressed = kKnown | kAddress;
constexpr uint8_t kAddressedData = kKnown | kAddress | kData;
constexpr uint8_t kPartial = kKnown | kAddress | kData | kMask;

using Forms = std::array<uint8_t, 8>;
constexpr std::array<Forms, 8> kForms = {{
    {},
    // A: Put, PutPartial, Arithmetic, Logical, Get, Intent, AcquireBlock, AcquirePerm
    {kAddressedData, kPartial, kAddressedData, kAddressedData, kAddressed, kAddressed, kAddressed,
     kAddressed},
    // B: Put, PutPartial, Arithmetic, Logical, Get, Intent, ProbeBlock, ProbePerm
    {kAddressedData, kPartial, kAddressedData, kAddressedData, kAddressed, kAddressed, kAddressed,
     kAddressed},
    // C: AccessAck, AccessAckData, HintAck, -, ProbeAck, ProbeAckData, Release, ReleaseData
    {kAddressed, kAddressedData, kAddressed, kUnknown, kAddressed, kAddressedData, kAddressed,
     kAddressedData},
    // D: AccessAck, AccessAckData, HintAck, -, Grant, GrantData, ReleaseAck, -
    {kPlain, kKnown | kData, kPlain, kUnknown, kKnown | kSink, kKnown | kSink | kData, kPlain,
     kUnknown},
    // E: GrantAck, which has no opcode field
    {kKnown | kSink},
    {},
    {},
}};

uint8_t FormOf(const Message& message) {
  return kForms[static_cast<uint8_t>(message.channel) & 7][message.opcode & 7];
}

}  // namespace

bool IsKnown(const Message& message) {
  return message.opcode < 8 && (FormOf(message) & kKnown) != 0;
}
bool HasAddress(const Message& message) { return (FormOf(message) & kAddress) != 0; }
bool HasData(const Message& message) { return (FormOf(message) & kData) != 0; }
bool HasMask(const Message& message) { return (FormOf(message) & kMask) != 0; }
bool HasSink(const Message& message) { return (FormOf(message) & kSink) != 0; }

std::size_t DataBytes(const Message& message) {
  return HasData(message) ? std::size_t{1} << message.size : 0;
}

std::size_t FlitsOf(const Message& message) {
  const uint8_t form = FormOf(message);
  std::size_t flits = 1;
  if ((form & kAddress) != 0) ++flits;
  // The sink of channel E lies in the header flit itself.
  if ((form & kSink) != 0 && message.channel == Channel::kD) ++flits;
  if ((form & kData) != 0) {
    flits += message.size <= 3 ? 1 : std::size_t{1} << (message.size - 3);
    if ((form & kMask) != 0) flits += message.size <= 6 ? 1 : std::size_t{1} << (message.size - 6);
  }
  return flits;
}

}  // namespace oxmem::tilelink
