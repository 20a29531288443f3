#include "f32_prepared.h"

#include <algorithm>
#include <vector>

#include "epilogue.h"
#include "f32_blocks.h"
#include "f32_gather.h"
#include "f32_scratch.h"
#include "f32_strips.h"

namespace sparsify::f32 {
namespace {

// Tiles are runs of positions, for any layout.
class SparseMatrix final : public Prepared {
 public:
  SparseMatrix(const Loops& loops, const Weights& weights, const Shape& shape, const Plan& plan)
      : loops_(loops), plan_(plan), rows_(weights.rows), columns_(weights.columns), groups_(group_count(shape)),
        parts_(make_parts(weights, groups_, plan.parts, side_by_side(plan.block_columns))) {}

  void run(const Problem& problem, Pool& pool) const override {
    const int64_t vectors = (problem.n + loops_.width - 1) / loops_.width;
    if (vectors == 0 || problem.batch == 0) return;
    const int64_t threads = std::max(1, pool.threads());
    int64_t tiles = (vectors + plan_.vectors - 1) / plan_.vectors;
    const int64_t even = (tiles + threads - 1) / threads * threads;  // as many for every thread
    if (even <= vectors) tiles = even;
    const auto parts = static_cast<int64_t>(parts_.size());
    pool.for_each(static_cast<size_t>(problem.batch * parts * tiles), [&](size_t i) {
      const auto task = static_cast<int64_t>(i);
      const int64_t tile = task % tiles, part = task / tiles % parts, image = task / tiles / parts;
      const int64_t first = vectors * tile / tiles, past = vectors * (tile + 1) / tiles;
      run_tile(problem, parts_[static_cast<size_t>(part)], image, first * loops_.width,
               static_cast<int32_t>(past - first));
    });
    if (problem.layout == Layout::token_major) finish_tokens(problem, pool);
  }

  size_t bytes() const override { return total_bytes(parts_); }

 private:
  // All rows of a part at positions [first, first + vectors * width).
  void run_tile(const Problem& problem, const Part& part, int64_t image, int64_t first, int32_t vectors) const {
    const int64_t width = static_cast<int64_t>(vectors) * loops_.width;
    const int64_t positions = std::min(width, problem.n - first);
    float* packed = scratch(static_cast<size_t>(width * (plan_.block_columns + part.rows())));
    Tile tile = describe(problem, part, image, first, vectors);
    tile.sums = packed + width * plan_.block_columns;
    const float* x = input(problem, part, image);
    GatherTile gather;
    if (problem.layout == Layout::image) gather = GatherTile(problem.image, first, positions, width);
    for (const Block& block : part.blocks()) {
      const int32_t k = block.first_column;
      if (problem.layout == Layout::token_major) {
        loops_.pack_tokens(x + first * columns_ + k, columns_, positions, block.columns, vectors, packed);
      } else if (problem.layout == Layout::channel_major) {
        loops_.pack_channels(x + k * problem.n + first, problem.n, positions, block.columns, vectors, packed);
      } else {
        loops_.pack_image(x, gather.view(), k, block.columns, vectors, packed);
      }
      const bool is_first = &block == &part.blocks().front(), is_last = &block == &part.blocks().back();
      loops_.multiply(block, packed, width, tile, is_first, is_last && problem.layout != Layout::token_major);
    }
    if (problem.layout == Layout::token_major) {
      loops_.unpack_tokens(tile.sums, part.rows(), vectors, positions, early_activation(problem.epilogue),
                           problem.y + first * rows_ + part.first_row(), rows_);
    } else {
      finish_image(problem, part, image, first, positions);
    }
  }

  Tile describe(const Problem& problem, const Part& part, int64_t image, int64_t first, int32_t vectors) const {
    const Epilogue& epilogue = problem.epilogue;
    Tile tile = {};
    tile.vectors = vectors;
    tile.bias = epilogue.bias == nullptr ? nullptr : epilogue.bias + part.first_row();
    if (problem.layout == Layout::token_major) return tile;
    const int64_t offset = (image * rows_ + part.first_row()) * problem.n + first;
    tile.y = problem.y + offset;
    tile.residual = epilogue.residual == nullptr ? nullptr : epilogue.residual + offset;
    tile.row_stride = problem.n;
    tile.vector_stride = loops_.width;
    tile.activation = epilogue.activation;
    for (int32_t v = 0; v < vectors; ++v) {
      const int64_t left = problem.n - first - static_cast<int64_t>(v) * loops_.width;
      tile.lanes[v] = static_cast<int32_t>(std::min<int64_t>(left, loops_.width));
    }
    return tile;
  }

  const float* input(const Problem& problem, const Part& part, int64_t image) const {
    if (problem.layout == Layout::token_major) return problem.x;
    if (problem.layout == Layout::channel_major) return problem.x + image * columns_ * problem.n;
    return group_input(problem, part.first_row() / (rows_ / groups_), image);
  }

  // The activation that `multiply` leaves out.
  void finish_image(const Problem& problem, const Part& part, int64_t image, int64_t first, int64_t positions) const {
    if (done_in_registers(problem.epilogue.activation)) return;
    Epilogue rest;
    rest.activation = problem.epilogue.activation;
    finish_channel_major(rest, problem.y + image * rows_ * problem.n, problem.n, part.first_row(), part.rows(), first,
                         positions);
  }

  // With a residual the activation has to wait for it.
  static Activation early_activation(const Epilogue& epilogue) {
    return epilogue.residual == nullptr ? epilogue.activation : Activation::none;
  }

  // Of whole tokens, when all parts are there.
  void finish_tokens(const Problem& problem, Pool& pool) const {
    Epilogue rest = problem.epilogue;
    if (rest.residual == nullptr) rest.activation = Activation::none;
    if (rest.residual == nullptr && rest.norm_scale == nullptr) return;
    const int64_t pieces = std::min<int64_t>(problem.n, std::max(1, pool.threads()));
    pool.for_each(static_cast<size_t>(pieces), [&](size_t i) {
      const auto piece = static_cast<int64_t>(i);
      const int64_t first = problem.n * piece / pieces, past = problem.n * (piece + 1) / pieces;
      finish_token_major(rest, problem.y, rows_, first, past - first);
    });
  }

  const Loops& loops_;
  Plan plan_;
  int32_t rows_, columns_, groups_;
  std::vector<Part> parts_;
};

}  // namespace

std::unique_ptr<Prepared> prepare(const Loops& loops, const Weights& weights, const Shape& shape, const Plan& plan) {
  if (plan.strips) return prepare_strips(loops, weights, shape, plan);
  return std::make_unique<SparseMatrix>(loops, weights, shape, plan);
}

}  // namespace sparsify::f32
