// The f16 kernel: blocks of columns as in fp32 (f32_prepared.h), multiplied and added up in halves (f16_spmm.h).
#pragma once

#include <memory>

#include "f16_loops.h"
#include "f32_prepared.h"

namespace sparsify::f16 {

// `wide` packs and finishes in fp32 on the same processor.
f32::Plan plan(const f32::Loops& wide, const Weights& weights, const Shape& shape);
std::unique_ptr<Prepared> prepare(const Loops& loops, const f32::Loops& wide, const Weights& weights,
                                  const Shape& shape);

}  // namespace sparsify::f16
