// token_major on AMX: tokens are the first operand, so sums lie as the result does: [token][row].
#include "epilogue_loops.h"
#include "f32_vector_avx512.h"
#include "i8_amx_core.h"

namespace sparsify::amx {
namespace {

using Vector = avx512::Vector;

// The sums of 32 tokens and 32 rows: scaled, finished and stored a token at a time.
class TokenResults {
 public:
  TokenResults() = default;  // of nothing
  TokenResults(const Tokens& product, int64_t panel, int64_t first_token, const int32_t* sums)
      : product_(&product), sums_(sums), row_(panel * panel_rows), token_(first_token), fetched_(first_token),
        end_(first_token + 32 < product.n ? first_token + 32 : product.n),
        low_(Vector::first(product.weights.rows - row_)), high_(Vector::first(product.weights.rows - row_ - 16)) {}

  // Fetches what the next tokens' results go to, a pair ahead of their stores: y is as a rule not in the cache.
  void prefetch(int64_t tokens) {
    for (; tokens > 0 && fetched_ < end_; --tokens, ++fetched_) {
      const float* y = product_->y + fetched_ * product_->weights.rows + row_;
      __builtin_prefetch(y, 1);
      __builtin_prefetch(y + 16, 1);
    }
  }
  void store(int64_t tokens) {
    for (; tokens > 0 && token_ < end_; --tokens, ++token_) {
      const int32_t* sums = sums_ + token_ % 32 / 16 * 512 + token_ % 16 * 16;
      const __m512 step = _mm512_set1_ps(product_->token_steps[token_]);
      finish(sums, row_, low_, step);
      finish(sums + 256, row_ + 16, high_, step);
    }
  }
  void finish() { store(32); }

 private:
  void finish(const int32_t* sums, int64_t row, __mmask16 lanes, __m512 step) const {
    const PanelView& weights = product_->weights;
    const Epilogue& epilogue = product_->epilogue;
    const int64_t at = token_ * weights.rows + row;
    const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums), _mm512_load_si512(weights.offsets + row));
    const __m512 scale = _mm512_mul_ps(step, Vector::load(weights.scales + row));
    const __m512 bias = epilogue.bias ? Vector::load(epilogue.bias + row, lanes) : Vector::zero();
    __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, bias);
    if (epilogue.residual) y = _mm512_add_ps(y, Vector::load(epilogue.residual + at, lanes));
    Vector::store(product_->y + at, lanes, epilogue::activate<Vector>(epilogue.activation, y));
  }

  const Tokens* product_ = nullptr;
  const int32_t* sums_ = nullptr;
  int64_t row_ = 0, token_ = 0, fetched_ = 0, end_ = 0;
  __mmask16 low_ = 0, high_ = 0;
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
