#include "f32_tiles.h"

#include <algorithm>
#include <utility>

#include "epilogue.h"
#include "f32_gather.h"

namespace sparsify::f32 {
namespace {

// With a residual the activation has to wait for it.
Activation early_activation(const Epilogue& epilogue) {
  return epilogue.residual == nullptr ? epilogue.activation : Activation::none;
}

}  // namespace

TiledMatrix::TiledMatrix(int width, const Weights& weights, const Shape& shape, const Plan& plan,
                         std::vector<Part> parts)
    : width_(width), plan_(plan), rows_(weights.rows), columns_(weights.columns), groups_(group_count(shape)),
      parts_(std::move(parts)) {}

void TiledMatrix::run(const Problem& problem, Pool& pool) const {
  const int64_t vectors = (problem.n + width_ - 1) / width_;
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
    run_tile(problem, parts_[static_cast<size_t>(part)], image, first * width_, static_cast<int32_t>(past - first));
  });
  if (problem.layout == Layout::token_major) finish_tokens(problem, pool);
}

Tile TiledMatrix::describe(const Problem& problem, const Part& part, int64_t image, int64_t first, int32_t vectors,
                           int width) const {
  const Epilogue& epilogue = problem.epilogue;
  Tile tile = {};
  tile.vectors = vectors;
  tile.bias = epilogue.bias == nullptr ? nullptr : epilogue.bias + part.first_row();
  if (problem.layout == Layout::token_major) return tile;
  const int64_t offset = (image * rows_ + part.first_row()) * problem.n + first;
  tile.y = problem.y + offset;
  tile.residual = epilogue.residual == nullptr ? nullptr : epilogue.residual + offset;
  tile.row_stride = problem.n;
  tile.vector_stride = width;
  tile.activation = epilogue.activation;
  for (int32_t v = 0; v < vectors; ++v) {
    const int64_t left = problem.n - first - static_cast<int64_t>(v) * width;
    tile.lanes[v] = static_cast<int32_t>(std::clamp<int64_t>(left, 0, width));
  }
  return tile;
}

const float* TiledMatrix::input(const Problem& problem, const Part& part, int64_t image) const {
  if (problem.layout == Layout::token_major) return problem.x;
  if (problem.layout == Layout::channel_major) return problem.x + image * columns_ * problem.n;
  return group_input(problem, part.first_row() / (rows_ / groups_), image);
}

void TiledMatrix::finish_tile(const Loops& loops, const Problem& problem, const Part& part, int64_t image,
                              int64_t first, int64_t positions, const Tile& tile) const {
  if (problem.layout == Layout::token_major) {
    loops.unpack_tokens(tile.sums, part.rows(), tile.vectors, positions, early_activation(problem.epilogue),
                        problem.y + first * rows_ + part.first_row(), rows_);
    return;
  }
  if (done_in_registers(problem.epilogue.activation)) return;
  Epilogue rest;
  rest.activation = problem.epilogue.activation;
  finish_channel_major(rest, problem.y + image * rows_ * problem.n, problem.n, part.first_row(), part.rows(), first,
                       positions);
}

// Of whole tokens, when all parts are there.
void TiledMatrix::finish_tokens(const Problem& problem, Pool& pool) const {
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

}  // namespace sparsify::f32
