#include "f32_vector_avx512.h"
#include "i8_quad_loops.h"
#include "i8_row_loops.h"
#include "i8_spread_avx512.h"
#include "i8_write_avx512.h"

namespace sparsify {
namespace {

struct Integers {
  static constexpr int width = 16, vectors = 4, strip_vectors = 4;
  using Register = __m512i;
  static Register zero() { return _mm512_setzero_si512(); }
  static Register load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static void store(int32_t* p, Register v) { _mm512_storeu_si512(p, v); }
  static __m512i weights(uint32_t quad) { return _mm512_set1_epi32(static_cast<int>(quad)); }
  static __m512i bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static Register dot(Register sum, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static __m512 floats(const int32_t* sums, int32_t offset) {
    return _mm512_cvtepi32_ps(_mm512_add_epi32(load(sums), _mm512_set1_epi32(offset)));
  }
};

// In each 16 bytes: dword i of the four vectors, whose bytes are positions of a column each, becomes four quads.
[[gnu::always_inline]] inline void interleave(const __m512i (&column)[4], uint8_t* line) {
  const __m512i low = _mm512_unpacklo_epi8(column[0], column[1]), low_2 = _mm512_unpacklo_epi8(column[2], column[3]);
  const __m512i high = _mm512_unpackhi_epi8(column[0], column[1]), high_2 = _mm512_unpackhi_epi8(column[2], column[3]);
  _mm512_store_si512(line, _mm512_unpacklo_epi16(low, low_2));
  _mm512_store_si512(line + 64, _mm512_unpackhi_epi16(low, low_2));
  _mm512_store_si512(line + 128, _mm512_unpacklo_epi16(high, high_2));
  _mm512_store_si512(line + 192, _mm512_unpackhi_epi16(high, high_2));
}

// Turned, what interleave does in each 16 bytes leaves positions in their order.
void gather(const uint8_t* planes, const int64_t* offsets, const int32_t* columns, int64_t quads, uint8_t* lines) {
  for (int64_t q = 0; q < quads; ++q, columns += 4, lines += line_bytes) {
    __m512i column[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) column[i] = turned_dwords(_mm512_loadu_si512(planes + offsets[columns[i]]));
    interleave(column, lines);
  }
}

void write(const int32_t* sums, const Results& to, int64_t row) {
  __m512i sum[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) sum[v] = Integers::load(sums + 16 * v);
  write_row(sum, to, row);
}

void multiply(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t sixteens, bool add,
              const uint8_t* lines, int64_t line, int32_t* sums) {
  const auto keep = [&](int64_t row, int, int, const auto& sum) __attribute__((always_inline)) {
    quad_loops::store<Integers>(sum, sums + (row - first) * tile_positions);
  };
  with_vectors(sixteens, [&](auto vectors) {
    quad_loops::multiply_rows<Integers, vectors, 1>(weights, block, first, count, add ? sums : nullptr, lines, line,
                                                    quad_loops::nothing, keep);
  });
}

void multiply_to(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t sixteens, bool add,
                 const uint8_t* lines, int64_t line, const int32_t* sums, const Results& to) {
  const auto keep = [&](int64_t row, int, int, const auto& sum) __attribute__((always_inline)) { write_row(sum, to, row); };
  with_vectors(sixteens, [&](auto vectors) {
    const auto soon = [&](const int32_t* order, int64_t left) __attribute__((always_inline)) {
      foresee(to, order, left, vectors);
    };
    quad_loops::multiply_rows<Integers, vectors, 1>(weights, block, first, count, add ? sums : nullptr, lines, line,
                                                    soon, keep);
  });
}

}  // namespace

const QuadLoops avx512vnni_quads = {Grouping::quads, multiply, multiply_to,
                                    quad_loops::scale<Integers, avx512::Vector>, write, quad_loops::copy, nullptr};
const RowLoops avx512vnni_rows = {row_loops::multiply<Integers>, gather, spread<false>, &avx512vnni_quads};

}  // namespace sparsify
