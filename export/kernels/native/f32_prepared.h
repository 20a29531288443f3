// The f32 kernels that multiply blocks of columns (f32_spmm.h): how a layer is cut up, and who runs which piece.
#pragma once

#include <memory>

#include "f32_loops.h"
#include "kernel.h"

namespace sparsify::f32 {

// How a layer is cut for one instruction set.
struct Plan {
  int32_t vectors;        // in a tile of positions
  int32_t block_columns;
  int32_t parts;          // groups of rows that are done one after the other, or by different threads
  bool strips;            // an image's tiles are strips of rows (f32_strips.h) instead of runs of positions
  double nanoseconds;     // expected of one call
};

Plan plan(const Loops& loops, const Weights& weights, const Shape& shape);
std::unique_ptr<Prepared> prepare(const Loops& loops, const Weights& weights, const Shape& shape, const Plan& plan);

}  // namespace sparsify::f32
