// Four floats in a 128-bit register of a 64-bit Arm processor.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "f32_stored.h"

namespace sparsify::neon {

struct Vector {
  static constexpr int width = 4;
  static constexpr int most_vectors = 8;
  using Element = float;  // of memory
  using Register = float32x4_t;
  using Mask = int;  // how many lanes, from the first

  static Mask first(int64_t count) { return count >= 4 ? 4 : count <= 0 ? 0 : static_cast<int>(count); }

  static Register zero() { return vdupq_n_f32(0); }
  static Register set(float value) { return vdupq_n_f32(value); }
  static Register broadcast(const float* p) { return set(*p); }
  static Register load(const float* p) { return vld1q_f32(p); }
  static Register load(const float* p, Mask mask) {
    if (mask == 4) return load(p);
    float lanes[4] = {};
    for (int i = 0; i < mask; ++i) lanes[i] = p[i];
    return vld1q_f32(lanes);
  }
  static Register load(const f32::Half* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
  }
  static Register load(const f32::Bfloat16* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p)), 16));
  }
  static void store(float* p, Register v) { vst1q_f32(p, v); }
  static void store(float* p, Mask mask, Register v) {
    if (mask == 4) return store(p, v);
    float lanes[4];
    vst1q_f32(lanes, v);
    for (int i = 0; i < mask; ++i) p[i] = lanes[i];
  }
  // Lanes [from, to) of p[0], p[1], ...; the others are zero and not read.
  static Register load_between(const float* p, int from, int to) { return load_steps(p, 1, from, to); }
  // The same of p[0], p[step], ...
  static Register load_steps(const float* p, int step, int from, int to) {
    float lanes[4] = {};
    for (int i = from; i < to; ++i) lanes[i] = p[static_cast<int64_t>(i) * step];
    return vld1q_f32(lanes);
  }
  static Register gather(const float* table, const uint16_t* index) {
    const float lanes[4] = {table[index[0]], table[index[1]], table[index[2]], table[index[3]]};
    return vld1q_f32(lanes);
  }

  // a[0], a[2], ... and then b[0], b[2], ...; the lanes between.
  static Register even(Register a, Register b) { return vuzp1q_f32(a, b); }
  static Register odd(Register a, Register b) { return vuzp2q_f32(a, b); }

  static Register add(Register a, Register b) { return vaddq_f32(a, b); }
  static Register subtract(Register a, Register b) { return vsubq_f32(a, b); }
  static Register multiply(Register a, Register b) { return vmulq_f32(a, b); }
  static Register divide(Register a, Register b) { return vdivq_f32(a, b); }
  static Register fma(Register a, Register b, Register c) { return vfmaq_f32(c, a, b); }
  static Register larger(Register a, Register b) { return vmaxq_f32(a, b); }
  static Register smaller(Register a, Register b) { return vminq_f32(a, b); }
  static Register nearest(Register a) { return vrndnq_f32(a); }
  // 2^n of a whole n in [-126, 127].
  static Register power_of_two(Register n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
  }
  static Register times_power_of_two(Register a, Register n) { return multiply(a, power_of_two(n)); }
  static float sum(Register v) { return vaddvq_f32(v); }
  static float most(Register v) { return vmaxvq_f32(v); }

  // v[i][j] becomes v[j][i].
  static void transpose(Register (&v)[4]) {
    const float32x4x2_t low = vtrnq_f32(v[0], v[1]), high = vtrnq_f32(v[2], v[3]);
    v[0] = vcombine_f32(vget_low_f32(low.val[0]), vget_low_f32(high.val[0]));
    v[1] = vcombine_f32(vget_low_f32(low.val[1]), vget_low_f32(high.val[1]));
    v[2] = vcombine_f32(vget_high_f32(low.val[0]), vget_high_f32(high.val[0]));
    v[3] = vcombine_f32(vget_high_f32(low.val[1]), vget_high_f32(high.val[1]));
  }
};

}  // namespace sparsify::neon
