// int8 weights for the AMX kernels: panels of 32 rows, cut in steps of 64 columns, two 1 KB tiles a step.
//
// A tile is 16 lines of 64 bytes. Where the weights are the product's first operand (channel_major, image) a line is
// one row's 64 columns; where they are the second (token_major) a line is 16 rows' next 4 columns: [16][4]. Compressed,
// a line is a 64-bit mask and its bytes that are not zero, one after the other through the whole panel.
#pragma once

#include <cstdint>

#include "i8_memory.h"

namespace sparsify {

enum class Operand { first, second };

inline constexpr int64_t panel_rows = 32;
inline constexpr int64_t step_columns = 64;
inline constexpr int64_t step_bytes = panel_rows * step_columns;
inline constexpr int64_t step_lines = 32;

// What the kernels read; made by Panels::view. Masks, dense: [panel][step][line]; exactly one of them is not null.
struct PanelView {
  int64_t rows;              // of the layer
  int64_t panels;            // ceil(rows / 32)
  int64_t steps;             // ceil(columns / 64)
  const uint64_t* masks;     // [panel][step][32]
  const int8_t* values;      // of all panels, in the masks' order; 64 more bytes may be read
  const int64_t* starts;     // [panels + 1] where a panel's values begin
  const int8_t* dense;       // [panel][step][2][16][64]
  const int32_t* offsets;    // [32 panels] -128 * sum of the row's weights: takes the activations' zero point out again
  const float* scales;       // [32 panels] zero past the last row
};

class Panels {
 public:
  // integers: int8 [rows][columns]; scales: [rows].
  Panels(const int8_t* integers, int64_t rows, int64_t columns, const float* scales, Operand operand, bool compressed);
  PanelView view() const;
  size_t bytes() const;

 private:
  int64_t rows_, panels_, steps_;
  AlignedArray<uint64_t> masks_;
  AlignedArray<int8_t> values_;
  AlignedArray<int64_t> starts_;
  AlignedArray<int8_t> dense_;
  AlignedArray<int32_t> offsets_;
  AlignedArray<float> scales_;
};

}  // namespace sparsify
