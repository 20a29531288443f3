// Sparse matrix times a dense tile, written once over a vector type and compiled for each instruction set.
//
// Layout: the activations of one block of columns are packed as [column][vectors][width], small enough for the first
// cache; where a 1x1 convolution uses few of them more than once, they are read as the image has them. Loop order:
// blocks of columns, rows, nonzeros, vectors. A row's sums stay in registers through a block; each nonzero is one
// broadcast and one load with a multiply-add a vector, so that the load ports are what bounds it.
// After Elsen et al., Fast Sparse ConvNets (2019), with columns blocked and rows sorted.
#pragma once

#include <cstdint>
#include <cstring>

#include "f32_loops.h"

namespace sparsify::f32 {

template <class V, int vectors>
[[gnu::always_inline]] inline void accumulate(const char* packed, int64_t stride, const uint16_t* index,
                                              const float* value, int count, typename V::Register (&sum)[vectors]) {
  const auto add = [&](uint16_t column, const float* weight) __attribute__((always_inline)) {
    const auto* x = reinterpret_cast<const typename V::Element*>(packed + column * stride);
    __asm__("" : "+r"(x));  // one address for all vectors: an indexed one costs each of them a micro-operation more
    const auto w = V::broadcast(weight);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sum[v] = V::fma(w, V::load(x + v * V::width), sum[v]);
  };
  int i = 0;
  for (; i + 4 <= count; i += 4) {  // four indices in one load
    uint64_t four;
    std::memcpy(&four, index + i, sizeof four);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j, four >>= 16) add(static_cast<uint16_t>(four), value + i + j);
  }
  for (; i < count; ++i) add(index[i], value + i);
}

// Residual and activation of a row that is still in registers, then the store.
template <class V, int vectors>
[[gnu::always_inline]] inline void finish_row(const Tile& tile, const typename V::Mask (&mask)[vectors], int32_t row,
                                              typename V::Register (&sum)[vectors]) {
  float* y = tile.y + row * tile.row_stride;
  if (tile.residual != nullptr) {
    const float* residual = tile.residual + row * tile.row_stride;
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[v] = V::add(sum[v], V::load(residual + v * tile.vector_stride, mask[v]));
  }
  if (tile.activation == Activation::relu || tile.activation == Activation::relu6) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[v] = V::larger(V::zero(), sum[v]);
  }
  if (tile.activation == Activation::relu6) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[v] = V::smaller(V::set(6.0f), sum[v]);
  }
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) V::store(y + v * tile.vector_stride, mask[v], sum[v]);
}

// What a row a little later in the block will touch. The rows come in no order that the processor could foresee, and
// each lies on pages of its own.
template <class V, int vectors, bool first, bool last>
[[gnu::always_inline]] inline void foresee(const Tile& tile, int32_t row, const float* value, const uint16_t* index) {
  constexpr int step = V::width < 16 ? 16 / V::width : 1;  // vectors in a line of the cache
  __builtin_prefetch(value);
  __builtin_prefetch(index);
  if constexpr (last) {
    float* y = tile.y + row * tile.row_stride;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v += step) __builtin_prefetch(y + v * tile.vector_stride, 1);
    if (tile.residual != nullptr) {
      const float* residual = tile.residual + row * tile.row_stride;
#pragma GCC unroll 8
      for (int v = 0; v < vectors; v += step) __builtin_prefetch(residual + v * tile.vector_stride);
    }
  }
  if constexpr (!(first && last)) {
    const float* sums = tile.sums + static_cast<int64_t>(row) * (vectors * V::width);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v += step) __builtin_prefetch(sums + v * V::width, 1);
  }
}

template <class V, int vectors, bool first, bool last>
void multiply(const Block& block, const float* packed, int64_t stride, const Tile& tile) {
  constexpr int W = V::width;
  const auto* base = reinterpret_cast<const char*>(packed);
  const int64_t bytes = stride * static_cast<int64_t>(sizeof(float));
  const int32_t* row = block.row;
  const uint16_t* index = block.index;
  const float* value = block.value;
  typename V::Mask mask[vectors];
  for (int v = 0; v < vectors; ++v) mask[v] = V::first(tile.lanes[v]);
  for (int32_t r = 0; r < block.run_count; ++r) {
    const int32_t count = block.runs[r].count;
    for (const int32_t* end = row + block.runs[r].rows; row != end; ++row, index += count, value += count) {
      float* sums = tile.sums + static_cast<int64_t>(*row) * (vectors * W);
      typename V::Register sum[vectors];
      foresee<V, vectors, first, last>(tile, row[ROWS_AHEAD], value + 256, index + 512);
      const auto start = first ? V::set(tile.bias != nullptr ? tile.bias[*row] : 0.0f) : V::zero();
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[v] = first ? start : V::load(sums + v * W);
      accumulate<V, vectors>(base, bytes, index, value, count, sum);
      if constexpr (last) {
        finish_row<V, vectors>(tile, mask, *row, sum);
      } else {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) V::store(sums + v * W, sum[v]);
      }
    }
  }
}

template <class V, int vectors = V::most_vectors>
void multiply_any(const Block& block, const float* packed, int64_t stride, const Tile& tile, bool first, bool last) {
  if (tile.vectors < vectors) {
    if constexpr (vectors > 1) multiply_any<V, vectors - 1>(block, packed, stride, tile, first, last);
    return;
  }
  if (first && last) return multiply<V, vectors, true, true>(block, packed, stride, tile);
  if (first) return multiply<V, vectors, true, false>(block, packed, stride, tile);
  if (last) return multiply<V, vectors, false, true>(block, packed, stride, tile);
  return multiply<V, vectors, false, false>(block, packed, stride, tile);
}

// `steps` times CHAINS multiply-adds, each of which waits for the last of its chain alone: with ten the multiplier's
// peak, with one its latency.
template <class V, int CHAINS>
float peak(int64_t steps) {
  typename V::Register sum[CHAINS];
  for (int i = 0; i < CHAINS; ++i) sum[i] = V::set(static_cast<float>(i));
  const auto half = V::set(0.5f);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 10
    for (int i = 0; i < CHAINS; ++i) sum[i] = V::fma(sum[i], half, half);
  }
  float total = 0;
  for (int i = 0; i < CHAINS; ++i) total += V::sum(sum[i]);
  return total;
}

// Every vector of x, `times` over, in sums that wait for nothing but the cache.
template <class V>
float read(const float* x, int64_t count, int64_t times) {
  constexpr int CHAINS = 8;
  typename V::Register sum[CHAINS];
  for (int i = 0; i < CHAINS; ++i) sum[i] = V::zero();
  for (; times > 0; --times) {
    for (int64_t at = 0; at < count; at += CHAINS * V::width) {
#pragma GCC unroll 8
      for (int i = 0; i < CHAINS; ++i) sum[i] = V::add(sum[i], V::load(x + at + i * V::width));
    }
  }
  float total = 0;
  for (int i = 0; i < CHAINS; ++i) total += V::sum(sum[i]);
  return total;
}

}  // namespace sparsify::f32
