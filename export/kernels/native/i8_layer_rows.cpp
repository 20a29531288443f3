// token_major with weights of rows_16 and rows_32 on AMX: a block of tokens is quantised, its bytes are turned so that
// a column's lie together, and every panel gathers the columns it keeps.
#if defined(__x86_64__)
#include <algorithm>

#include "i8_amx.h"
#include "i8_kept.h"
#include "i8_prepared.h"
#include "i8_share.h"
#include "i8_token_blocks.h"
#include "quantize.h"

namespace sparsify {
namespace {

constexpr int64_t most_tokens = 128;  // a block: activations of 128 bytes a column

class KeptLayer final : public Prepared {
 public:
  explicit KeptLayer(const Weights& weights)
      : columns_(weights.columns), padded_((columns_ + 63) / 64 * 64), panels_(weights) {}

  size_t bytes() const override { return panels_.bytes(); }

  void run(const Problem& problem, Pool& pool) const override {
    for_blocks(problem.n, most_tokens, amx::group_tokens, [&](Range tokens) { run_block(problem, tokens, pool); });
  }

 private:
  void run_block(const Problem& problem, Range tokens, Pool& pool) const {
    const KeptView weights = panels_.view();
    const int64_t n = tokens.count(), groups = (n + amx::group_tokens - 1) / amx::group_tokens;
    float* const steps = reinterpret_cast<float*>(thread_scratch(Scratch::scales, static_cast<size_t>(n) * 4));
    const uint8_t* const planes = laid_out(problem.x + tokens.begin * columns_, n, groups, steps, pool);
    const amx::KeptTokens product{weights, planes, padded_, steps, n, problem.y + tokens.begin * weights.rows,
                                  epilogue_from(problem, tokens.begin, weights.rows)};
    for_shares(pool, weights.panels, [&](Range mine) {
      const auto room = static_cast<size_t>(amx::kept_room_bytes(weights.most_steps));
      amx::multiply_kept(product, mine.begin, mine.count(), thread_scratch(Scratch::panels, room));
    });
    normalise(problem, tokens, weights.rows, pool);
  }

  // Planes of x[n][columns], and what each token's byte stands for.
  const uint8_t* laid_out(const float* x, int64_t n, int64_t groups, float* steps, Pool& pool) const {
    const int64_t stride = (padded_ / 64 | 1) * 64;  // an odd multiple of 64, to spread over the cache
    const int64_t room = groups * amx::group_tokens;
    uint8_t* const bytes = thread_scratch(Scratch::image, static_cast<size_t>(room * stride));
    uint8_t* const planes = thread_scratch(Scratch::activations, static_cast<size_t>(room * padded_));
    for_shares(pool, n, [&](Range mine) {
      for (int64_t t = mine.begin; t < mine.end; ++t) {
        steps[t] = quantizer().token(x + t * columns_, columns_, bytes + t * stride, 64);
      }
    });
    for_shares(pool, groups * padded_ / 64, [&](Range mine) {  // of 64 columns of one group
      for (int64_t i = mine.begin; i < mine.end; ++i) {
        const int64_t group = i / (padded_ / 64), column = i % (padded_ / 64) * 64;
        amx::lay_planes(bytes + group * amx::group_tokens * stride + column, stride, 64,
                        planes + (group * padded_ + column) * amx::group_tokens);
      }
    });
    return planes;
  }

  int64_t columns_, padded_;
  KeptPanels panels_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_amx_rows(const Weights& weights, const Shape&) {
  return std::make_unique<KeptLayer>(weights);
}

}  // namespace sparsify
#endif
