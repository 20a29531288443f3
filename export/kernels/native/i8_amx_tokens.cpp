// token_major on AMX: tokens are the first operand, so sums lie as the result does: [token][row].
#include "epilogue_loops.h"
#include "f32_vector_avx512.h"
#include "i8_amx_core.h"

namespace sparsify::amx {
namespace {

using Vector = avx512::Vector;

// The sums of 32 tokens and 32 rows: scaled, finished and stored a token at a time. What goes between two products has
// to be few instructions, so a whole panel whose activation only bounds has a path of its own.
class TokenResults {
 public:
  TokenResults() = default;  // of nothing
  TokenResults(const Tokens& product, int64_t panel, int64_t first_token, const int32_t* sums)
      : product_(&product), sums_(sums), steps_(product.token_steps + first_token),
        at_(first_token * product.weights.rows + panel * panel_rows), row_(panel * panel_rows),
        bounds_(product.epilogue.activation), tokens_(first_token + 32 < product.n ? 32 : product.n - first_token),
        plain_(bounds_.suffice && row_ + panel_rows <= product.weights.rows) {}

  // Fetches what the next tokens' results go to, a pair ahead of their stores: y is as a rule not in the cache.
  [[gnu::always_inline]] void prefetch(int64_t tokens) {
    for (; tokens > 0 && fetched_ < tokens_; --tokens, ++fetched_) {
      const float* const y = product_->y + at_ + fetched_ * product_->weights.rows;
      __builtin_prefetch(y, 1);
      __builtin_prefetch(y + 16, 1);
    }
  }
  [[gnu::always_inline]] void store(int64_t tokens) {
    const int64_t end = token_ + tokens < tokens_ ? token_ + tokens : tokens_;
    if (token_ == end) return;
    if (plain_) store_until<true>(end);
    else store_any(end);
  }
  void finish() { store(32); }

 private:
  // Not inlined four times a step: an activation takes longer than the call.
  [[gnu::noinline]] void store_any(int64_t end) { store_until<false>(end); }

  template <bool plain>
  [[gnu::always_inline]] void store_until(int64_t end) {
    const PanelView& weights = product_->weights;
    const Epilogue& epilogue = product_->epilogue;
    for (; token_ < end; ++token_, at_ += weights.rows) {
      const __m512 step = _mm512_set1_ps(steps_[token_]);
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t row = row_ + 16 * half, at = at_ + 16 * half;
        const __mmask16 lanes = plain ? 0xffff : Vector::first(weights.rows - row);
        __m512 y = scaled(half, step, epilogue.bias ? Vector::load(epilogue.bias + row, lanes) : Vector::zero());
        if (epilogue.residual) y = _mm512_add_ps(y, Vector::load(epilogue.residual + at, lanes));
        y = plain ? bounds_.within(y) : epilogue::activate<Vector>(epilogue.activation, y);
        Vector::store(product_->y + at, lanes, y);
      }
    }
  }
  // Tiles of sums lie [16 tokens][16 rows], those of the second 16 rows before those of the next 16 tokens.
  [[gnu::always_inline]] __m512 scaled(int64_t half, __m512 step, __m512 bias) const {
    const PanelView& weights = product_->weights;
    const int64_t row = row_ + 16 * half;
    const int32_t* sums = sums_ + token_ * 16 + (token_ & 16) * 16 + half * 256;
    const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums), _mm512_load_si512(weights.offsets + row));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(step, Vector::load(weights.scales + row)), bias);
  }

  const Tokens* product_ = nullptr;
  const int32_t* sums_ = nullptr;
  const float* steps_ = nullptr;
  int64_t at_ = 0, row_ = 0, token_ = 0, fetched_ = 0;
  Bounds bounds_;
  int64_t tokens_ = 0;
  bool plain_ = false;
};

struct TokenJob {
  using Results = TokenResults;
  const Tokens& product;

  Pair pair(int64_t i) const {
    return {product.tiles + i * product.weights.steps * step_bytes, product.offsets, 64, 1024};
  }
  bool both(int64_t i) const { return product.n - i * 32 > 16; }
  Results results(int64_t panel, int64_t i, const int32_t* sums) const { return {product, panel, i * 32, sums}; }
};

}  // namespace

void multiply_tokens(const Tokens& product, int64_t first, int64_t count, uint8_t* room) {
  run_panels<Operand::first>(TokenJob{product}, product.weights, (product.n + 31) / 32, first, count, room);
}

}  // namespace sparsify::amx
