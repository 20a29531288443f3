// Layers of quads, any layout: activations become planes of quads, or of bytes (i8_planes.h), then tiles of 64
// positions are multiplied with all rows. Positions' results are written from registers; tokens' sums are finished 16
// rows at a time, while they are in L1.
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
  int64_t plane;           // from one to the next
  int64_t position_bytes;  // in a plane: 4, or 1
  const std::vector<int64_t>& offsets;  // of quads, or of columns
  // Whether planes are read where they lie; else a tile's lines are laid side by side before a block is multiplied: as the
  // taps of a kernel see planes, they lie across the lines of the cache, and each is loaded for many rows.
  bool in_place;
  int64_t block_lines;     // of a block of columns
  QuadView weights;
};

// Rows that are multiplied together, sorted: of tokens, those that are turned together.
int64_t together_of(Layout layout) { return layout == Layout::token_major ? band_rows : 64; }

void multiply_tile(const Ready& ready, int64_t tile, Range rows) {
  const QuadView& weights = ready.weights;
  const QuadLoops& loops = ready.bands.loops;
  const int64_t position = tile * tile_positions, copied = tile_positions * ready.position_bytes;
  const int64_t sixteens = (std::min(tile_positions, ready.bands.map.positions - position) + 15) / 16;
  const uint8_t* const planes = ready.planes + position * ready.position_bytes;
  const bool tokens = ready.bands.problem.layout == Layout::token_major;
  const bool one = weights.blocks == 1;  // then tokens' sums go no farther than a band, those of positions nowhere
  auto* const sums = reinterpret_cast<int32_t*>(
      thread_scratch(Scratch::results, static_cast<size_t>((one ? band_rows : rows.count()) * tile_positions) * 4));
  uint8_t* const copies =
      thread_scratch(Scratch::panels, static_cast<size_t>(ready.in_place ? 0 : ready.block_lines * copied));
  const int64_t line = ready.in_place ? ready.plane : copied;
  for (int64_t block = 0; block < weights.blocks; ++block) {
    const Range lines{block * ready.block_lines,
                      std::min(static_cast<int64_t>(ready.offsets.size()), (block + 1) * ready.block_lines)};
    if (!ready.in_place) loops.copy(planes, ready.offsets.data() + lines.begin, lines.count(), copies);
    const uint8_t* const x = ready.in_place ? planes + lines.begin * line : copies;
    const bool last = block + 1 == weights.blocks;
    const int64_t together = tokens ? band_rows : rows.count();
    for (int64_t first = rows.begin; first < rows.end; first += together) {
      const int64_t count = std::min(together, rows.end - first);
      int32_t* const band = one ? sums : sums + (first - rows.begin) * tile_positions;
      if (last && !tokens) {
        const Results to = ready.bands.results(position);
        loops.multiply_to(weights, block, first, count, sixteens, block > 0, x, line, band, to);
      } else {
        loops.multiply(weights, block, first, count, sixteens, block > 0, x, line, band);
        if (last) ready.bands.finish(position, first, count, band);
      }
    }
  }
  if (!tokens) ready.bands.activate(position, rows.begin, rows.count());
}

class QuadLayer final : public Prepared {
 public:
  QuadLayer(const QuadLoops& loops, const Weights& weights, const Shape& shape)
      : loops_(loops), scattered_(loops.grouping == Grouping::scattered), groups_(weights, shape, scattered_),
        scales_(weights.scales, weights.scales + weights.rows),
        block_lines_(block_columns(loops.grouping) / (scattered_ ? 1 : 4)),
        in_place_(shape.layout != Layout::image || (groups_.taps == 1 && !scattered_)) {
    const std::vector<int32_t> order = plane_order(groups_.channels, groups_.taps);
    const AlignedArray<int8_t> integers = dense_integers(weights, order);
    const int64_t columns = static_cast<int64_t>(order.size());
    const int64_t rows = groups_.rows;
    for (int64_t g = 0; g < groups_.count; ++g) {
      quads_.emplace_back(integers.data() + g * rows * columns, rows, columns, loops.grouping,
                          together_of(shape.layout));
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
    const int64_t bytes = scattered_ ? map.spread_bytes() : map.bytes();
    uint8_t* const planes = thread_scratch(Scratch::activations, static_cast<size_t>(bytes));
    float* const steps =
        reinterpret_cast<float*>(thread_scratch(Scratch::scales, static_cast<size_t>(tiles * tile_positions) * 4));
    const ToBytes turned{quantizer().turned_bytes, loops_.spread};
    if (scattered_) fill_byte_planes(problem, map, groups_.channels, turned, planes, steps, pool);
    else fill_planes(problem, map, groups_.channels, planes, steps, pool);
    const QuadView weights = quads_[static_cast<size_t>(group)].view();
    const float* const scales = scales_.data() + group * groups_.rows;
    const Ready ready{{problem, map, steps, scales, weights.offsets, weights.rows, loops_},
                      planes, scattered_ ? map.byte_plane : map.plane, scattered_ ? 1 : 4,
                      scattered_ ? map.byte_offsets : map.offsets, in_place_, block_lines_, weights};
    const int64_t together = together_of(problem.layout), bands = (groups_.rows + together - 1) / together;
    const int64_t parts = parts_of_rows(problem, tiles, pool.threads(), bands);
    pool.for_each(static_cast<size_t>(tiles * parts), [&](size_t task) {
      const int64_t i = static_cast<int64_t>(task);
      multiply_tile(ready, i % tiles, share_of(groups_.rows, parts, i / tiles, together));
    });
    if (problem.layout != Layout::token_major) return;
    pool.for_each(static_cast<size_t>(tiles), [&](size_t tile) {
      const int64_t first = static_cast<int64_t>(tile) * tile_positions;
      finish_token_major(problem.epilogue, problem.y, groups_.rows, first, std::min(tile_positions, problem.n - first));
    });
  }

  const QuadLoops& loops_;
  bool scattered_;
  Groups groups_;
  std::vector<float> scales_;
  int64_t block_lines_;
  bool in_place_;
  std::vector<Quads> quads_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_quads(const QuadLoops& loops, const Weights& weights, const Shape& shape) {
  return std::make_unique<QuadLayer>(loops, weights, shape);
}

}  // namespace sparsify
