#include "f16_prepared.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "f32_gather.h"
#include "f32_scratch.h"
#include "f32_tiles.h"

namespace sparsify::f16 {
namespace {

// Columns whose products are added up in halves: so few that some 64 nonzeros of a row lie in them, which keeps the
// error of dense rows where that of sparse ones is. It follows from the weights alone: how a layer is cut changes no
// bits.
int32_t chunk_columns(const Weights& weights) {
  constexpr double NONZEROS = 64;
  int32_t chunk = MOST_CHUNK;
  while (chunk > 96 && density(weights) * chunk > NONZEROS) chunk /= 2;
  return chunk;
}

// What each row's weights were multiplied by is undone by `unscale`.
struct Scaled {
  SparseRows<float> rows;  // pairs of halves
  std::vector<float> unscale;
};

Scaled scaled(const Loops& loops, const Weights& weights) {
  Scaled made{sparse_rows<float>(weights), {}};
  SparseRows<float>& rows = made.rows;
  for (int32_t r = 0; r < weights.rows; ++r) {
    float* value = rows.value.data() + rows.start[r];
    double sum = 0;
    for (int64_t i = 0; i < rows.count(r); ++i) sum += std::abs(value[i]);
    int exponent = 0;
    std::frexp(sum, &exponent);  // sum <= 2^exponent
    loops.pair(value, rows.count(r), std::ldexp(1.0f, LARGEST_WEIGHTS - exponent));
    made.unscale.push_back(std::ldexp(1.0f, exponent - LARGEST_WEIGHTS));
  }
  return made;
}

class HalfMatrix final : public f32::TiledMatrix {
 public:
  HalfMatrix(const Loops& loops, const f32::Loops& wide, const Weights& weights, const Shape& shape,
             const f32::Plan& plan, const Scaled& scaled)
      : TiledMatrix(WIDTH, weights, shape, plan,
                    f32::make_parts(scaled.rows, weights.columns, f32::group_count(shape), plan.parts,
                                    f32::side_by_side(plan.block_columns))),
        loops_(loops), wide_(wide), chunk_(chunk_columns(weights)), unscale_(scaled.unscale) {}

  size_t bytes() const override { return TiledMatrix::bytes() + unscale_.size() * sizeof(float); }

 private:
  void run_tile(const Problem& problem, const f32::Part& part, int64_t image, int64_t first,
                int32_t vectors) const override {
    const int64_t width = static_cast<int64_t>(vectors) * WIDTH, positions = std::min(width, problem.n - first);
    const bool tokens = problem.layout == Layout::token_major;
    const int64_t halves = width * (plan().block_columns + part.rows());
    float* scale = f32::scratch(static_cast<size_t>(width * (2 + part.rows()) + halves / 2));
    float* unscale = scale + width;
    Tile tile = {};
    tile.wide = describe(problem, part, image, first, WIDER * vectors, WIDTH / WIDER);
    tile.wide.sums = unscale + width;
    tile.carried = reinterpret_cast<Half*>(tile.wide.sums + width * part.rows());
    tile.row_scale = unscale_.data() + part.first_row();
    tile.position_scale = unscale;
    Half* packed = tile.carried + width * part.rows();
    const float* x = input(problem, part, image) + (tokens ? first * columns() : first);
    const int64_t stride = tokens ? columns() : problem.n;
    (tokens ? loops_.scale_tokens : loops_.scale_channels)(x, stride, positions, columns(), vectors, scale, unscale);
    for (const f32::Block& block : part.blocks()) {
      const int32_t k = block.first_column, past = k + block.columns;
      const auto pack = tokens ? loops_.pack_tokens : loops_.pack_channels;
      pack(x + (tokens ? k : k * stride), stride, positions, block.columns, vectors, scale, packed);
      const Place place = {k % chunk_ == 0, past % chunk_ == 0 || past == columns(), k < chunk_,
                           past == columns() && !tokens};
      loops_.multiply(block, packed, tile, place);
    }
    finish_tile(wide_, problem, part, image, first, positions, tile.wide);
  }

  const Loops& loops_;
  const f32::Loops& wide_;
  int32_t chunk_;
  std::vector<float> unscale_;
};

}  // namespace

f32::Plan plan(const f32::Loops& wide, const Weights& weights, const Shape& shape) {
  return f32::plan({wide, WIDTH, MOST_VECTORS, sizeof(Half), chunk_columns(weights)}, weights, shape);
}

std::unique_ptr<Prepared> prepare(const Loops& loops, const f32::Loops& wide, const Weights& weights,
                                  const Shape& shape) {
  return std::make_unique<HalfMatrix>(loops, wide, weights, shape, f16::plan(wide, weights, shape),
                                      scaled(loops, weights));
}

}  // namespace sparsify::f16
