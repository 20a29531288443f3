// The f32 kernels for a token or a few (f32_gemv.h).
#pragma once

#include <memory>

#include "f32_loops.h"
#include "kernel.h"

namespace sparsify::f32 {

constexpr int64_t MOST_GEMV_TOKENS = 4;

std::unique_ptr<Prepared> prepare_gemv(const Loops& loops, const Weights& weights);

// Groups of `width` values that the slices hold, the padding included: what the time goes by.
double gemv_groups(const Weights& weights, int width);

}  // namespace sparsify::f32
