// The loops over kept quads, written once over an instruction set's dot product.
//
// Loop order: row, kept quad, vector of the tile. A row's sums of 64 positions stay in registers; a quad costs one
// broadcast of its four weights and one load and one dot product a vector. Source: "1x4" of the sparse-cpu spike.
//
// `I` has Register (of I::width 32-bit integers), zero, load, store, and
//   Weights weights(uint32_t quad);  Register dot(Register sum, Bytes x, Weights w);  Bytes bytes(const uint8_t*).
#pragma once

#include "i8_quads.h"

namespace sparsify::quad_loops {

template <class I>
void multiply(const QuadView& weights, int64_t block, int64_t first, int64_t count, bool add, const uint8_t* planes,
              const int64_t* offsets, int32_t* sums) {
  constexpr int vectors = I::vectors, passes = static_cast<int>(tile_positions) / (I::width * vectors);
  const int64_t* starts = weights.starts + block * (weights.rows + 1);
  for (int64_t row = first; row < first + count; ++row, sums += tile_positions) {
    for (int pass = 0; pass < passes; ++pass) {
      int32_t* const out = sums + pass * I::width * vectors;
      const uint8_t* const x = planes + pass * I::width * vectors * 4;
      typename I::Register sum[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[v] = add ? I::load(out + v * I::width) : I::zero();
      for (int64_t i = starts[row]; i < starts[row + 1]; ++i) {
        const uint8_t* const line = x + offsets[weights.quads[i]];
        const auto w = I::weights(weights.values[i]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[v] = I::dot(sum[v], I::bytes(line + v * I::width * 4), w);
      }
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) I::store(out + v * I::width, sum[v]);
    }
  }
}

// `V` is the float vector of the same width (f32_vector_*.h).
template <class I, class V>
void scale(const int32_t* sums, int32_t offset, float scale, const float* steps, float bias, float* out) {
  for (int64_t j = 0; j < tile_positions; j += V::width) {
    const auto factor = V::multiply(V::set(scale), V::load(steps + j));
    V::store(out + j, V::fma(I::floats(sums + j, offset), factor, V::set(bias)));
  }
}

}  // namespace sparsify::quad_loops
