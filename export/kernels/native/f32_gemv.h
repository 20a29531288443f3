// Sparse matrix times few vectors: batch-1 decoding, where nothing is packed.
//
// Layout: SELL-C-sigma of Kreutzer et al. (2014), C = the vector's width: rows sorted by their number of nonzeros and
// taken C at a time; nonzero i of all C rows lies side by side, short rows padded with zeros (column 0). Columns are
// cut so that an index fits 16 bits. Loop order: slices, tokens, nonzeros; a nonzero of C rows is one gather.
#pragma once

#include <cstdint>

namespace sparsify::f32 {

// C rows: `length` groups of C indices and values from `start` on (in groups), of columns from first_column on.
struct Slice {
  int64_t start;
  int32_t length;
  int32_t first_column;
};

struct Gemv {
  const uint16_t* index;
  const float* value;
};

template <class V>
void gemv_slice(const Gemv& gemv, const Slice& slice, const float* x, float* sums) {
  constexpr int W = V::width;
  const uint16_t* index = gemv.index + slice.start * W;
  const float* value = gemv.value + slice.start * W;
  x += slice.first_column;
  auto a = V::zero(), b = V::zero(), c = V::zero(), d = V::zero();
  int32_t i = 0;
  for (; i + 4 <= slice.length; i += 4, index += 4 * W, value += 4 * W) {
    __builtin_prefetch(value + 1024);
    __builtin_prefetch(value + 1024 + 16);
    __builtin_prefetch(value + 1024 + 32);
    __builtin_prefetch(value + 1024 + 48);
    __builtin_prefetch(index + 1024);
    __builtin_prefetch(index + 1024 + 32);
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
