#include "i8_quads.h"

#include <algorithm>
#include <cstring>

#include "quantize.h"

namespace sparsify {

Quads::Quads(const int8_t* integers, int64_t rows, int64_t columns)
    : rows_(rows), blocks_(((columns + 3) / 4 + block_quads - 1) / block_quads) {
  for (int64_t block = 0; block < blocks_; ++block) {
    const int64_t begin = block * block_quads * 4, end = std::min(columns, begin + block_quads * 4);
    for (int64_t row = 0; row < rows; ++row) {
      starts_.push_back(static_cast<int64_t>(quads_.size()));
      for (int64_t k = begin; k < end; k += 4) {
        uint32_t value = 0;
        std::memcpy(&value, integers + row * columns + k, static_cast<size_t>(std::min<int64_t>(4, end - k)));
        if (value == 0) continue;
        quads_.push_back(static_cast<uint16_t>(k / 4));
        values_.push_back(value);
      }
    }
    starts_.push_back(static_cast<int64_t>(quads_.size()));
  }
  for (int64_t row = 0; row < rows; ++row) {
    int32_t sum = 0;
    for (int64_t k = 0; k < columns; ++k) sum += integers[row * columns + k];
    offsets_.push_back(-quantized_zero * sum);
  }
  quads_.shrink_to_fit();
  values_.shrink_to_fit();
}

QuadView Quads::view() const {
  return {rows_, blocks_, starts_.data(), quads_.data(), values_.data(), offsets_.data()};
}

size_t Quads::bytes() const {
  return starts_.size() * 8 + quads_.size() * 2 + values_.size() * 4 + offsets_.size() * 4;
}

}  // namespace sparsify
