// What the planner (f16_prepared.cpp) and the loops in half precision (f16_spmm.h) say to each other: plain data.
#pragma once

#include <cstdint>

#include "f32_loops.h"

namespace sparsify::f16 {

using f32::Half;

constexpr int32_t WIDTH = 32;        // halves in a vector
constexpr int32_t MOST_VECTORS = 8;  // in a tile
constexpr int32_t WIDER = 2;         // vectors of floats that a vector of halves becomes

// Most columns whose products are added up in halves before they are widened.
constexpr int32_t MOST_CHUNK = 768;

// Activations below 2^LARGEST_X times weights that sum up to 2^LARGEST_WEIGHTS at most stay below 2^15, and with every
// rounding of MOST_CHUNK sums, 2^15 (1 + 2^-11)^768 = 47,700, below 65,504: nothing overflows. Both have as many
// binary digits before they become subnormal: the largest activation 2^18, weights of the mean of 300 in a row 2^17.
constexpr int LARGEST_X = 4, LARGEST_WEIGHTS = 11;

struct Tile {
  f32::Tile wide;               // of twice as many vectors of floats
  Half* carried;                // [rows][vectors][WIDTH]: sums of a chunk, carried from block to block
  const float* row_scale;       // [rows]: what undoes the scale of a row's weights
  const float* position_scale;  // [vectors][WIDTH]: what undoes the scale of a position's activations
};

// Where a block lies among the columns.
struct Place {
  bool opens, closes;  // a chunk
  bool first, last;    // as of f32::Loops::multiply
};

struct Loops {
  // Of x[.][stride], `tokens` tokens of `columns` columns: scale[vectors][WIDTH] is the power of two that brings the
  // largest finite magnitude of each just below 2^LARGEST_X, unscale its inverse.
  void (*scale_tokens)(const float* x, int64_t stride, int64_t tokens, int32_t columns, int32_t vectors, float* scale,
                       float* unscale);
  // The same of `positions` positions of x[columns][stride].
  void (*scale_channels)(const float* x, int64_t stride, int64_t positions, int32_t columns, int32_t vectors,
                         float* scale, float* unscale);
  // As of f32::Loops, scaled and rounded to halves.
  void (*pack_tokens)(const float* x, int64_t stride, int64_t tokens, int32_t columns, int32_t vectors,
                      const float* scale, Half* packed);
  void (*pack_channels)(const float* x, int64_t stride, int64_t positions, int32_t columns, int32_t vectors,
                        const float* scale, Half* packed);
  void (*multiply)(const f32::Block& block, const Half* packed, const Tile& tile, const Place& place);
  // Each value becomes the bits of value * scale as a half, twice side by side: what `multiply` takes as a weight.
  void (*pair)(float* value, int64_t count, float scale);
};

#if defined(SPARSIFY_AVX512FP16)
extern const Loops avx512_loops;
#endif

}  // namespace sparsify::f16
