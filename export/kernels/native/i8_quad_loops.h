// The loops over kept quads, written once over an instruction set's dot product.
//
// Loop order: two rows, kept quad of each, vector of the tile. Rows' sums of 64 positions stay in registers; a quad costs
// one broadcast of its four weights and one load and one dot product a vector. Of one row alone each vector's products
// would wait for one another. Source: "1x4" of the sparse-cpu spike.
//
// `I` has Register (of I::width 32-bit integers), zero, load, store, and
//   Weights weights(uint32_t quad);  Register dot(Register sum, Bytes x, Weights w);  Bytes bytes(const uint8_t*).
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>

#include "i8_quads.h"

namespace sparsify::quad_loops {

// Where rows [at, at + 2) of a block's order have their groups; the second may be past the range, and has none.
struct TwoRows {
  int64_t row[2], begin[2], count[2];
  bool both;

  TwoRows(const QuadView& weights, int64_t block, int64_t at, int64_t past) : both(at + 1 < past) {
    const int64_t* const starts = weights.starts + block * (weights.rows + 1) + at;
    const int32_t* const order = weights.order + block * weights.rows + at;
    row[0] = order[0];
    row[1] = both ? order[1] : order[0];
    begin[0] = starts[0];
    begin[1] = starts[1];
    count[0] = starts[1] - starts[0];
    count[1] = both ? starts[2] - starts[1] : 0;
  }

  // Calls group(which, i) with every group of both, in turn while both have some.
  template <class Group>
  [[gnu::always_inline]] void for_each(Group&& group) const {
    const int64_t common = std::min(count[0], count[1]);
    for (int64_t i = 0; i < common; ++i) {
      group(std::integral_constant<int, 0>(), begin[0] + i);
      group(std::integral_constant<int, 1>(), begin[1] + i);
    }
    for (int64_t i = common; i < count[0]; ++i) group(std::integral_constant<int, 0>(), begin[0] + i);
    for (int64_t i = common; i < count[1]; ++i) group(std::integral_constant<int, 1>(), begin[1] + i);
  }
};

// Calls keep(row, which, pass, sum) with the sums in registers, of `vectors` vectors in each of as many passes as are
// given, `which` of the two rows it is, and soon(order, left) before each row: the order from there on, and how many rows
// are left of it.
template <class I, int vectors, int passes, class Soon, class Keep>
[[gnu::always_inline]] inline void multiply_rows(const QuadView& weights, int64_t block, int64_t first, int64_t count,
                                                 const int32_t* added, const uint8_t* lines, int64_t line, Soon&& soon,
                                                 Keep&& keep) {
  const int32_t* const order = weights.order + block * weights.rows;
  for (int64_t at = first; at < first + count; at += 2) {
    const TwoRows rows(weights, block, at, first + count);
    soon(order + at, first + count - at);
    if (rows.both) soon(order + at + 1, first + count - at - 1);
    for (int pass = 0; pass < passes; ++pass) {
      const int64_t in_tile = pass * I::width * vectors;
      const uint8_t* const x = lines + in_tile * 4;
      typename I::Register sum[2][vectors];
#pragma GCC unroll 2
      for (int r = 0; r < 2; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          const int64_t from = (rows.row[r] - first) * tile_positions + in_tile + v * I::width;
          sum[r][v] = added != nullptr ? I::load(added + from) : I::zero();
        }
      }
      rows.for_each([&](auto r, int64_t i) __attribute__((always_inline)) {
        const uint8_t* const of = x + weights.quads[i] * line;
        const auto w = I::weights(weights.values[i]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[r][v] = I::dot(sum[r][v], I::bytes(of + v * I::width * 4), w);
      });
      keep(rows.row[0], 0, pass, sum[0]);
      if (rows.both) keep(rows.row[1], 1, pass, sum[1]);
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
              const uint8_t* lines, int64_t line, int32_t* sums) {
  const auto keep = [&](int64_t row, int, int pass, const auto& sum) __attribute__((always_inline)) {
    store<I>(sum, sums + (row - first) * tile_positions + pass * I::width * I::vectors);
  };
  multiply_rows<I, I::vectors, passes_of<I>>(weights, block, first, count, add ? sums : nullptr, lines, line, nothing,
                                             keep);
}

template <class I, auto write>
void multiply_to(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t, bool add,
                 const uint8_t* lines, int64_t line, const int32_t* sums, const Results& to) {
  alignas(64) int32_t all[2][tile_positions];
  const auto keep = [&](int64_t row, int which, int pass, const auto& sum) __attribute__((always_inline)) {
    store<I>(sum, all[which] + pass * I::width * I::vectors);
    if (pass + 1 == passes_of<I>) write(all[which], to, row);
  };
  multiply_rows<I, I::vectors, passes_of<I>>(weights, block, first, count, add ? sums : nullptr, lines, line, nothing,
                                             keep);
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
