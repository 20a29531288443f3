// From integer sums of 16 rows to a token's results, all but LayerNorm. Included by files compiled for AVX-512 only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "epilogue_loops.h"
#include "f32_vector_avx512.h"
#include "problem.h"

namespace sparsify {
namespace {

// What 16 rows of a layer have in common for all tokens.
class SixteenRows {
  using Vector = avx512::Vector;

 public:
  // Rows from `row` on, of which the layer has `lanes`; offsets and scales are there for all 16.
  SixteenRows(const Epilogue& epilogue, const int32_t* offsets, const float* scales, int64_t row, __mmask16 lanes)
      : epilogue_(epilogue), lanes_(lanes), offset_(_mm512_load_si512(offsets + row)),
        scale_(Vector::load(scales + row)),
        bias_(epilogue.bias ? Vector::load(epilogue.bias + row, lanes) : Vector::zero()) {}

  // y[at, ...) of one token whose byte stands for `step`; the residual lies as y does.
  void store(__m512i sums, float step, float* y, int64_t at) const {
    Vector::Register result = scaled(sums, step);
    if (epilogue_.residual) result = Vector::add(result, Vector::load(epilogue_.residual + at, lanes_));
    Vector::store(y + at, lanes_, epilogue::activate<Vector>(epilogue_.activation, result));
  }

  // The same of four tokens, whose results are `stride` apart: what follows the product is looked at once for all.
  void store(const __m512i (&sums)[4], const float* steps, float* y, int64_t at, int64_t stride) const {
    Vector::Register results[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) results[i] = scaled(sums[i], steps[i]);
    if (epilogue_.residual) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        results[i] = Vector::add(results[i], Vector::load(epilogue_.residual + at + i * stride, lanes_));
      }
    }
    if (epilogue_.activation != Activation::none) activate(results);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) Vector::store(y + at + i * stride, lanes_, results[i]);
  }

 private:
  // Not inlined wherever results are stored: most activations take longer than the call.
  [[gnu::noinline]] void activate(Vector::Register (&results)[4]) const {
    for (Vector::Register& result : results) result = epilogue::activate<Vector>(epilogue_.activation, result);
  }
  __m512 scaled(__m512i sums, float step) const {
    const __m512 product = _mm512_cvtepi32_ps(_mm512_add_epi32(sums, offset_));
    return _mm512_fmadd_ps(product, _mm512_mul_ps(Vector::set(step), scale_), bias_);
  }

  const Epilogue& epilogue_;
  __mmask16 lanes_;
  __m512i offset_;
  __m512 scale_, bias_;
};

}  // namespace
}  // namespace sparsify
