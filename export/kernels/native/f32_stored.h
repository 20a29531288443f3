// A weight as it lies in memory: fp32, or in 16 bits and widened as it is used. Every widening is exact.
#pragma once

#include <bit>
#include <cstdint>

namespace sparsify::f32 {

struct Half {  // IEEE 754 binary16
  uint16_t bits;
};

struct Bfloat16 {  // the upper half of fp32's bits
  uint16_t bits;
};

constexpr float widened(float value) { return value; }

constexpr float widened(Bfloat16 value) { return std::bit_cast<float>(uint32_t{value.bits} << 16); }

constexpr float widened(Half value) {
  const uint32_t sign = (value.bits & 0x8000u) << 16, exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
  if (exponent == 0) {  // zero or subnormal: fraction / 2^24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t widest = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | widest << 23 | fraction << 13);
}

}  // namespace sparsify::f32
