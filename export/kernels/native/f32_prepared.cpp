#include "f32_prepared.h"

#include <algorithm>

#include "f32_gather.h"
#include "f32_scratch.h"
#include "f32_strips.h"
#include "f32_tiles.h"

namespace sparsify::f32 {
namespace {

class SparseMatrix final : public TiledMatrix {
 public:
  SparseMatrix(const Loops& loops, const Weights& weights, const Shape& shape, const Plan& plan)
      : TiledMatrix(loops.width, weights, shape, plan,
                    make_parts(sparse_rows<float>(weights), weights.columns, group_count(shape), plan.parts,
                               side_by_side(plan.block_columns))),
        loops_(loops) {}

 private:
  void run_tile(const Problem& problem, const Part& part, int64_t image, int64_t first,
                int32_t vectors) const override {
    const int64_t width = static_cast<int64_t>(vectors) * loops_.width;
    const int64_t positions = std::min(width, problem.n - first);
    // Read where they lie, the last vectors of a tile that is not full might reach past the end of x.
    const bool in_place = plan().in_place && positions == width;
    float* packed = scratch(static_cast<size_t>(width * (plan().block_columns + part.rows())));
    Tile tile = describe(problem, part, image, first, vectors, loops_.width);
    tile.sums = packed + width * plan().block_columns;
    const float* x = input(problem, part, image);
    GatherTile gather;
    if (problem.layout == Layout::image) gather = GatherTile(problem.image, first, positions, width);
    for (const Block& block : part.blocks()) {
      const int32_t k = block.first_column;
      const float* operand = packed;
      if (in_place) {
        operand = x + k * problem.n + first;
      } else if (problem.layout == Layout::token_major) {
        loops_.pack_tokens(x + first * columns() + k, columns(), positions, block.columns, vectors, packed);
      } else if (problem.layout == Layout::channel_major) {
        loops_.pack_channels(x + k * problem.n + first, problem.n, positions, block.columns, vectors, packed);
      } else {
        loops_.pack_image(x, gather.view(), k, block.columns, vectors, packed);
      }
      const bool is_first = &block == &part.blocks().front(), is_last = &block == &part.blocks().back();
      loops_.multiply(block, operand, in_place ? problem.n : width, tile, is_first,
                      is_last && problem.layout != Layout::token_major);
    }
    finish_tile(loops_, problem, part, image, first, positions, tile);
  }

  const Loops& loops_;
};

}  // namespace

std::unique_ptr<Prepared> prepare(const Loops& loops, const Weights& weights, const Shape& shape, const Plan& plan) {
  if (plan.strips) return prepare_strips(loops, weights, shape, plan);
  return std::make_unique<SparseMatrix>(loops, weights, shape, plan);
}

}  // namespace sparsify::f32
