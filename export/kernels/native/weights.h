// A layer's weights as the file has them: what every kernel is made from. Written by sparsify_kernels/packing.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace sparsify {

enum class Precision : uint8_t { f32 = 0, f16 = 1, bf16 = 2, i8 = 3 };

// Which weights share one bit of the mask.
enum class Pattern : uint8_t {
  dense = 0,         // no mask: every value is there
  unstructured = 1,  // a bit a weight
  block_1x4 = 2,     // a bit for four consecutive columns of a row
  rows_16 = 3,       // a bit for one column of 16 consecutive rows
  rows_32 = 4,       // the same of 32
};

// A matrix [rows][columns] whose product with the activations is wanted. It does not own what it points at.
// Rows are output channels (of all groups, one after the other); columns are inputs, for a convolution
// (channel of the group, kernel y, kernel x) as ONNX has them.
struct Weights {
  Precision precision;
  Pattern pattern;
  int32_t rows;
  int32_t columns;
  uint64_t kept;          // values stored, the zeros inside a kept block included
  const uint64_t* mask;   // [mask rows][mask_words]; bit k of a row, lowest first, is column (or block) k; null if dense
  const void* values;     // kept values; for rows_16 and rows_32 the block's rows one after the other; 64-byte aligned
  const float* scales;    // [rows], weight = integer * scale; null unless i8

  int32_t rows_per_bit() const { return pattern == Pattern::rows_16 ? 16 : pattern == Pattern::rows_32 ? 32 : 1; }
  int32_t columns_per_bit() const { return pattern == Pattern::block_1x4 ? 4 : 1; }
  int32_t mask_rows() const { return (rows + rows_per_bit() - 1) / rows_per_bit(); }
  int32_t mask_bits() const { return (columns + columns_per_bit() - 1) / columns_per_bit(); }
  int32_t mask_words() const { return (mask_bits() + 63) / 64; }
  uint64_t mask_word(int64_t i) const {  // the blob may lie anywhere, so a word need not be aligned
    uint64_t word;
    std::memcpy(&word, reinterpret_cast<const std::byte*>(mask) + 8 * i, sizeof word);
    return word;
  }
  size_t value_bytes() const { return precision == Precision::f32 ? 4 : precision == Precision::i8 ? 1 : 2; }
};

// Reads a blob without copying it: `Weights` points into it. Every field is checked; false and a sentence where one
// is wrong, and nothing outside `blob` is ever read. The layout is told in weights.cpp.
bool parse_weights(std::span<const std::byte> blob, Weights* weights, std::string* error);

}  // namespace sparsify
