#include "i8_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "i8_gemv.h"
#include "i8_prepared.h"

namespace sparsify {
namespace {

// Sums of 255 * 127 stay within 31 bits.
constexpr int32_t most_columns = 65536;

bool is_i8(const Weights& weights) { return weights.precision == Precision::i8 && weights.columns <= most_columns; }

double tokens(const Shape& shape) { return static_cast<double>(shape.n > 0 ? shape.n : 128); }

// Nanoseconds to quantise the activations and to write the results, which every kernel does.
double around(const Weights& weights, const Shape& shape) {
  const double gathered = static_cast<double>(shape.image.kernel_height) * shape.image.kernel_width;
  const double read = shape.layout == Layout::image ? weights.columns / gathered : weights.columns;
  return tokens(shape) * (0.13 * read + 0.2 * weights.rows);
}

#if defined(__x86_64__)
// `product` nanoseconds for a multiplication on tiles, which come in 16 tokens; a line of 64 weights takes `line`.
double tiled(const Weights& weights, const Shape& shape, double product, double line) {
  const double size = static_cast<double>(weights.rows) * weights.columns, blocks = std::ceil(tokens(shape) / 128);
  return around(weights, shape) +
         std::max(product * size * std::ceil(tokens(shape) / 16) * 16, line * blocks * size / 64);
}

std::unique_ptr<Prepared> prepare_amx(const Weights& weights, const Shape& shape) {
  if (shape.layout == Layout::token_major) return prepare_amx_tokens(weights, shape);
  return prepare_amx_positions(weights, shape);
}

constexpr KernelInfo AMX = {
    "i8-amx", "int8 weights of any pattern, any layout: kept compressed, expanded while AMX multiplies",
    [](const Cpu& cpu, const Weights& weights, const Shape&) {
      return is_i8(weights) && cpu.amx_int8 && cpu.avx512_vbmi2 && cpu.avx512_vnni && weights.pattern != Pattern::dense;
    },
    [](const Weights& weights, const Shape& shape) { return tiled(weights, shape, 0.00115, 1.5); },
    prepare_amx};

constexpr KernelInfo AMX_DENSE = {
    "i8-amx-dense", "dense int8 weights, any layout: AMX",
    [](const Cpu& cpu, const Weights& weights, const Shape&) {
      return is_i8(weights) && cpu.amx_int8 && cpu.avx512_vbmi2 && cpu.avx512_vnni && weights.pattern == Pattern::dense;
    },
    [](const Weights& weights, const Shape& shape) { return tiled(weights, shape, 0.00115, 10.0); },
    prepare_amx};

#endif

// `dot` nanoseconds for a kept quad and 16 positions.
double by_quads(const Weights& weights, const Shape& shape, double dot) {
  const double size = static_cast<double>(weights.rows) * weights.columns;
  const double kept = size > 0 ? static_cast<double>(weights.kept) / size : 0;
  const bool whole = weights.pattern == Pattern::block_1x4 || weights.pattern == Pattern::dense;
  const double quads = size / 4 * (whole ? kept : 1 - std::pow(1 - kept, 4));  // scattered weights fill more of them
  return around(weights, shape) + quads * dot * std::ceil(tokens(shape) / 64) * 4;
}

bool fits_quads(const Weights& weights) { return is_i8(weights); }

template <const QuadLoops& loops>
std::unique_ptr<Prepared> prepare(const Weights& weights, const Shape& shape) {
  return prepare_quads(loops, weights, shape);
}

#if defined(__x86_64__)
constexpr KernelInfo GEMV = {
    "i8-gemv", "int8 weights of any pattern, one to four tokens: kept compressed, expanded in registers",
    [](const Cpu& cpu, const Weights& weights, const Shape& shape) {
      return is_i8(weights) && cpu.avx512_vbmi2 && cpu.avx512_vnni && shape.layout == Layout::token_major &&
             shape.n > 0 && shape.n <= most_gemv_tokens;
    },
    [](const Weights& weights, const Shape& shape) {
      // A third of a line's time is each token's dot product; the rest is memory and the expansion.
      return around(weights, shape) + (1.4 + 0.2 * tokens(shape)) * weights.rows * weights.columns / 64;
    },
    prepare_gemv};

constexpr KernelInfo VNNI = {
    "i8-vnni-1x4", "int8 weights in quads of columns, any layout: one AVX-512 VNNI instruction a quad and 16 positions",
    [](const Cpu& cpu, const Weights& weights, const Shape&) { return fits_quads(weights) && cpu.avx512_vnni; },
    [](const Weights& weights, const Shape& shape) { return by_quads(weights, shape, 0.7); },
    prepare<avx512vnni_quads>};

constexpr KernelInfo AVXVNNI = {
    "i8-avxvnni", "the same in 256 bits",
    [](const Cpu& cpu, const Weights& weights, const Shape&) { return fits_quads(weights) && cpu.avx_vnni; },
    [](const Weights& weights, const Shape& shape) { return by_quads(weights, shape, 1.3); },
    prepare<avxvnni_quads>};

constexpr KernelInfo AVX2 = {
    "i8-avx2", "the same with widened bytes and vpmaddwd",
    [](const Cpu& cpu, const Weights& weights, const Shape&) { return fits_quads(weights) && cpu.avx2; },
    [](const Weights& weights, const Shape& shape) { return by_quads(weights, shape, 3.0); },
    prepare<avx2_quads>};
#endif

constexpr KernelInfo PORTABLE = {
    "i8-portable", "the same in plain C++: the exact reference",
    [](const Cpu&, const Weights& weights, const Shape&) { return fits_quads(weights); },
    [](const Weights& weights, const Shape& shape) { return by_quads(weights, shape, 20.0); },
    prepare<portable_quads>};

constexpr std::array KERNELS = {
#if defined(__x86_64__)
    AMX, AMX_DENSE, GEMV, VNNI, AVXVNNI, AVX2,
#endif
    PORTABLE};

}  // namespace

std::span<const KernelInfo> i8_kernels() { return KERNELS; }

}  // namespace sparsify
