// Sparse matrix times few vectors: batch-1 decoding, where nothing is packed.
//
// Layout: SELL-C-sigma of Kreutzer et al. (2014), C = the vector's width: rows sorted by their number of nonzeros and
// taken C at a time; nonzero i of all C rows lies side by side, short rows padded with zeros (column 0). Columns are
// cut so that an index fits 16 bits. Loop order: slices, tokens, nonzeros; a nonzero of C rows is one gather. Values
// are read once, so they stay in 16 bits where the file has them so, and are widened in registers.
#pragma once

#include <cstdint>

#include "f32_stored.h"

namespace sparsify::f32 {

// C rows: `length` groups of C indices and values from `start` on (in groups), of columns from first_column on.
struct Slice {
  int64_t start;
  int32_t length;
  int32_t first_column;
};

template <class Value>  // float, Half or Bfloat16
struct Gemv {
  const uint16_t* index;
  const Value* value;
};

// Four groups of what lies this many elements further.
template <int width, class Element>
[[gnu::always_inline]] inline void foresee_groups(const Element* from) {
  constexpr int AHEAD = 1024, LINE = 64, BYTES = 4 * width * static_cast<int>(sizeof(Element));
  const auto* at = reinterpret_cast<const char*>(from + AHEAD);
#pragma GCC unroll 4
  for (int i = 0; i < BYTES; i += LINE) __builtin_prefetch(at + i);
}

template <class V, class Value>
void gemv_slice(const Gemv<Value>& gemv, const Slice& slice, const float* x, float* sums) {
  constexpr int W = V::width;
  const uint16_t* index = gemv.index + slice.start * W;
  const Value* value = gemv.value + slice.start * W;
  x += slice.first_column;
  auto a = V::zero(), b = V::zero(), c = V::zero(), d = V::zero();
  int32_t i = 0;
  for (; i + 4 <= slice.length; i += 4, index += 4 * W, value += 4 * W) {
    foresee_groups<W>(value);
    foresee_groups<W>(index);
    a = V::fma(V::load(value), V::gather(x, index), a);
    b = V::fma(V::load(value + W), V::gather(x, index + W), b);
    c = V::fma(V::load(value + 2 * W), V::gather(x, index + 2 * W), c);
    d = V::fma(V::load(value + 3 * W), V::gather(x, index + 3 * W), d);
  }
  for (; i < slice.length; ++i, index += W, value += W) a = V::fma(V::load(value), V::gather(x, index), a);
  const auto sum = V::add(V::add(a, b), V::add(c, d));
  V::store(sums, V::add(V::load(sums), sum));
}

}  // namespace sparsify::f32
