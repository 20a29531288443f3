// What both AMX kernels do: panels of 32 rows times pairs of 16 tokens or positions. Included by *_amx files only.
//
// Loop order: panel, chunk of steps, pair, step. A chunk's weights (12 KB; up to 24 KB where that is all) are expanded
// into L1 and used for all pairs of the block; sums wait in memory between chunks. Activations stream past L1
// (TILELOADDT1) so as not to push them out. A tile product takes 16 cycles and leaves the vector units idle: between
// products a few lines of the next chunk are expanded (vpexpandb: mask and packed bytes to 64 bytes), or fetched where
// weights are dense, and a few lines of the last pair's sums are scaled and stored. DECA and SparAMX expand weights for
// AMX in like ways.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <limits>

#include "i8_amx.h"

namespace sparsify::amx {
namespace {

// Eight tiles of 16 lines of 64 bytes. A constant: GCC takes it that only the first eight bytes are read of what the
// tiles are configured with, and leaves out stores to the others.
struct Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t line_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t lines[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
alignas(64) constexpr Configuration EIGHT_TILES;

// Configured for as long as it lives; released after, so that a switch of threads stays cheap.
class Tiles {
 public:
  Tiles() { _tile_loadconfig(&EIGHT_TILES); }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// Brings the lines of panels into L1 one after the other, as many at a time as asked: compressed ones are expanded to
// `out`, dense ones are fetched where they lie.
class Expander {
 public:
  Expander(const PanelView& weights, int64_t panel)
      : compressed_(weights.masks != nullptr),
        mask_(compressed_ ? weights.masks + panel * weights.steps * step_lines : nullptr),
        value_(compressed_ ? weights.values + weights.starts[panel]
                           : weights.dense + panel * weights.steps * step_bytes) {}

  void aim(uint8_t* out, int64_t lines) {
    out_ = out;
    left_ = lines;
  }
  void bring(int64_t lines) {
    if (lines > left_) lines = left_;
    left_ -= lines;
    if (compressed_) expand(lines);
    else fetch(lines);
  }
  void finish() { bring(left_); }

 private:
  void fetch(int64_t lines) {
    for (; lines > 0; --lines, value_ += 64) __builtin_prefetch(value_);
  }
  void expand(int64_t lines) {
    for (; lines > 0; --lines, out_ += 64) {
      const uint64_t mask = *mask_++;
      _mm512_store_si512(out_, _mm512_maskz_expand_epi8(mask, _mm512_loadu_si512(value_)));
      value_ += _mm_popcnt_u64(mask);
    }
  }

  bool compressed_;
  const uint64_t* mask_;
  const int8_t* value_;
  uint8_t* out_ = nullptr;
  int64_t left_ = 0;
};

// An activation that only bounds its results is two instructions without a branch.
struct Bounds {
  Bounds() = default;
  explicit Bounds(Activation activation)
      : suffice(activation == Activation::none || activation == Activation::relu || activation == Activation::relu6) {
    if (activation != Activation::none) least = 0;
    if (activation == Activation::relu6) most = 6;
  }
  // A NaN is passed on: where one operand is a NaN, max and min give the second.
  [[gnu::always_inline]] __m512 within(__m512 y) const {
    return _mm512_min_ps(_mm512_set1_ps(most), _mm512_max_ps(_mm512_set1_ps(least), y));
  }

  float least = -std::numeric_limits<float>::infinity(), most = std::numeric_limits<float>::infinity();
  bool suffice = false;
};

// Which of a product's operands the activations are decides which is signed and how the result lies:
// first: sums[token][row], TDPBUSD; second: sums[row][position], TDPBSUD.
template <Operand activations>
struct Product;

template <>
struct Product<Operand::first> {
  static void into_0() { _tile_dpbusd(0, 4, 6); }
  static void into_1() { _tile_dpbusd(1, 4, 7); }
  static void into_2() { _tile_dpbusd(2, 5, 6); }
  static void into_3() { _tile_dpbusd(3, 5, 7); }
};

template <>
struct Product<Operand::second> {
  static void into_0() { _tile_dpbsud(0, 6, 4); }
  static void into_1() { _tile_dpbsud(1, 7, 4); }
  static void into_2() { _tile_dpbsud(2, 6, 5); }
  static void into_3() { _tile_dpbsud(3, 7, 5); }
};

// A pair's tiles of activations, step after step.
struct Pair {
  const uint8_t* first;    // where the pair's bytes begin
  const int64_t* offsets;  // [steps] of a step's tile from there
  int64_t stride;          // between a tile's lines
  int64_t second;          // from the first tile to the second
};

// Sums of the tiles 2 * half + i: half is 16 tokens or positions, i is 16 rows. Either order is 4 KB a pair.
[[gnu::always_inline]] inline void load_sums(const int32_t* sums) {
  _tile_loadd(0, sums, 64);
  _tile_loadd(1, sums + 256, 64);
  _tile_loadd(2, sums + 512, 64);
  _tile_loadd(3, sums + 768, 64);
}
[[gnu::always_inline]] inline void store_sums(int32_t* sums) {
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 256, 64);
  _tile_stored(2, sums + 512, 64);
  _tile_stored(3, sums + 768, 64);
}
[[gnu::always_inline]] inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Activations of token_major are used once a chunk and stream past L1; planes are used again by the next tap.
template <Operand activations>
[[gnu::always_inline]] inline void load_first(const uint8_t* tile, int64_t stride) {
  if constexpr (activations == Operand::first) _tile_stream_loadd(4, tile, stride);
  else _tile_loadd(4, tile, stride);
}
template <Operand activations>
[[gnu::always_inline]] inline void load_second(const uint8_t* tile, int64_t stride) {
  if constexpr (activations == Operand::first) _tile_stream_loadd(5, tile, stride);
  else _tile_loadd(5, tile, stride);
}

// Adds steps [from, to) of a pair (of its first half alone, where `both` is false). `between` is called after each of
// the products, twice or four times a step: so its work never fills the reorder window between one product and the
// next.
template <Operand activations, bool both, typename F>
[[gnu::always_inline]] inline void multiply(const Pair& pair, const uint8_t* weights, int64_t from, int64_t to,
                                            F between) {
  using P = Product<activations>;
  for (int64_t step = from; step < to; ++step, weights += step_bytes) {
    const uint8_t* tile = pair.first + pair.offsets[step];
    load_first<activations>(tile, pair.stride);
    _tile_loadd(6, weights, 64);
    P::into_0();
    between();
    _tile_loadd(7, weights + 1024, 64);
    P::into_1();
    between();
    if constexpr (both) {
      load_second<activations>(tile + pair.second, pair.stride);
      P::into_2();
      between();
      P::into_3();
      between();
    }
  }
}

// All panels [first, first + count) times all pairs. `Job` says what a pair is and what becomes of its sums:
//   Pair pair(int64_t i); bool both(int64_t i); Results results(int64_t panel, int64_t i, const int32_t* sums);
// and Results has prefetch and store(int64_t lines), of 32 in all, and finish().
template <Operand activations, typename Job>
inline void run_panels(const Job& job, const PanelView& weights, int64_t pairs, int64_t first, int64_t count,
                       uint8_t* room) {
  const Tiles tiles;
  const int64_t chunks = weights.steps <= most_chunk_steps ? 1 : (weights.steps + chunk_steps - 1) / chunk_steps;
  const int64_t all = count * chunks;
  const int64_t chunk_of = (weights.steps + chunks - 1) / chunks;
  int32_t* const sums = reinterpret_cast<int32_t*>(room);
  uint8_t* const expanded = room + pairs * pair_sums_bytes;
  const auto begin = [&](int64_t chunk) { return chunk % chunks * chunk_of; };
  const auto end = [&](int64_t chunk) {
    const int64_t e = begin(chunk) + chunk_of;
    return e < weights.steps ? e : weights.steps;
  };
  const auto place = [&](int64_t chunk) { return expanded + chunk % 2 * most_chunk_steps * step_bytes; };
  const auto lines = [&](int64_t chunk) { return chunk < all ? (end(chunk) - begin(chunk)) * step_lines : 0; };
  const bool compressed = weights.masks != nullptr;
  Expander next(weights, first);
  next.aim(place(0), lines(0));
  next.finish();
  typename Job::Results results;
  for (int64_t chunk = 0; chunk < all; ++chunk) {
    const int64_t panel = first + chunk / chunks, from = begin(chunk), to = end(chunk);
    next.aim(place(chunk + 1), lines(chunk + 1));
    const uint8_t* w = compressed ? place(chunk)
                                  : reinterpret_cast<const uint8_t*>(weights.dense) +
                                        (panel * weights.steps + from) * step_bytes;
    const int64_t slots = 4 * (to - from), next_lines = (lines(chunk + 1) + pairs * slots - 1) / (pairs * slots);
    const int64_t result_lines = (32 + slots - 1) / slots;
    for (int64_t i = 0; i < pairs; ++i) {
      int32_t* sum = sums + i * pair_sums_bytes / 4;
      typename Job::Results mine = to == weights.steps ? job.results(panel, i, sum) : typename Job::Results();
      const auto between = [&] {
        next.bring(next_lines);
        results.store(result_lines);
        mine.prefetch(result_lines);
      };
      __atomic_signal_fence(__ATOMIC_SEQ_CST);  // a compiler does not know that tile loads read what was stored before
      if (from == 0) zero_sums();
      else load_sums(sum);
      if (job.both(i)) multiply<activations, true>(job.pair(i), w, from, to, between);
      else multiply<activations, false>(job.pair(i), w, from, to, between);
      results.finish();
      store_sums(sum);
      results = mine;
    }
    next.finish();
  }
  results.finish();
}

}  // namespace
}  // namespace sparsify::amx
