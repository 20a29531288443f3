// Planes of quads to planes of bytes, 64 positions at a time. Included by files compiled for AVX-512 only.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sparsify {
namespace {

// v[i]'s j-th 16 bytes become v[j]'s i-th.
inline void turn(__m512i (&v)[4]) {
  const __m512i low[2] = {_mm512_shuffle_i32x4(v[0], v[1], 0x44), _mm512_shuffle_i32x4(v[2], v[3], 0x44)};
  const __m512i high[2] = {_mm512_shuffle_i32x4(v[0], v[1], 0xee), _mm512_shuffle_i32x4(v[2], v[3], 0xee)};
  v[0] = _mm512_shuffle_i32x4(low[0], low[1], 0x88);
  v[1] = _mm512_shuffle_i32x4(low[0], low[1], 0xdd);
  v[2] = _mm512_shuffle_i32x4(high[0], high[1], 0x88);
  v[3] = _mm512_shuffle_i32x4(high[0], high[1], 0xdd);
}

// Of 16 quads, the bytes of one channel in each 16 bytes.
inline __m512i by_channel(const uint8_t* quads) {
  const __m512i bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m512i fours = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(fours, _mm512_shuffle_epi8(_mm512_loadu_si512(quads), bytes));
}

// Dwords 4 i + j become 4 j + i.
inline __m512i turned_dwords(__m512i v) {
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
}

// Turned (quantize.h) or in order.
template <bool turned>
void spread(const uint8_t* quads, int64_t count, uint8_t* bytes, int64_t stride) {
  for (int64_t at = 0; at < count; at += 64, quads += 256, bytes += 64) {
    __m512i channel[4];
    for (int v = 0; v < 4; ++v) channel[v] = by_channel(quads + 64 * v);
    turn(channel);
    for (int v = 0; v < 4; ++v) {
      _mm512_storeu_si512(bytes + v * stride, turned ? turned_dwords(channel[v]) : channel[v]);
    }
  }
}

}  // namespace
}  // namespace sparsify
