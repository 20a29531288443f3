// A row's results of a tile, from registers. Included by files compiled for AVX-512 only.
#pragma once

#include <bit>
#include <type_traits>

#include "f32_vector_avx512.h"
#include "i8_quads.h"

namespace sparsify {
namespace {

// sum: of as many positions in order. Results lie side by side in y, so lanes that are none are squeezed out first.
template <int vectors>
[[gnu::always_inline]] inline void write_row(const __m512i (&sum)[vectors], const Results& to, int64_t row) {
  using V = avx512::Vector;
  const auto scale = V::set(to.scales[row]), bias = V::set(to.bias == nullptr ? 0.0f : to.bias[row]);
  const __m512i offset = _mm512_set1_epi32(to.offsets[row]);
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const __m512 whole = _mm512_cvtepi32_ps(_mm512_add_epi32(sum[v], offset));
    __m512 y = V::fma(whole, V::multiply(scale, V::load(to.steps + 16 * v)), bias);
    const int64_t output = row * to.n + to.outputs[v];
    __mmask16 lanes = to.lanes[v];
    if (lanes != 0xffff) {
      y = _mm512_maskz_compress_ps(lanes, y);
      lanes = V::first(std::popcount(to.lanes[v]));
    }
    if (to.residual != nullptr) y = V::add(y, V::load(to.residual + output, lanes));
    if (to.activation != Activation::none) y = V::larger(V::zero(), y);
    if (to.activation == Activation::relu6) y = V::smaller(V::set(6.0f), y);
    V::store(to.y + output, lanes, y);
  }
}

// Fetches the residual of a row that comes soon: rows come in no order that the processor could foresee. `order` is
// theirs from the present one on, `left` how many they are.
[[gnu::always_inline]] inline void foresee(const Results& to, const int32_t* order, int64_t left, int vectors) {
  constexpr int64_t AHEAD = 4;
  if (to.residual == nullptr || left <= AHEAD) return;
  const float* const row = to.residual + order[AHEAD] * to.n + to.outputs[0];
  for (int v = 0; v < vectors; ++v) __builtin_prefetch(row + 16 * v);
}

// Calls f with as many vectors, at compile time, as have positions of a tile.
template <class F>
void with_vectors(int64_t sixteens, F&& f) {
  if (sixteens == 1) return f(std::integral_constant<int, 1>());
  if (sixteens == 2) return f(std::integral_constant<int, 2>());
  if (sixteens == 3) return f(std::integral_constant<int, 3>());
  f(std::integral_constant<int, 4>());
}

}  // namespace
}  // namespace sparsify
