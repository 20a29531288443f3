// Even parts of a range, for tasks.
#pragma once

#include <cstdint>

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

}  // namespace sparsify
