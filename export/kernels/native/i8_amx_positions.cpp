// channel_major and image on AMX: weights are the first operand, so sums lie as the result does: [row][position].
#include "epilogue_loops.h"
#include "f32_vector_avx512.h"
#include "i8_amx_core.h"

namespace sparsify::amx {
namespace {

using Vector = avx512::Vector;

// The sums of 32 rows and 32 positions: scaled, finished and stored a row at a time.
class PositionResults {
 public:
  PositionResults() = default;  // of nothing
  PositionResults(const Positions& product, int64_t panel, int64_t pair, const int32_t* sums)
      : product_(&product), sums_(sums), pair_(pair), row_(panel * panel_rows), fetched_(row_),
        end_(row_ + panel_rows < product.weights.rows ? row_ + panel_rows : product.weights.rows) {}

  // Fetches what the next rows' results go to, a pair ahead of their stores: y is as a rule not in the cache.
  void prefetch(int64_t rows) {
    for (; rows > 0 && fetched_ < end_; --rows, ++fetched_) {
      const float* y = product_->y + fetched_ * product_->n + product_->outputs[2 * pair_];
      __builtin_prefetch(y, 1);
      __builtin_prefetch(y + 16, 1);
    }
  }
  void store(int64_t rows) {
    for (; rows > 0 && row_ < end_; --rows, ++row_) {
      const int32_t* sums = sums_ + row_ % 32 / 16 * 256 + row_ % 16 * 16;
      finish(sums, 2 * pair_);
      finish(sums + 512, 2 * pair_ + 1);
    }
  }
  void finish() { store(panel_rows); }

 private:
  // 16 positions of a row. Those that are no outputs are closed up, as outputs that follow each other in y.
  void finish(const int32_t* sums, int64_t vector) const {
    const PanelView& weights = product_->weights;
    const Epilogue& epilogue = product_->epilogue;
    const __mmask16 lanes = product_->lanes[vector];
    if (lanes == 0) return;
    const int64_t at = row_ * product_->n + product_->outputs[vector];
    const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums), _mm512_set1_epi32(weights.offsets[row_]));
    const __m512 step = Vector::load(product_->position_steps + vector * 16);
    const __m512 bias = Vector::set(epilogue.bias ? epilogue.bias[row_] : 0.0f);
    __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(step, Vector::set(weights.scales[row_])), bias);
    __mmask16 there = lanes;
    if (lanes != 0xffff) {
      y = _mm512_maskz_compress_ps(lanes, y);
      there = static_cast<__mmask16>((1u << _mm_popcnt_u32(lanes)) - 1);
    }
    if (epilogue.residual) y = _mm512_add_ps(y, Vector::load(epilogue.residual + at, there));
    Vector::store(product_->y + at, there, epilogue::activate<Vector>(epilogue.activation, y));
  }

  const Positions* product_ = nullptr;
  const int32_t* sums_ = nullptr;
  int64_t pair_ = 0, row_ = 0, fetched_ = 0, end_ = 0;
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
