// Residual, activation and LayerNorm, written once over a vector type and compiled for each instruction set.
#pragma once

#include <cstdint>

#include "problem.h"

namespace sparsify::epilogue {

// e^x within 3e-7 of the true value, relative, for x in [-87, 88]; clamped outside. x = n ln 2 + r, |r| <= ln 2 / 2,
// and a minimax polynomial of degree 6 in r.
template <class V>
[[gnu::always_inline]] inline typename V::Register exponential(typename V::Register x) {
  x = V::smaller(V::larger(x, V::set(-87.0f)), V::set(88.0f));
  const auto n = V::nearest(V::multiply(x, V::set(1.44269504f)));
  auto r = V::fma(n, V::set(-0.693359375f), x);
  r = V::fma(n, V::set(2.12194440e-4f), r);
  auto p = V::set(1.381446142e-3f);
  p = V::fma(p, r, V::set(8.368780836e-3f));
  p = V::fma(p, r, V::set(4.166839272e-2f));
  p = V::fma(p, r, V::set(1.666651964e-1f));
  p = V::fma(p, r, V::set(4.999999404e-1f));
  p = V::fma(p, V::multiply(r, r), V::add(r, V::set(1.0f)));
  return V::times_power_of_two(p, n);
}

// x / (1 + e^-z): SiLU for z = x.
template <class V>
[[gnu::always_inline]] inline typename V::Register gate(typename V::Register x, typename V::Register z) {
  return V::divide(x, V::add(V::set(1.0f), exponential<V>(V::subtract(V::zero(), z))));
}

// x Phi(x) = x / 2 (1 + erf(x / sqrt 2)), within 1.2e-6 + 3e-7 |x|. erf(x / sqrt 2) / x is a minimax polynomial in
// s = 2 (x / 5.3)^2 - 1 that reaches one at 5.3, where |x| is cut off.
template <class V>
[[gnu::always_inline]] inline typename V::Register gelu_erf(typename V::Register x) {
  constexpr float COEFFICIENTS[] = {1.225071144e-03f,  -1.891790074e-03f, -6.580470363e-04f, -1.098910579e-03f,
                                    8.935533464e-03f,  -1.295575593e-02f, 1.601387188e-02f,  -2.568418905e-02f,
                                    3.836434335e-02f,  -5.077686906e-02f, 6.408408284e-02f,  -7.915788144e-02f,
                                    9.853234887e-02f,  -1.330376267e-01f, 2.667850852e-01f};
  const auto one = V::set(1.0f), minus_one = V::set(-1.0f);
  const auto cut = V::smaller(V::larger(x, V::set(-5.3f)), V::set(5.3f));
  const auto s = V::fma(cut, V::multiply(cut, V::set(2.0f / 5.3f / 5.3f)), minus_one);
  const auto square = V::multiply(s, s);
  auto even = V::set(COEFFICIENTS[0]), odd = V::set(COEFFICIENTS[1]);  // two chains of half the length
#pragma GCC unroll 8
  for (int i = 2; i < 14; i += 2) {
    even = V::fma(even, square, V::set(COEFFICIENTS[i]));
    odd = V::fma(odd, square, V::set(COEFFICIENTS[i + 1]));
  }
  const auto p = V::fma(odd, s, V::fma(even, square, V::set(COEFFICIENTS[14])));
  const auto erf = V::smaller(V::larger(V::multiply(p, cut), minus_one), one);
  const auto half = V::multiply(x, V::set(0.5f));
  return V::fma(half, erf, half);
}

// x / 2 (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3), within 1e-6 relative where x > -9.
template <class V>
[[gnu::always_inline]] inline typename V::Register gelu_tanh(typename V::Register x) {
  const auto inner = V::fma(V::multiply(x, x), V::set(2 * 0.7978845608f * 0.044715f), V::set(2 * 0.7978845608f));
  return gate<V>(x, V::multiply(x, inner));
}

// Where one operand is a NaN, max and min give the second: so a NaN is passed on.
template <class V>
[[gnu::always_inline]] inline typename V::Register relu6(typename V::Register x) {
  return V::smaller(V::set(6.0f), V::larger(V::zero(), x));
}

template <class V>
[[gnu::always_inline]] inline typename V::Register activate(Activation activation, typename V::Register x) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return V::larger(V::zero(), x);
    case Activation::relu6: return relu6<V>(x);
    case Activation::gelu_erf: return gelu_erf<V>(x);
    case Activation::gelu_tanh: return gelu_tanh<V>(x);
    case Activation::silu: return gate<V>(x, x);
    case Activation::hardswish: return V::multiply(x, V::multiply(relu6<V>(V::add(x, V::set(3.0f))), V::set(1.0f / 6)));
  }
  return x;
}

// y[0, count): residual and one activation, the branch on which is outside the loop. Several vectors at a time, because
// the polynomials are long chains: four with the 32 registers of AVX-512.
template <class V, Activation activation>
void finish_span(float* y, const float* residual, int64_t count) {
  constexpr int W = V::width, together = W == 16 ? 4 : 2;
  int64_t i = 0;
  for (; i + together * W <= count; i += together * W) {
    typename V::Register v[together];
#pragma GCC unroll 4
    for (int j = 0; j < together; ++j) v[j] = V::load(y + i + j * W);
    if (residual != nullptr) {
#pragma GCC unroll 4
      for (int j = 0; j < together; ++j) v[j] = V::add(v[j], V::load(residual + i + j * W));
    }
#pragma GCC unroll 4
    for (int j = 0; j < together; ++j) V::store(y + i + j * W, activate<V>(activation, v[j]));
  }
  for (; i < count; i += W) {
    const auto mask = V::first(count - i);
    auto a = V::load(y + i, mask);
    if (residual != nullptr) a = V::add(a, V::load(residual + i, mask));
    V::store(y + i, mask, activate<V>(activation, a));
  }
}

template <class V>
void finish_span(Activation activation, float* y, const float* residual, int64_t count) {
  switch (activation) {
    case Activation::none:
      if (residual != nullptr) finish_span<V, Activation::none>(y, residual, count);
      return;
    case Activation::relu: return finish_span<V, Activation::relu>(y, residual, count);
    case Activation::relu6: return finish_span<V, Activation::relu6>(y, residual, count);
    case Activation::gelu_erf: return finish_span<V, Activation::gelu_erf>(y, residual, count);
    case Activation::gelu_tanh: return finish_span<V, Activation::gelu_tanh>(y, residual, count);
    case Activation::silu: return finish_span<V, Activation::silu>(y, residual, count);
    case Activation::hardswish: return finish_span<V, Activation::hardswish>(y, residual, count);
  }
}

// Sums in float lanes first, then over lanes: the mean, then the squares of the distances from it, so that a large
// mean costs no digits.
template <class V>
void normalise(float* y, const float* scale, const float* shift, float epsilon, int64_t rows) {
  constexpr int W = V::width;
  auto total = V::zero();
  for (int64_t i = 0; i < rows; i += W) total = V::add(total, V::load(y + i, V::first(rows - i)));
  const float mean = V::sum(total) / static_cast<float>(rows);
  auto squares = V::zero();
  for (int64_t i = 0; i + W <= rows; i += W) {
    const auto distance = V::subtract(V::load(y + i), V::set(mean));
    squares = V::fma(distance, distance, squares);
  }
  float variance = V::sum(squares);
  for (int64_t i = rows / W * W; i < rows; ++i) variance += (y[i] - mean) * (y[i] - mean);
  variance /= static_cast<float>(rows);
  const auto inverse = V::set(1.0f / __builtin_sqrtf(variance + epsilon));
  for (int64_t i = 0; i < rows; i += W) {
    const auto mask = V::first(rows - i);
    const auto centred = V::multiply(V::subtract(V::load(y + i, mask), V::set(mean)), inverse);
    const auto shifted = shift == nullptr ? V::zero() : V::load(shift + i, mask);
    V::store(y + i, mask, V::fma(centred, V::load(scale + i, mask), shifted));
  }
}

template <class V>
void finish_token_major(const Epilogue& epilogue, float* y, int64_t rows, int64_t first, int64_t count) {
  for (int64_t t = first; t < first + count; ++t) {
    float* token = y + t * rows;
    finish_span<V>(epilogue.activation, token, epilogue.residual == nullptr ? nullptr : epilogue.residual + t * rows,
                   rows);
    if (epilogue.norm_scale != nullptr) {
      normalise<V>(token, epilogue.norm_scale, epilogue.norm_shift, epilogue.norm_epsilon, rows);
    }
  }
}

template <class V>
void finish_channel_major(const Epilogue& epilogue, float* y, int64_t n, int64_t first_row, int64_t rows, int64_t first,
                          int64_t count) {
  for (int64_t r = first_row; r < first_row + rows; ++r) {
    const int64_t at = r * n + first;
    finish_span<V>(epilogue.activation, y + at, epilogue.residual == nullptr ? nullptr : epilogue.residual + at, count);
  }
}

// What an instruction set's file offers to epilogue.cpp.
struct Loops {
  void (*token_major)(const Epilogue&, float*, int64_t, int64_t, int64_t);
  void (*channel_major)(const Epilogue&, float*, int64_t, int64_t, int64_t, int64_t, int64_t);
};

}  // namespace sparsify::epilogue
