// Layers of quads, any layout: activations become planes of quads (i8_planes.h), then tiles of 64 positions are
// multiplied with all rows, 16 rows at a time finished while their sums are in L1.
#include <algorithm>
#include <vector>

#include "epilogue.h"
#include "i8_bands.h"
#include "i8_groups.h"
#include "i8_integers.h"
#include "i8_planes.h"
#include "i8_prepared.h"
#include "i8_quads.h"
#include "i8_share.h"

namespace sparsify {
namespace {

// One group of one image, or all tokens, ready to be multiplied.
struct Ready {
  Bands bands;
  const uint8_t* planes;   // of quads, or of bytes
  int64_t position_bytes;  // in a plane: 4, or 1
  const int64_t* offsets;  // of quads, or of columns
  QuadView weights;
};

void multiply_tile(const Ready& ready, int64_t tile, Range rows) {
  const QuadView& weights = ready.weights;
  const int64_t position = tile * tile_positions;
  const bool one = weights.blocks == 1;  // then sums go no farther than a band
  auto* const sums = reinterpret_cast<int32_t*>(
      thread_scratch(Scratch::results, static_cast<size_t>((one ? band_rows : rows.count()) * tile_positions) * 4));
  for (int64_t block = 0; block < weights.blocks; ++block) {
    for (int64_t first = rows.begin; first < rows.end; first += band_rows) {
      const int64_t count = std::min(band_rows, rows.end - first);
      int32_t* const band = one ? sums : sums + (first - rows.begin) * tile_positions;
      ready.bands.loops.multiply(weights, block, first, count, block > 0,
                                 ready.planes + position * ready.position_bytes, ready.offsets, band);
      if (block + 1 == weights.blocks) ready.bands.finish(position, first, count, band);
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
    fill_planes(problem, map, groups_.channels, planes, steps, pool);
    const QuadView weights = quads_[static_cast<size_t>(group)].view();
    const float* const scales = scales_.data() + group * groups_.rows;
    const Bands of{problem, map, steps, scales, weights.offsets, weights.rows, loops_};
    const Ready ready = scattered_ ? Ready{of, spread(map, planes, pool), 1, map.byte_offsets.data(), weights}
                                   : Ready{of, planes, 4, map.offsets.data(), weights};
    const int64_t bands = (groups_.rows + band_rows - 1) / band_rows;
    const int64_t parts = tiles >= pool.threads() ? 1 : std::min<int64_t>(pool.threads(), bands);
    pool.for_each(static_cast<size_t>(tiles * parts), [&](size_t task) {
      const int64_t i = static_cast<int64_t>(task);
      multiply_tile(ready, i / parts, share_of(groups_.rows, parts, i % parts, band_rows));
    });
    if (problem.layout != Layout::token_major) return;
    pool.for_each(static_cast<size_t>(tiles), [&](size_t tile) {
      const int64_t first = static_cast<int64_t>(tile) * tile_positions;
      finish_token_major(problem.epilogue, problem.y, groups_.rows, first, std::min(tile_positions, problem.n - first));
    });
  }

  const uint8_t* spread(const PlaneMap& map, const uint8_t* planes, Pool& pool) const {
    uint8_t* const bytes = thread_scratch(Scratch::panels, static_cast<size_t>(map.spread_bytes()));
    spread_planes(map, loops_.spread, planes, bytes, pool);
    return bytes;
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
