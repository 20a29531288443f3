// Thirty-two halves in a 512-bit register. Included by files compiled for AVX512-FP16 only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "f16_loops.h"
#include "f32_vector_avx512.h"

namespace sparsify::f16 {

using Floats = avx512::Vector;

struct Halves {
  static constexpr int width = WIDTH;
  using Element = Half;
  using Register = __m512h;

  static Register zero() { return _mm512_setzero_ph(); }
  // A half that lies twice in the bits of a float: 32 bits are broadcast by a load port alone, 16 are not.
  static Register set(float pair) { return _mm512_castps_ph(_mm512_set1_ps(pair)); }
  static Register broadcast(const float* p) { return set(*p); }
  static Register load(const Half* p) { return _mm512_loadu_ph(p); }
  static void store(Half* p, Register v) { _mm512_storeu_ph(p, v); }
  static Register fma(Register a, Register b, Register c) { return _mm512_fmadd_ph(a, b, c); }

  static __m512 low(Register v) { return _mm512_cvtxph_ps(_mm512_castph512_ph256(v)); }
  static __m512 high(Register v) {
    return _mm512_cvtxph_ps(_mm256_castpd_ph(_mm512_extractf64x4_pd(_mm512_castph_pd(v), 1)));
  }
  // Half a register: sixteen floats, rounded to the nearest.
  static void narrow(Half* p, __m512 v) { _mm256_storeu_ph(p, _mm512_cvtxps_ph(v)); }
};

}  // namespace sparsify::f16
