// Layers of panels of rows (i8_row_panels.h), any layout: activations become planes of quads (i8_planes.h), which are
// laid out once more as lines of a tile of 64 positions, one for each quad of a panel. Where panels keep columns of
// their own, planes are of bytes of single channels, and a panel's lines are gathered from those, a block
// of quads at a time; else a tile's lines are copied once and serve every panel.
//
// Loops: blocks of one or two tiles, shared over the threads; panels; tiles; blocks of 96 quads, whose lines stay in
// L1 and whose weights come one after the other; strips of 4 rows, whose sums stay in registers (i8_row_loops.h).
#include <algorithm>
#include <cstring>
#include <vector>

#include "epilogue.h"
#include "i8_bands.h"
#include "i8_groups.h"
#include "i8_integers.h"
#include "i8_prepared.h"
#include "i8_row_panels.h"
#include "i8_share.h"
#include "i8_token_blocks.h"

namespace sparsify {
namespace {

constexpr int64_t most_tiles = 2;  // of a task, which reads a panel's weights for all of them while they are in L2

// One group of one image, or all tokens, ready to be multiplied.
struct Ready {
  Bands bands;
  const RowLoops& loops;
  RowPanelView weights;
  const uint8_t* planes;   // of quads where panels are whole, else of channels
  const int64_t* offsets;  // of each quad where panels are whole, else of each column

  int64_t rows_of(int64_t panel) const { return std::min(weights.height, weights.rows - panel * weights.height); }
};

// Lines of all quads of the tile at `position`: the order of the weights made one of memory.
void copy_lines(const Ready& ready, int64_t position, uint8_t* lines) {
  for (int64_t q = 0; q < ready.weights.quads; ++q, lines += line_bytes) {
    std::memcpy(lines, ready.planes + ready.offsets[q] + position * 4, line_bytes);
  }
}

// One panel and tile to sums [panel's rows][64 positions]. `lines` are the tile's, or room for those of a block.
void multiply_panel(const Ready& ready, int64_t panel, int64_t position, uint8_t* lines, int32_t* sums) {
  const RowPanelView& weights = ready.weights;
  const int64_t start = weights.starts[panel], quads = weights.starts[panel + 1] - start;
  const int64_t strips = (ready.rows_of(panel) + strip_rows - 1) / strip_rows;
  const int64_t sixteens = (std::min(tile_positions, ready.bands.map.positions - position) + 15) / 16;
  const uint32_t* values = weights.values + start * weights.height;
  for (int64_t q = 0; q == 0 || q < quads; q += panel_block_quads) {
    const int64_t count = std::min(panel_block_quads, quads - q);
    uint8_t* const block = weights.whole ? lines + q * line_bytes : lines;
    if (!weights.whole) {
      ready.loops.gather(ready.planes + position, ready.offsets, weights.columns + (start + q) * 4, count, block);
    }
    for (int64_t strip = 0; strip < strips; ++strip, values += count * strip_rows) {
      ready.loops.multiply(values, count, block, sixteens, q > 0, sums + strip * strip_rows * tile_positions);
    }
  }
}

void multiply_tiles(const Ready& ready, Range tiles, Range panels) {
  const RowPanelView& weights = ready.weights;
  const int64_t tile_bytes = (weights.whole ? weights.quads : panel_block_quads) * line_bytes;
  uint8_t* const lines =
      thread_scratch(Scratch::panels, static_cast<size_t>((weights.whole ? tiles.count() : 1) * tile_bytes));
  auto* const sums = reinterpret_cast<int32_t*>(
      thread_scratch(Scratch::results, static_cast<size_t>(weights.height * tile_positions) * 4));
  for (int64_t tile = tiles.begin; weights.whole && tile < tiles.end; ++tile) {
    copy_lines(ready, tile * tile_positions, lines + (tile - tiles.begin) * tile_bytes);
  }
  for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
    for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
      const int64_t position = tile * tile_positions, rows = ready.rows_of(panel);
      multiply_panel(ready, panel, position, weights.whole ? lines + (tile - tiles.begin) * tile_bytes : lines, sums);
      for (int64_t r = 0; r < rows; r += band_rows) {
        ready.bands.finish(position, panel * weights.height + r, std::min(band_rows, rows - r),
                           sums + r * tile_positions);
      }
    }
  }
}

class RowPanelLayer final : public Prepared {
 public:
  RowPanelLayer(const RowLoops& loops, const Weights& weights, const Shape& shape)
      : loops_(loops), groups_(weights, shape), scales_(weights.scales, weights.scales + weights.rows) {
    groups_.spread = chooses_columns(weights.pattern, groups_.channels);
    const std::vector<int32_t> order = plane_order(groups_.channels, groups_.taps);
    const AlignedArray<int8_t> integers = dense_integers(weights, order);
    const int64_t columns = static_cast<int64_t>(order.size()), rows = groups_.rows;
    for (int64_t g = 0; g < groups_.count; ++g) {
      panels_.emplace_back(integers.data() + g * rows * columns, rows, columns, weights.pattern,
                           groups_.spread);
    }
  }

  size_t bytes() const override {
    size_t total = scales_.size() * 4;
    for (const RowPanels& panels : panels_) total += panels.bytes();
    return total;
  }

  void run(const Problem& problem, Pool& pool) const override {
    groups_.for_each(problem, [&](const Problem& one, const PlaneMap& map, int64_t group) {
      run_group(one, map, group, pool);
    });
  }

 private:
  void run_group(const Problem& problem, const PlaneMap& map, int64_t group, Pool& pool) const {
    const RowPanelView weights = panels_[static_cast<size_t>(group)].view();
    const int64_t tiles = (map.positions + tile_positions - 1) / tile_positions;
    const int64_t bytes = weights.whole ? map.bytes() : map.spread_bytes();
    uint8_t* const planes = thread_scratch(Scratch::activations, static_cast<size_t>(bytes));
    float* const steps =
        reinterpret_cast<float*>(thread_scratch(Scratch::scales, static_cast<size_t>(tiles * tile_positions) * 4));
    if (weights.whole) fill_planes(problem, map, groups_.channels, planes, steps, pool);
    else fill_byte_planes(problem, map, groups_.channels, {quantizer().bytes, loops_.spread}, planes, steps, pool);
    const float* const scales = scales_.data() + group * groups_.rows;
    const Ready ready{{problem, map, steps, scales, weights.offsets, weights.rows, *loops_.quads},
                      loops_, weights, planes, (weights.whole ? map.offsets : map.byte_offsets).data()};
    const int64_t each = std::min(most_tiles, (tiles + pool.threads() - 1) / pool.threads());
    const int64_t blocks = (tiles + each - 1) / each;
    const int64_t parts = parts_of_rows(problem, blocks, pool.threads(), weights.panels);
    const auto finish = [&](Range tokens) {
      if (problem.layout != Layout::token_major) return;
      finish_token_major(problem.epilogue, problem.y, groups_.rows, tokens.begin, tokens.count());
    };
    pool.for_each(static_cast<size_t>(blocks * parts), [&](size_t task) {
      const int64_t i = static_cast<int64_t>(task), first = i % blocks * each, end = std::min(tiles, first + each);
      multiply_tiles(ready, {first, end}, share_of(weights.panels, parts, i / blocks));
      if (parts == 1) finish({first * tile_positions, std::min(problem.n, end * tile_positions)});
    });
    if (parts > 1) for_shares(pool, problem.n, finish);
  }

  const RowLoops& loops_;
  Groups groups_;
  std::vector<float> scales_;
  std::vector<RowPanels> panels_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_row_panels(const RowLoops& loops, const Weights& weights, const Shape& shape) {
  return std::make_unique<RowPanelLayer>(loops, weights, shape);
}

}  // namespace sparsify
