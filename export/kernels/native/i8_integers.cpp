#include "i8_integers.h"

#include <algorithm>
#include <bit>

namespace sparsify {

AlignedArray<int8_t> dense_integers(const Weights& weights) {
  const int64_t rows = weights.rows, columns = weights.columns;
  AlignedArray<int8_t> dense(static_cast<size_t>(rows * columns));
  const int8_t* value = static_cast<const int8_t*>(weights.values);
  if (weights.pattern == Pattern::dense) {
    std::copy(value, value + rows * columns, dense.data());
    return dense;
  }
  const int64_t high = weights.rows_per_bit(), wide = weights.columns_per_bit(), words = weights.mask_words();
  for (int64_t band = 0; band < weights.mask_rows(); ++band) {
    for (int64_t word = 0; word < words; ++word) {
      // Bits low to high; a block is `high` rows of `wide` columns, and stores its values even past the matrix' end.
      for (uint64_t bits = weights.mask_word(band * words + word); bits != 0; bits &= bits - 1) {
        const int64_t column = (word * 64 + std::countr_zero(bits)) * wide;
        for (int64_t row = band * high; row < (band + 1) * high; ++row) {
          for (int64_t k = column; k < column + wide; ++k, ++value) {
            if (row < rows && k < columns) dense[static_cast<size_t>(row * columns + k)] = *value;
          }
        }
      }
    }
  }
  return dense;
}

AlignedArray<int8_t> dense_integers(const Weights& weights, const std::vector<int32_t>& order) {
  const AlignedArray<int8_t> plain = dense_integers(weights);
  AlignedArray<int8_t> ordered(static_cast<size_t>(weights.rows) * order.size());
  int8_t* to = ordered.data();
  for (int64_t row = 0; row < weights.rows; ++row) {
    const int8_t* from = plain.data() + row * weights.columns;
    for (const int32_t column : order) *to++ = column < 0 ? int8_t{0} : from[column];
  }
  return ordered;
}

}  // namespace sparsify
