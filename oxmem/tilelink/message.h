#ifndef OXMEM_TILELINK_MESSAGE_H_
#define OXMEM_TILELINK_MESSAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>

// TileLink 1.8.0 messages as OmniXtend 1.0.3 carries them (section 3.2). A flit is one 64-bit word.

namespace oxmem::tilelink {

inline constexpr std::size_t kFlitBytes = 8;
inline constexpr uint32_t kMaxSource = (1u << 26) - 1;
inline constexpr uint32_t kMaxSink = (1u << 26) - 1;

// The number on the wire; 0 is padding, 6 and 7 are reserved.
enum class Channel : uint8_t { kA = 1, kB = 2, kC = 3, kD = 4, kE = 5 };
inline constexpr int kChannelCount = 5;
constexpr std::size_t IndexOf(Channel channel) { return static_cast<std::size_t>(channel) - 1; }
constexpr Channel ChannelAt(std::size_t index) { return static_cast<Channel>(index + 1); }
// 'A' to 'E'.
constexpr char LetterOf(Channel channel) {
  return static_cast<char>('A' + static_cast<int>(IndexOf(channel)));
}

// Opcodes, the numbers on the wire. Channel B carries the operations of A towards the master.
enum class OpcodeA : uint8_t {
  kPutFullData = 0,
  kPutPartialData = 1,
  kArithmeticData = 2,
  kLogicalData = 3,
  kGet = 4,
  kIntent = 5,
  kAcquireBlock = 6,
  kAcquirePerm = 7,
};
enum class OpcodeB : uint8_t {
  kPutFullData = 0,
  kPutPartialData = 1,
  kArithmeticData = 2,
  kLogicalData = 3,
  kGet = 4,
  kIntent = 5,
  kProbeBlock = 6,
  kProbePerm = 7,
};
enum class OpcodeC : uint8_t {
  kAccessAck = 0,
  kAccessAckData = 1,
  kHintAck = 2,
  kProbeAck = 4,
  kProbeAckData = 5,
  kRelease = 6,
  kReleaseData = 7,
};
enum class OpcodeD : uint8_t {
  kAccessAck = 0,
  kAccessAckData = 1,
  kHintAck = 2,
  kGrant = 4,
  kGrantData = 5,
  kReleaseAck = 6,
};

// Values of param.
enum class ArithmeticParam : uint8_t { kMin = 0, kMax = 1, kMinU = 2, kMaxU = 3, kAdd = 4 };
enum class LogicalParam : uint8_t { kXor = 0, kOr = 1, kAnd = 2, kSwap = 3 };
enum class IntentParam : uint8_t { kPrefetchRead = 0, kPrefetchWrite = 1 };

// Everything of a message but its data and mask. Fields a channel does not carry are zero.
struct Message {
  Channel channel = Channel::kA;
  uint8_t opcode = 0;
  uint8_t param = 0;
  uint8_t size = 0;  // log2 of the bytes the operation is about
  uint8_t domain = 0;
  bool denied = false;
  bool corrupt = false;
  uint32_t source = 0;
  uint32_t sink = 0;
  uint64_t address = 0;

  friend bool operator==(const Message&, const Message&) = default;
};

inline Message MakeA(OpcodeA opcode, uint8_t size, uint32_t source, uint64_t address,
                     uint8_t param = 0) {
  Message message;
  message.channel = Channel::kA;
  message.opcode = static_cast<uint8_t>(opcode);
  message.param = param;
  message.size = size;
  message.source = source;
  message.address = address;
  return message;
}

inline Message MakeD(OpcodeD opcode, uint8_t size, uint32_t source) {
  Message message;
  message.channel = Channel::kD;
  message.opcode = static_cast<uint8_t>(opcode);
  message.size = size;
  message.source = source;
  return message;
}

namespace internal {

// What follows the header flit, by channel and opcode (figures 10 to 14); 0 for an opcode that does
// not exist.
enum Form : uint8_t { kKnown = 1, kAddress = 2, kData = 4, kMask = 8, kSinkFlit = 16, kSink = 32 };
inline constexpr uint8_t kPut = kKnown | kAddress | kData;
inline constexpr uint8_t kAsk = kKnown | kAddress;
inline constexpr uint8_t kGrantForm = kKnown | kSink | kSinkFlit;
inline constexpr std::array<std::array<uint8_t, 8>, 8> kForms = {{
    {},
    // A, and B with Probe for Acquire: Put, PutPartial, Arithmetic, Logical, Get, Intent, and two
    {kPut, kPut | kMask, kPut, kPut, kAsk, kAsk, kAsk, kAsk},
    {kPut, kPut | kMask, kPut, kPut, kAsk, kAsk, kAsk, kAsk},
    // C: AccessAck, AccessAckData, HintAck, none, ProbeAck, ProbeAckData, Release, ReleaseData
    {kAsk, kPut, kAsk, 0, kAsk, kPut, kAsk, kPut},
    // D: AccessAck, AccessAckData, HintAck, none, Grant, GrantData, ReleaseAck, none
    {kKnown, kKnown | kData, kKnown, 0, kGrantForm, kGrantForm | kData, kKnown, 0},
    // E: GrantAck, which has no opcode field; its sink lies in the header flit itself
    {kKnown | kSink, 0, 0, 0, 0, 0, 0, 0},
    {},
    {},
}};

constexpr uint8_t FormOf(const Message& message) {
  return kForms[static_cast<uint8_t>(message.channel) & 7][message.opcode & 7];
}

constexpr std::size_t FlitsOf(uint8_t form, uint8_t size) {
  std::size_t flits = 1;
  if ((form & (kAddress | kSinkFlit)) != 0) ++flits;
  if ((form & kData) == 0) return flits;
  flits += size <= 3 ? 1 : std::size_t{1} << (size - 3);
  if ((form & kMask) != 0) flits += size <= 6 ? 1 : std::size_t{1} << (size - 6);
  return flits;
}

}  // namespace internal

// Whether the message's opcode exists on its channel.
inline bool IsKnown(const Message& message) {
  return message.opcode < 8 && internal::FormOf(message) != 0;
}
inline bool HasAddress(const Message& message) {
  return (internal::FormOf(message) & internal::kAddress) != 0;
}
inline bool HasData(const Message& message) {
  return (internal::FormOf(message) & internal::kData) != 0;
}
// PutPartialData: a mask flit before every 64 bytes of data.
inline bool HasMask(const Message& message) {
  return (internal::FormOf(message) & internal::kMask) != 0;
}
inline bool HasSink(const Message& message) {
  return (internal::FormOf(message) & internal::kSink) != 0;
}

// Bytes of data the message carries, without lanes below 8 bytes and without masks.
inline std::size_t DataBytes(const Message& message) {
  return HasData(message) ? std::size_t{1} << message.size : 0;
}
// Header, address, sink, masks and data: what it costs in credits and takes in a frame.
inline std::size_t FlitsOf(const Message& message) {
  return internal::FlitsOf(internal::FormOf(message), message.size);
}

}  // namespace oxmem::tilelink

#endif  // OXMEM_TILELINK_MESSAGE_H_
