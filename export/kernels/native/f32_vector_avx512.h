// Sixteen floats in a 512-bit register. Included by files compiled for AVX-512 only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "f32_stored.h"

namespace sparsify::avx512 {

// Half a register, as far as narrow planes need it: Zen 4 multiplies two in the time of a whole one.
struct HalfVector {
  static constexpr int width = 8, registers = 32;
  using Register = __m256;
  using Mask = __mmask8;

  static Mask first(int64_t count) { return static_cast<Mask>(count >= 8 ? 0xff : count <= 0 ? 0 : (1u << count) - 1); }
  static Mask between(int from, int to) { return static_cast<Mask>(first(to) & ~first(from)); }
  static Register set(float value) { return _mm256_set1_ps(value); }
  static Register broadcast(const float* p) { return set(*p); }
  static Register load(const float* p) { return _mm256_loadu_ps(p); }
  static Register load(const float* p, Mask mask) { return _mm256_maskz_loadu_ps(mask, p); }
  static void store(float* p, Register v) { _mm256_storeu_ps(p, v); }
  static void store(float* p, Mask mask, Register v) { _mm256_mask_storeu_ps(p, mask, v); }
  static Register even(Register a, Register b) {
    return _mm256_permutex2var_ps(a, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14), b);
  }
  static Register odd(Register a, Register b) {
    return _mm256_permutex2var_ps(a, _mm256_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15), b);
  }
  static Register add(Register a, Register b) { return _mm256_add_ps(a, b); }
  static Register fma(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
  static Register larger(Register a, Register b) { return _mm256_max_ps(a, b); }
  static Register smaller(Register a, Register b) { return _mm256_min_ps(a, b); }
};

struct Vector {
  static constexpr int width = 16, registers = 32;
  using Half = HalfVector;
  static constexpr int most_vectors = 8;  // accumulators of one row
  using Element = float;  // of memory
  using Register = __m512;
  using Mask = __mmask16;

  static Mask first(int64_t count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1; }

  static Register zero() { return _mm512_setzero_ps(); }
  static Register set(float value) { return _mm512_set1_ps(value); }
  // `set` of what lies in memory: as a dword, which Zen 4 broadcasts in 0.55 cycles and as a float in 1.03.
  static Register broadcast(const float* p) {
    int bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return _mm512_castsi512_ps(_mm512_set1_epi32(bits));
  }
  static Register load(const float* p) { return _mm512_loadu_ps(p); }
  static Register load(const float* p, Mask mask) { return _mm512_maskz_loadu_ps(mask, p); }
  static Register load(const f32::Half* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Register load(const f32::Bfloat16* p) {
    const __m256i narrow = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
  }
  static void store(float* p, Register v) { _mm512_storeu_ps(p, v); }
  static void store(float* p, Mask mask, Register v) { _mm512_mask_storeu_ps(p, mask, v); }
  static Mask between(int from, int to) { return static_cast<Mask>(first(to) & ~first(from)); }
  // Lanes [from, to) of p[0], p[1], ...; the others are zero and not read.
  static Register load_between(const float* p, int from, int to) {
    return _mm512_maskz_loadu_ps(between(from, to), p);
  }
  // The same of p[0], p[step], ...
  static Register load_steps(const float* p, int step, int from, int to) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const auto mask = static_cast<Mask>(first(to) & ~first(from));
    return _mm512_mask_i32gather_ps(zero(), mask, _mm512_mullo_epi32(lane, _mm512_set1_epi32(step)), p, 4);
  }
  // table[index[0]], table[index[1]], ...
  static Register gather(const float* table, const uint16_t* index) {
    const __m256i narrow = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index));
    return _mm512_i32gather_ps(_mm512_cvtepu16_epi32(narrow), table, 4);
  }

  // a[0], a[2], ... and then b[0], b[2], ...; the lanes between.
  static Register even(Register a, Register b) {
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b);
  }
  static Register odd(Register a, Register b) {
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), b);
  }

  static Register add(Register a, Register b) { return _mm512_add_ps(a, b); }
  static Register subtract(Register a, Register b) { return _mm512_sub_ps(a, b); }
  static Register multiply(Register a, Register b) { return _mm512_mul_ps(a, b); }
  static Register divide(Register a, Register b) { return _mm512_div_ps(a, b); }
  static Register fma(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
  static Register larger(Register a, Register b) { return _mm512_max_ps(a, b); }
  static Register smaller(Register a, Register b) { return _mm512_min_ps(a, b); }
  static Register nearest(Register a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // 2^n of a whole n in [-126, 127].
  static Register power_of_two(Register n) { return _mm512_scalef_ps(_mm512_set1_ps(1.0f), n); }
  static Register times_power_of_two(Register a, Register n) { return _mm512_scalef_ps(a, n); }
  static float sum(Register v) { return _mm512_reduce_add_ps(v); }
  static float most(Register v) { return _mm512_reduce_max_ps(v); }

  // v[i][j] becomes v[j][i].
  static void transpose(Register (&v)[16]) {
    Register t[16];
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
      t[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
    const auto low = [](Register a, Register b) {
      return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    };
    const auto high = [](Register a, Register b) {
      return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    };
    for (int i = 0; i < 16; i += 4) {
      v[i] = low(t[i], t[i + 2]);
      v[i + 1] = high(t[i], t[i + 2]);
      v[i + 2] = low(t[i + 1], t[i + 3]);
      v[i + 3] = high(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_shuffle_f32x4(v[i], v[i + 4], 0x88);
      t[i + 4] = _mm512_shuffle_f32x4(v[i], v[i + 4], 0xdd);
      t[i + 8] = _mm512_shuffle_f32x4(v[i + 8], v[i + 12], 0x88);
      t[i + 12] = _mm512_shuffle_f32x4(v[i + 8], v[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; ++i) {
      v[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
      v[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
  }
};

}  // namespace sparsify::avx512
