#include "i8_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "calibration.h"
#include "cpu.h"
#include "f32_instruction_sets.h"
#include "i8_gemv.h"
#include "i8_groups.h"
#include "i8_kept.h"
#include "i8_panels.h"
#include "i8_prepared.h"

namespace sparsify {
namespace {

// Sums of 255 * 127 stay within 31 bits.
constexpr int32_t most_columns = 65536;

bool is_i8(const Weights& weights) { return weights.precision == Precision::i8 && weights.columns <= most_columns; }

// Cycles, fitted to convolutions of ResNet-50 and MobileNetV2.
constexpr double QUANTISE = 1.0;      // of one activation
constexpr double PLANE_BYTE = 0.3;    // of a byte of an image laid out on its grid
constexpr double RESULT = 1.0;        // of one result
constexpr double GROUP = 1000;        // of beginning with a group

// What a call has to do, whatever multiplies. A size that is not known is that of 128 tokens or positions.
struct Work {
  double groups, rows, channels, taps;  // rows and channels of one group
  double columns;                       // of one group, its channels filled up to quads
  double positions;                     // multiplied: tokens, or an image's grid, with some that are no outputs
  double inputs, outputs;               // numbers read and written
  double planes;                        // bytes of an image on its grid, padding and all
};

Work work(const Weights& weights, const Shape& shape) {
  const Groups groups(weights, shape);
  Work of = {};
  of.groups = static_cast<double>(groups.count);
  of.rows = static_cast<double>(groups.rows);
  of.channels = static_cast<double>(groups.channels);
  of.taps = static_cast<double>(groups.taps);
  of.columns = std::ceil(of.channels / 4) * 4 * of.taps;
  of.positions = static_cast<double>(shape.n > 0 ? shape.n : 128);
  of.inputs = of.positions * of.groups * of.channels;
  of.outputs = of.positions * weights.rows;
  const Image& image = shape.image;
  if (shape.layout != Layout::image || image.out_height == 0 || image.out_width == 0) return of;
  const PlaneMap map = image_map(image);
  of.positions = static_cast<double>(map.positions);
  of.inputs = static_cast<double>(image.channels) * image.height * image.width;
  of.planes = of.groups * static_cast<double>(map.bytes());
  return of;
}

// What comes from and goes to memory that the second cache does not keep.
double streamed(const Work& of) {
  const double bytes = std::max(0.0, 4 * (of.inputs + of.outputs) - 0.5 * cpu().l2_bytes);
  return bytes * calibration(f32::best_loops()).stream_byte;
}

// Of one call that takes so many cycles to multiply: with quantising, laying out and writing, and with memory.
double nanoseconds(const Work& of, const Shape& shape, double multiplying) {
  const double around = QUANTISE * of.inputs + PLANE_BYTE * of.planes + RESULT * of.outputs + GROUP * of.groups;
  const double all = (multiplying + around) * cycle_ns(f32::best_loops()) + streamed(of);
  return all / std::max(1, shape.threads);
}

// The same where lanes are positions, of nanoseconds with which results are written.
double of_positions(const Work& of, const Shape& shape, double multiplying, double quantised) {
  const double cycles = PLANE_BYTE * of.planes + GROUP * of.groups;
  const double all = multiplying + quantised * of.inputs + cycles * cycle_ns(f32::best_loops()) + streamed(of);
  return all / std::max(1, shape.threads);
}

// A tile's lines of 64 bytes that are copied, where taps see planes across the lines of the cache.
double copied(const Work& of, double lines) {
  const double tiles = std::ceil(of.positions / tile_positions);
  return of.groups * lines * tiles * calibration(f32::best_loops()).pack;
}

#if defined(__x86_64__)
double up_to(double value, double grain) { return std::ceil(value / grain) * grain; }

// What the files of the AMX kernels are compiled for.
bool has_amx(const Cpu& cpu) { return cpu.amx_int8 && cpu.avx512_vbmi2 && cpu.avx512_vnni; }

constexpr double COPIED = 0.05;          // of a byte copied because its tap lies in no whole step
constexpr double SUMS_AND_LINES = 1.15;  // of a bare step's time: with sums fetched and kept, and lines expanded between

// Of one step of 32 rows, 64 columns and 32 positions.
double step_cycles() { return SUMS_AND_LINES * tile_calibration().step / cycle_ns(f32::best_loops()); }

// Tiles take 32 rows, 64 columns and 16 positions at a time, however few there are; a line of 64 weights takes `line`
// cycles for each block of 128 positions.
double tiled(const Weights& weights, const Shape& shape, double line) {
  const Work of = work(weights, shape);
  const double size = of.groups * up_to(of.rows, panel_rows) * up_to(of.columns, step_columns);
  const double products = step_cycles() * size / step_bytes * up_to(of.positions, 16) / 32;
  const double lines = line * size / 64 * std::ceil(of.positions / 128);
  const bool copied = of.taps > 1 && std::fmod(of.columns / of.taps, step_columns) != 0;
  const double copies = copied ? COPIED * of.groups * of.columns * of.positions : 0;
  return nanoseconds(of, shape, std::max(products, lines) + copies);
}

std::unique_ptr<Prepared> prepare_amx(const Weights& weights, const Shape& shape) {
  if (shape.layout == Layout::token_major) return prepare_amx_tokens(weights, shape);
  return prepare_amx_positions(weights, shape);
}

constexpr KernelInfo AMX = {
    "i8-amx", "int8 weights of any pattern, any layout: kept compressed, expanded while AMX multiplies",
    [](const Cpu& cpu, const Weights& weights, const Shape&) {
      return is_i8(weights) && has_amx(cpu) && weights.pattern != Pattern::dense;
    },
    [](const Weights& weights, const Shape& shape) { return tiled(weights, shape, 4); },
    prepare_amx};

// Fitted to BERT-base's linear layers, 50% to 100% sparse, 1 to 128 tokens.
constexpr double GATHERED = 3;    // of a kept column's 64 tokens
constexpr double TURNED = 0.1;    // of a byte of the activations that is laid with its column's
constexpr double UNTURNED = 0.2;  // of a result, beside RESULT
constexpr double PANEL = 300;     // of beginning with a panel

double by_columns(const Weights& weights, const Shape& shape) {
  const Work of = work(weights, shape);
  const double tokens = weights.pattern == Pattern::rows_16 ? 64 : 32;  // of a step's four products, or half of them
  const double groups = std::ceil(of.positions / 64), passes = up_to(of.positions, tokens / 2) / tokens;
  const double steps = static_cast<double>(kept_groups(weights, kept_step_columns));
  const double gathers = GATHERED * kept_step_columns * steps * groups + PANEL * weights.mask_rows();
  const double turns = TURNED * of.columns * groups * 64 + UNTURNED * of.outputs;
  return nanoseconds(of, shape, step_cycles() * steps * passes + gathers + turns);
}

constexpr KernelInfo AMX_ROWS = {
    "i8-amx-rows", "int8 weights in columns of 16 or 32 rows, for tokens: AMX multiplies the kept columns alone",
    [](const Cpu& cpu, const Weights& weights, const Shape& shape) {
      return is_i8(weights) && has_amx(cpu) && shape.layout == Layout::token_major &&
             (weights.pattern == Pattern::rows_16 || weights.pattern == Pattern::rows_32);
    },
    by_columns,
    prepare_amx_rows};

constexpr KernelInfo AMX_DENSE = {
    "i8-amx-dense", "dense int8 weights, any layout: AMX",
    [](const Cpu& cpu, const Weights& weights, const Shape&) {
      return is_i8(weights) && has_amx(cpu) && weights.pattern == Pattern::dense;
    },
    [](const Weights& weights, const Shape& shape) {
      return tiled(weights, shape, 64 * calibration(f32::best_loops()).stream_byte / cycle_ns(f32::best_loops()));
    },
    prepare_amx};

#endif

// Groups of four that a row of a group has.
double groups_of_four(const Weights& weights, const Work& of, Grouping grouping) {
  const double size = static_cast<double>(weights.rows) * weights.columns;
  const double kept = size > 0 ? static_cast<double>(weights.kept) / size : 0;
  if (grouping == Grouping::scattered) {
    constexpr double FILLED_UP = 1.5 / 4;  // weights of zero in a block's last group
    return of.channels * of.taps * kept / 4 + FILLED_UP * std::ceil(of.columns / block_columns(grouping));
  }
  // A quad is four channels at one tap: blocks are that in 1x1 kernels alone. Scattered weights fill more quads.
  const bool whole = weights.pattern == Pattern::dense || (weights.pattern == Pattern::block_1x4 && of.taps == 1);
  return of.columns / 4 * (whole ? kept : 1 - std::pow(1 - kept, std::min(4.0, of.channels)));
}

// A row of a tile of 64 positions takes `group` nanoseconds for each group of four weights, and `row` for each block.
double by_groups(const Weights& weights, const Shape& shape, Grouping grouping, const GroupCalibration& takes,
                 double quantised) {
  const Work of = work(weights, shape);
  const double blocks = std::ceil(of.columns / block_columns(grouping));
  const double rows = of.groups * of.rows * std::ceil(of.positions / tile_positions);
  const double groups = takes.group * groups_of_four(weights, of, grouping) * rows;
  if (shape.layout == Layout::token_major) {
    const double multiplying = groups + takes.row * blocks * rows + takes.token_result * of.outputs;
    return nanoseconds(of, shape, multiplying / cycle_ns(f32::best_loops()));
  }
  const double ends = (takes.row * (blocks - 1) + takes.position_row) * rows;
  return of_positions(of, shape, groups + ends + (of.taps > 1 ? copied(of, of.columns) : 0), quantised);
}

template <const QuadLoops& loops>
double by_measured_groups(const Weights& weights, const Shape& shape) {
  const QuantizeCalibration& quantised = quantize_calibration();
  const bool scattered = loops.grouping == Grouping::scattered;
  return by_groups(weights, shape, loops.grouping, calibration(loops), scattered ? quantised.bytes : quantised.quads);
}

template <const QuadLoops& loops>
std::unique_ptr<Prepared> prepare(const Weights& weights, const Shape& shape) {
  return prepare_quads(loops, weights, shape);
}

#if defined(__x86_64__)
// Weights are read once for every two tiles.
double by_rows(const Weights& weights, const Shape& shape, const RowLoops& loops) {
  const Work of = work(weights, shape);
  const RowCalibration& takes = calibration(loops);
  const GroupCalibration& results = calibration(*loops.quads);
  const bool tokens = shape.layout == Layout::token_major;
  const bool shared = shares_columns(weights.pattern);
  const bool chosen = chooses_columns(weights.pattern, static_cast<int64_t>(of.channels));
  // Quads of one panel after the other, and those times rows.
  const double every = std::ceil((chosen ? of.channels * of.taps : of.columns) / 4) * of.groups;
  const double lines = shared ? static_cast<double>(kept_groups(weights, 4)) : every * std::ceil(of.rows / 64);
  const double quads = shared ? lines * weights.rows_per_bit() : every * up_to(of.rows, strip_rows);
  const double products = takes.dot * quads * std::ceil(of.positions / 16);
  const double read = 4 * quads * calibration(f32::best_loops()).stream_byte * std::ceil(of.positions / 128);
  const double gathered = (chosen ? takes.gather * lines : 0) * std::ceil(of.positions / tile_positions);
  const double multiplying = products + read + gathered;
  if (tokens) {
    const double turns = TURNED * of.inputs * (chosen ? 2 : 1), cycle = cycle_ns(f32::best_loops());
    return nanoseconds(of, shape, (multiplying + results.token_result * of.outputs) / cycle + turns);
  }
  const double written = results.position_row * of.groups * of.rows * std::ceil(of.positions / tile_positions);
  const double copies = chosen ? 0 : copied(of, of.columns);
  return of_positions(of, shape, multiplying + written + copies,
                      chosen ? quantize_calibration().bytes : quantize_calibration().quads);
}

template <const RowLoops& loops>
std::unique_ptr<Prepared> prepare(const Weights& weights, const Shape& shape) {
  return prepare_row_panels(loops, weights, shape);
}

constexpr KernelInfo GEMV = {
    "i8-gemv", "int8 weights of any pattern, one to four tokens: kept compressed, expanded in registers",
    [](const Cpu& cpu, const Weights& weights, const Shape& shape) {
      return is_i8(weights) && cpu.avx512_vbmi2 && cpu.avx512_vnni && shape.layout == Layout::token_major &&
             shape.n > 0 && shape.n <= most_gemv_tokens;
    },
    [](const Weights& weights, const Shape& shape) {
      // A third of a line's time is each token's dot product; the rest is memory and the expansion.
      const Work of = work(weights, shape);
      return nanoseconds(of, shape, (3.8 + 0.54 * of.positions) * of.rows * of.columns / 64);
    },
    prepare_gemv};

constexpr KernelInfo VNNI_ROWS = {
    "i8-vnni-rows", "int8 weights, any layout: every column, or those that 16 or 32 rows keep, for 4 rows at once",
    [](const Cpu& cpu, const Weights& weights, const Shape&) { return is_i8(weights) && cpu.avx512_vnni; },
    [](const Weights& weights, const Shape& shape) { return by_rows(weights, shape, avx512vnni_rows); },
    prepare<avx512vnni_rows>};

constexpr KernelInfo AVXVNNI_ROWS = {
    "i8-avxvnni-rows", "as i8-vnni-rows, in 256 bits",
    [](const Cpu& cpu, const Weights& weights, const Shape&) { return is_i8(weights) && cpu.avx_vnni; },
    [](const Weights& weights, const Shape& shape) { return by_rows(weights, shape, avxvnni_rows); },
    prepare<avxvnni_rows>};

constexpr KernelInfo AVX2_ROWS = {
    "i8-avx2-rows", "as i8-vnni-rows, in 256 bits, with widened bytes and vpmaddwd",
    [](const Cpu& cpu, const Weights& weights, const Shape&) { return is_i8(weights) && cpu.avx2; },
    [](const Weights& weights, const Shape& shape) { return by_rows(weights, shape, avx2_rows); },
    prepare<avx2_rows>};

constexpr KernelInfo VNNI = {
    "i8-vnni-1x4", "int8 weights in quads of columns, any layout: one AVX-512 VNNI instruction a quad and 16 positions",
    [](const Cpu& cpu, const Weights& weights, const Shape&) { return is_i8(weights) && cpu.avx512_vnni; },
    by_measured_groups<avx512vnni_quads>, prepare<avx512vnni_quads>};

constexpr KernelInfo SCATTERED = {
    "i8-vnni-scattered", "int8 weights of any pattern, any layout: any four of a row are a group, laid together for it",
    [](const Cpu& cpu, const Weights& weights, const Shape& shape) {
      const Groups groups(weights, shape);  // columns are numbered in 16 bits, those that fill quads up included
      return is_i8(weights) && cpu.avx512_vnni && (groups.channels + 3) / 4 * 4 * groups.taps <= most_columns;
    },
    by_measured_groups<avx512vnni_scattered>, prepare<avx512vnni_scattered>};

constexpr KernelInfo AVXVNNI = {
    "i8-avxvnni", "as i8-vnni-1x4, in 256 bits",
    [](const Cpu& cpu, const Weights& weights, const Shape&) { return is_i8(weights) && cpu.avx_vnni; },
    by_measured_groups<avxvnni_quads>, prepare<avxvnni_quads>};

constexpr KernelInfo AVX2 = {
    "i8-avx2", "as i8-vnni-1x4, in 256 bits, with widened bytes and vpmaddwd",
    [](const Cpu& cpu, const Weights& weights, const Shape&) { return is_i8(weights) && cpu.avx2; },
    by_measured_groups<avx2_quads>, prepare<avx2_quads>};
#endif

constexpr KernelInfo PORTABLE = {
    "i8-portable", "as i8-vnni-1x4, in plain C++: the exact reference",
    [](const Cpu&, const Weights& weights, const Shape&) { return is_i8(weights); },
    [](const Weights& weights, const Shape& shape) {
      constexpr double DOT = 54, SCALED = 2;  // cycles of a quad and 16 positions, and of a result
      const double cycle = cycle_ns(f32::best_loops()), result = SCALED * cycle;
      return by_groups(weights, shape, Grouping::quads, {4 * DOT * cycle, 0, result, result * tile_positions},
                       QUANTISE * cycle);
    },
    prepare<portable_quads>};

constexpr std::array KERNELS = {
#if defined(__x86_64__)
    AMX, AMX_ROWS, AMX_DENSE, GEMV, VNNI_ROWS, AVXVNNI_ROWS, AVX2_ROWS, VNNI, SCATTERED, AVXVNNI, AVX2,
#endif
    PORTABLE};

}  // namespace

std::span<const KernelInfo> i8_kernels() { return KERNELS; }

}  // namespace sparsify
