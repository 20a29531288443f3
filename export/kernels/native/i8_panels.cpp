#include "i8_panels.h"

#include <algorithm>
#include <cstring>

#include "quantize.h"

namespace sparsify {
namespace {

struct Matrix {
  const int8_t* data;
  int64_t rows, columns;
};

// One panel with every zero written out: [steps][2][16][64].
void lay_out(const Matrix& weights, int64_t panel, int64_t steps, Operand operand, int8_t* out) {
  std::fill(out, out + steps * step_bytes, int8_t{0});
  const int64_t end = std::min(weights.rows, (panel + 1) * panel_rows);
  for (int64_t row = panel * panel_rows; row < end; ++row) {
    const int8_t* from = weights.data + row * weights.columns;
    int8_t* tile = out + row % panel_rows / 16 * 1024;
    const int64_t r = row % 16;
    for (int64_t k = 0; k < weights.columns; ++k) {
      const int64_t inner = k % step_columns;
      const int64_t place = operand == Operand::first ? r * 64 + inner : inner / 4 * 64 + r * 4 + inner % 4;
      tile[k / step_columns * step_bytes + place] = from[k];
    }
  }
}

// Masks of `lines` lines of 64 bytes; the bytes that are not zero go to `values`. Returns their end.
int8_t* compress(const int8_t* lines, int64_t count, uint64_t* masks, int8_t* values) {
  for (int64_t line = 0; line < count; ++line) {
    uint64_t mask = 0;
    for (int64_t i = 0; i < 64; ++i) {
      const int8_t value = lines[line * 64 + i];
      mask |= uint64_t{value != 0} << i;
      *values = value;  // kept where the next one is written behind it
      values += value != 0;
    }
    masks[line] = mask;
  }
  return values;
}

}  // namespace

Panels::Panels(const int8_t* integers, int64_t rows, int64_t columns, const float* scales, Operand operand,
               bool compressed)
    : rows_(rows), panels_((rows + panel_rows - 1) / panel_rows), steps_((columns + step_columns - 1) / step_columns),
      offsets_(static_cast<size_t>(panels_ * panel_rows)), scales_(static_cast<size_t>(panels_ * panel_rows)) {
  const Matrix matrix{integers, rows, columns};
  const int64_t lines = steps_ * step_lines, panel_bytes = steps_ * step_bytes;
  std::memcpy(scales_.data(), scales, static_cast<size_t>(rows) * sizeof(float));
  for (int64_t row = 0; row < rows; ++row) {
    int32_t sum = 0;
    for (int64_t k = 0; k < columns; ++k) sum += integers[row * columns + k];
    offsets_[static_cast<size_t>(row)] = -quantized_zero * sum;
  }
  if (!compressed) {
    dense_ = AlignedArray<int8_t>(static_cast<size_t>(panels_ * panel_bytes));
    for (int64_t p = 0; p < panels_; ++p) lay_out(matrix, p, steps_, operand, dense_.data() + p * panel_bytes);
    return;
  }
  const int64_t kept = rows * columns - std::count(integers, integers + rows * columns, int8_t{0});
  AlignedArray<int8_t> panel(static_cast<size_t>(panel_bytes));
  masks_ = AlignedArray<uint64_t>(static_cast<size_t>(panels_ * lines));
  values_ = AlignedArray<int8_t>(static_cast<size_t>(kept + 1));
  starts_ = AlignedArray<int64_t>(static_cast<size_t>(panels_ + 1));
  int8_t* end = values_.data();
  for (int64_t p = 0; p < panels_; ++p) {
    lay_out(matrix, p, steps_, operand, panel.data());
    end = compress(panel.data(), lines, masks_.data() + p * lines, end);
    starts_[static_cast<size_t>(p + 1)] = end - values_.data();
  }
}

PanelView Panels::view() const {
  return {rows_,          panels_,       steps_,           masks_.data(), values_.data(),
          starts_.data(), dense_.data(), offsets_.data(), scales_.data()};
}

size_t Panels::bytes() const {
  return masks_.bytes() + values_.bytes() + starts_.bytes() + dense_.bytes() + offsets_.bytes() + scales_.bytes();
}

}  // namespace sparsify
