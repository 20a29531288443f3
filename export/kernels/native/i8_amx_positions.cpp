// channel_major and image on AMX: weights are the first operand, so sums lie as the result does: [row][position].
#include "epilogue_loops.h"
#include "f32_vector_avx512.h"
#include "i8_amx_core.h"

namespace sparsify::amx {
namespace {

using Vector = avx512::Vector;

// The sums of 32 rows and 32 positions: scaled, finished and stored a row at a time; in a path of its own where all 32
// positions are outputs and the activation only bounds, as in TokenResults.
class PositionResults {
 public:
  PositionResults() = default;  // of nothing
  PositionResults(const Positions& product, int64_t panel, int64_t pair, const int32_t* sums)
      : product_(&product), sums_(sums), pair_(pair), row_(panel * panel_rows), fetched_(row_),
        bounds_(product.epilogue.activation),
        end_(row_ + panel_rows < product.weights.rows ? row_ + panel_rows : product.weights.rows),
        plain_(bounds_.suffice && product.lanes[2 * pair] == 0xffff && product.lanes[2 * pair + 1] == 0xffff) {}

  // Fetches what the next rows' results go to, a pair ahead of their stores: y is as a rule not in the cache.
  [[gnu::always_inline]] void prefetch(int64_t rows) {
    for (; rows > 0 && fetched_ < end_; --rows, ++fetched_) {
      const float* const y = product_->y + fetched_ * product_->n + product_->outputs[2 * pair_];
      __builtin_prefetch(y, 1);
      __builtin_prefetch(y + 16, 1);
    }
  }
  [[gnu::always_inline]] void store(int64_t rows) {
    const int64_t end = row_ + rows < end_ ? row_ + rows : end_;
    if (row_ >= end) return;
    if (plain_) store_plain(end);
    else store_any(end);
  }
  void finish() { store(panel_rows); }

 private:
  [[gnu::always_inline]] void store_plain(int64_t end) {
    const Epilogue& epilogue = product_->epilogue;
    for (; row_ < end; ++row_) {
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t at = row_ * product_->n + product_->outputs[2 * pair_ + half];
        __m512 y = scaled(half);
        if (epilogue.residual) y = _mm512_add_ps(y, Vector::load(epilogue.residual + at));
        Vector::store(product_->y + at, bounds_.within(y));
      }
    }
  }
  // Positions that are no outputs are closed up, as outputs that follow each other in y.
  [[gnu::noinline]] void store_any(int64_t end) {
    const Epilogue& epilogue = product_->epilogue;
    for (; row_ < end; ++row_) {
      for (int64_t half = 0; half < 2; ++half) {
        const __mmask16 lanes = product_->lanes[2 * pair_ + half];
        if (lanes == 0) continue;
        const int64_t at = row_ * product_->n + product_->outputs[2 * pair_ + half];
        const auto there = static_cast<__mmask16>((1u << _mm_popcnt_u32(lanes)) - 1);
        __m512 y = _mm512_maskz_compress_ps(lanes, scaled(half));
        if (epilogue.residual) y = _mm512_add_ps(y, Vector::load(epilogue.residual + at, there));
        Vector::store(product_->y + at, there, epilogue::activate<Vector>(epilogue.activation, y));
      }
    }
  }
  // Tiles of sums lie [16 rows][16 positions], those of the next 16 rows before those of the second 16 positions.
  [[gnu::always_inline]] __m512 scaled(int64_t half) const {
    const PanelView& weights = product_->weights;
    const float* const bias = product_->epilogue.bias;
    const int32_t* sums = sums_ + row_ % 32 * 16 + half * 512;
    const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums), _mm512_set1_epi32(weights.offsets[row_]));
    const __m512 step = Vector::load(product_->position_steps + (2 * pair_ + half) * 16);
    const __m512 scale = _mm512_mul_ps(step, Vector::set(weights.scales[row_]));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, Vector::set(bias ? bias[row_] : 0.0f));
  }

  const Positions* product_ = nullptr;
  const int32_t* sums_ = nullptr;
  int64_t pair_ = 0, row_ = 0, fetched_ = 0;
  Bounds bounds_;
  int64_t end_ = 0;
  bool plain_ = false;
};

struct PositionJob {
  using Results = PositionResults;
  const Positions& product;

  Pair pair(int64_t i) const { return {product.planes + i * 128, product.offsets, product.stride, 64}; }
  bool both(int64_t i) const { return product.positions - i * 32 > 16; }
  Results results(int64_t panel, int64_t i, const int32_t* sums) const { return {product, panel, i, sums}; }
};

}  // namespace

void multiply_positions(const Positions& product, int64_t first, int64_t count, uint8_t* room) {
  run_panels<Operand::second>(PositionJob{product}, product.weights, (product.positions + 31) / 32, first, count, room);
}

}  // namespace sparsify::amx
