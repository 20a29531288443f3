#include "f32_rows.h"

#include <bit>
#include <cstring>

namespace sparsify {
namespace {

float from_half(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 0) {  // zero or subnormal: fraction / 2^24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t widened = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

// The values may lie anywhere, so they are copied out one by one.
float value_at(const Weights& weights, uint64_t index) {
  const auto* bytes = static_cast<const std::byte*>(weights.values);
  if (weights.precision == Precision::f32) {
    float value;
    std::memcpy(&value, bytes + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, bytes + index * 2, 2);
  return weights.precision == Precision::f16 ? from_half(bits) : std::bit_cast<float>(uint32_t{bits} << 16);
}

bool kept(const Weights& weights, int32_t mask_row, int32_t bit) {
  if (weights.mask == nullptr) return true;
  uint64_t word;
  const auto* bytes = reinterpret_cast<const std::byte*>(weights.mask);
  std::memcpy(&word, bytes + (static_cast<int64_t>(mask_row) * weights.mask_words() + bit / 64) * 8, 8);
  return (word >> (bit % 64) & 1) != 0;
}

}  // namespace

SparseRows sparse_rows(const Weights& weights) {
  SparseRows rows;
  rows.start.reserve(weights.rows + 1);
  rows.start.push_back(0);
  rows.column.reserve(weights.kept);
  rows.value.reserve(weights.kept);
  const int32_t tall = weights.rows_per_bit(), wide = weights.columns_per_bit(), bits = weights.mask_bits();
  uint64_t panel = 0;  // the first value of this row of the mask
  for (int32_t mask_row = 0; mask_row < weights.mask_rows(); ++mask_row) {
    uint64_t blocks = 0;
    for (int32_t i = 0; i < tall && mask_row * tall + i < weights.rows; ++i) {
      blocks = 0;
      for (int32_t bit = 0; bit < bits; ++bit) {
        if (!kept(weights, mask_row, bit)) continue;
        for (int32_t j = 0; j < wide && bit * wide + j < weights.columns; ++j) {
          const float value = value_at(weights, panel + blocks * tall * wide + i * wide + j);
          if (value == 0) continue;
          rows.column.push_back(bit * wide + j);
          rows.value.push_back(value);
        }
        ++blocks;
      }
      rows.start.push_back(static_cast<int64_t>(rows.column.size()));
    }
    panel += blocks * tall * wide;
  }
  return rows;
}

double density(const Weights& weights) {
  const double all = static_cast<double>(weights.rows) * weights.columns;
  return all == 0 ? 0 : static_cast<double>(weights.kept) / all;
}

}  // namespace sparsify
