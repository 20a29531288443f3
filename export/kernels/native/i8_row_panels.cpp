#include "i8_row_panels.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "i8_kept.h"
#include "quantize.h"

namespace sparsify {
namespace {

int64_t panel_height(Pattern pattern) {
  if (!shares_columns(pattern)) return 64;
  return pattern == Pattern::rows_16 ? 16 : 32;
}

// Strips of a panel, the last one's few rows filled up.
int64_t strips_of(int64_t rows, int64_t height, int64_t panel) {
  return (std::min(height, rows - panel * height) + strip_rows - 1) / strip_rows;
}

}  // namespace

bool shares_columns(Pattern pattern) { return pattern == Pattern::rows_16 || pattern == Pattern::rows_32; }

bool chooses_columns(Pattern pattern, int64_t channels) {
  const int64_t filled_up = (channels + 3) / 4 * 4;
  return shares_columns(pattern) || 8 * (filled_up - channels) >= filled_up;
}

RowPanels::RowPanels(const int8_t* integers, int64_t rows, int64_t columns, Pattern pattern, bool chosen)
    : rows_(rows), height_(panel_height(pattern)), panels_((rows + height_ - 1) / height_), whole_(!chosen) {
  if (whole_) {
    quads_ = columns / 4;
    for (int64_t panel = 0; panel < panels_; ++panel) starts_.push_back((panel + 1) * quads_);
  } else {
    choose_columns(integers, columns);
  }
  const int64_t before = starts_[static_cast<size_t>(panels_ - 1)], last = starts_.back() - before;
  values_ = AlignedArray<uint32_t>(
      static_cast<size_t>(before * height_ + last * strips_of(rows, height_, panels_ - 1) * strip_rows));
  for (int64_t row = 0; row < rows; ++row) {
    const int8_t* const from = integers + row * columns;
    offsets_.push_back(-quantized_zero * std::accumulate(from, from + columns, int32_t{0}));
    lay_row(row, from);
  }
}

void RowPanels::choose_columns(const int8_t* integers, int64_t columns) {
  for (int64_t first = 0; first < rows_; first += height_) {
    std::vector<int32_t> kept = kept_columns(integers + first * columns, std::min(height_, rows_ - first), columns);
    kept.resize((kept.size() + 3) / 4 * 4);
    columns_.insert(columns_.end(), kept.begin(), kept.end());
    const auto quads = static_cast<int64_t>(kept.size()) / 4;
    starts_.push_back(starts_.back() + quads);
    quads_ = std::max(quads_, quads);
  }
}

void RowPanels::lay_row(int64_t row, const int8_t* integers) {
  const int64_t panel = row / height_, strip = row % height_ / strip_rows;
  const int64_t start = starts_[static_cast<size_t>(panel)], quads = starts_[static_cast<size_t>(panel) + 1] - start;
  const int64_t strips = strips_of(rows_, height_, panel);
  uint32_t* const values = values_.data() + start * height_;
  int64_t last = -1;  // a panel's columns rise; what follows fills its last quad up
  for (int64_t q = 0; q < quads; ++q) {
    const int64_t block = q / panel_block_quads * panel_block_quads;
    const int64_t length = std::min(panel_block_quads, quads - block);
    uint32_t value = 0;
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t column = whole_ ? q * 4 + i : columns_[static_cast<size_t>((start + q) * 4 + i)];
      if (column <= last) break;
      value |= uint32_t{static_cast<uint8_t>(integers[column])} << (8 * i);
      last = column;
    }
    values[(block * strips + strip * length + q - block) * strip_rows + row % strip_rows] = value;
  }
}

RowPanelView RowPanels::view() const {
  return {rows_, height_, panels_, quads_, whole_, starts_.data(), columns_.data(), values_.data(), offsets_.data()};
}

size_t RowPanels::bytes() const {
  return starts_.size() * sizeof(int64_t) + columns_.size() * sizeof(int32_t) + values_.bytes() +
         offsets_.size() * sizeof(int32_t);
}

}  // namespace sparsify
