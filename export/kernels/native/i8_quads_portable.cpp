// The exact reference of every int8 kernel: integers in the plainest of loops, one rounding where the others round.
#include <algorithm>
#include <cmath>

#include "i8_quad_loops.h"

namespace sparsify {
namespace {

int32_t weight(uint32_t quad, int i) { return static_cast<int8_t>(quad >> (8 * i) & 255); }

void multiply_row(const QuadView& weights, int64_t begin, int64_t end, const uint8_t* lines, int64_t line,
                  int32_t* sums) {
  for (int64_t i = begin; i < end; ++i) {
    const uint8_t* const x = lines + weights.quads[i] * line;
    const uint32_t quad = weights.values[i];
    const int32_t a = weight(quad, 0), b = weight(quad, 1), c = weight(quad, 2), d = weight(quad, 3);
    for (int64_t j = 0; j < tile_positions; ++j) {
      sums[j] += x[4 * j] * a + x[4 * j + 1] * b + x[4 * j + 2] * c + x[4 * j + 3] * d;
    }
  }
}

void multiply(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t, bool add,
              const uint8_t* lines, int64_t line, int32_t* sums) {
  const int64_t* const starts = weights.starts + block * (weights.rows + 1);
  for (int64_t at = first; at < first + count; ++at) {
    int32_t* const of = sums + (weights.order[block * weights.rows + at] - first) * tile_positions;
    if (!add) std::fill_n(of, tile_positions, 0);
    multiply_row(weights, starts[at], starts[at + 1], lines, line, of);
  }
}

void scale(const int32_t* sums, int32_t offset, float scale, const float* steps, float bias, float* out) {
  for (int64_t j = 0; j < tile_positions; ++j) {
    out[j] = std::fma(static_cast<float>(sums[j] + offset), scale * steps[j], bias);
  }
}

constexpr auto write = quad_loops::write<scale>;

void multiply_to(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t, bool add,
                 const uint8_t* lines, int64_t line, const int32_t* sums, const Results& to) {
  const int64_t* const starts = weights.starts + block * (weights.rows + 1);
  for (int64_t at = first; at < first + count; ++at) {
    const int64_t row = weights.order[block * weights.rows + at];
    int32_t all[tile_positions] = {};
    if (add) std::copy_n(sums + (row - first) * tile_positions, tile_positions, all);
    multiply_row(weights, starts[at], starts[at + 1], lines, line, all);
    write(all, to, row);
  }
}

}  // namespace

const QuadLoops portable_quads = {Grouping::quads, multiply, multiply_to, scale, write, quad_loops::copy, nullptr};

}  // namespace sparsify
