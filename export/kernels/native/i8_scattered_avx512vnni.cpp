// Scattered groups of four weights: any four of a row that are kept, so that a zero saves its multiplication whatever
// its neighbours are.
//
// Loop order: two rows, group of each, the tile's 64 positions. A column's activations of a tile are one line of 64 bytes; four lines
// are interleaved to 64 quads in eight unpacks, and multiplied with the group's weights by four vpdpbusd. So a weight
// costs a line's load, two unpacks and one dot product for 64 positions, where fp32 costs four loads with a multiply-add.
// Unpacks work within 128 bits, so that of each register's sums, positions of 16 bytes would be 16 apart: lines are kept
// turned (quantize.h), and sums come out in order.
#include "f32_vector_avx512.h"
#include "i8_quad_loops.h"
#include "i8_spread_avx512.h"
#include "i8_write_avx512.h"

namespace sparsify {
namespace {

// Calls keep(row, sum) with the sums of as many vectors in registers, and soon(order, left) before each row.
template <int vectors, class Soon, class Keep>
[[gnu::always_inline]] inline void multiply_rows(const QuadView& weights, int64_t block, int64_t first, int64_t count,
                                                 const int32_t* added, const uint8_t* lines, int64_t line, Soon&& soon,
                                                 Keep&& keep) {
  const int32_t* const order = weights.order + block * weights.rows;
  for (int64_t at = first; at < first + count; at += 2) {
    const quad_loops::TwoRows rows(weights, block, at, first + count);
    soon(order + at, first + count - at);
    if (rows.both) soon(order + at + 1, first + count - at - 1);
    __m512i sum[2][vectors];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        const int64_t from = (rows.row[r] - first) * tile_positions + 16 * v;
        sum[r][v] = added ? _mm512_loadu_si512(added + from) : _mm512_setzero_si512();
      }
    }
    rows.for_each([&](auto r, int64_t i) __attribute__((always_inline)) {
      const uint16_t* const column = weights.quads + 4 * i;
      const auto of = [&](int which) { return _mm512_loadu_si512(lines + column[which] * line); };
      const __m512i a = of(0), b = of(1), c = of(2), d = of(3);
      const __m512i w = _mm512_set1_epi32(static_cast<int>(weights.values[i]));
      const __m512i ab[2] = {_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)};
      const __m512i cd[2] = {_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d)};
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        const __m512i quads = v % 2 == 0 ? _mm512_unpacklo_epi16(ab[v / 2], cd[v / 2])
                                         : _mm512_unpackhi_epi16(ab[v / 2], cd[v / 2]);
        sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], quads, w);
      }
    });
    keep(rows.row[0], sum[0]);
    if (rows.both) keep(rows.row[1], sum[1]);
  }
}

template <int vectors>
[[gnu::always_inline]] inline void store(const __m512i (&sum)[vectors], int32_t* to) {
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) _mm512_storeu_si512(to + 16 * v, sum[v]);
}

void multiply(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t sixteens, bool add,
              const uint8_t* lines, int64_t line, int32_t* sums) {
  const auto keep = [&](int64_t row, const auto& sum) __attribute__((always_inline)) {
    store(sum, sums + (row - first) * tile_positions);
  };
  with_vectors(sixteens, [&](auto vectors) {
    const auto nothing = [](const int32_t*, int64_t) {};
    multiply_rows<vectors>(weights, block, first, count, add ? sums : nullptr, lines, line, nothing, keep);
  });
}

void multiply_to(const QuadView& weights, int64_t block, int64_t first, int64_t count, int64_t sixteens, bool add,
                 const uint8_t* lines, int64_t line, const int32_t* sums, const Results& to) {
  const auto keep = [&](int64_t row, const auto& sum) __attribute__((always_inline)) { write_row(sum, to, row); };
  with_vectors(sixteens, [&](auto vectors) {
    const auto soon = [&](const int32_t* order, int64_t left) __attribute__((always_inline)) {
      foresee(to, order, left, vectors);
    };
    multiply_rows<vectors>(weights, block, first, count, add ? sums : nullptr, lines, line, soon, keep);
  });
}

void scale(const int32_t* sums, int32_t offset, float scale, const float* steps, float bias, float* out) {
  using Vector = avx512::Vector;
  for (int v = 0; v < 4; ++v) {
    const __m512i sum = _mm512_add_epi32(_mm512_loadu_si512(sums + 16 * v), _mm512_set1_epi32(offset));
    const __m512 factor = Vector::multiply(Vector::set(scale), Vector::load(steps + 16 * v));
    Vector::store(out + 16 * v, Vector::fma(_mm512_cvtepi32_ps(sum), factor, Vector::set(bias)));
  }
}

void write(const int32_t* sums, const Results& to, int64_t row) {
  __m512i sum[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) sum[v] = _mm512_loadu_si512(sums + 16 * v);
  write_row(sum, to, row);
}

void copy(const uint8_t* planes, const int64_t* offsets, int64_t count, uint8_t* lines) {
  for (int64_t i = 0; i < count; ++i) _mm512_storeu_si512(lines + 64 * i, turned_dwords(_mm512_loadu_si512(planes + offsets[i])));
}

}  // namespace

const QuadLoops avx512vnni_scattered = {Grouping::scattered, multiply, multiply_to, scale, write, copy, spread<true>};

}  // namespace sparsify
