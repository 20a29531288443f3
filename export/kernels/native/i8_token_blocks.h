// What int8 layers share: tokens in blocks, even parts for threads, and the epilogue of one block.
#pragma once

#include <algorithm>

#include "epilogue.h"
#include "i8_share.h"
#include "pool.h"
#include "problem.h"

namespace sparsify {

// f(tokens) for even blocks of at most `most` tokens, whose bounds are multiples of `grain`.
template <typename F>
void for_blocks(int64_t n, int64_t most, int64_t grain, F&& f) {
  const int64_t blocks = (n + most - 1) / most;
  for (int64_t i = 0; i < blocks; ++i) {
    const Range tokens = share_of(n, blocks, i, grain);
    if (tokens.count() > 0) f(tokens);
  }
}

// f(part) for even parts of [0, total), one a thread, whose bounds are multiples of `grain`.
template <typename F>
void for_shares(Pool& pool, int64_t total, F&& f, int64_t grain = 1) {
  const int64_t parts = std::min<int64_t>(pool.threads(), (total + grain - 1) / grain);
  pool.for_each(static_cast<size_t>(parts), [&](size_t i) {
    f(share_of(total, parts, static_cast<int64_t>(i), grain));
  });
}

// For y from `token` on: the residual lies as y does.
inline Epilogue epilogue_from(const Problem& problem, int64_t token, int64_t rows) {
  Epilogue epilogue = problem.epilogue;
  if (epilogue.residual) epilogue.residual += token * rows;
  return epilogue;
}

// LayerNorm needs whole tokens, which several panels, so perhaps several threads, have written.
inline void normalise(const Problem& problem, Range tokens, int64_t rows, Pool& pool) {
  if (!problem.epilogue.norm_scale) return;
  Epilogue norm = problem.epilogue;
  norm.residual = nullptr;
  norm.activation = Activation::none;
  for_shares(pool, tokens.count(), [&](Range mine) {
    finish_token_major(norm, problem.y, rows, tokens.begin + mine.begin, mine.count());
  });
}

}  // namespace sparsify
