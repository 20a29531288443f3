// From sums [row][position] to y: what every int8 layer does whose lanes are positions or tokens.
#pragma once

#include <cstdint>

#include "i8_planes.h"
#include "i8_quads.h"
#include "problem.h"

namespace sparsify {

inline constexpr int64_t band_rows = 16;

// One group of one image, or all tokens.
struct Bands {
  const Problem& problem;  // of this group and image
  const PlaneMap& map;
  const float* steps;      // [positions, up to a whole tile]
  const float* scales;     // [rows] of the weights
  const int32_t* offsets;  // [rows]
  int64_t rows;
  const QuadLoops& loops;

  // Rows [first, first + count), at most 16, of a tile that begins at `position`, from sums[count][tile_positions]. In
  // token_major only the bias follows; finish_token_major does the rest.
  void finish(int64_t position, int64_t first, int64_t count, const int32_t* sums) const;
  // The same in two steps, of positions: what QuadLoops::multiply_to needs of a tile, and the activations it leaves.
  Results results(int64_t position) const;
  void activate(int64_t position, int64_t first, int64_t count) const;

  void finish_tokens(int64_t token, int64_t first, int64_t count, const int32_t* sums) const;
  void finish_positions(int64_t position, int64_t first, int64_t count, const int32_t* sums) const;
};

// Quantises to planes and steps, which has room for whole tiles. `channels` are the group's.
void fill_planes(const Problem& problem, const PlaneMap& map, int64_t channels, uint8_t* planes, float* steps,
                 Pool& pool);

// How activations become planes of bytes: positions of 1x1 kernels are quantised by one, tokens' quads spread by the
// other, both turned or neither. An image's are never turned.
struct ToBytes {
  QuantizeBytes quantize;
  SpreadQuads spread;
};

// The same to planes of bytes, of a map that was spread out: map.spread_bytes() of them.
void fill_byte_planes(const Problem& problem, const PlaneMap& map, int64_t channels, const ToBytes& to, uint8_t* bytes,
                      float* steps, Pool& pool);

}  // namespace sparsify
