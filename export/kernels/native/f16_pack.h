// Activations scaled, rounded to halves and packed as [column][vectors][WIDTH].
#pragma once

#include <cstdint>

#include "f16_vector_avx512.h"
#include "f32_pack.h"

namespace sparsify::f16 {

// The larger of `largest` and the magnitude of x, as bits, where x is finite.
[[gnu::always_inline]] inline __m512i larger_magnitude(__m512i largest, Floats::Register x) {
  const __m512i bits = _mm512_castps_si512(_mm512_abs_ps(x));
  const __mmask16 finite = _mm512_cmplt_epu32_mask(bits, _mm512_set1_epi32(0x7f800000));
  return _mm512_mask_max_epu32(largest, finite, largest, bits);
}

// The powers of two for sixteen magnitudes: scale * magnitude < 2^LARGEST_X, within a factor of two where the scale is
// not at its largest, 2^126, which makes every subnormal float a half exactly.
[[gnu::always_inline]] inline void store_scales(__m512i magnitude, float* scale, float* unscale) {
  const __m512i exponent = _mm512_srli_epi32(magnitude, 23);  // with fp32's bias of 127
  const __m512i up = _mm512_min_epi32(_mm512_sub_epi32(_mm512_set1_epi32(LARGEST_X - 1 + 2 * 127), exponent),
                                      _mm512_set1_epi32(126 + 127));
  const __m512i down = _mm512_sub_epi32(_mm512_set1_epi32(2 * 127), up);
  Floats::store(scale, _mm512_castsi512_ps(_mm512_slli_epi32(up, 23)));
  Floats::store(unscale, _mm512_castsi512_ps(_mm512_slli_epi32(down, 23)));
}

inline void scale_tokens(const float* x, int64_t stride, int64_t tokens, int32_t columns, int32_t vectors, float* scale,
                         float* unscale) {
  constexpr int W = Floats::width, FAR = 32 * W;
  for (int32_t first = 0; first < vectors * WIDTH; first += W) {
    alignas(64) uint32_t largest[W] = {};
    for (int i = 0; i < W && first + i < tokens; ++i) {
      const float* token = x + (first + i) * stride;
      __m512i a = _mm512_setzero_si512(), b = a;
      int32_t k = 0;
      for (; k + 2 * W <= columns; k += 2 * W) {
        __builtin_prefetch(token + k + FAR);
        __builtin_prefetch(token + k + FAR + W);
        a = larger_magnitude(a, Floats::load(token + k));
        b = larger_magnitude(b, Floats::load(token + k + W));
      }
      for (; k < columns; k += W) a = larger_magnitude(a, Floats::load(token + k, Floats::first(columns - k)));
      largest[i] = _mm512_reduce_max_epu32(_mm512_max_epu32(a, b));
    }
    store_scales(_mm512_load_si512(largest), scale + first, unscale + first);
  }
}

inline void scale_channels(const float* x, int64_t stride, int64_t positions, int32_t columns, int32_t vectors,
                           float* scale, float* unscale) {
  constexpr int W = Floats::width;
  __m512i largest[WIDER * MOST_VECTORS] = {};
  for (int32_t k = 0; k < columns; ++k, x += stride) {
    for (int32_t v = 0; v < WIDER * vectors; ++v) {
      largest[v] = larger_magnitude(largest[v], Floats::load(x + v * W, Floats::first(positions - v * W)));
    }
  }
  for (int32_t v = 0; v < WIDER * vectors; ++v) store_scales(largest[v], scale + v * W, unscale + v * W);
}

// A square of 16 tokens (`tokens` exist) and 16 columns (`columns` exist), turned.
[[gnu::always_inline]] inline void pack_square(const float* x, int64_t stride, int64_t tokens, int64_t columns,
                                               Floats::Register scale, Half* to, int64_t to_stride) {
  constexpr int W = Floats::width;
  Floats::Register square[W];
  if (tokens >= W && columns >= W) {
    for (int i = 0; i < W; ++i) square[i] = Floats::load(x + i * stride);
  } else {
    const auto mask = Floats::first(columns);
    for (int i = 0; i < W; ++i) square[i] = i < tokens ? Floats::load(x + i * stride, mask) : Floats::zero();
  }
  Floats::transpose(square);
  if (columns >= W) {
    for (int i = 0; i < W; ++i) Halves::narrow(to + i * to_stride, Floats::multiply(square[i], scale));
  } else {
    for (int i = 0; i < columns; ++i) Halves::narrow(to + i * to_stride, Floats::multiply(square[i], scale));
  }
}

inline void pack_tokens(const float* x, int64_t stride, int64_t tokens, int32_t columns, int32_t vectors,
                        const float* scale, Half* packed) {
  constexpr int W = Floats::width;
  const int64_t packed_stride = static_cast<int64_t>(vectors) * WIDTH;
  for (int32_t first = 0; first < vectors * WIDTH; first += W) {
    const auto scales = Floats::load(scale + first);
    for (int32_t k = 0; k < columns; k += W) {
      for (int i = 0; i < W; ++i) __builtin_prefetch(x + (first + i) * stride + k + f32::AHEAD);
      pack_square(x + first * stride + k, stride, tokens - first, columns - k, scales,
                  packed + k * packed_stride + first, packed_stride);
    }
  }
}

inline void pack_channels(const float* x, int64_t stride, int64_t positions, int32_t columns, int32_t vectors,
                          const float* scale, Half* packed) {
  constexpr int W = Floats::width;
  for (int32_t k = 0; k < columns; ++k, x += stride) {
    for (int32_t first = 0; first < vectors * WIDTH; first += W, packed += W) {
      __builtin_prefetch(x + first + vectors * WIDTH);  // the next tile's
      Halves::narrow(packed, Floats::multiply(Floats::load(x + first, Floats::first(positions - first)),
                                              Floats::load(scale + first)));
    }
  }
}

}  // namespace sparsify::f16
