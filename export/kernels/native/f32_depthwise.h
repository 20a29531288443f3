// Depthwise convolutions: each channel's plane by a kernel of its own, zeros of the weights multiplied like the rest.
#pragma once

#include <memory>

#include "f32_loops.h"
#include "kernel.h"

namespace sparsify::f32 {

// Strides along a row that there are loops for.
constexpr int32_t MOST_DEPTHWISE_STRIDE = 2;

bool is_depthwise(const Weights& weights, const Shape& shape);
double depthwise_nanoseconds(const Loops& loops, const Weights& weights, const Shape& shape);
std::unique_ptr<Prepared> prepare_depthwise(const Loops& loops, const Weights& weights);

}  // namespace sparsify::f32
