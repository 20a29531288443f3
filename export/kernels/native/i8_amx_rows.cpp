// token_major with weights of rows_16 and rows_32 on AMX: of a panel's rows, only the kept columns are multiplied.
//
// Weights are the first operand, 16 rows of 64 kept columns a tile. Their activations, the second operand, are gathered
// for each panel: a column's bytes of 64 tokens are one line of memory, and four such lines interleaved are a line of
// four tiles ([16 tokens][4 columns]). So sums lie [row][token] and are transposed on their way to y. A tile product
// leaves the vector units idle: between products the next panel's lines are gathered and the last sums are finished.
#include <utility>

#include "i8_amx_core.h"
#include "i8_token_results.h"

namespace sparsify::amx {
namespace {

struct Four {
  __m512i v[4];
};

// In each 16 bytes: dword j of v[i] becomes byte 4 i + j of all four vectors.
[[gnu::always_inline]] inline Four interleave_bytes(const Four& a) {
  const __m512i low = _mm512_unpacklo_epi8(a.v[0], a.v[1]), low_2 = _mm512_unpacklo_epi8(a.v[2], a.v[3]);
  const __m512i high = _mm512_unpackhi_epi8(a.v[0], a.v[1]), high_2 = _mm512_unpackhi_epi8(a.v[2], a.v[3]);
  return {{_mm512_unpacklo_epi16(low, low_2), _mm512_unpackhi_epi16(low, low_2), _mm512_unpacklo_epi16(high, high_2),
           _mm512_unpackhi_epi16(high, high_2)}};
}

// In each 16 bytes: dword j of v[i] becomes dword i of v[j].
[[gnu::always_inline]] inline Four transpose_dwords(const Four& a) {
  const __m512i low = _mm512_unpacklo_epi32(a.v[0], a.v[1]), low_2 = _mm512_unpacklo_epi32(a.v[2], a.v[3]);
  const __m512i high = _mm512_unpackhi_epi32(a.v[0], a.v[1]), high_2 = _mm512_unpackhi_epi32(a.v[2], a.v[3]);
  return {{_mm512_unpacklo_epi64(low, low_2), _mm512_unpackhi_epi64(low, low_2), _mm512_unpacklo_epi64(high, high_2),
           _mm512_unpackhi_epi64(high, high_2)}};
}

// 16 bytes each from four places `stride` bytes apart.
[[gnu::always_inline]] inline __m512i load_four(const void* from, int64_t stride) {
  const auto part = [&](int64_t i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const uint8_t*>(from) + i * stride));
  };
  const __m512i two = _mm512_inserti32x4(_mm512_castsi128_si512(part(0)), part(1), 1);
  return _mm512_inserti32x4(_mm512_inserti32x4(two, part(2), 2), part(3), 3);
}

// Writes the activations of one panel and 64 tokens as tiles, as many lines of four tiles at a time as asked.
class Gatherer {
 public:
  explicit Gatherer(const KeptTokens& product) : product_(product) {}

  void aim(int64_t panel, int64_t group, uint8_t* out) {
    const int64_t* starts = product_.weights.starts + panel;
    planes_ = product_.planes + group * product_.columns * group_tokens;
    columns_ = product_.weights.columns + starts[0] * kept_step_columns;
    lines_ = (starts[1] - starts[0]) * 16;
    line_ = 0;
    out_ = out;
  }
  int64_t left() const { return lines_ - line_; }
  void gather(int64_t lines) {
    if (lines > left()) lines = left();
    for (; lines > 0; --lines, ++line_) {
      const uint16_t* const quad = columns_ + line_ * 4;
      const Four tiles = interleave_bytes({{column(quad[0]), column(quad[1]), column(quad[2]), column(quad[3])}});
      const uint64_t line = static_cast<uint64_t>(line_);
      uint8_t* const to = out_ + line / 16 * gathered_step_bytes + line % 16 * 64;
      for (int i = 0; i < 4; ++i) _mm512_store_si512(to + i * 1024, tiles.v[i]);
    }
  }
  void finish() { gather(left()); }

 private:
  __m512i column(uint64_t k) const { return _mm512_load_si512(planes_ + k * group_tokens); }

  const KeptTokens& product_;
  const uint8_t* planes_ = nullptr;
  const uint16_t* columns_ = nullptr;
  uint8_t* out_ = nullptr;
  int64_t lines_ = 0, line_ = 0;
};

// Four tiles of sums, 16 rows and 16 tokens each: of one panel of 32 rows and 32 tokens, or of 16 rows and 64 tokens.
template <int64_t height>
class KeptResults {
 public:
  static constexpr int64_t parts = 16;

  KeptResults() = default;  // of nothing
  KeptResults(const KeptTokens& product, int64_t panel, int64_t token, const int32_t* sums)
      : product_(&product), sums_(sums), row_(panel * height), token_(token), stored_(0), fetched_(0) {}

  // Fetches what the next parts' results go to, a pass ahead of their stores: y is as a rule not in the cache. Into the
  // second one: tokens often lie so far apart that all share a set of the first.
  void prefetch(int64_t count) {
    for (; count > 0 && fetched_ < parts; --count, ++fetched_) {
      const Part part(*this, fetched_);
      for (int64_t token = part.token; token < part.token + 4 && token < product_->n; ++token) {
        __builtin_prefetch(product_->y + token * product_->weights.rows + part.row, 0, 2);
      }
    }
  }
  void store(int64_t count) {
    for (; count > 0 && stored_ < parts; --count, ++stored_) {
      const Part part(*this, stored_);
      if (part.token < product_->n) store(part);
    }
  }
  void finish() { store(parts); }

 private:
  // Four tokens of 16 rows; a panel's rows of the same tokens follow each other.
  struct Part {
    int64_t row, token;
    const int32_t* sums;

    Part(const KeptResults& of, uint64_t i) {
      constexpr uint64_t tiles = height / 16;  // of rows
      const uint64_t half = i % tiles, quad = i / tiles;
      row = of.row_ + static_cast<int64_t>(half) * 16;
      token = of.token_ + static_cast<int64_t>(quad) * 4;
      sums = of.sums_ + (quad / 4 * tiles + half) * 256 + quad % 4 * 4;
    }
  };

  void store(const Part& part) const {
    const KeptView& weights = product_->weights;
    Four rows;  // v[j] has rows j, j + 4, j + 8, j + 12: four tokens of each
    for (int j = 0; j < 4; ++j) rows.v[j] = load_four(part.sums + j * 16, 256);
    const Four tokens = transpose_dwords(rows);
    const SixteenRows to(product_->epilogue, weights.offsets, weights.scales, part.row,
                         avx512::Vector::first(weights.rows - part.row));
    const float* const steps = product_->token_steps + part.token;
    const int64_t at = part.token * weights.rows + part.row, count = product_->n - part.token;
    if (count >= 4) return to.store(tokens.v, steps, product_->y, at, weights.rows);
    for (int64_t i = 0; i < count; ++i) to.store(tokens.v[i], steps[i], product_->y, at + i * weights.rows);
  }

  const KeptTokens* product_ = nullptr;
  const int32_t* sums_ = nullptr;
  int64_t row_ = 0, token_ = 0, stored_ = parts, fetched_ = parts;
};

// All steps of a pass of 32 rows and 32 tokens: two tiles of each operand. Where `more` is false, the first half of the
// tokens alone. `between` is called after each product, as in `multiply` of the core.
template <int64_t height, bool more, typename F>
  requires(height == 32)
[[gnu::always_inline]] inline void multiply_pass(const uint8_t* gathered, const int8_t* weights, int64_t steps,
                                                 F between) {
  using P = Product<Operand::second>;
  for (int64_t step = 0; step < steps; ++step, gathered += gathered_step_bytes, weights += height * 64) {
    _tile_loadd(6, weights, 64);
    _tile_loadd(4, gathered, 64);
    P::into_0();
    between();
    _tile_loadd(7, weights + 1024, 64);
    P::into_1();
    between();
    if constexpr (!more) continue;
    _tile_loadd(5, gathered + 1024, 64);
    P::into_2();
    between();
    P::into_3();
    between();
  }
}

// The same of 16 rows and 64 tokens: one tile of weights, four of activations.
template <int64_t height, bool more, typename F>
  requires(height == 16)
[[gnu::always_inline]] inline void multiply_pass(const uint8_t* gathered, const int8_t* weights, int64_t steps,
                                                 F between) {
  for (int64_t step = 0; step < steps; ++step, gathered += gathered_step_bytes, weights += height * 64) {
    _tile_loadd(6, weights, 64);
    _tile_loadd(4, gathered, 64);
    _tile_dpbsud(0, 6, 4);
    between();
    _tile_loadd(5, gathered + 1024, 64);
    _tile_dpbsud(1, 6, 5);
    between();
    if constexpr (!more) continue;
    _tile_loadd(4, gathered + 2048, 64);
    _tile_dpbsud(2, 6, 4);
    between();
    _tile_loadd(5, gathered + 3072, 64);
    _tile_dpbsud(3, 6, 5);
    between();
  }
}

// How much of some work is done in each of so many slots, so that it is done after the last; all later, without slots.
int64_t in_each(int64_t work, int64_t slots) { return slots > 0 ? (work + slots - 1) / slots : 0; }

// Panels [first, first + count), for each the groups of 64 tokens, for each a pass of 64 tokens or two of 32.
template <int64_t height>
void run_kept(const KeptTokens& product, int64_t first, int64_t count, uint8_t* room) {
  constexpr int64_t pass_tokens = height == 32 ? 32 : 64;
  const Tiles tiles;
  const KeptView& weights = product.weights;
  const int64_t groups = (product.n + group_tokens - 1) / group_tokens, all = count * groups;
  const int64_t panel_bytes = weights.most_steps * gathered_step_bytes;
  const auto place = [&](int64_t i) { return room + 2 * sums_bytes + i % 2 * panel_bytes; };
  Gatherer next(product);
  const auto aim = [&](int64_t i) { next.aim(first + i / groups, i % groups, place(i)); };
  KeptResults<height> results;
  int32_t *sums = reinterpret_cast<int32_t*>(room), *others = sums + sums_bytes / 4;  // others: results'
  if (all > 0) aim(0);
  next.finish();
  for (int64_t i = 0; i < all; ++i) {
    const int64_t panel = first + i / groups, token = i % groups * group_tokens;
    const int64_t begin = weights.starts[panel], steps = weights.starts[panel + 1] - begin;
    const int64_t end = token + group_tokens < product.n ? token + group_tokens : product.n;
    if (i + 1 < all) aim(i + 1);
    const int64_t lines = in_each(next.left(), 4 * steps * ((end - token + pass_tokens - 1) / pass_tokens));
    const int64_t parts = in_each(KeptResults<height>::parts, 4 * steps);
    for (int64_t t = token; t < end; t += pass_tokens) {
      KeptResults<height> mine(product, panel, t, sums);
      const auto between = [&] {
        next.gather(lines);
        results.store(parts);
        mine.prefetch(parts);
      };
      const uint8_t* const gathered = place(i) + (t - token) * 64;
      const int8_t* const tiles_of_weights = weights.tiles + begin * height * 64;
      __atomic_signal_fence(__ATOMIC_SEQ_CST);  // a compiler does not know that tile loads read what was stored before
      zero_sums();
      if (end - t > pass_tokens / 2) multiply_pass<height, true>(gathered, tiles_of_weights, steps, between);
      else multiply_pass<height, false>(gathered, tiles_of_weights, steps, between);
      results.finish();
      store_sums(sums);
      results = mine;
      std::swap(sums, others);
    }
    next.finish();
  }
  results.finish();
}

}  // namespace

void lay_planes(const uint8_t* bytes, int64_t stride, int64_t columns, uint8_t* planes) {
  for (int64_t k = 0; k < columns; k += 16) {
    Four quads[4];  // of 16 tokens each; in quads[s].v[j], lane l: columns k + 4 j ..., of tokens 16 s + 4 l ...
    for (int64_t s = 0; s < 4; ++s) {
      Four tokens;
      for (int64_t j = 0; j < 4; ++j) tokens.v[j] = load_four(bytes + (16 * s + j) * stride + k, 4 * stride);
      quads[s] = interleave_bytes(tokens);
    }
    for (int64_t j = 0; j < 4; ++j) {
      const Four lines = transpose_dwords({{quads[0].v[j], quads[1].v[j], quads[2].v[j], quads[3].v[j]}});
      for (int64_t i = 0; i < 4; ++i) _mm512_store_si512(planes + (k + 4 * j + i) * group_tokens, lines.v[i]);
    }
  }
}

void multiply_kept(const KeptTokens& product, int64_t first, int64_t count, uint8_t* room) {
  if (product.weights.height == 32) run_kept<32>(product, first, count, room);
  else run_kept<16>(product, first, count, room);
}

}  // namespace sparsify::amx
