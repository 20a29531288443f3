#include "f32_kernels.h"

#include <algorithm>
#include <array>

#include "calibration.h"
#include "f16_prepared.h"
#include "f32_depthwise.h"
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

constexpr char ANY_LAYOUT[] = "float weights of any pattern, any layout; 16-bit ones are widened when the layer is made";
constexpr char DEPTHWISE[] = "float weights of any pattern, depthwise convolutions of stride 1 or 2; zeros are multiplied";
constexpr char FEW_TOKENS[] = "float weights of any pattern, one to four tokens; 16-bit ones stay in 16 bits";

// Warm and alone, AVX2 takes less time than AVX-512 for layers of few positions, and little more elsewhere. In ResNet-50
// and MobileNetV2 every layer takes 1.1 to 1.7 times as long (Zen 4), so it is for processors without AVX-512.
constexpr double AVX2_BESIDE_AVX512 = 2;

// Blocks of columns times packed tiles: any float weights, any layout.
template <const Loops& loops, bool Cpu::*has>
constexpr KernelInfo blocked(const char* name, const char* serves) {
  return {name, serves,
          [](const Cpu& cpu, const Weights& weights, const Shape&) { return cpu.*has && is_float(weights); },
          [](const Weights& weights, const Shape& shape) {
            const bool beside = has == &Cpu::avx2 && cpu().avx512;
            return f32::plan(loops, weights, shape).nanoseconds * (beside ? AVX2_BESIDE_AVX512 : 1);
          },
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
            const double bytes_of_a_nonzero = 2.0 + static_cast<double>(weights.value_bytes());  // an index, a value
            const double fetch = loops.width * bytes_of_a_nonzero * constants.stream_byte;
            const double group = static_cast<double>(shape.n) * constants.gather + fetch;
            return f32::gemv_groups(weights, loops.width) * group / std::max(1, shape.threads);
          },
          [](const Weights& weights, const Shape&) { return f32::prepare_gemv(loops, weights); }};
}

// Planes times kernels of their own. `has` is null for loops that run anywhere.
template <const Loops& loops, bool Cpu::*has>
constexpr KernelInfo depthwise(const char* name) {
  return {name, DEPTHWISE,
          [](const Cpu& cpu, const Weights& weights, const Shape& shape) {
            return (has == nullptr || cpu.*has) && is_float(weights) && f32::is_depthwise(weights, shape);
          },
          [](const Weights& weights, const Shape& shape) {
            return f32::depthwise_nanoseconds(loops, weights, shape);
          },
          [](const Weights& weights, const Shape&) { return f32::prepare_depthwise(loops, weights); }};
}

constexpr KernelInfo PORTABLE = {
    "f32-portable", ANY_LAYOUT,
    [](const Cpu&, const Weights& weights, const Shape&) { return is_float(weights); },
    [](const Weights& weights, const Shape& shape) {
      return f32::plan(f32::portable_loops, weights, shape).nanoseconds;
    },
    [](const Weights& weights, const Shape& shape) {
      return f32::prepare(f32::portable_loops, weights, shape, f32::plan(f32::portable_loops, weights, shape));
    }};

#if defined(SPARSIFY_AVX512FP16)
constexpr KernelInfo HALVES = {
    "f16-avx512", "f16 weights of any pattern, tokens and 1x1 convolutions: multiplied and added up in half precision",
    [](const Cpu& cpu, const Weights& weights, const Shape& shape) {
      return cpu.avx512_fp16 && weights.precision == Precision::f16 && shape.layout != Layout::image;
    },
    [](const Weights& weights, const Shape& shape) {
      return f16::plan(f32::avx512_loops, weights, shape).nanoseconds;
    },
    [](const Weights& weights, const Shape& shape) {
      return f16::prepare(f16::avx512_loops, f32::avx512_loops, weights, shape);
    }};
#endif

constexpr std::array KERNELS = {
#if defined(SPARSIFY_AVX512FP16)
    HALVES,
#endif
#if defined(__x86_64__)
    blocked<f32::avx512_loops, &Cpu::avx512>("f32-avx512", ANY_LAYOUT),
    gemv<f32::avx512_loops, &Cpu::avx512>("f32-gemv-avx512", FEW_TOKENS),
    depthwise<f32::avx512_loops, &Cpu::avx512>("f32-depthwise-avx512"),
    blocked<f32::avx2_loops, &Cpu::avx2>("f32-avx2", ANY_LAYOUT),
    gemv<f32::avx2_loops, &Cpu::avx2>("f32-gemv-avx2", FEW_TOKENS),
    depthwise<f32::avx2_loops, &Cpu::avx2>("f32-depthwise-avx2"),
#elif defined(__aarch64__)
    blocked<f32::neon_loops, &Cpu::neon>("f32-neon", ANY_LAYOUT),
    gemv<f32::neon_loops, &Cpu::neon>("f32-gemv-neon", FEW_TOKENS),
    depthwise<f32::neon_loops, &Cpu::neon>("f32-depthwise-neon"),
#endif
    depthwise<f32::portable_loops, nullptr>("f32-depthwise-portable"), PORTABLE};

}  // namespace

std::span<const KernelInfo> f32_kernels() { return KERNELS; }

}  // namespace sparsify
