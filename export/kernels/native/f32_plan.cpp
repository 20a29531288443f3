// How a layer is cut up: every sensible cut is priced with the constants of calibration.h and the cheapest is taken.
#include <algorithm>
#include <cmath>

#include "calibration.h"
#include "f32_gather.h"
#include "f32_prepared.h"
#include "f32_strips.h"

namespace sparsify::f32 {
namespace {

constexpr int32_t BLOCK_COLUMNS[] = {16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2304};
constexpr double BYTES_OF_A_NONZERO = 6;
// Of working out which pieces of an image a tile is made of: what bounds a depthwise convolution.
constexpr double CYCLES_OF_AN_IMAGE_TILE = 1000;
// Of packing a column of a tile, what each of its nonzeros costs more where it is read in place: its lines are not in
// the first cache, nor its page in the first TLB. Fitted to 1x1 convolutions of ResNet-50 and MobileNetV2.
constexpr double USE_IN_PLACE = 0.22;

// Of a layer, what the price depends on. All counts are of one group.
struct Work {
  Layout layout;
  double rows, columns, kept, groups;
  double n;
  int threads, stride_x;
};

Work work(const Weights& weights, const Shape& shape) {
  constexpr double UNKNOWN_TOKENS = 128, UNKNOWN_POSITIONS = 196;
  const double groups = group_count(shape);
  const double unknown = shape.layout == Layout::token_major ? UNKNOWN_TOKENS : UNKNOWN_POSITIONS;
  return {shape.layout, weights.rows / groups, static_cast<double>(weights.columns),
          static_cast<double>(weights.kept) / groups, groups, shape.n > 0 ? static_cast<double>(shape.n) : unknown,
          std::max(1, shape.threads), shape.layout == Layout::image ? shape.image.stride_x : 1};
}

double ceiling(double a, double b) { return std::ceil(a / b); }

// Loads take longer as the packed block outgrows the first cache: then they come from the second, which on the
// machines at hand gives half as much.
double load_ns(const Calibration& constants, double block_bytes) {
  const double room = 0.8 * cpu().l1_bytes;
  return constants.load * (block_bytes <= room ? 1 : 2 - room / block_bytes);
}

// The rows' nonzeros and sums in `tiles` tiles of `vectors`, over `blocks` blocks.
double multiply_cost(const Calibration& constants, const Work& work, double tiles, double vectors, double blocks,
                     double block_bytes) {
  const double loads = work.kept * tiles * (vectors + LOADS_OF_A_NONZERO);
  const bool carried = blocks > 1 || work.layout == Layout::token_major;
  const double visits = work.rows * tiles * blocks;
  return loads * load_ns(constants, block_bytes) + visits * (constants.row + (carried ? vectors * constants.sum : 0));
}

// What every cut has to move: the weights in, once for each tile unless a part's stay near, and the result out.
double stream_cost(const Calibration& constants, const Work& work, double tiles, double parts) {
  const double result = work.rows * work.n * sizeof(float), weights = work.kept * BYTES_OF_A_NONZERO;
  const double readings = weights / parts <= cpu().l2_bytes / 3.0 ? 1 : tiles;
  return constants.stream_byte * (weights * readings + std::max(0.0, result - 0.5 * cpu().l2_bytes));
}

// Sums of a tile that the second cache does not keep are at least once written and read elsewhere.
double outgrown_cost(const Calibration& constants, const Work& work, double tiles, double parts, double positions) {
  const double sums = work.rows / parts * positions * sizeof(float);
  return constants.stream_byte * 2 * tiles * parts * std::max(0.0, sums - cpu().l2_bytes / 3.0);
}

// Sums of halves widened, scaled and added to those in fp32.
double widening_cost(const Grain& grain, const Work& work, double tiles, double vectors) {
  constexpr double SUMS_OF_A_VECTOR = 2;  // that take as long; fitted
  if (grain.chunk == 0) return 0;
  const Calibration& constants = calibration(grain.prices);
  return work.rows * tiles * ceiling(work.columns, grain.chunk) * vectors * SUMS_OF_A_VECTOR * constants.sum;
}

double positions_cost(const Grain& grain, const Work& work, const Plan& cut) {
  const Calibration& constants = calibration(grain.prices);
  const double all = ceiling(work.n, grain.width), tiles = ceiling(all, cut.vectors), vectors = all / tiles;
  const double blocks = ceiling(work.columns, cut.block_columns);
  const double block_bytes = std::min<double>(work.columns, cut.block_columns) * vectors * grain.width * grain.bytes;
  const bool tokens = work.layout == Layout::token_major;
  // A transpose, the pieces of im2col, or its lanes one by one; for halves the largest is sought before.
  const double turned =
      (work.layout == Layout::channel_major ? 1 : work.stride_x > 1 ? 8 : 2) + (grain.chunk == 0 ? 0 : 1);
  const double whole = work.n == all * grain.width ? tiles : tiles - 1;
  const double in_place = cut.in_place ? whole / tiles : 0;
  // That are packed, and what is read in place as so many.
  const double columns = cut.parts * work.columns * (1 - in_place) + work.kept * USE_IN_PLACE * in_place;
  const double packed = (columns * turned + (tokens ? work.rows * 2 : 0)) * all * (grain.width / grain.prices.width);
  const double jumps = tokens ? 0 : tiles * (columns + work.rows);
  const double described = work.layout == Layout::image ? tiles * cut.parts * CYCLES_OF_AN_IMAGE_TILE : 0;
  return multiply_cost(constants, work, tiles, vectors, blocks, block_bytes) + packed * constants.pack +
         jumps * constants.jump + stream_cost(constants, work, tiles, cut.parts) +
         (blocks > 1 || tokens ? outgrown_cost(constants, work, tiles, cut.parts, vectors * grain.width) : 0) +
         widening_cost(grain, work, tiles, vectors) + described * cycle_ns(grain.prices);
}

double strips_cost(const Loops& loops, const Work& work, const Image& image, const Plan& cut) {
  const Calibration& constants = calibration(loops);
  const StripLayout layout(image, cut.vectors);
  const double taps = image.kernel_height * image.kernel_width, all_channels = work.columns / taps;
  const double channels = std::min(cut.block_columns / taps, all_channels);
  const double bands = ceiling(image.out_height, cut.vectors), tiles = ceiling(image.out_width, loops.width) * bands;
  const double block_bytes = channels * layout.channel_vectors * loops.width * 4.0;
  const double slower = work.stride_x > 1 ? 3 : 1;  // lanes are gathered
  const double packed = cut.parts * all_channels * layout.channel_vectors * tiles * slower;
  const double jumps = tiles * (all_channels * cut.parts + work.rows);
  return multiply_cost(constants, work, tiles, image.out_height / bands, ceiling(all_channels, channels),
                       block_bytes) +
         packed * constants.pack + jumps * constants.jump + stream_cost(constants, work, tiles, cut.parts) +
         tiles * cut.parts * CYCLES_OF_AN_IMAGE_TILE * cycle_ns(loops);
}

// Parts so small that the second cache keeps so many bytes of all rows.
double near_parts(const Work& work, double bytes) {
  const double parts = ceiling(bytes, cpu().l2_bytes / 3.0);
  return std::clamp(parts, 1.0, std::max(1.0, work.rows / 64));
}

// Tiles first, then parts give threads something to do.
double busy_parts(const Work& work, double tiles) {
  return std::clamp(ceiling(work.threads, tiles * work.groups), 1.0, std::max(1.0, work.rows / 64));
}

// The cheapest cut so far.
class Cheapest {
 public:
  Cheapest(const Grain& grain, const Work& work, const Shape& shape)
      : grain_(grain), work_(work), image_(shape.image),
        strips_(shape.layout == Layout::image && image_.out_height > 0 && image_.out_width > 0 &&
                grain.chunk == 0) {}

  void consider(int32_t vectors, int32_t block_columns) {
    const double tiles = ceiling(ceiling(work_.n, grain_.width), vectors);
    consider_parts({vectors, block_columns, 1, false, false, 0}, tiles);
    if (work_.layout == Layout::channel_major && grain_.chunk == 0) {
      consider_parts({vectors, block_columns, 1, false, true, 0}, tiles);
    }
    if (!strips_ || vectors > image_.out_height) return;
    const int32_t taps = image_.kernel_height * image_.kernel_width, channels = std::max(1, block_columns / taps);
    if (int64_t{channels} * StripLayout(image_, vectors).channel_vectors > UINT16_MAX) return;
    consider_parts({vectors, channels * taps, 1, true, false, 0},
                   ceiling(image_.out_width, grain_.width) * ceiling(image_.out_height, vectors));
  }

  const Plan& plan() const { return best_; }

 private:
  void consider_parts(Plan cut, double tiles) {
    // From tile to tile their weights, from block to block their sums.
    const double weights = work_.kept * BYTES_OF_A_NONZERO;
    const double sums = work_.rows * std::min<double>(work_.n, cut.vectors * grain_.width) * sizeof(float);
    for (const double near : {1.0, near_parts(work_, weights), near_parts(work_, sums)}) {
      cut.parts = static_cast<int32_t>(std::max(near, busy_parts(work_, tiles)));
      cut.nanoseconds = cut.strips ? strips_cost(grain_.prices, work_, image_, cut) : positions_cost(grain_, work_, cut);
      if (cut.nanoseconds < best_.nanoseconds) best_ = cut;
    }
  }

  const Grain& grain_;
  const Work& work_;
  const Image& image_;
  bool strips_;
  Plan best_ = {1, 1, 1, false, false, INFINITY};
};

}  // namespace

Plan plan(const Grain& grain, const Weights& weights, const Shape& shape) {
  const Work layer = work(weights, shape);
  const auto columns = static_cast<int32_t>(layer.columns);
  Cheapest cheapest(grain, layer, shape);
  for (int32_t vectors = 1; vectors <= grain.most_vectors; ++vectors) {
    for (const int32_t size : BLOCK_COLUMNS) {
      if (grain.chunk != 0 && grain.chunk % size != 0) continue;
      cheapest.consider(vectors, std::min(size, columns));
      if (size >= columns) break;
    }
  }
  Plan best = cheapest.plan();
  best.nanoseconds *= layer.groups / layer.threads;
  return best;
}

Plan plan(const Loops& loops, const Weights& weights, const Shape& shape) {
  return plan({loops, loops.width, loops.most_vectors, sizeof(float), 0}, weights, shape);
}

}  // namespace sparsify::f32
