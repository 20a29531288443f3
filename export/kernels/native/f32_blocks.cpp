#include "f32_blocks.h"

#include <algorithm>
#include <numeric>

namespace sparsify::f32 {

Part::Part(const SparseRows<float>& rows, int32_t first_row, int32_t row_count, int32_t columns,
           const std::vector<uint16_t>& place)
    : first_row_(first_row), rows_(row_count) {
  const auto nonzeros = static_cast<size_t>(rows.start[first_row + row_count] - rows.start[first_row]);
  index_.reserve(nonzeros);
  value_.reserve(nonzeros);
  std::vector<int64_t> next(rows.start.begin() + first_row, rows.start.begin() + first_row + row_count);
  const auto block_columns = static_cast<int32_t>(place.size());
  for (int32_t k = 0; k < columns; k += block_columns) {
    add_block(rows, next, k, std::min(block_columns, columns - k), place);
  }
  row_.insert(row_.end(), ROWS_AHEAD, 0);
  const Run* run = runs_.data();  // now that nothing moves any more
  const int32_t* row = row_.data();
  size_t nonzero = 0;
  for (Block& block : blocks_) {
    block.runs = run;
    block.row = row;
    block.index = index_.data() + nonzero;
    block.value = value_.data() + nonzero;
    for (int32_t i = 0; i < block.run_count; ++i, ++run) {
      row += run->rows;
      nonzero += static_cast<size_t>(run->rows) * static_cast<size_t>(run->count);
    }
  }
}

// `next` is the first nonzero of each row that no earlier block has taken.
void Part::add_block(const SparseRows<float>& rows, std::vector<int64_t>& next, int32_t first_column, int32_t columns,
                     const std::vector<uint16_t>& place) {
  std::vector<int32_t> count(rows_), order(rows_);
  for (int32_t r = 0; r < rows_; ++r) {
    const auto begin = rows.column.begin() + next[r], end = rows.column.begin() + rows.start[first_row_ + r + 1];
    count[r] = static_cast<int32_t>(std::lower_bound(begin, end, first_column + columns) - begin);
  }
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return count[a] > count[b]; });
  const auto runs_before = static_cast<int32_t>(runs_.size());
  for (const int32_t r : order) {
    if (static_cast<int32_t>(runs_.size()) == runs_before || runs_.back().count != count[r]) {
      runs_.push_back({count[r], 0});
    }
    ++runs_.back().rows;
    row_.push_back(r);
    for (int64_t i = next[r]; i < next[r] + count[r]; ++i) {
      index_.push_back(place[static_cast<size_t>(rows.column[i] - first_column)]);
      value_.push_back(rows.value[i]);
    }
    next[r] += count[r];
  }
  blocks_.push_back({first_column, columns, static_cast<int32_t>(runs_.size()) - runs_before, nullptr, nullptr, nullptr,
                     nullptr});
}

std::vector<Part> make_parts(const SparseRows<float>& rows, int32_t columns, int32_t groups, int32_t parts,
                             const std::vector<uint16_t>& place) {
  const auto row_count = static_cast<int32_t>(rows.start.size()) - 1;
  const int32_t group_rows = row_count / groups, pieces = std::clamp(parts, 1, std::max(1, group_rows));
  std::vector<Part> made;
  for (int32_t g = 0; g < groups; ++g) {
    for (int32_t p = 0; p < pieces; ++p) {
      const auto from = static_cast<int32_t>(int64_t{group_rows} * p / pieces);
      const auto to = static_cast<int32_t>(int64_t{group_rows} * (p + 1) / pieces);
      made.emplace_back(rows, g * group_rows + from, to - from, columns, place);
    }
  }
  return made;
}

size_t total_bytes(const std::vector<Part>& parts) {
  size_t total = 0;
  for (const Part& part : parts) total += part.bytes();
  return total;
}

std::vector<uint16_t> side_by_side(int32_t columns) {
  std::vector<uint16_t> place(static_cast<size_t>(columns));
  std::iota(place.begin(), place.end(), uint16_t{0});
  return place;
}

size_t Part::bytes() const {
  return blocks_.size() * sizeof(Block) + runs_.size() * sizeof(Run) + row_.size() * 4 + index_.size() * 2 +
         value_.size() * 4;
}

}  // namespace sparsify::f32
