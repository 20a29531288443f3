// The loops over kept quads, written once over an instruction set's dot product.
//
// Loop order: row, kept quad, vector of the tile. A row's sums of 64 positions stay in registers; a quad costs one
// broadcast of its four weights and one load and one dot product a vector. Source: "1x4" of the sparse-cpu spike.
//
// `I` has Register (of I::width 32-bit integers), zero, load, store, and
//   Weights weights(uint32_t quad);  Register dot(Register sum, Bytes x, Weights w);  Bytes bytes(const uint8_t*).
#pragma once

#include <bit>
#include <cstring>

#include "i8_quads.h"

namespace sparsify::quad_loops {

// Calls keep(row, pass, sum) with the sums in registers, of `vectors` vectors in each of as many passes as are given,
// and soon(order, left) before each row: the order from there on, and how many rows are left of it.
template <class I, int vectors, int passes, class Soon, class Keep>
[[gnu::always_inline]] inline void multiply_rows(const QuadView& weights, int64_t block, int64_t first, int64_t count,
                                                 const int32_t* added, const uint8_t* planes, const int64_t* offsets,
                                                 Soon&& soon, Keep&& keep) {
  const int64_t* starts = weights.starts + block * (weights.rows + 1);
  const int32_t* order = weights.order + block * weights.rows;
  for (int64_t at = first; at < first + count; ++at) {
    const int64_t row = order[at];
    soon(order + at, first + count - at);
    for (int pass = 0; pass < passes; ++pass) {
      const int64_t at_sums = (row - first) * tile_positions + pass * I::width * vectors;
      const uint8_t* const x = planes + pass * I::width * vectors * 4;
      typename I::Register sum[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        sum[v] = added != nullptr ? I::load(added + at_sums + v * I::width) : I::zero();
      }
      for (int64_t i = starts[at]; i < starts[at + 1]; ++i) {
        const uint8_t* const line = x + offsets[weights.quads[i]];
        const auto w = I::weights(weights.values[i]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[v] = I::dot(sum[v], I::bytes(line + v * I::width * 4), w);
      }
      keep(row, pass, sum);
    }
  }
}

inline void nothing(const int32_t*, int64_t) {}

template <class I, int vectors>
[[gnu::always_inline]] inline void store(const typename I::Register (&sum)[vectors], int32_t* to) {
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) I::store(to + v * I::width, sum[v]);
}

template <class I>
constexpr int passes_of = static_cast<int>(tile_positions) / (I::width * I::vectors);

template <class I>
void multiply(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t, bool add,
              const uint8_t* planes, const int64_t* offsets, int32_t* sums) {
  const auto keep = [&](int64_t row, int pass, const auto& sum) __attribute__((always_inline)) {
    store<I>(sum, sums + (row - first) * tile_positions + pass * I::width * I::vectors);
  };
  multiply_rows<I, I::vectors, passes_of<I>>(weights, block, first, count, add ? sums : nullptr, planes, offsets,
                                             nothing, keep);
}

template <class I, auto write>
void multiply_to(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t, bool add,
                 const uint8_t* planes, const int64_t* offsets, const int32_t* sums, const Results& to) {
  alignas(64) int32_t all[tile_positions];
  const auto keep = [&](int64_t row, int pass, const auto& sum) __attribute__((always_inline)) {
    store<I>(sum, all + pass * I::width * I::vectors);
    if (pass + 1 == passes_of<I>) write(all, to, row);
  };
  multiply_rows<I, I::vectors, passes_of<I>>(weights, block, first, count, add ? sums : nullptr, planes, offsets,
                                             nothing, keep);
}

inline void copy(const uint8_t* planes, const int64_t* offsets, int64_t count, uint8_t* lines) {
  constexpr int64_t bytes = 4 * tile_positions;
  for (int64_t i = 0; i < count; ++i) std::memcpy(lines + i * bytes, planes + offsets[i], bytes);
}

// `V` is the float vector of the same width (f32_vector_*.h).
template <class I, class V>
void scale(const int32_t* sums, int32_t offset, float scale, const float* steps, float bias, float* out) {
  for (int64_t j = 0; j < tile_positions; j += V::width) {
    const auto factor = V::multiply(V::set(scale), V::load(steps + j));
    V::store(out + j, V::fma(I::floats(sums + j, offset), factor, V::set(bias)));
  }
}

// In plain loops over runs of results, which a compiler makes into vectors of what the file is compiled for.
template <auto scale>
void write(const int32_t* sums, const Results& to, int64_t row) {
  alignas(64) float scaled[tile_positions];
  scale(sums, to.offsets[row], to.scales[row], to.steps, to.bias == nullptr ? 0.0f : to.bias[row], scaled);
  for (int64_t v = 0; v < tile_positions / 16; ++v) {
    const int64_t output = row * to.n + to.outputs[v];
    float* y = to.y + output;
    const float* residual = to.residual == nullptr ? nullptr : to.residual + output;
    for (uint32_t left = to.lanes[v]; left != 0;) {
      const int begin = std::countr_zero(left), length = std::countr_one(left >> begin);
      float* const from = scaled + 16 * v + begin;
      for (int i = 0; residual != nullptr && i < length; ++i) from[i] += residual[i];
      for (int i = 0; to.activation != Activation::none && i < length; ++i) from[i] = from[i] < 0 ? 0 : from[i];
      for (int i = 0; to.activation == Activation::relu6 && i < length; ++i) from[i] = from[i] > 6 ? 6 : from[i];
      for (int i = 0; i < length; ++i) y[i] = from[i];
      y += length;
      residual = residual == nullptr ? nullptr : residual + length;
      left &= ~0u << begin << length;
    }
  }
}

}  // namespace sparsify::quad_loops
