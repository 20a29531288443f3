#include "f32_strips.h"

#include <algorithm>

#include "epilogue.h"
#include "f32_blocks.h"
#include "f32_gather.h"
#include "f32_scratch.h"

namespace sparsify::f32 {

StripLayout::StripLayout(const Image& image, int32_t vectors) : shifts(0) {
  for (int32_t ky = 0; ky < image.kernel_height; ++ky) {
    const int32_t phase = ky * image.dilation_y % image.stride_y;
    if (std::find(phases.begin(), phases.end(), phase) == phases.end()) phases.push_back(phase);
    shifts = std::max(shifts, ky * image.dilation_y / image.stride_y);
  }
  rows = static_cast<int32_t>(phases.size()) * (vectors + shifts);
  channel_vectors = rows * image.kernel_width;
}

std::vector<uint16_t> StripLayout::place(const Image& image, int32_t channels) const {
  const int32_t phase_rows = rows / static_cast<int32_t>(phases.size());
  std::vector<uint16_t> places;
  for (int32_t c = 0; c < channels; ++c) {
    for (int32_t ky = 0; ky < image.kernel_height; ++ky) {
      const int32_t offset = ky * image.dilation_y;
      const auto found = std::find(phases.begin(), phases.end(), offset % image.stride_y);
      const auto row = static_cast<int32_t>(found - phases.begin()) * phase_rows + offset / image.stride_y;
      for (int32_t kx = 0; kx < image.kernel_width; ++kx) {
        places.push_back(static_cast<uint16_t>((c * image.kernel_width + kx) * rows + row));
      }
    }
  }
  return places;
}

namespace {

// One strip's geometry in the image, the same for all channels.
class StripView {
 public:
  StripView(const Image& image, const StripLayout& layout, int32_t first_y, int32_t first_x, int32_t width)
      : image_(image), rows_(layout.rows) {
    const int32_t phase_rows = layout.rows / static_cast<int32_t>(layout.phases.size());
    for (const int32_t phase : layout.phases) {
      for (int32_t r = 0; r < phase_rows; ++r) {
        const int64_t y = static_cast<int64_t>(first_y + r) * image.stride_y + phase - image.pad_top;
        row_.push_back(y >= 0 && y < image.height ? y * image.width : -1);
      }
    }
    const int64_t step = image.stride_x;
    for (int32_t kx = 0; kx < image.kernel_width; ++kx) {
      const int64_t x = first_x * step - image.pad_left + static_cast<int64_t>(kx) * image.dilation_x;
      const int64_t from = x >= 0 ? 0 : (-x + step - 1) / step;
      const int64_t to = x >= image.width ? 0 : (image.width - x + step - 1) / step;
      column_.push_back(x);
      lane_from_.push_back(static_cast<int32_t>(std::min<int64_t>(from, width)));
      lane_to_.push_back(static_cast<int32_t>(std::min<int64_t>(to, width)));
    }
  }

  StripTile view() const {
    return {row_.data(), column_.data(),  lane_from_.data(), lane_to_.data(), image_.kernel_width,
            rows_,       image_.stride_x, static_cast<int64_t>(image_.height) * image_.width};
  }

 private:
  const Image& image_;
  int32_t rows_;
  std::vector<int64_t> row_, column_;
  std::vector<int32_t> lane_from_, lane_to_;
};

class StripMatrix final : public Prepared {
 public:
  StripMatrix(const Loops& loops, const Weights& weights, const Shape& shape, const Plan& plan)
      : loops_(loops), vectors_(plan.vectors), rows_(weights.rows), groups_(group_count(shape)),
        taps_(shape.image.kernel_height * shape.image.kernel_width), channels_(std::max(1, plan.block_columns / taps_)),
        layout_(shape.image, plan.vectors),
        parts_(make_parts(sparse_rows<float>(weights), weights.columns, groups_, plan.parts,
                          layout_.place(shape.image, channels_))) {}

  void run(const Problem& problem, Pool& pool) const override {
    const Image& image = problem.image;
    const int64_t strips = (image.out_width + loops_.width - 1) / loops_.width;
    const int64_t bands = (image.out_height + vectors_ - 1) / vectors_;
    const auto parts = static_cast<int64_t>(parts_.size());
    pool.for_each(static_cast<size_t>(problem.batch * parts * strips * bands), [&](size_t i) {
      const auto task = static_cast<int64_t>(i);
      const int64_t strip = task % strips, band = task / strips % bands;
      const int64_t first = image.out_height * band / bands, past = image.out_height * (band + 1) / bands;
      run_tile(problem, parts_[static_cast<size_t>(task / strips / bands % parts)], task / strips / bands / parts,
               static_cast<int32_t>(first), static_cast<int32_t>(strip * loops_.width),
               static_cast<int32_t>(past - first));
    });
  }

  size_t bytes() const override { return total_bytes(parts_); }

 private:
  // All rows of a part; output rows [first_y, first_y + vectors), columns from first_x on.
  void run_tile(const Problem& problem, const Part& part, int64_t image, int32_t first_y, int32_t first_x,
                int32_t vectors) const {
    const StripView view(problem.image, layout_, first_y, first_x, loops_.width);
    const int64_t packed_floats = static_cast<int64_t>(channels_) * layout_.channel_vectors * loops_.width;
    float* packed = scratch(static_cast<size_t>(packed_floats + int64_t{vectors} * loops_.width * part.rows()));
    Tile tile = describe(problem, part, image, first_y, first_x, vectors);
    tile.sums = packed + packed_floats;
    const StripTile strip = view.view();
    const float* x = group_input(problem, part.first_row() / (rows_ / groups_), image);
    for (const Block& block : part.blocks()) {
      loops_.pack_strip(x + block.first_column / taps_ * strip.plane, strip, block.columns / taps_, packed);
      loops_.multiply(block, packed, loops_.width, tile, &block == &part.blocks().front(),
                      &block == &part.blocks().back());
    }
    finish(problem, part, image, first_y, first_x, vectors, tile.lanes[0]);
  }

  Tile describe(const Problem& problem, const Part& part, int64_t image, int32_t first_y, int32_t first_x,
                int32_t vectors) const {
    const Epilogue& epilogue = problem.epilogue;
    const int64_t out_width = problem.image.out_width;
    const int64_t offset = (image * rows_ + part.first_row()) * problem.n + first_y * out_width + first_x;
    Tile tile = {};
    tile.vectors = vectors;
    tile.bias = epilogue.bias == nullptr ? nullptr : epilogue.bias + part.first_row();
    tile.y = problem.y + offset;
    tile.residual = epilogue.residual == nullptr ? nullptr : epilogue.residual + offset;
    tile.row_stride = problem.n;
    tile.vector_stride = out_width;
    tile.activation = epilogue.activation;
    const auto lanes = static_cast<int32_t>(std::min<int64_t>(loops_.width, out_width - first_x));
    for (int32_t v = 0; v < vectors; ++v) tile.lanes[v] = lanes;
    return tile;
  }

  void finish(const Problem& problem, const Part& part, int64_t image, int32_t first_y, int32_t first_x,
              int32_t vectors, int32_t lanes) const {
    Epilogue rest;
    rest.activation = problem.epilogue.activation;
    if (done_in_registers(rest.activation)) return;
    for (int32_t v = 0; v < vectors; ++v) {
      finish_channel_major(rest, problem.y + image * rows_ * problem.n, problem.n, part.first_row(), part.rows(),
                           static_cast<int64_t>(first_y + v) * problem.image.out_width + first_x, lanes);
    }
  }

  const Loops& loops_;
  int32_t vectors_, rows_, groups_, taps_, channels_;
  StripLayout layout_;
  std::vector<Part> parts_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_strips(const Loops& loops, const Weights& weights, const Shape& shape,
                                         const Plan& plan) {
  return std::make_unique<StripMatrix>(loops, weights, shape, plan);
}

}  // namespace sparsify::f32
