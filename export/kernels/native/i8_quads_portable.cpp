// The exact reference of every int8 kernel: integers in the plainest of loops, one rounding where the others round.
#include <cmath>

#include "i8_quads.h"

namespace sparsify {
namespace {

int32_t weight(uint32_t quad, int i) { return static_cast<int8_t>(quad >> (8 * i) & 255); }

void multiply(const QuadView& weights, int64_t block, int64_t first, int64_t count, bool add, const uint8_t* planes,
              const int64_t* offsets, int32_t* sums) {
  const int64_t* starts = weights.starts + block * (weights.rows + 1);
  for (int64_t row = first; row < first + count; ++row, sums += tile_positions) {
    if (!add) {
      for (int64_t j = 0; j < tile_positions; ++j) sums[j] = 0;
    }
    for (int64_t i = starts[row]; i < starts[row + 1]; ++i) {
      const uint8_t* const x = planes + offsets[weights.quads[i]];
      const uint32_t quad = weights.values[i];
      const int32_t a = weight(quad, 0), b = weight(quad, 1), c = weight(quad, 2), d = weight(quad, 3);
      for (int64_t j = 0; j < tile_positions; ++j) {
        sums[j] += x[4 * j] * a + x[4 * j + 1] * b + x[4 * j + 2] * c + x[4 * j + 3] * d;
      }
    }
  }
}

void scale(const int32_t* sums, int32_t offset, float scale, const float* steps, float bias, float* out) {
  for (int64_t j = 0; j < tile_positions; ++j) {
    out[j] = std::fma(static_cast<float>(sums[j] + offset), scale * steps[j], bias);
  }
}

}  // namespace

const QuadLoops portable_quads = {Grouping::quads, multiply, scale, nullptr};

}  // namespace sparsify
