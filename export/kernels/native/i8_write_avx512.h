// A row's results of a tile, from registers. Included by files compiled for AVX-512 only.
#pragma once

#include <bit>

#include "f32_vector_avx512.h"
#include "i8_quads.h"

namespace sparsify {
namespace {

// sum: of 64 positions in order. Results lie side by side in y, so lanes that are none are squeezed out first.
[[gnu::always_inline]] inline void write_row(const __m512i (&sum)[4], const Results& to, int64_t row) {
  using V = avx512::Vector;
  const auto scale = V::set(to.scales[row]), bias = V::set(to.bias == nullptr ? 0.0f : to.bias[row]);
  const __m512i offset = _mm512_set1_epi32(to.offsets[row]);
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
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

}  // namespace
}  // namespace sparsify
