// int8 weights of the patterns rows_16 and rows_32 for AMX: panels of 16 or 32 rows that keep the same columns. Only
// those are stored and multiplied, 64 a step, so a panel has as many steps as its own kept columns fill.
#pragma once

#include <cstdint>
#include <vector>

#include "i8_memory.h"
#include "weights.h"

namespace sparsify {

inline constexpr int64_t kept_step_columns = 64;

// What the kernel reads; made by KeptPanels::view.
struct KeptView {
  int64_t rows;             // of the layer
  int64_t height;           // of a panel: 16 or 32
  int64_t panels;           // ceil(rows / height)
  int64_t most_steps;       // of any panel
  const int64_t* starts;    // [panels + 1] a panel's first step among all
  const uint16_t* columns;  // [steps][64] what a step multiplies; past a panel's last one, column 0 and weights of zero
  const int8_t* tiles;      // [steps][height / 16][16 rows][64 columns]
  const int32_t* offsets;   // [panels * height] -128 * sum of the row's weights: takes the zero point out again
  const float* scales;      // [panels * height] zero past the last row
};

class KeptPanels {
 public:
  // Weights of rows_16 or rows_32 in i8, at most 65536 columns.
  explicit KeptPanels(const Weights& weights);
  KeptView view() const;
  size_t bytes() const;

 private:
  void lay_row(int64_t row, const int8_t* integers, const std::vector<int32_t>& kept);

  int64_t rows_, height_, panels_, most_steps_ = 0;
  std::vector<int64_t> starts_{0};
  std::vector<uint16_t> columns_;
  AlignedArray<int8_t> tiles_;
  AlignedArray<int32_t> offsets_;
  AlignedArray<float> scales_;
};

// The columns in which any of `count` rows of int8 [count][columns] has a weight, in order.
std::vector<int32_t> kept_columns(const int8_t* rows, int64_t count, int64_t columns);

// Columns kept by each panel as the mask has them, in groups of `each`, of all panels: what such weights cost.
int64_t kept_groups(const Weights& weights, int64_t each);

}  // namespace sparsify
