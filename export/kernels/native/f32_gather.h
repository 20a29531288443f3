// Which pieces of an image make up a tile of output positions, tap by tap: im2col without the copy of the whole.
#pragma once

#include <cstdint>
#include <vector>

#include "f32_loops.h"
#include "kernel.h"

namespace sparsify::f32 {

int32_t group_count(const Shape& shape);

// The first channel of a group.
const float* group_input(const Problem& problem, int64_t group, int64_t image);

class GatherTile {
 public:
  GatherTile() = default;
  // Output positions [first, first + positions), row by row; zeros up to `width`.
  GatherTile(const Image& image, int64_t first, int64_t positions, int64_t width);

  Gather view() const;

 private:
  void add_row(const Image& image, int32_t tap, int32_t out_y, int32_t out_x, int32_t length, int32_t to);

  std::vector<Segment> segments_;
  std::vector<int32_t> tap_start_;
  int32_t step_ = 1;
  int64_t plane_ = 0;
};

}  // namespace sparsify::f32
