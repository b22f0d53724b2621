#ifndef OXMEM_TLOE_SEQUENCE_NUMBER_H_
#define OXMEM_TLOE_SEQUENCE_NUMBER_H_

#include <cstdint>

namespace oxmem::tloe {

// A frame's number, modulo 2^22 (section 4). It has no order of its own: only how far one number
// lies after another is known.
class SequenceNumber {
 public:
  static constexpr int kBits = 22;
  static constexpr uint32_t kModulus = 1u << kBits;
  static constexpr uint32_t kHalf = kModulus / 2;

  constexpr SequenceNumber() = default;
  // Takes the low 22 bits.
  static constexpr SequenceNumber FromWire(uint64_t bits) {
    return SequenceNumber(static_cast<uint32_t>(bits) & (kModulus - 1));
  }

  constexpr uint32_t wire() const { return value_; }
  constexpr SequenceNumber Next() const { return *this + 1; }
  constexpr SequenceNumber Previous() const { return FromWire(value_ - 1); }

  // How many steps forward lead from `other` to this one: 0 to 2^22 - 1.
  constexpr uint32_t DistanceFrom(SequenceNumber other) const {
    return (value_ - other.value_) & (kModulus - 1);
  }

  friend constexpr SequenceNumber operator+(SequenceNumber a, uint64_t steps) {
    return FromWire(a.value_ + steps);
  }
  friend constexpr bool operator==(SequenceNumber, SequenceNumber) = default;

 private:
  constexpr explicit SequenceNumber(uint32_t value) : value_(value) {}
  uint32_t value_ = 0;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_SEQUENCE_NUMBER_H_
