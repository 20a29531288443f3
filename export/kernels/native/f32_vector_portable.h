// Four floats in an array, for any processor; the compiler turns the loops into what its baseline has.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace sparsify::portable {

struct Vector {
  using Element = float;  // of memory
  static constexpr int width = 4;
  static constexpr int most_vectors = 4;
  struct Register {
    float lane[4];
  };
  using Mask = int;  // how many lanes, from the first

  static Mask first(int64_t count) { return count >= 4 ? 4 : count <= 0 ? 0 : static_cast<int>(count); }

  template <class F>
  [[gnu::always_inline]] static Register each(F&& f) {
    Register v;
    for (int i = 0; i < 4; ++i) v.lane[i] = f(i);
    return v;
  }

  static Register zero() { return set(0); }
  static Register set(float value) {
    return each([=](int) { return value; });
  }
  static Register broadcast(const float* p) { return set(*p); }
  static Register load(const float* p) {
    Register v;
    std::memcpy(v.lane, p, sizeof v.lane);
    return v;
  }
  static Register load(const float* p, Mask mask) {
    Register v = zero();
    for (int i = 0; i < mask; ++i) v.lane[i] = p[i];
    return v;
  }
  static void store(float* p, Register v) { std::memcpy(p, v.lane, sizeof v.lane); }
  static void store(float* p, Mask mask, Register v) {
    for (int i = 0; i < mask; ++i) p[i] = v.lane[i];
  }
  // Lanes [from, to) of p[0], p[1], ...; the others are zero and not read.
  static Register load_between(const float* p, int from, int to) { return load_steps(p, 1, from, to); }
  // The same of p[0], p[step], ...
  static Register load_steps(const float* p, int step, int from, int to) {
    return each([=](int i) { return i >= from && i < to ? p[static_cast<int64_t>(i) * step] : 0.0f; });
  }
  static Register gather(const float* table, const uint16_t* index) {
    return each([=](int i) { return table[index[i]]; });
  }

  // a[0], a[2], ... and then b[0], b[2], ...; the lanes between.
  static Register even(Register a, Register b) {
    return each([&](int i) { return i < 2 ? a.lane[2 * i] : b.lane[2 * i - 4]; });
  }
  static Register odd(Register a, Register b) {
    return each([&](int i) { return i < 2 ? a.lane[2 * i + 1] : b.lane[2 * i - 3]; });
  }

  static Register add(Register a, Register b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static Register subtract(Register a, Register b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static Register multiply(Register a, Register b) {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static Register divide(Register a, Register b) {
    return each([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static Register fma(Register a, Register b, Register c) {
    return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static Register larger(Register a, Register b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Register smaller(Register a, Register b) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Register nearest(Register a) {
    return each([&](int i) { return std::nearbyint(a.lane[i]); });
  }
  // 2^n of a whole n in [-126, 127].
  static Register power_of_two(Register n) {
    return each([&](int i) {
      const auto bits = static_cast<uint32_t>(static_cast<int32_t>(n.lane[i]) + 127) << 23;
      float power;
      std::memcpy(&power, &bits, sizeof power);
      return power;
    });
  }
  static Register times_power_of_two(Register a, Register n) { return multiply(a, power_of_two(n)); }
  static float most(Register v) { return std::fmax(std::fmax(v.lane[0], v.lane[1]), std::fmax(v.lane[2], v.lane[3])); }
  static float sum(Register v) { return (v.lane[0] + v.lane[1]) + (v.lane[2] + v.lane[3]); }

  static void transpose(Register (&v)[4]) {
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < i; ++j) {
        const float kept = v[i].lane[j];
        v[i].lane[j] = v[j].lane[i];
        v[j].lane[i] = kept;
      }
    }
  }
};

}  // namespace sparsify::portable
