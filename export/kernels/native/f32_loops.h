// What the planner (f32_prepared.cpp) and the loops of an instruction set (f32_spmm.h) say to each other: plain data,
// so that nothing compiled for one instruction set leaks into another.
#pragma once

#include <cstdint>

#include "f32_gemv.h"
#include "problem.h"

namespace sparsify::f32 {

// `rows` rows, one after the other in the block's order, with `count` nonzeros each.
struct Run {
  int32_t count, rows;
};

namespace {
// Those that `multiply` does while a row is in registers; the others follow.
[[maybe_unused]] bool done_in_registers(Activation activation) {
  return activation == Activation::none || activation == Activation::relu || activation == Activation::relu6;
}
}  // namespace

// What a nonzero loads beside its vectors: the weight, and a quarter of four indices.
constexpr double LOADS_OF_A_NONZERO = 1.25;

// A block's rows may be read this far past its last one: what comes soon is asked of memory in advance.
constexpr int32_t ROWS_AHEAD = 8;

// Of a Tile. Those of halves (f16_loops.h) have twice as many as are added up at once.
constexpr int32_t MOST_VECTORS = 16;

// The nonzeros of some columns: rows sorted by how many they have, so that the loop's length rarely changes.
struct Block {
  int32_t first_column, columns;
  int32_t run_count;
  const Run* runs;
  const int32_t* row;     // of each row of the runs: which it is
  const uint16_t* index;  // of each nonzero: where its column lies in the packed block
  const float* value;
};

// A tile of positions for all rows of one part.
struct Tile {
  int32_t vectors;                  // of Loops::width positions
  float* sums;                      // [rows][vectors][width], carried from block to block
  const float* bias;                // [rows] or null
  // Where a block is the last one and the result is channel_major: row r, vector v goes to y + r * row_stride +
  // v * vector_stride, its first lanes[v] lanes.
  float* y;
  const float* residual;            // as y, or null
  int64_t row_stride, vector_stride;
  int32_t lanes[MOST_VECTORS];
  Activation activation;
};

// Of one kernel tap: `length` positions from `to` on read a channel's plane from `from` on, or are zero (from < 0).
struct Segment {
  int32_t to, from, length;
};

// How a tile of positions is gathered from an image; the same for every channel.
struct Gather {
  const Segment* segments;
  const int32_t* tap_start;  // [taps + 1]: the segments of each tap
  int32_t taps;
  int32_t step;              // stride_x
  int64_t plane;             // height * width
};

// A tile of one strip: `vectors` output rows, of each the same `width` columns. Of each channel, kernel column kx and
// phase (the kernel rows of one remainder by stride_y), `rows` rows of input are packed, a vector each.
struct StripTile {
  const int64_t* row;        // [rows]: where the row starts in a plane, or -1 outside the image
  const int64_t* column;     // [kernel_width]: the first lane's column, which may lie outside
  const int32_t* lane_from;  // [kernel_width]: lanes [lane_from, lane_to) lie in the image
  const int32_t* lane_to;
  int32_t kernel_width, rows;  // rows of all phases together
  int32_t step;                // stride_x
  int64_t plane;
};

// A strip of one channel's plane, copied into `lines` with zeros beside it: [rows][step][line] (f32_depthwise_loops.h).
struct PlaneStrip {
  const float* plane;        // [height][width]
  int32_t height, width;
  int32_t first_row, rows;   // which may lie outside
  int32_t pad, step;         // columns of zeros before a row; stride_x, 1 or 2
  float* lines;
  int64_t line;
};

// Output channels [first, last) whose planes are read where they lie: a row or a column outside is zero.
struct Planes {
  const float* x;      // [input channels][height][width], of channel 0
  const float* bias;   // of channel 0, or null
  int32_t first, last, multiplier;  // as many output channels for an input channel
  int32_t height, width;
  int32_t pad_top, pad_left;
  const float* zeros;  // as many as a padded row
};

// Output rows of a depthwise convolution that are multiplied together.
constexpr int32_t BAND = 4, TALL_BAND = 7;

// Output rows of one channel from the lines of its plane.
struct PlaneRows {
  const float* lines;
  int64_t line;
  int32_t step, stride_y;
  int32_t kernel_height, kernel_width, dilation_y, dilation_x;
  const float* taps;         // [kernel_height][kernel_width]
  float bias, low, high;     // results are cut off below `low` and above `high`
  float* y;                  // [rows][width]
  const float* residual;     // as y, or null
  int32_t rows, width;
  bool more;                 // a vector may be written whole: what lies behind a row is written after it
};

template <class Value>
using GemvLoop = void (*)(const Gemv<Value>& gemv, const Slice& slice, const float* x, float* sums);

struct Loops {
  int width;         // floats in a vector
  int most_vectors;  // in a tile

  // Of x[.][columns], columns [0, columns) of `tokens` tokens become packed[column][vectors][width], zeros after them.
  void (*pack_tokens)(const float* x, int64_t stride, int64_t tokens, int32_t columns, int32_t vectors, float* packed);
  // Of x[.][stride], `positions` positions of rows [0, columns).
  void (*pack_channels)(const float* x, int64_t stride, int64_t positions, int32_t columns, int32_t vectors,
                        float* packed);
  // Columns [first, first + columns) of an image whose first channel is at x.
  void (*pack_image)(const float* x, const Gather& gather, int32_t first, int32_t columns, int32_t vectors,
                     float* packed);
  void (*pack_lines)(const PlaneStrip& strip);
  void (*depthwise)(const PlaneRows& rows);
  // The same of whole planes and kernels of 3x3 and 5x5, stride 1 or 2 both ways, without dilation; `rows` is the first
  // channel's. Null where lanes are masked one by one.
  void (*depthwise_in_place)(const Planes& planes, const PlaneRows& rows);
  // `channels` channels from x on become packed[channel][kernel column][row][width].
  void (*pack_strip)(const float* x, const StripTile& tile, int32_t channels, float* packed);
  // Adds a block's product. Column k's vectors are at packed + k * stride. `first`: sums start from the bias;
  // `last`: they are finished and written to tile.y.
  void (*multiply)(const Block& block, const float* packed, int64_t stride, const Tile& tile, bool first, bool last);
  // Writes activation(sums[rows]) to y[token][row] for `tokens` tokens, y advancing by `stride` a token.
  void (*unpack_tokens)(float* sums, int32_t rows, int32_t vectors, int64_t tokens, Activation activation, float* y,
                        int64_t stride);
  // Adds a slice's product with x[columns] to sums[width].
  GemvLoop<float> gemv;
  GemvLoop<Half> gemv_f16;
  GemvLoop<Bfloat16> gemv_bf16;
  float (*peak)(int64_t steps);
  float (*chain)(int64_t steps);
  // The sum of x[count], as many times over; eight vectors divide count.
  float (*read)(const float* x, int64_t count, int64_t times);
};

}  // namespace sparsify::f32
