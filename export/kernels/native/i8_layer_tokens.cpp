// token_major with panels: a block of tokens is quantised, multiplied with every panel and finished while it is in the
// cache. A few tokens go through the GEMV, more through AMX where it is there.
#if defined(__x86_64__)
#include <algorithm>
#include <vector>

#include "i8_amx.h"
#include "i8_gemv.h"
#include "i8_integers.h"
#include "i8_prepared.h"
#include "i8_share.h"
#include "i8_token_blocks.h"
#include "quantize.h"

namespace sparsify {
namespace {

constexpr int64_t most_tokens = 128;  // a block: sums of 16 KB, activations of 128 bytes a column

class PanelLayer final : public Prepared {
 public:
  PanelLayer(const Weights& weights, bool tiles)
      : columns_(weights.columns), tiles_(tiles),
        panels_(dense_integers(weights).data(), weights.rows, weights.columns, weights.scales, Operand::second,
                weights.pattern != Pattern::dense) {
    for (int64_t step = 0; step < panels_.view().steps; ++step) offsets_.push_back(step * step_bytes);
  }

  size_t bytes() const override { return panels_.bytes(); }

  void run(const Problem& problem, Pool& pool) const override {
    if (problem.n <= most_gemv_tokens || !tiles_) {
      for (int64_t t = 0; t < problem.n; t += most_gemv_tokens) {
        run_gemv(problem, {t, std::min(problem.n, t + most_gemv_tokens)}, pool);
      }
    } else {
      for_blocks(problem.n, most_tokens, 32, [&](Range tokens) { run_block(problem, tokens, pool); });
    }
  }

 private:
  void run_block(const Problem& problem, Range tokens, Pool& pool) const {
    const PanelView weights = panels_.view();
    const int64_t n = tokens.count(), pairs = (n + 31) / 32, pair_bytes = weights.steps * step_bytes;
    uint8_t* const tiles = thread_scratch(Scratch::activations, static_cast<size_t>(pairs * pair_bytes));
    float* const steps = reinterpret_cast<float*>(thread_scratch(Scratch::scales, static_cast<size_t>(n) * 4));
    for_shares(pool, n, [&](Range mine) {
      for (int64_t t = mine.begin; t < mine.end; ++t) {
        uint8_t* const tile = tiles + t / 32 * pair_bytes + t % 32 * 64;
        steps[t] = quantizer().token(problem.x + (tokens.begin + t) * columns_, columns_, tile, step_bytes);
      }
    }, 32);
    const amx::Tokens product{weights, tiles, offsets_.data(), steps, n, problem.y + tokens.begin * weights.rows,
                              epilogue_from(problem, tokens.begin, weights.rows)};
    for_shares(pool, weights.panels, [&](Range mine) {
      uint8_t* const room = thread_scratch(Scratch::panels, static_cast<size_t>(amx::room_bytes(pairs)));
      amx::multiply_tokens(product, mine.begin, mine.count(), room);
    });
    normalise(problem, tokens, weights.rows, pool);
  }

  void run_gemv(const Problem& problem, Range tokens, Pool& pool) const {
    const PanelView weights = panels_.view();
    const int64_t row_bytes = weights.steps * step_columns;
    uint8_t* const bytes = thread_scratch(Scratch::activations, static_cast<size_t>(tokens.count() * row_bytes));
    float steps[most_gemv_tokens];
    for (int64_t t = 0; t < tokens.count(); ++t) {
      const float* const x = problem.x + (tokens.begin + t) * columns_;
      steps[t] = quantizer().token(x, columns_, bytes + t * row_bytes, step_columns);
    }
    const Gemv product{weights, bytes, steps, tokens.count(), problem.y + tokens.begin * weights.rows,
                       epilogue_from(problem, tokens.begin, weights.rows)};
    for_shares(pool, weights.panels, [&](Range mine) { multiply_gemv(product, mine.begin, mine.count()); });
    normalise(problem, tokens, weights.rows, pool);
  }

  int64_t columns_;
  bool tiles_;
  Panels panels_;
  std::vector<int64_t> offsets_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_amx_tokens(const Weights& weights, const Shape&) {
  return std::make_unique<PanelLayer>(weights, true);
}

std::unique_ptr<Prepared> prepare_gemv(const Weights& weights, const Shape&) {
  return std::make_unique<PanelLayer>(weights, false);
}

}  // namespace sparsify
#endif
