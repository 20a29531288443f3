#include "f32_kernels.h"

#include <algorithm>
#include <array>

#include "calibration.h"
#include "f32_gemv_prepared.h"
#include "f32_instruction_sets.h"
#include "f32_prepared.h"

namespace sparsify {
namespace {

using f32::Loops;

bool is_float(const Weights& weights) { return weights.precision != Precision::i8; }

bool few_tokens(const Shape& shape) {
  return shape.layout == Layout::token_major && shape.n >= 1 && shape.n <= f32::MOST_GEMV_TOKENS;
}

// Blocks of columns times packed tiles: any float weights, any layout.
template <const Loops& loops, bool Cpu::*has>
constexpr KernelInfo blocked(const char* name, const char* serves) {
  return {name, serves,
          [](const Cpu& cpu, const Weights& weights, const Shape&) { return cpu.*has && is_float(weights); },
          [](const Weights& weights, const Shape& shape) { return f32::plan(loops, weights, shape).nanoseconds; },
          [](const Weights& weights, const Shape& shape) {
            return f32::prepare(loops, weights, shape, f32::plan(loops, weights, shape));
          }};
}

// Rows side by side times single tokens.
template <const Loops& loops, bool Cpu::*has>
constexpr KernelInfo gemv(const char* name, const char* serves) {
  return {name, serves,
          [](const Cpu& cpu, const Weights& weights, const Shape& shape) {
            return cpu.*has && is_float(weights) && few_tokens(shape);
          },
          [](const Weights& weights, const Shape& shape) {
            const Calibration& constants = calibration(loops);
            constexpr double BYTES_OF_A_NONZERO = 6;
            const double fetch = loops.width * BYTES_OF_A_NONZERO * constants.stream_byte;
            const double group = static_cast<double>(shape.n) * constants.gather + fetch;
            return f32::gemv_groups(weights, loops.width) * group / std::max(1, shape.threads);
          },
          [](const Weights& weights, const Shape&) { return f32::prepare_gemv(loops, weights); }};
}

constexpr KernelInfo PORTABLE = {
    "f32-portable", "float weights of any pattern, any layout, any processor",
    [](const Cpu&, const Weights& weights, const Shape&) { return is_float(weights); },
    [](const Weights& weights, const Shape& shape) {
      return f32::plan(f32::portable_loops, weights, shape).nanoseconds;
    },
    [](const Weights& weights, const Shape& shape) {
      return f32::prepare(f32::portable_loops, weights, shape, f32::plan(f32::portable_loops, weights, shape));
    }};

constexpr std::array KERNELS = {
#if defined(__x86_64__)
    blocked<f32::avx512_loops, &Cpu::avx512>("f32-avx512", "float weights of any pattern, any layout"),
    gemv<f32::avx512_loops, &Cpu::avx512>("f32-gemv-avx512", "float weights of any pattern, one to four tokens"),
    blocked<f32::avx2_loops, &Cpu::avx2>("f32-avx2", "float weights of any pattern, any layout"),
    gemv<f32::avx2_loops, &Cpu::avx2>("f32-gemv-avx2", "float weights of any pattern, one to four tokens"),
#elif defined(__aarch64__)
    blocked<f32::neon_loops, &Cpu::neon>("f32-neon", "float weights of any pattern, any layout"),
    gemv<f32::neon_loops, &Cpu::neon>("f32-gemv-neon", "float weights of any pattern, one to four tokens"),
#endif
    PORTABLE};

}  // namespace

std::span<const KernelInfo> f32_kernels() { return KERNELS; }

}  // namespace sparsify
