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
  bool in_place;          // channels are read where they lie, not packed; a last tile that no vectors fill still is
  double nanoseconds;     // expected of one call
};

// What a cut has to know of the loops that it is made for.
struct Grain {
  const Loops& prices;   // whose calibration is taken
  int32_t width;         // positions in a vector, a multiple of the vectors that are priced
  int32_t most_vectors;  // in a tile
  double bytes;          // of a packed number
  int32_t chunk;         // columns after which sums are widened, which blocks then divide; 0 where they are in fp32
};

Plan plan(const Grain& grain, const Weights& weights, const Shape& shape);
Plan plan(const Loops& loops, const Weights& weights, const Shape& shape);
std::unique_ptr<Prepared> prepare(const Loops& loops, const Weights& weights, const Shape& shape, const Plan& plan);

}  // namespace sparsify::f32
