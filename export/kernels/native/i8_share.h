// Even parts of a range, for tasks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "problem.h"

namespace sparsify {

struct Range {
  int64_t begin, end;
  int64_t count() const { return end - begin; }
};

// Part `i` of `parts` of [0, total), whose bounds are multiples of `grain` or the end.
inline Range share_of(int64_t total, int64_t parts, int64_t i, int64_t grain = 1) {
  const int64_t grains = (total + grain - 1) / grain;
  const int64_t begin = grains * i / parts * grain, end = grains * (i + 1) / parts * grain;
  return {begin < total ? begin : total, end < total ? end : total};
}

// Into how many parts of rows a product is cut beside its `tiles` of positions. Where there is a tile for every thread,
// only images need it: a row that ends inside a line of the cache is not shared well, for two threads would write that
// line in turns.
inline int64_t parts_of_rows(const Problem& problem, int64_t tiles, int64_t threads, int64_t bands) {
  const bool lines_shared = problem.layout != Layout::token_major && problem.n % 16 != 0;
  return tiles >= threads && !lines_shared ? 1 : std::min(threads, bands);
}

}  // namespace sparsify
