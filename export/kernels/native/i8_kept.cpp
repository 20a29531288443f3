#include "i8_kept.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "i8_integers.h"
#include "quantize.h"

namespace sparsify {
namespace {

int64_t steps_of(int64_t columns) { return (columns + kept_step_columns - 1) / kept_step_columns; }

}  // namespace

std::vector<int32_t> kept_columns(const int8_t* rows, int64_t count, int64_t columns) {
  std::vector<int8_t> kept(static_cast<size_t>(columns));
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t k = 0; k < columns; ++k) kept[static_cast<size_t>(k)] |= rows[row * columns + k];
  }
  std::vector<int32_t> found;
  for (int64_t k = 0; k < columns; ++k) {
    if (kept[static_cast<size_t>(k)] != 0) found.push_back(static_cast<int32_t>(k));
  }
  return found;
}

KeptPanels::KeptPanels(const Weights& weights)
    : rows_(weights.rows), height_(weights.rows_per_bit()), panels_((rows_ + height_ - 1) / height_),
      offsets_(static_cast<size_t>(panels_ * height_)), scales_(static_cast<size_t>(panels_ * height_)) {
  const int64_t columns = weights.columns;
  const AlignedArray<int8_t> integers = dense_integers(weights);
  std::memcpy(scales_.data(), weights.scales, static_cast<size_t>(rows_) * sizeof(float));
  std::vector<std::vector<int32_t>> kept;
  for (int64_t panel = 0; panel < panels_; ++panel) {
    const int64_t first = panel * height_, count = std::min(height_, rows_ - first);
    kept.push_back(kept_columns(integers.data() + first * columns, count, columns));
    const int64_t steps = steps_of(static_cast<int64_t>(kept.back().size()));
    starts_.push_back(starts_.back() + steps);
    most_steps_ = std::max(most_steps_, steps);
  }
  columns_.resize(static_cast<size_t>(starts_.back() * kept_step_columns));
  tiles_ = AlignedArray<int8_t>(columns_.size() * static_cast<size_t>(height_));
  for (int64_t row = 0; row < rows_; ++row) {
    lay_row(row, integers.data() + row * columns, kept[static_cast<size_t>(row / height_)]);
  }
}

void KeptPanels::lay_row(int64_t row, const int8_t* integers, const std::vector<int32_t>& kept) {
  const int64_t start = starts_[static_cast<size_t>(row / height_)], place = row % height_ * 64;
  int32_t sum = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    const size_t step = static_cast<size_t>(start) + i / kept_step_columns, inner = i % kept_step_columns;
    columns_[step * kept_step_columns + inner] = static_cast<uint16_t>(kept[i]);
    tiles_[step * static_cast<size_t>(height_ * 64) + static_cast<size_t>(place) + inner] = integers[kept[i]];
    sum += integers[kept[i]];
  }
  offsets_[static_cast<size_t>(row)] = -quantized_zero * sum;
}

KeptView KeptPanels::view() const {
  return {rows_,          height_,       panels_,         most_steps_,   starts_.data(),
          columns_.data(), tiles_.data(), offsets_.data(), scales_.data()};
}

size_t KeptPanels::bytes() const {
  return starts_.size() * sizeof(int64_t) + columns_.size() * sizeof(uint16_t) + tiles_.bytes() + offsets_.bytes() +
         scales_.bytes();
}

int64_t kept_groups(const Weights& weights, int64_t each) {
  int64_t groups = 0;
  for (int64_t panel = 0; panel < weights.mask_rows(); ++panel) {
    int64_t columns = 0;
    for (int64_t word = 0; word < weights.mask_words(); ++word) {
      columns += std::popcount(weights.mask_word(panel * weights.mask_words() + word));
    }
    groups += (columns + each - 1) / each;
  }
  return groups;
}

}  // namespace sparsify
