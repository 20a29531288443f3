// Loop order: panel of 32 rows, step, line, token. A line is 16 rows' next four columns, so lanes are rows: a token's
// four bytes are broadcast and nothing is summed across lanes. Weights go once through, expanded in registers.
#include "i8_gemv.h"
#include "i8_token_results.h"

namespace sparsify {
namespace {

// Where the next line of 64 weights comes from.
template <bool compressed>
struct Lines;

template <>
struct Lines<true> {
  const uint64_t* mask;
  const int8_t* value;
  Lines(const PanelView& weights, int64_t panel)
      : mask(weights.masks + panel * weights.steps * step_lines), value(weights.values + weights.starts[panel]) {}
  __m512i next() {
    constexpr int ahead = 1024;  // bytes; the hardware's streams stop at every page
    const uint64_t bits = *mask++;
    _mm_prefetch(reinterpret_cast<const char*>(mask) + ahead, _MM_HINT_T0);
    const __m512i line = _mm512_maskz_expand_epi8(bits, _mm512_loadu_si512(value));
    value += _mm_popcnt_u64(bits);
    return line;
  }
};

template <>
struct Lines<false> {
  const int8_t* at;
  Lines(const PanelView& weights, int64_t panel) : at(weights.dense + panel * weights.steps * step_bytes) {}
  __m512i next() {
    const __m512i line = _mm512_load_si512(at);
    at += 64;
    return line;
  }
};

void finish(const Gemv& product, int64_t token, int64_t row, __m512i sums) {
  const PanelView& weights = product.weights;
  const SixteenRows to(product.epilogue, weights.offsets, weights.scales, row,
                       avx512::Vector::first(weights.rows - row));
  to.store(sums, product.token_steps[token], product.y, token * weights.rows + row);
}

template <int tokens, bool compressed>
void multiply(const Gemv& product, int64_t first, int64_t count) {
  const PanelView& weights = product.weights;
  for (int64_t panel = first; panel < first + count; ++panel) {
    Lines<compressed> lines(weights, panel);
    __m512i sums[tokens][4];  // two of each half, so that one's latency hides behind the other
    for (auto& token : sums) {
      for (__m512i& sum : token) sum = _mm512_setzero_si512();
    }
    const uint8_t* x = product.bytes;
    for (int64_t step = 0; step < weights.steps; ++step, x += step_columns) {
      for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 16
        for (int line = 0; line < 16; ++line) {
          const __m512i w = lines.next();
#pragma GCC unroll 4
          for (int t = 0; t < tokens; ++t) {
            int quad;
            __builtin_memcpy(&quad, x + t * weights.steps * step_columns + line * 4, 4);
            __m512i& sum = sums[t][half * 2 + line % 2];
            sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(quad), w);
          }
        }
      }
    }
    for (int t = 0; t < tokens; ++t) {
      finish(product, t, panel * panel_rows, _mm512_add_epi32(sums[t][0], sums[t][1]));
      if (weights.rows - panel * panel_rows > 16) {
        finish(product, t, panel * panel_rows + 16, _mm512_add_epi32(sums[t][2], sums[t][3]));
      }
    }
  }
}

template <bool compressed>
void dispatch(const Gemv& product, int64_t first, int64_t count) {
  switch (product.n) {
    case 1: return multiply<1, compressed>(product, first, count);
    case 2: return multiply<2, compressed>(product, first, count);
    case 3: return multiply<3, compressed>(product, first, count);
    default: return multiply<4, compressed>(product, first, count);
  }
}

}  // namespace

void multiply_gemv(const Gemv& product, int64_t first, int64_t count) {
  if (product.weights.masks) dispatch<true>(product, first, count);
  else dispatch<false>(product, first, count);
}

}  // namespace sparsify
