// int8 weights as quads: four consecutive columns of a row, kept or dropped together. One vpdpbusd multiplies a quad
// with 16 positions. block_1x4 has nothing else; any other pattern is filled up to quads.
#pragma once

#include <cstdint>
#include <vector>

#include "i8_memory.h"

namespace sparsify {

inline constexpr int64_t tile_positions = 64;  // results of a row that stay in registers: 4 vectors of AVX-512
// Quads of columns whose activations of a tile stay in L1: 192 * 256 bytes.
inline constexpr int64_t block_quads = 192;

// What the loops read. Blocks of columns one after the other, rows one after the other in each, kept quads in order.
struct QuadView {
  int64_t rows, blocks;
  const int64_t* starts;     // [blocks][rows + 1]
  const uint16_t* quads;     // the number of a kept quad in its row
  const uint32_t* values;    // its four integers, the first column's in the lowest byte
  const int32_t* offsets;    // [rows] -128 * sum of the row's weights: takes the activations' zero point out again
};

class Quads {
 public:
  // integers: int8 [rows][columns]; at most 65536 quads a row.
  Quads(const int8_t* integers, int64_t rows, int64_t columns);
  QuadView view() const;
  size_t bytes() const;

 private:
  int64_t rows_, blocks_;
  std::vector<int64_t> starts_;
  std::vector<uint16_t> quads_;
  std::vector<uint32_t> values_;
  std::vector<int32_t> offsets_;
};

// What an instruction set's file offers. Integers and roundings are the same in all.
struct QuadLoops {
  // sums[row - first][0, tile_positions) = (or, where `add`, +=) products of block `block`, rows [first, first +
  // count). `planes` is where the tile begins and offsets[quad] the distance of a quad's line of dwords from it.
  void (*multiply)(const QuadView& weights, int64_t block, int64_t first, int64_t count, bool add,
                   const uint8_t* planes, const int64_t* offsets, int32_t* sums);
  // out[j] = float(sums[j] + offset) * (scale * steps[j]) + bias, for j in [0, tile_positions).
  void (*scale)(const int32_t* sums, int32_t offset, float scale, const float* steps, float bias, float* out);
};

extern const QuadLoops portable_quads;
#if defined(__x86_64__)
extern const QuadLoops avx2_quads;
extern const QuadLoops avxvnni_quads;
extern const QuadLoops avx512vnni_quads;
#endif

}  // namespace sparsify
