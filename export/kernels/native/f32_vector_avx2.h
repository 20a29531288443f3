// Eight floats in a 256-bit register. Included by files compiled for AVX2, FMA and F16C only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "f32_stored.h"

namespace sparsify::avx2 {

struct Vector {
  static constexpr int width = 8, registers = 16;
  static constexpr int most_vectors = 8;
  using Element = float;  // of memory
  using Register = __m256;
  using Mask = __m256i;  // all bits of the lanes that count

  static Mask first(int64_t count) {
    const int lanes = count >= 8 ? 8 : count <= 0 ? 0 : static_cast<int>(count);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  static Register zero() { return _mm256_setzero_ps(); }
  static Register set(float value) { return _mm256_set1_ps(value); }
  static Register broadcast(const float* p) { return set(*p); }
  static Register load(const float* p) { return _mm256_loadu_ps(p); }
  static Register load(const float* p, Mask mask) { return _mm256_maskload_ps(p, mask); }
  static Register load(const f32::Half* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Register load(const f32::Bfloat16* p) {
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
  }
  static void store(float* p, Register v) { _mm256_storeu_ps(p, v); }
  // A masked store is microcode on Zen 4, and few masks leave anything out: the branch takes ResNet-50's sparse layers
  // to 0.83 of the time there.
  static void store(float* p, Mask mask, Register v) {
    if (_mm256_movemask_ps(_mm256_castsi256_ps(mask)) == 0xff) return store(p, v);
    _mm256_maskstore_ps(p, mask, v);
  }
  static Mask between(int from, int to) { return _mm256_andnot_si256(first(from), first(to)); }
  // Lanes [from, to) of p[0], p[1], ...; the others are zero and not read.
  static Register load_between(const float* p, int from, int to) { return _mm256_maskload_ps(p, between(from, to)); }
  // The same of p[0], p[step], ...
  static Register load_steps(const float* p, int step, int from, int to) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i offset = _mm256_mullo_epi32(lane, _mm256_set1_epi32(step));
    return _mm256_mask_i32gather_ps(zero(), p, offset, _mm256_castsi256_ps(between(from, to)), 4);
  }
  // table[index[0]], table[index[1]], ...
  static Register gather(const float* table, const uint16_t* index) {
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(index));
    return _mm256_i32gather_ps(table, _mm256_cvtepu16_epi32(narrow), 4);
  }

  // a[0], a[2], ... and then b[0], b[2], ...; the lanes between.
  static Register even(Register a, Register b) { return in_order(_mm256_shuffle_ps(a, b, 0x88)); }
  static Register odd(Register a, Register b) { return in_order(_mm256_shuffle_ps(a, b, 0xdd)); }
  static Register in_order(Register halves) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(halves), 0xd8));
  }

  static Register add(Register a, Register b) { return _mm256_add_ps(a, b); }
  static Register subtract(Register a, Register b) { return _mm256_sub_ps(a, b); }
  static Register multiply(Register a, Register b) { return _mm256_mul_ps(a, b); }
  static Register divide(Register a, Register b) { return _mm256_div_ps(a, b); }
  static Register fma(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
  static Register larger(Register a, Register b) { return _mm256_max_ps(a, b); }
  static Register smaller(Register a, Register b) { return _mm256_min_ps(a, b); }
  static Register nearest(Register a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // 2^n of a whole n in [-126, 127].
  static Register power_of_two(Register n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  static Register times_power_of_two(Register a, Register n) { return multiply(a, power_of_two(n)); }
  static float most(Register v) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
  static float sum(Register v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }

  // v[i][j] becomes v[j][i].
  static void transpose(Register (&v)[8]) {
    Register t[8];
    for (int i = 0; i < 4; ++i) {
      t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
      t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      v[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      v[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      v[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      v[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x20);
      t[i + 4] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x31);
    }
    for (int i = 0; i < 8; ++i) v[i] = t[i];
  }
};

}  // namespace sparsify::avx2
