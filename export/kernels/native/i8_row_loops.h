// Products of four rows that keep the same quads, for any instruction set, by register blocks: the sums of four rows
// and I::strip_vectors vectors of positions stay in registers through all quads of a block, and a quad costs four
// broadcasts of weights and as many loads of activations as there are vectors, for four dot products of each.
// Layouts: weights [quad][4 rows] (i8_row_panels.h), activations [quad][64 positions], sums [4 rows][64 positions].
//
// `I` is as in i8_quad_loops.h, with strip_vectors: 4 of 16 positions or 2 of 8.
#pragma once

#include "i8_row_panels.h"

namespace sparsify::row_loops {

template <class I, int vectors>
[[gnu::always_inline]] inline void multiply_block(const uint32_t* weights, int64_t quads, const uint8_t* lines,
                                                  bool add, int32_t* sums) {
  typename I::Register sum[strip_rows][vectors];
#pragma GCC unroll 4
  for (int r = 0; r < strip_rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[r][v] = add ? I::load(sums + r * tile_positions + v * I::width) : I::zero();
  }
  for (int64_t q = 0; q < quads; ++q, weights += strip_rows, lines += line_bytes) {
    decltype(I::bytes(lines)) x[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) x[v] = I::bytes(lines + v * I::width * 4);
#pragma GCC unroll 4
    for (int r = 0; r < strip_rows; ++r) {
      const auto w = I::weights(weights[r]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[r][v] = I::dot(sum[r][v], x[v], w);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < strip_rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) I::store(sums + r * tile_positions + v * I::width, sum[r][v]);
  }
}

template <class I>
void multiply(const uint32_t* weights, int64_t quads, const uint8_t* lines, int64_t sixteens, bool add,
              int32_t* sums) {
  constexpr int most = I::strip_vectors;
  int64_t left = sixteens * 16 / I::width;
  for (; left >= most; left -= most, lines += most * I::width * 4, sums += most * I::width) {
    multiply_block<I, most>(weights, quads, lines, add, sums);
  }
  if constexpr (most == 4) {
    if (left == 3) multiply_block<I, 3>(weights, quads, lines, add, sums);
    if (left == 2) multiply_block<I, 2>(weights, quads, lines, add, sums);
    if (left == 1) multiply_block<I, 1>(weights, quads, lines, add, sums);
  } else {
    static_assert(16 % (most * I::width) == 0);
  }
}

// In plain loops, which a compiler makes into vectors of what the file is compiled for.
template <class I>
void gather(const uint8_t* planes, const int64_t* offsets, const int32_t* columns, int64_t quads, uint8_t* lines) {
  for (int64_t q = 0; q < quads; ++q, columns += 4, lines += line_bytes) {
    const uint8_t* const a = planes + offsets[columns[0]];
    const uint8_t* const b = planes + offsets[columns[1]];
    const uint8_t* const c = planes + offsets[columns[2]];
    const uint8_t* const d = planes + offsets[columns[3]];
    uint8_t* __restrict const to = lines;
    for (int64_t j = 0; j < tile_positions; ++j) {
      to[4 * j] = a[j];
      to[4 * j + 1] = b[j];
      to[4 * j + 2] = c[j];
      to[4 * j + 3] = d[j];
    }
  }
}

template <class I>
void spread(const uint8_t* quads, int64_t count, uint8_t* bytes, int64_t stride) {
  for (int64_t i = 0; i < 4; ++i) {
    uint8_t* __restrict const to = bytes + i * stride;
    for (int64_t j = 0; j < count; ++j) to[j] = quads[4 * j + i];
  }
}

}  // namespace sparsify::row_loops
