#include "f32_rows.h"

#include <cstring>
#include <type_traits>

namespace sparsify {
namespace {

// The values may lie anywhere, so they are copied out one by one.
template <class Value>
Value stored(const Weights& weights, uint64_t index) {
  Value value;
  std::memcpy(&value, static_cast<const std::byte*>(weights.values) + index * sizeof value, sizeof value);
  return value;
}

template <class Value>
Value value_at(const Weights& weights, uint64_t index) {
  if constexpr (std::is_same_v<Value, float>) {
    if (weights.precision == Precision::f16) return f32::widened(stored<f32::Half>(weights, index));
    if (weights.precision == Precision::bf16) return f32::widened(stored<f32::Bfloat16>(weights, index));
  }
  return stored<Value>(weights, index);
}

bool kept(const Weights& weights, int32_t mask_row, int32_t bit) {
  if (weights.mask == nullptr) return true;
  return (weights.mask_word(int64_t{mask_row} * weights.mask_words() + bit / 64) >> (bit % 64) & 1) != 0;
}

}  // namespace

template <class Value>
SparseRows<Value> sparse_rows(const Weights& weights) {
  SparseRows<Value> rows;
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
          const auto value = value_at<Value>(weights, panel + blocks * tall * wide + i * wide + j);
          if (f32::widened(value) == 0) continue;
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

template SparseRows<float> sparse_rows(const Weights& weights);
template SparseRows<f32::Half> sparse_rows(const Weights& weights);
template SparseRows<f32::Bfloat16> sparse_rows(const Weights& weights);

double density(const Weights& weights) {
  const double all = static_cast<double>(weights.rows) * weights.columns;
  return all == 0 ? 0 : static_cast<double>(weights.kept) / all;
}

}  // namespace sparsify
