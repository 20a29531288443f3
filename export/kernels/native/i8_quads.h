// int8 weights in groups of four of a row, each one vpdpbusd with 16 positions.
//
// As quads, a group is four consecutive columns, kept or dropped together: block_1x4 has nothing else, any other pattern
// is filled up to them. Scattered, it is any four that are kept.
#pragma once

#include <cstdint>
#include <vector>

#include "i8_memory.h"
#include "problem.h"

namespace sparsify {

enum class Grouping {
  quads,      // activations lie as quads of bytes (i8_planes.h)
  scattered,  // each column has a plane of bytes; four of them are laid together for each group anew
};

inline constexpr int64_t tile_positions = 64;  // results of a row that stay in registers: 4 vectors of AVX-512

// Columns of a block, whose activations of a tile stay in the first cache. A multiple of 4.
int64_t block_columns(Grouping grouping);

// What the loops read. Blocks of columns one after the other, rows one after the other in each, groups in order. Of so
// many rows as are multiplied together, those with more groups come first: loops change their length rarely.
struct QuadView {
  int64_t rows, blocks;
  const int32_t* order;      // [blocks][rows] which row comes
  const int64_t* starts;     // [blocks][rows + 1] of the rows in that order
  const uint16_t* quads;     // of a group: the number of its quad in the block, or, scattered, of its four columns
  const uint32_t* values;    // its four integers, the first column's in the lowest byte
  const int32_t* offsets;    // [rows] -128 * sum of the row's weights: takes the activations' zero point out again
};

class Quads {
 public:
  // integers: int8 [rows][columns]; at most 65536 columns. Rows are sorted `together` at a time.
  Quads(const int8_t* integers, int64_t rows, int64_t columns, Grouping grouping, int64_t together);
  QuadView view() const;
  size_t bytes() const;

 private:
  std::vector<int32_t> sorted(const int8_t* integers, int64_t columns, int64_t begin, int64_t end,
                              int64_t together) const;
  void add_quads(const int8_t* row, int64_t begin, int64_t end);
  void add_scattered(const int8_t* row, int64_t begin, int64_t end);

  Grouping grouping_;
  int64_t rows_, blocks_;
  std::vector<int32_t> order_;
  std::vector<int64_t> starts_;
  std::vector<uint16_t> quads_;
  std::vector<uint32_t> values_;
  std::vector<int32_t> offsets_;
};

// `count` quads become four planes of bytes, `stride` apart. Up to 64 more of each are read and written.
using SpreadQuads = void (*)(const uint8_t* quads, int64_t count, uint8_t* bytes, int64_t stride);

// What becomes of sums: of a position's and row's, float(sum + offset) * (scale * step) + bias, residual, activation.
struct Results {
  const int32_t* offsets;  // [rows]
  const float* scales;     // [rows] of the weights
  const float* bias;       // [rows], or null
  const float* steps;      // [tile_positions] of the activations
  const uint16_t* lanes;   // [4] which of 16 positions are results
  const int64_t* outputs;  // [4] the first of them, of a row
  int64_t n;               // from a row of y to the next
  const float* residual;   // as y, or null
  float* y;
  Activation activation;   // none, relu or relu6
};

// What an instruction set's file offers. Integers and roundings are the same in all.
struct QuadLoops {
  Grouping grouping;
  // sums[row - first][0, tile_positions) = (or, where `add`, +=) products of block `block` of the rows that lie from
  // `first` to first + count in its order, a range whose rows were sorted together. `lines` is where the block's lines
  // of activations of the tile begin, a quad's or a column's each, `line` bytes apart; what lies behind the tile's first
  // `sixteens` of 16 positions may be left out.
  void (*multiply)(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t sixteens, bool add,
                   const uint8_t* lines, int64_t line, int32_t* sums);
  // The same of the last block: to y. `sums` are only read, where `add`.
  void (*multiply_to)(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t sixteens, bool add,
                      const uint8_t* lines, int64_t line, const int32_t* sums, const Results& to);
  // out[j] = float(sum of position j + offset) * (scale * steps[j]) + bias, for j in [0, tile_positions).
  void (*scale)(const int32_t* sums, int32_t offset, float scale, const float* steps, float bias, float* out);
  // One row's sums to y.
  void (*write)(const int32_t* sums, const Results& to, int64_t row);
  // A tile's lines of some quads or columns side by side, as they are multiplied.
  void (*copy)(const uint8_t* planes, const int64_t* offsets, int64_t count, uint8_t* lines);
  SpreadQuads spread;  // null unless scattered, when lines are multiplied turned (quantize.h), and it turns them
};

extern const QuadLoops portable_quads;
#if defined(__x86_64__)
extern const QuadLoops avx2_quads;
extern const QuadLoops avxvnni_quads;
extern const QuadLoops avx512vnni_quads;
extern const QuadLoops avx512vnni_scattered;
#endif

}  // namespace sparsify
