#include "calibration.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "cpu.h"
#include "f32_blocks.h"
#include "f32_instruction_sets.h"
#include "i8_amx.h"
#include "i8_memory.h"
#include "quantize.h"
#include "stopwatch.h"

namespace sparsify {
namespace {

using f32::Loops;

volatile float sink;  // so that no measured work is left out

AlignedArray<float> halves(size_t count) {
  AlignedArray<float> values(count);
  std::fill(values.data(), values.data() + count, 0.5f);
  return values;
}

// A block of 1024 rows of 64 columns, `count` nonzeros in each, times a tile; the sums come from the second cache.
double block_ns(const Loops& loops, int32_t count, int32_t vectors) {
  constexpr int32_t ROWS = 1024, COLUMNS = 64;
  SparseRows<float> rows;
  rows.start.push_back(0);
  for (int32_t r = 0; r < ROWS; ++r) {
    for (int32_t i = 0; i < count; ++i) rows.column.push_back((r * 29 + i * COLUMNS) / count % COLUMNS);
    std::sort(rows.column.end() - count, rows.column.end());
    rows.start.push_back(static_cast<int64_t>(rows.column.size()));
  }
  rows.value.assign(rows.column.size(), 0.5f);
  const f32::Part part(rows, 0, ROWS, COLUMNS, f32::side_by_side(COLUMNS));
  const auto width = static_cast<size_t>(vectors * loops.width);
  const AlignedArray<float> packed = halves(width * COLUMNS);  // on lines, as kernels have them
  AlignedArray<float> sums(width * ROWS);
  f32::Tile tile = {};
  tile.vectors = vectors;
  tile.sums = sums.data();
  return quickest([&] {
    loops.multiply(part.blocks()[0], packed.data(), static_cast<int64_t>(width), tile, false, false);
  });
}

void measure_rows(const Loops& loops, Calibration* constants) {
  constexpr double ROWS = 1024, FEW = 6, MANY = 24;
  const double few = block_ns(loops, 6, 4) / ROWS, many = block_ns(loops, 24, 4) / ROWS;
  const double narrow = block_ns(loops, 6, 1) / ROWS;
  constants->load = (many - few) / (MANY - FEW) / (4 + f32::LOADS_OF_A_NONZERO);
  const double four = few - FEW * (4 + f32::LOADS_OF_A_NONZERO) * constants->load;
  const double one = narrow - FEW * (1 + f32::LOADS_OF_A_NONZERO) * constants->load;
  constants->sum = std::max(constants->load, (four - one) / 3);
  constants->row = std::max(constants->load, four - 4 * constants->sum);
}

double pack_ns(const Loops& loops) {
  constexpr int32_t COLUMNS = 64, VECTORS = 4, STRIDE = 1040;
  const AlignedArray<float> x = halves(COLUMNS * STRIDE);
  AlignedArray<float> packed(static_cast<size_t>(COLUMNS * VECTORS * loops.width));
  const double took = quickest([&] {
    loops.pack_channels(x.data(), STRIDE, VECTORS * loops.width, COLUMNS, VECTORS, packed.data());
  });
  return took / (COLUMNS * VECTORS);
}

// Rows of an image of 3.2 MB lie on pages of their own and come from beyond the second cache.
double jump_ns(const Loops& loops, double pack) {
  constexpr int32_t COLUMNS = 256, VECTORS = 2, STRIDE = 3136;
  const AlignedArray<float> x = halves(COLUMNS * STRIDE);
  AlignedArray<float> packed(static_cast<size_t>(COLUMNS * VECTORS * loops.width));
  int64_t at = 0;
  const double took = quickest([&] {
    loops.pack_channels(x.data() + at, STRIDE, VECTORS * loops.width, COLUMNS, VECTORS, packed.data());
    at += STRIDE / REPEATS;
  });
  return std::max(0.0, took / COLUMNS - VECTORS * pack);
}

double gather_ns(const Loops& loops) {
  constexpr int32_t LENGTH = 2048, COLUMNS = 4096;
  const auto values = static_cast<size_t>(LENGTH * loops.width);
  std::vector<float> x(COLUMNS, 0.5f), value(values, 0.5f), sums(static_cast<size_t>(loops.width));
  std::vector<uint16_t> index(values);
  for (size_t i = 0; i < values; ++i) index[i] = static_cast<uint16_t>(i * 2654435761u >> 7 & (COLUMNS - 1));
  const f32::Gemv<float> gemv = {index.data(), value.data()};
  return quickest([&] { loops.gemv(gemv, {0, LENGTH, 0}, x.data(), sums.data()); }) / LENGTH;
}

double stream_ns() {
  constexpr size_t BYTES = size_t{6} << 20;
  const std::vector<std::byte> from(BYTES, std::byte{1});
  std::vector<std::byte> to(BYTES);
  const double took = quickest([&] { std::memcpy(to.data(), from.data(), BYTES); });
  sink = static_cast<float>(to[BYTES / 2]);
  return took / (2.0 * BYTES);
}

double multiply_ns(const Loops& loops) {
  constexpr int64_t STEPS = 20000, CHAINS = 10;
  const double took = quickest([&] { sink = loops.peak(STEPS); });
  return took / static_cast<double>(STEPS * CHAINS * loops.width);
}

// Some processors do two multiply-adds of a vector in a cycle, some (Zen 4 of 512 bits) one; as an instruction each takes
// four (Fog, Instruction tables: Skylake and later, Zen 2 and later). So the lesser of the two is a cycle.
double cycle_of(const Loops& loops, double multiply) {
  constexpr int64_t STEPS = 20000, LATENCY = 4;
  const double took = quickest([&] { sink = loops.chain(STEPS); });
  return std::min(2 * loops.width * multiply, took / static_cast<double>(STEPS * LATENCY));
}

// Rows of `count` groups each over 64 quads, of which they take some.
class SampleGroups {
 public:
  SampleGroups(const QuadLoops& loops, int32_t count)
      : loops_(loops), step_((scattered() ? 3 : 9) * 64),  // odd lines, as planes are
        weights_(integers(count).data(), ROWS, COLUMNS, loops.grouping, ROWS),
        planes_(static_cast<size_t>(COLUMNS * step_)), sums_(ROWS * tile_positions), y_(ROWS * POSITIONS),
        steps_(halves(tile_positions)), scales_(ROWS, 0.5f) {}

  // Times a tile; the sums come from the second cache.
  double multiplied() {
    const QuadView view = weights_.view();
    return quickest([&] {
      loops_.multiply(view, 0, 0, ROWS, tile_positions / 16, true, planes_.data(), step_, sums_.data());
    }) / ROWS;
  }

  // Times the tiles of an image that fills half of the second cache.
  double multiplied_to() {
    constexpr int64_t SOME = 128, VECTORS = tile_positions / 16;
    const QuadView view = weights_.view();
    const std::vector<uint16_t> lanes(VECTORS, 0xffff);
    const double took = quickest([&] {
      for (int64_t first = 0; first < POSITIONS; first += tile_positions) {
        int64_t outputs[VECTORS];
        for (int64_t v = 0; v < VECTORS; ++v) outputs[v] = first + 16 * v;
        const Results to{view.offsets, scales_.data(), scales_.data(), steps_.data(), lanes.data(), outputs, POSITIONS,
                         nullptr, y_.data(), Activation::relu};
        loops_.multiply_to(view, 0, 0, SOME, VECTORS, false, planes_.data(), step_, nullptr, to);
      }
    });
    return took / (SOME * (POSITIONS / tile_positions));
  }

 private:
  static constexpr int64_t ROWS = 512, QUADS = 64, COLUMNS = 4 * QUADS, POSITIONS = 1024;

  bool scattered() const { return loops_.grouping == Grouping::scattered; }

  std::vector<int8_t> integers(int32_t count) const {
    std::vector<int8_t> all(ROWS * COLUMNS);
    for (int64_t r = 0; r < ROWS; ++r) {
      for (int64_t i = 0; i < 4 * count; ++i) {
        const int64_t spread = (r * 29 + i * COLUMNS / (4 * count)) % COLUMNS;
        const int64_t quad = (r * 29 + i / 4 * QUADS / count) % QUADS;
        all[static_cast<size_t>(r * COLUMNS + (scattered() ? spread : 4 * quad + i % 4))] = 1;
      }
    }
    return all;
  }

  const QuadLoops& loops_;
  int64_t step_;
  Quads weights_;
  AlignedArray<uint8_t> planes_;
  AlignedArray<int32_t> sums_;
  AlignedArray<float> y_, steps_;
  std::vector<float> scales_;
};

double token_result_ns(const QuadLoops& loops) {
  constexpr int64_t ROWS = 256, BAND = 16;
  const AlignedArray<int32_t> sums(BAND * tile_positions);
  const AlignedArray<float> steps = halves(tile_positions);
  AlignedArray<float> scaled(BAND * tile_positions), y(ROWS * tile_positions);
  const double took = quickest([&] {
    for (int64_t row = 0; row < ROWS; row += BAND) {
      for (int64_t at = 0; at < BAND * tile_positions; at += tile_positions) {
        loops.scale(sums.data() + at, 0, 0.5f, steps.data(), 0.0f, scaled.data() + at);
      }
      quantizer().transpose(reinterpret_cast<const uint32_t*>(scaled.data()), tile_positions, BAND, tile_positions,
                            reinterpret_cast<uint32_t*>(y.data() + row), ROWS);
    }
  });
  return took / static_cast<double>(ROWS * tile_positions);
}

GroupCalibration measure_groups(const QuadLoops& loops) {
  constexpr int32_t FEW = 4, MANY = 32;
  SampleGroups some(loops, FEW);
  const double few = some.multiplied(), group = (SampleGroups(loops, MANY).multiplied() - few) / (MANY - FEW);
  return {group, std::max(group, few - FEW * group), token_result_ns(loops),
          std::max(group, some.multiplied_to() - FEW * group)};
}

QuantizeCalibration measure_quantizer() {
  constexpr int64_t CHANNELS = 128, POSITIONS = 1024;
  const AlignedArray<float> x = halves(CHANNELS * POSITIONS);
  AlignedArray<float> inverse = halves(POSITIONS);
  AlignedArray<uint8_t> planes(CHANNELS * POSITIONS);
  const Quantizer& with = quantizer();
  const auto per_activation = [&](auto&& quantise) {
    return quickest([&] {
      with.absmax_of_columns(x.data(), POSITIONS, CHANNELS, POSITIONS, inverse.data());
      for (int64_t c = 0; c < CHANNELS; c += 4) quantise(x.data() + c * POSITIONS, planes.data() + c * POSITIONS);
    }) / (CHANNELS * POSITIONS);
  };
  const double quads = per_activation([&](const float* from, uint8_t* to) {
    const float* const channels[4] = {from, from + POSITIONS, from + 2 * POSITIONS, from + 3 * POSITIONS};
    with.quads(channels, inverse.data(), POSITIONS, reinterpret_cast<uint32_t*>(to));
  });
  const double bytes = per_activation([&](const float* from, uint8_t* to) {
    for (int64_t i = 0; i < 4; ++i) with.bytes(from + i * POSITIONS, inverse.data(), POSITIONS, to + i * POSITIONS);
  });
  return {quads, bytes};
}

}  // namespace

Calibration measure(const Loops& loops) {
  Calibration constants = {};
  measure_rows(loops, &constants);
  constants.pack = pack_ns(loops);
  constants.jump = jump_ns(loops, constants.pack);
  constants.gather = gather_ns(loops);
  constants.stream_byte = stream_ns();
  constants.multiply = multiply_ns(loops);
  constants.cycle = cycle_of(loops, constants.multiply);
  return constants;
}

const Calibration& calibration(const Loops& loops) {
  static std::mutex mutex;
  static std::map<const Loops*, Calibration> known;
  const std::lock_guard lock(mutex);
  const auto found = known.find(&loops);
  if (found != known.end()) return found->second;
  return known.emplace(&loops, measure(loops)).first->second;
}

const GroupCalibration& calibration(const QuadLoops& loops) {
  static std::mutex mutex;
  static std::map<const QuadLoops*, GroupCalibration> known;
  const std::lock_guard lock(mutex);
  const auto found = known.find(&loops);
  if (found != known.end()) return found->second;
  return known.emplace(&loops, measure_groups(loops)).first->second;
}

const QuantizeCalibration& quantize_calibration() {
  static const QuantizeCalibration once = measure_quantizer();
  return once;
}

TileCalibration measure_tiles() {
  TileCalibration constants = {};
#if defined(__x86_64__)
  constexpr int64_t PASSES = 24, STEPS = PASSES * amx::SAMPLE_STEPS;
  const AlignedArray<uint8_t> tiles(amx::SAMPLE_STEPS * step_bytes), weights(amx::chunk_steps * step_bytes);
  constants.product = quickest([&] { amx::repeat_products(STEPS, weights.data()); }) / (4 * STEPS);
  constants.step = quickest([&] { amx::repeat_steps(PASSES, tiles.data(), weights.data()); }) / STEPS;
#endif
  return constants;
}

const TileCalibration& tile_calibration() {
  static const TileCalibration once = measure_tiles();
  return once;
}

double cycle_ns(const Loops& loops) { return calibration(loops).cycle; }

double dense_multiply_ns() {
  constexpr double PART_OF_PEAK = 0.75;  // what ONNX Runtime's dense product reached of it: 0.7 to 0.8 (measured)
  return calibration(f32::best_loops()).multiply / PART_OF_PEAK;
}

namespace {

// 64 rows and one block of quads, whose lines are gathered, then multiplied with a tile.
RowCalibration measure_panel(const RowLoops& loops) {
  constexpr int64_t ROWS = 64, STRIPS = ROWS / strip_rows, QUADS = panel_block_quads, STRIDE = 3 * 64;
  std::vector<int64_t> offsets;
  std::vector<int32_t> columns;
  for (int64_t i = 0; i < 4 * QUADS; ++i) {
    offsets.push_back(i * STRIDE + i % 3);
    columns.push_back(static_cast<int32_t>(i));
  }
  const AlignedArray<uint8_t> planes(4 * QUADS * STRIDE);
  const AlignedArray<uint32_t> weights(ROWS * QUADS);
  AlignedArray<uint8_t> lines(QUADS * line_bytes);
  AlignedArray<int32_t> sums(ROWS * tile_positions);
  RowCalibration constants = {};
  constants.gather = quickest([&] {
    loops.gather(planes.data(), offsets.data(), columns.data(), QUADS, lines.data());
  }) / QUADS;
  constants.dot = quickest([&] {
    for (int64_t strip = 0; strip < STRIPS; ++strip) {
      loops.multiply(weights.data() + strip * QUADS * strip_rows, QUADS, lines.data(), tile_positions / 16, false,
                     sums.data() + strip * strip_rows * tile_positions);
    }
  }) / (ROWS * QUADS * tile_positions / 16);
  return constants;
}

}  // namespace

const RowCalibration& calibration(const RowLoops& loops) {
  static std::mutex mutex;
  static std::map<const RowLoops*, RowCalibration> known;
  const std::lock_guard lock(mutex);
  const auto found = known.find(&loops);
  if (found != known.end()) return found->second;
  return known.emplace(&loops, measure_panel(loops)).first->second;
}

}  // namespace sparsify
