// Loop order: panel of 32 rows, expanded once; twelve tokens; quad. Lanes are rows: a quad's two lines of 16 rows are
// loaded once for twelve tokens, each of which broadcasts its four bytes to two dot products. So 24 sums stay in
// registers, and dot products, not loads, are what bounds it: Goto and van de Geijn, Anatomy of High-Performance Matrix
// Multiplication (2008), with the smaller operand's panel in the first or second cache.
#include <utility>

#include "i8_token_results.h"
#include "i8_wide.h"

namespace sparsify {
namespace {

// The panel's lines as dense ones, each quad's two one after the other.
void expand(const PanelView& weights, int64_t panel, uint8_t* to) {
  const uint64_t* mask = weights.masks + panel * weights.steps * step_lines;
  const int8_t* value = weights.values + weights.starts[panel];
  for (int64_t step = 0; step < weights.steps; ++step, to += step_bytes) {
    for (int half = 0; half < 2; ++half) {
      for (int line = 0; line < 16; ++line) {
        const uint64_t bits = *mask++;
        _mm512_store_si512(to + (line * 2 + half) * 64, _mm512_maskz_expand_epi8(bits, _mm512_loadu_si512(value)));
        value += _mm_popcnt_u64(bits);
      }
    }
  }
}

void reorder(const PanelView& weights, int64_t panel, uint8_t* to) {
  const int8_t* from = weights.dense + panel * weights.steps * step_bytes;
  for (int64_t step = 0; step < weights.steps; ++step, to += step_bytes) {
    for (int half = 0; half < 2; ++half) {
      for (int line = 0; line < 16; ++line, from += 64) {
        _mm512_store_si512(to + (line * 2 + half) * 64, _mm512_load_si512(from));
      }
    }
  }
}

// What follows the product, of sixteen rows; not inlined, so that the sums of `multiply` need no address.
template <int tokens>
[[gnu::noinline]] void finish(const Wide& product, int64_t row, int64_t token, const __m512i* sums) {
  const PanelView& weights = product.weights;
  const SixteenRows to(product.epilogue, weights.offsets, weights.scales, row,
                       avx512::Vector::first(weights.rows - row));
  int t = 0;
  for (; t + 4 <= tokens; t += 4) {
    const __m512i four[4] = {sums[t], sums[t + 1], sums[t + 2], sums[t + 3]};
    to.store(four, product.token_steps + token + t, product.y, (token + t) * weights.rows + row, weights.rows);
  }
  for (; t < tokens; ++t) to.store(sums[t], product.token_steps[token + t], product.y, (token + t) * weights.rows + row);
}

template <int tokens>
void multiply(const Wide& product, int64_t panel, const uint8_t* lines, int64_t token) {
  const PanelView& weights = product.weights;
  const int64_t quads = weights.steps * 16, stride = weights.steps * step_columns;
  const uint8_t* const x = product.bytes + token * stride;
  __m512i low[tokens], high[tokens];
#pragma GCC unroll 12
  for (int t = 0; t < tokens; ++t) low[t] = high[t] = _mm512_setzero_si512();
  for (int64_t quad = 0; quad < quads; ++quad) {
    const __m512i lower = _mm512_load_si512(lines + quad * 128), upper = _mm512_load_si512(lines + quad * 128 + 64);
#pragma GCC unroll 12
    for (int t = 0; t < tokens; ++t) {
      int four;
      __builtin_memcpy(&four, x + t * stride + quad * 4, 4);
      const __m512i bytes = _mm512_set1_epi32(four);
      low[t] = _mm512_dpbusd_epi32(low[t], bytes, lower);
      high[t] = _mm512_dpbusd_epi32(high[t], bytes, upper);
    }
  }
  __m512i sums[2][tokens];
#pragma GCC unroll 12
  for (int t = 0; t < tokens; ++t) {
    sums[0][t] = low[t];
    sums[1][t] = high[t];
  }
  const int64_t row = panel * panel_rows;
  finish<tokens>(product, row, token, sums[0]);
  if (row + 16 < weights.rows) finish<tokens>(product, row + 16, token, sums[1]);
}

template <int tokens = wide_tokens>
void multiply_any(const Wide& product, int64_t panel, const uint8_t* lines, int64_t token, int64_t count) {
  if (count >= tokens) return multiply<tokens>(product, panel, lines, token);
  if constexpr (tokens > 1) multiply_any<tokens - 1>(product, panel, lines, token, count);
}

}  // namespace

void multiply_wide(const Wide& product, int64_t first, int64_t count, uint8_t* room) {
  const int64_t tiles = (product.n + wide_tokens - 1) / wide_tokens;
  for (int64_t panel = first; panel < first + count; ++panel) {
    if (product.weights.masks) expand(product.weights, panel, room);
    else reorder(product.weights, panel, room);
    for (int64_t tile = 0; tile < tiles; ++tile) {  // all of nearly as many
      const int64_t token = product.n * tile / tiles;
      multiply_any(product, panel, room, token, product.n * (tile + 1) / tiles - token);
    }
  }
}

}  // namespace sparsify
