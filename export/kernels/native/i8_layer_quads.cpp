// Layers of quads, any layout: activations become planes of quads (i8_planes.h), then tiles of 64 positions are
// multiplied with all rows, 16 rows at a time finished while their sums are in L1.
#include <algorithm>
#include <vector>

#include "epilogue.h"
#include "i8_groups.h"
#include "i8_integers.h"
#include "i8_planes.h"
#include "i8_prepared.h"
#include "i8_quads.h"
#include "i8_share.h"
#include "quantize.h"

namespace sparsify {
namespace {

constexpr int64_t band_rows = 16;

// One group of one image, or all tokens, ready to be multiplied.
struct Ready {
  const Problem& problem;  // of this group and image
  const PlaneMap& map;
  const uint8_t* planes;   // of quads, or of bytes
  int64_t position_bytes;  // in a plane: 4, or 1
  const int64_t* offsets;  // of quads, or of columns
  const float* steps;      // [positions, up to a whole tile]
  const float* scales;     // [rows] of the weights
  QuadView weights;
};

// Rows [first, first + count), at most 16, of a tile that begins at `position`, from their sums to y.
void finish_band(const Ready& ready, const QuadLoops& loops, int64_t position, int64_t first, int64_t count,
                 const int32_t* sums) {
  const Problem& problem = ready.problem;
  const Epilogue& epilogue = problem.epilogue;
  const int64_t rows = ready.weights.rows, there = std::min(tile_positions, ready.map.positions - position);
  alignas(64) float scaled[band_rows * tile_positions];
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    loops.scale(sums + r * tile_positions, ready.weights.offsets[row], ready.scales[row], ready.steps + position,
                epilogue.bias ? epilogue.bias[row] : 0.0f, scaled + r * tile_positions);
  }
  if (problem.layout == Layout::token_major) {
    quantizer().transpose(reinterpret_cast<const uint32_t*>(scaled), tile_positions, count, there,
                          reinterpret_cast<uint32_t*>(problem.y + position * rows + first), rows);
    return;
  }
  const int64_t width = ready.map.width, out_width = problem.layout == Layout::image ? problem.image.out_width : width;
  int64_t begin = -1, end = 0;  // of the outputs written
  for (int64_t p = 0; p < there;) {
    const int64_t y = (position + p) / width, x = (position + p) % width, run = std::min(width - x, there - p);
    const int64_t length = std::min(run, out_width - x), output = y * out_width + x;
    if (length > 0) {
      for (int64_t r = 0; r < count; ++r) {
        std::copy_n(scaled + r * tile_positions + p, length, problem.y + (first + r) * problem.n + output);
      }
      begin = begin < 0 ? output : begin;
      end = output + length;
    }
    p += run;
  }
  if (begin >= 0) finish_channel_major(epilogue, problem.y, problem.n, first, count, begin, end - begin);
}

void multiply_tile(const Ready& ready, const QuadLoops& loops, int64_t tile, Range rows) {
  const QuadView& weights = ready.weights;
  const int64_t position = tile * tile_positions;
  const bool one = weights.blocks == 1;  // then sums go no farther than a band
  auto* const sums = reinterpret_cast<int32_t*>(
      thread_scratch(Scratch::results, static_cast<size_t>((one ? band_rows : rows.count()) * tile_positions) * 4));
  for (int64_t block = 0; block < weights.blocks; ++block) {
    for (int64_t first = rows.begin; first < rows.end; first += band_rows) {
      const int64_t count = std::min(band_rows, rows.end - first);
      int32_t* const band = one ? sums : sums + (first - rows.begin) * tile_positions;
      loops.multiply(weights, block, first, count, block > 0, ready.planes + position * ready.position_bytes,
                     ready.offsets, band);
      if (block + 1 == weights.blocks) finish_band(ready, loops, position, first, count, band);
    }
  }
}

class QuadLayer final : public Prepared {
 public:
  QuadLayer(const QuadLoops& loops, const Weights& weights, const Shape& shape)
      : loops_(loops), scattered_(loops.grouping == Grouping::scattered), groups_(weights, shape, scattered_),
        scales_(weights.scales, weights.scales + weights.rows) {
    const std::vector<int32_t> order = plane_order(groups_.channels, groups_.taps);
    const AlignedArray<int8_t> integers = dense_integers(weights, order);
    const int64_t columns = static_cast<int64_t>(order.size());
    const int64_t rows = groups_.rows;
    for (int64_t g = 0; g < groups_.count; ++g) {
      quads_.emplace_back(integers.data() + g * rows * columns, rows, columns, loops.grouping);
    }
  }

  size_t bytes() const override {
    size_t total = scales_.size() * 4;
    for (const Quads& quads : quads_) total += quads.bytes();
    return total;
  }

  void run(const Problem& problem, Pool& pool) const override {
    groups_.for_each(problem, [&](const Problem& one, const PlaneMap& map, int64_t group) {
      run_group(one, map, group, pool);
    });
  }

 private:
  void run_group(const Problem& problem, const PlaneMap& map, int64_t group, Pool& pool) const {
    const int64_t tiles = (map.positions + tile_positions - 1) / tile_positions;
    uint8_t* const planes = thread_scratch(Scratch::activations, static_cast<size_t>(map.bytes()));
    float* const steps =
        reinterpret_cast<float*>(thread_scratch(Scratch::scales, static_cast<size_t>(tiles * tile_positions) * 4));
    fill(problem, map, planes, steps, pool);
    const QuadView weights = quads_[static_cast<size_t>(group)].view();
    const float* const scales = scales_.data() + group * groups_.rows;
    const Ready ready = scattered_ ? Ready{problem, map, spread(map, planes, pool), 1, map.byte_offsets.data(), steps,
                                           scales, weights}
                                   : Ready{problem, map, planes, 4, map.offsets.data(), steps, scales, weights};
    const int64_t bands = (groups_.rows + band_rows - 1) / band_rows;
    const int64_t parts = tiles >= pool.threads() ? 1 : std::min<int64_t>(pool.threads(), bands);
    pool.for_each(static_cast<size_t>(tiles * parts), [&](size_t task) {
      const int64_t i = static_cast<int64_t>(task);
      multiply_tile(ready, loops_, i / parts, share_of(groups_.rows, parts, i % parts, band_rows));
    });
    if (problem.layout != Layout::token_major) return;
    pool.for_each(static_cast<size_t>(tiles), [&](size_t tile) {
      const int64_t first = static_cast<int64_t>(tile) * tile_positions;
      finish_token_major(problem.epilogue, problem.y, groups_.rows, first, std::min(tile_positions, problem.n - first));
    });
  }

  const uint8_t* spread(const PlaneMap& map, const uint8_t* planes, Pool& pool) const {
    uint8_t* const bytes = thread_scratch(Scratch::panels, static_cast<size_t>(map.spread_bytes()));
    pool.for_each(static_cast<size_t>(map.planes), [&](size_t task) {
      const int64_t plane = static_cast<int64_t>(task);
      loops_.spread(planes + plane * map.plane, map.plane / 4, bytes + 4 * plane * map.byte_plane, map.byte_plane);
    });
    return bytes;
  }

  void fill(const Problem& problem, const PlaneMap& map, uint8_t* planes, float* steps, Pool& pool) const {
    if (problem.layout == Layout::token_major) {
      fill_token_major(map, problem.x, groups_.channels, problem.n, planes, steps, pool);
    } else if (problem.layout == Layout::channel_major) {
      fill_channel_major(map, problem.x, groups_.channels, problem.n, planes, steps, pool);
    } else {
      const float absmax = quantizer().absmax(problem.x, groups_.channels * problem.image.height * problem.image.width);
      const int64_t tiles = (map.positions + tile_positions - 1) / tile_positions;
      std::fill(steps, steps + tiles * tile_positions, byte_scale(absmax).step);
      fill_image(map, problem.image, problem.x, absmax, planes, pool);
    }
  }

  const QuadLoops& loops_;
  bool scattered_;
  Groups groups_;
  std::vector<float> scales_;
  std::vector<Quads> quads_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_quads(const QuadLoops& loops, const Weights& weights, const Shape& shape) {
  return std::make_unique<QuadLayer>(loops, weights, shape);
}

}  // namespace sparsify
