// A sparse matrix whose tiles are runs of positions, for any layout: who runs which tile, and what follows.
#pragma once

#include <vector>

#include "f32_blocks.h"
#include "f32_prepared.h"

namespace sparsify::f32 {

// What `run_tile` multiplies with is left to the kernel.
class TiledMatrix : public Prepared {
 public:
  void run(const Problem& problem, Pool& pool) const final;
  size_t bytes() const override { return total_bytes(parts_); }

 protected:
  // A tile's vectors have `width` positions; `parts` follow the plan.
  TiledMatrix(int width, const Weights& weights, const Shape& shape, const Plan& plan, std::vector<Part> parts);

  // All rows of a part at positions [first, first + vectors * width).
  virtual void run_tile(const Problem& problem, const Part& part, int64_t image, int64_t first,
                        int32_t vectors) const = 0;

  const Plan& plan() const { return plan_; }
  int32_t rows() const { return rows_; }
  int32_t columns() const { return columns_; }
  // Of `vectors` vectors of `width` positions from `first` on; without sums.
  Tile describe(const Problem& problem, const Part& part, int64_t image, int64_t first, int32_t vectors,
                int width) const;
  const float* input(const Problem& problem, const Part& part, int64_t image) const;
  // Of a part's rows at `positions` positions: from `sums` to y where tokens are turned, and the activation.
  void finish_tile(const Loops& loops, const Problem& problem, const Part& part, int64_t image, int64_t first,
                   int64_t positions, const Tile& tile) const;

 private:
  void finish_tokens(const Problem& problem, Pool& pool) const;

  int width_;
  Plan plan_;
  int32_t rows_, columns_, groups_;
  std::vector<Part> parts_;
};

}  // namespace sparsify::f32
