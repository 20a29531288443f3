#include "i8_quads.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "cpu.h"
#include "quantize.h"

namespace sparsify {

int64_t block_columns(Grouping grouping) {
  const int64_t lines = cpu().l1_bytes / 64;
  return grouping == Grouping::quads ? lines / 4 * 4 : lines / 16 * 12;
}

Quads::Quads(const int8_t* integers, int64_t rows, int64_t columns, Grouping grouping, int64_t together)
    : grouping_(grouping), rows_(rows), blocks_((columns + block_columns(grouping) - 1) / block_columns(grouping)) {
  const int64_t wide = block_columns(grouping);
  for (int64_t block = 0; block < blocks_; ++block) {
    const int64_t begin = block * wide, end = std::min(columns, begin + wide);
    const std::vector<int32_t> order = sorted(integers, columns, begin, end, together);
    order_.insert(order_.end(), order.begin(), order.end());
    for (const int32_t row : order) {
      starts_.push_back(static_cast<int64_t>(values_.size()));
      const int8_t* const of = integers + row * columns;
      if (grouping == Grouping::quads) add_quads(of, begin, end);
      else add_scattered(of, begin, end);
    }
    starts_.push_back(static_cast<int64_t>(values_.size()));
  }
  for (int64_t row = 0; row < rows; ++row) {
    int32_t sum = 0;
    for (int64_t k = 0; k < columns; ++k) sum += integers[row * columns + k];
    offsets_.push_back(-quantized_zero * sum);
  }
  quads_.shrink_to_fit();
  values_.shrink_to_fit();
}

// By groups in columns [begin, end), most first.
std::vector<int32_t> Quads::sorted(const int8_t* integers, int64_t columns, int64_t begin, int64_t end,
                                   int64_t together) const {
  std::vector<int32_t> order(static_cast<size_t>(rows_)), groups(order.size());
  std::iota(order.begin(), order.end(), 0);
  for (const int32_t row : order) {
    const int8_t* const of = integers + row * columns;
    int32_t& count = groups[static_cast<size_t>(row)];
    if (grouping_ == Grouping::scattered) {
      count = static_cast<int32_t>((end - begin - std::count(of + begin, of + end, int8_t{0}) + 3) / 4);
    } else {
      for (int64_t k = begin; k < end; k += 4) {
        count += std::any_of(of + k, of + std::min(end, k + 4), [](int8_t weight) { return weight != 0; });
      }
    }
  }
  for (auto first = order.begin(); first != order.end();) {
    const auto past = first + std::min<int64_t>(together, order.end() - first);
    std::stable_sort(first, past, [&](int32_t a, int32_t b) {
      return groups[static_cast<size_t>(a)] > groups[static_cast<size_t>(b)];
    });
    first = past;
  }
  return order;
}

void Quads::add_quads(const int8_t* row, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; k += 4) {
    uint32_t value = 0;
    std::memcpy(&value, row + k, static_cast<size_t>(std::min<int64_t>(4, end - k)));
    if (value == 0) continue;
    quads_.push_back(static_cast<uint16_t>((k - begin) / 4));
    values_.push_back(value);
  }
}

// The last group of a row is filled up with weights of zero at its first column.
void Quads::add_scattered(const int8_t* row, int64_t begin, int64_t end) {
  int taken = 4;
  for (int64_t k = begin; k < end; ++k) {
    if (row[k] == 0) continue;
    if (taken == 4) {
      taken = 0;
      quads_.insert(quads_.end(), 4, static_cast<uint16_t>(k - begin));
      values_.push_back(0);
    }
    quads_[quads_.size() - 4 + static_cast<size_t>(taken)] = static_cast<uint16_t>(k - begin);
    values_.back() |= static_cast<uint32_t>(static_cast<uint8_t>(row[k])) << (8 * taken);
    ++taken;
  }
}

QuadView Quads::view() const {
  return {rows_, blocks_, order_.data(), starts_.data(), quads_.data(), values_.data(), offsets_.data()};
}

size_t Quads::bytes() const {
  return order_.size() * 4 + starts_.size() * 8 + quads_.size() * 2 + values_.size() * 4 + offsets_.size() * 4;
}

}  // namespace sparsify
