// Sparse matrix times a dense tile in half precision: the loops of f32_spmm.h with 32 lanes a register, so half the
// loads and multiply-adds.
//
// Scales: a position's activations and a row's weights are multiplied by powers of two (f16_loops.h), so that no sum of
// any input overflows; the factors that undo them are applied in fp32, exactly. What is not finite has no say in the
// scale and stays what it is.
// Sums: products of a chunk of columns (f16_prepared.cpp) are added up in halves, one fused rounding each, and then
// added to sums in fp32. With u = 2^-11, m nonzeros of a row in a chunk at most and gamma = (m + 2) u / (1 - (m + 2) u)
// (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1; one more for the rounding of x), the error is
// at most gamma sum |w| |x|, what fp32 sums err by, and what becomes subnormal: each scaled w, x and sum may be off by
// 2^-25, so (2^-28 + 2^-34 nonzeros of the row) of its sum |w| times the position's largest |x|.
#pragma once

#include <cstdint>

#include "f16_vector_avx512.h"
#include "f32_spmm.h"

namespace sparsify::f16 {

// What a row a little later in the block will touch.
template <int vectors, bool opens, bool closes>
[[gnu::always_inline]] inline void foresee(const Tile& tile, int32_t row, const Place& place) {
  const int64_t at = static_cast<int64_t>(row) * (vectors * WIDTH);
  if constexpr (!(opens && closes)) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) __builtin_prefetch(tile.carried + at + v * WIDTH, 1);
  }
  if constexpr (closes) {
    const float* sums = tile.wide.sums + at;
#pragma GCC unroll 16
    for (int v = 0; v < WIDER * vectors; ++v) __builtin_prefetch(sums + v * Floats::width, 1);
    if (!place.last) return;
    const float* y = tile.wide.y + row * tile.wide.row_stride;
#pragma GCC unroll 16
    for (int v = 0; v < WIDER * vectors; ++v) __builtin_prefetch(y + v * tile.wide.vector_stride, 1);
  }
}

// Adds a chunk's sums of a row, no longer scaled, to those in fp32.
template <int vectors>
[[gnu::always_inline]] inline void widen(const Tile& tile, int32_t row, const Place& place,
                                         const Halves::Register (&sum)[vectors]) {
  float* sums = tile.wide.sums + static_cast<int64_t>(row) * (vectors * WIDTH);
  const auto scale = Floats::set(tile.row_scale[row]);
  const auto bias = Floats::set(tile.wide.bias != nullptr ? tile.wide.bias[row] : 0.0f);
  Floats::Register wide[WIDER * vectors];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) {
    wide[2 * v] = Halves::low(sum[v]);
    wide[2 * v + 1] = Halves::high(sum[v]);
  }
#pragma GCC unroll 16
  for (int v = 0; v < WIDER * vectors; ++v) {
    const auto before = place.first ? bias : Floats::load(sums + v * Floats::width);
    wide[v] = Floats::fma(Floats::multiply(wide[v], scale),
                          Floats::load(tile.position_scale + v * Floats::width), before);
  }
  if (place.last) {
    Floats::Mask mask[WIDER * vectors];
#pragma GCC unroll 16
    for (int v = 0; v < WIDER * vectors; ++v) mask[v] = Floats::first(tile.wide.lanes[v]);
    return f32::finish_row<Floats, WIDER * vectors>(tile.wide, mask, row, wide);
  }
#pragma GCC unroll 16
  for (int v = 0; v < WIDER * vectors; ++v) Floats::store(sums + v * Floats::width, wide[v]);
}

template <int vectors, bool opens, bool closes>
void multiply(const f32::Block& block, const Half* packed, const Tile& tile, const Place& place) {
  constexpr int64_t BYTES = vectors * WIDTH * sizeof(Half);
  const auto* base = reinterpret_cast<const char*>(packed);
  const int32_t* row = block.row;
  const uint16_t* index = block.index;
  const float* value = block.value;
  for (int32_t r = 0; r < block.run_count; ++r) {
    const int32_t count = block.runs[r].count;
    for (const int32_t* end = row + block.runs[r].rows; row != end; ++row, index += count, value += count) {
      Half* carried = tile.carried + static_cast<int64_t>(*row) * (vectors * WIDTH);
      Halves::Register sum[vectors];
      __builtin_prefetch(value + 256);
      __builtin_prefetch(index + 512);
      foresee<vectors, opens, closes>(tile, row[f32::ROWS_AHEAD], place);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[v] = opens ? Halves::zero() : Halves::load(carried + v * WIDTH);
      f32::accumulate<Halves, vectors>(base, BYTES, index, value, count, sum);
      if constexpr (closes) {
        widen<vectors>(tile, *row, place, sum);
      } else {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) Halves::store(carried + v * WIDTH, sum[v]);
      }
    }
  }
}

template <int vectors = MOST_VECTORS>
void multiply_any(const f32::Block& block, const Half* packed, const Tile& tile, const Place& place) {
  if constexpr (vectors > 1) {
    if (tile.wide.vectors < WIDER * vectors) return multiply_any<vectors - 1>(block, packed, tile, place);
  }
  if (place.opens && place.closes) return multiply<vectors, true, true>(block, packed, tile, place);
  if (place.opens) return multiply<vectors, true, false>(block, packed, tile, place);
  if (place.closes) return multiply<vectors, false, true>(block, packed, tile, place);
  return multiply<vectors, false, false>(block, packed, tile, place);
}

}  // namespace sparsify::f16
