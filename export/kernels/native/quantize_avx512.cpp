// Quantisation with AVX-512.
#include <immintrin.h>

#include "f32_vector_avx512.h"
#include "quantize.h"

namespace sparsify {
namespace {

using Vector = avx512::Vector;

__m512i magnitude(__m512i bits) { return _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)); }

__m512i rounded(__m512 x, __m512 inverse) { return _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)); }

// Signed bytes to bytes whose zero is 128.
__m512i with_zero_point(__m512i bytes) {
  return _mm512_xor_si512(bytes, _mm512_set1_epi32(static_cast<int>(quantized_zeros)));
}

float absmax(const float* x, int64_t count) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  int64_t k = 0;
  for (; k + 64 <= count; k += 64) {
    a = _mm512_max_epi32(a, magnitude(_mm512_loadu_si512(x + k)));
    b = _mm512_max_epi32(b, magnitude(_mm512_loadu_si512(x + k + 16)));
    c = _mm512_max_epi32(c, magnitude(_mm512_loadu_si512(x + k + 32)));
    d = _mm512_max_epi32(d, magnitude(_mm512_loadu_si512(x + k + 48)));
  }
  for (; k < count; k += 16) {
    a = _mm512_max_epi32(a, magnitude(_mm512_maskz_loadu_epi32(Vector::first(count - k), x + k)));
  }
  const int bits = _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_max_epi32(a, b), _mm512_max_epi32(c, d)));
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
}

// 64 integers as 64 bytes. The packs work within 128-bit lanes, so that the dwords come out as 0, 4, 8, 12, 1, 5, ...
__m512i turned(__m512i a, __m512i b, __m512i c, __m512i d) {
  return with_zero_point(_mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)));
}

__m512i packed(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, turned(a, b, c, d));
}

__m512i bytes_of(__m512 a, __m512 b, __m512 c, __m512 d, __m512 inverse) {
  return packed(rounded(a, inverse), rounded(b, inverse), rounded(c, inverse), rounded(d, inverse));
}

float token(const float* x, int64_t columns, uint8_t* runs, int64_t run_stride) {
  const ByteScale scale = byte_scale(absmax(x, columns));
  const __m512 inverse = _mm512_set1_ps(scale.inverse);
  int64_t k = 0;
  for (; k + 64 <= columns; k += 64, runs += run_stride) {
    const __m512i bytes = bytes_of(_mm512_loadu_ps(x + k), _mm512_loadu_ps(x + k + 16), _mm512_loadu_ps(x + k + 32),
                                   _mm512_loadu_ps(x + k + 48), inverse);
    _mm512_storeu_si512(runs, bytes);
  }
  if (k < columns) {
    const auto part = [&](int64_t i) { return Vector::load(x + i, Vector::first(columns - i)); };
    _mm512_storeu_si512(runs, bytes_of(part(k), part(k + 16), part(k + 32), part(k + 48), inverse));
  }
  return scale.step;
}

void absmax_of_columns(const float* x, int64_t stride, int64_t rows, int64_t count, float* out) {
  for (int64_t j = 0; j < count; j += 64) {
    __m512i most[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int64_t i = 0; i < rows; ++i) {
      const float* row = x + i * stride + j;
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m512i bits = _mm512_maskz_loadu_epi32(Vector::first(count - j - 16 * v), row + 16 * v);
        most[v] = _mm512_max_epi32(most[v], magnitude(bits));
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      _mm512_mask_storeu_epi32(out + j + 16 * v, Vector::first(count - j - 16 * v), most[v]);
    }
  }
}

void quads(const float* const x[4], const float* inverse, int64_t count, uint32_t* out) {
  const __m512i byte = _mm512_set1_epi32(255);
  for (int64_t j = 0; j < count; j += 16) {
    const __mmask16 lanes = Vector::first(count - j);
    const __m512 scale = Vector::load(inverse + j, lanes);
    const auto channel = [&](int i) {
      return x[i] != nullptr ? rounded(Vector::load(x[i] + j, lanes), scale) : _mm512_setzero_si512();
    };
    // Saturated to a byte as the packs do it, so that a token's infinity gives the same integer in every layout.
    const auto low = [&](int i) {
      return _mm512_and_si512(_mm512_max_epi32(channel(i), _mm512_set1_epi32(-128)), byte);
    };
    const __m512i even = _mm512_or_si512(low(0), _mm512_slli_epi32(low(2), 16));
    const __m512i odd = _mm512_or_si512(low(1), _mm512_slli_epi32(low(3), 16));
    _mm512_mask_storeu_epi32(out + j, lanes, with_zero_point(_mm512_or_si512(even, _mm512_slli_epi32(odd, 8))));
  }
}

template <auto pack>
void bytes_by(const float* x, const float* inverse, int64_t count, uint8_t* out) {
  int64_t j = 0;
  for (; j + 64 <= count; j += 64) {
    const auto part = [&](int64_t i) { return rounded(_mm512_loadu_ps(x + i), _mm512_loadu_ps(inverse + i)); };
    _mm512_storeu_si512(out + j, pack(part(j), part(j + 16), part(j + 32), part(j + 48)));
  }
  if (j == count) return;
  const auto part = [&](int64_t i) {
    const __mmask16 lanes = Vector::first(count - i);
    return rounded(Vector::load(x + i, lanes), Vector::load(inverse + i, lanes));
  };
  _mm512_storeu_si512(out + j, pack(part(j), part(j + 16), part(j + 32), part(j + 48)));
}

constexpr QuantizeBytes bytes = bytes_by<packed>, turned_bytes = bytes_by<turned>;

// 16 x 16 of which all are there: without masks, in 0.94 of an int8 layer's time on Zen 4.
void turn_whole(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
  __m512 square[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) square[i] = _mm512_loadu_ps(from + i * from_stride);
  Vector::transpose(square);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_ps(to + i * to_stride, square[i]);
}

void turn_part(const uint32_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint32_t* to,
               int64_t to_stride) {
  __m512 square[16];
  for (int i = 0; i < 16; ++i) {
    const __mmask16 lanes = i < rows ? Vector::first(columns) : __mmask16{0};
    square[i] = _mm512_castsi512_ps(_mm512_maskz_loadu_epi32(lanes, from + i * from_stride));
  }
  Vector::transpose(square);
  for (int i = 0; i < 16 && i < columns; ++i) {
    _mm512_mask_storeu_ps(to + i * to_stride, Vector::first(rows), square[i]);
  }
}

void transpose(const uint32_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint32_t* to,
               int64_t to_stride) {
  for (int64_t row = 0; row < rows; row += 16) {
    for (int64_t column = 0; column < columns; column += 16) {
      const uint32_t* const square = from + row * from_stride + column;
      uint32_t* const turned = to + column * to_stride + row;
      const int64_t high = rows - row, wide = columns - column;
      if (high >= 16 && wide >= 16) turn_whole(square, from_stride, turned, to_stride);
      else turn_part(square, from_stride, high, wide, turned, to_stride);
    }
  }
}

}  // namespace

extern const Quantizer avx512_quantizer;
const Quantizer avx512_quantizer = {token, absmax, absmax_of_columns, quads, bytes, turned_bytes, transpose};

}  // namespace sparsify
