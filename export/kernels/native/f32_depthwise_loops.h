// A depthwise convolution's strip of one plane. Layout: the strip's input rows are first copied into lines with zeros
// on both sides, [row][phase][line], where phase p of stride s holds every s-th column from p on; so that a kernel
// column reads a line from some offset on, at either stride. Order: bands of four output rows, vectors of columns, input
// rows, kernel columns; an input vector is loaded once for all rows of the band that it counts in. A result is the bias
// and the taps added up row by row of the kernel. Usual kernels of stride 1 are read from the plane itself.
#pragma once

#include <cstdint>

#include "f32_loops.h"

namespace sparsify::f32 {

template <class V>
void pack_lines(const PlaneStrip& strip) {
  constexpr int W = V::width;
  float* line = strip.lines;
  for (int32_t r = 0; r < strip.rows; ++r, line += strip.step * strip.line) {
    const int32_t y = strip.first_row + r;
    if (y < 0 || y >= strip.height) {
      for (int64_t i = 0; i < strip.step * strip.line; i += W) V::store(line + i, V::zero());
      continue;
    }
    const float* from = strip.plane + static_cast<int64_t>(y) * strip.width;
    if (strip.step == 1) {
      for (int32_t i = 0; i < strip.width; i += W) {
        V::store(line + strip.pad + i, V::load(from + i, V::first(strip.width - i)));
      }
      continue;
    }
    float* even = line + strip.pad % 2 * strip.line + strip.pad / 2;
    float* odd = line + (strip.pad + 1) % 2 * strip.line + (strip.pad + 1) / 2;
    for (int32_t i = 0; i < strip.width; i += 2 * W, even += W, odd += W) {
      const auto low = V::load(from + i, V::first(strip.width - i));
      const auto high = V::load(from + i + W, V::first(strip.width - i - W));
      V::store(even, V::even(low, high));
      V::store(odd, V::odd(low, high));
    }
  }
}

template <class V>
[[gnu::always_inline]] inline void finish_vector(const PlaneRows& rows, int64_t at, int32_t lanes,
                                                 typename V::Register sum) {
  const auto mask = V::first(lanes);
  if (rows.residual != nullptr) sum = V::add(sum, V::load(rows.residual + at, mask));
  // A NaN is passed on where it is the second operand.
  sum = V::smaller(V::set(rows.high), V::larger(V::set(rows.low), sum));
  V::store(rows.y + at, mask, sum);
}

// Calls band(first, count) until all rows are done: four at a time, the last four once more in part rather than one
// by one.
template <class OfFour, class OfOne>
[[gnu::always_inline]] inline void in_bands(int32_t rows, OfFour&& of_four, OfOne&& of_one) {
  if (rows < BAND) {
    for (int32_t r = 0; r < rows; ++r) of_one(r);
    return;
  }
  for (int32_t r = 0; r < rows; r += BAND) of_four(r + BAND <= rows ? r : rows - BAND);
}

template <class V, int R>
[[gnu::always_inline]] inline void finish_band(const PlaneRows& rows, int32_t first, int32_t x,
                                               const typename V::Register (&sum)[R]) {
#pragma GCC unroll 4
  for (int j = 0; j < R; ++j) {
    finish_vector<V>(rows, static_cast<int64_t>(first + j) * rows.width + x, rows.width - x, sum[j]);
  }
}

// Output rows [first, first + R) of a square kernel of K taps a side, stride S in both directions.
template <class V, int K, int S, int R>
[[gnu::always_inline]] inline void square_band(const PlaneRows& rows, const typename V::Register (&tap)[K * K],
                                               int32_t first) {
  const float* top = rows.lines + static_cast<int64_t>(first) * S * S * rows.line;
  for (int32_t x = 0; x < rows.width; x += V::width) {
    typename V::Register sum[R];
#pragma GCC unroll 4
    for (int j = 0; j < R; ++j) sum[j] = V::set(rows.bias);
#pragma GCC unroll 16
    for (int i = 0; i < (R - 1) * S + K; ++i) {
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        const auto operand = V::load(top + (i * S + k % S) * rows.line + k / S + x);
#pragma GCC unroll 4
        for (int j = 0; j < R; ++j) {
          const int ky = i - j * S;
          if (ky >= 0 && ky < K) sum[j] = V::fma(tap[ky * K + k], operand, sum[j]);
        }
      }
    }
    finish_band<V, R>(rows, first, x, sum);
  }
}

template <class V, int K, int S>
void square_kernel(const PlaneRows& rows) {
  typename V::Register tap[K * K];
#pragma GCC unroll 32
  for (int i = 0; i < K * K; ++i) tap[i] = V::broadcast(rows.taps + i);
  in_bands(
      rows.rows, [&](int32_t r) __attribute__((always_inline)) { square_band<V, K, S, BAND>(rows, tap, r); },
      [&](int32_t r) __attribute__((always_inline)) { square_band<V, K, S, 1>(rows, tap, r); });
}

// Output rows [first, first + R) of a kernel of K taps a side, stride 1, from the plane itself.
template <class V, int K, int R>
[[gnu::always_inline]] inline void plane_band(const Plane& plane, const PlaneRows& rows,
                                              const typename V::Register (&tap)[K * K], int32_t first) {
  const float* row[R + K - 1];
#pragma GCC unroll 8
  for (int i = 0; i < R + K - 1; ++i) {
    const int32_t y = first - plane.pad_top + i;
    row[i] = y < 0 || y >= plane.height ? plane.zeros : plane.x + int64_t{y} * plane.width - plane.pad_left;
  }
  const auto multiply = [&](int32_t x, auto&& load) __attribute__((always_inline)) {
    typename V::Register sum[R];
#pragma GCC unroll 4
    for (int j = 0; j < R; ++j) sum[j] = V::set(rows.bias);
#pragma GCC unroll 8
    for (int i = 0; i < R + K - 1; ++i) {
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        const auto operand = load(row[i] + x + k, k);
#pragma GCC unroll 4
        for (int j = 0; j < R; ++j) {
          if (i >= j && i - j < K) sum[j] = V::fma(tap[(i - j) * K + k], operand, sum[j]);
        }
      }
    }
    finish_band<V, R>(rows, first, x, sum);
  };
  for (int32_t x = 0; x < rows.width; x += V::width) {
    const int32_t from = plane.pad_left - x, to = from + plane.width;  // columns of the padded row that exist
    if (from <= 0 && to >= V::width + K - 1) {
      multiply(x, [](const float* p, int) __attribute__((always_inline)) { return V::load(p); });
      continue;
    }
    typename V::Mask inside[K];
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) inside[k] = V::between(from - k, to - k);
    multiply(x, [&](const float* p, int k) __attribute__((always_inline)) { return V::load(p, inside[k]); });
  }
}

template <class V, int K>
void plane_kernel(const Plane& plane, const PlaneRows& rows) {
  typename V::Register tap[K * K];
#pragma GCC unroll 32
  for (int i = 0; i < K * K; ++i) tap[i] = V::broadcast(rows.taps + i);
  in_bands(
      rows.rows, [&](int32_t r) __attribute__((always_inline)) { plane_band<V, K, BAND>(plane, rows, tap, r); },
      [&](int32_t r) __attribute__((always_inline)) { plane_band<V, K, 1>(plane, rows, tap, r); });
}

template <class V>
void depthwise_in_place(const Plane& plane, const PlaneRows& rows) {
  if (rows.kernel_width == 3) return plane_kernel<V, 3>(plane, rows);
  plane_kernel<V, 5>(plane, rows);
}

// The same of any kernel: no input vector is shared.
template <class V, int R>
[[gnu::always_inline]] inline void any_band(const PlaneRows& rows, int32_t first) {
  const int64_t row = rows.step * rows.line;
  for (int32_t x = 0; x < rows.width; x += V::width) {
    typename V::Register sum[R];
    for (int j = 0; j < R; ++j) sum[j] = V::set(rows.bias);
    const float* tap = rows.taps;
    for (int32_t ky = 0; ky < rows.kernel_height; ++ky) {
      const float* line = rows.lines + (int64_t{first} * rows.stride_y + ky * rows.dilation_y) * row + x;
      for (int32_t kx = 0; kx < rows.kernel_width; ++kx) {
        const int32_t column = kx * rows.dilation_x;
        const float* from = line + column % rows.step * rows.line + column / rows.step;
        const auto weight = V::broadcast(tap++);
        for (int j = 0; j < R; ++j) sum[j] = V::fma(weight, V::load(from + j * rows.stride_y * row), sum[j]);
      }
    }
    finish_band<V, R>(rows, first, x, sum);
  }
}

template <class V>
void any_kernel(const PlaneRows& rows) {
  in_bands(
      rows.rows, [&](int32_t r) __attribute__((always_inline)) { any_band<V, BAND>(rows, r); },
      [&](int32_t r) __attribute__((always_inline)) { any_band<V, 1>(rows, r); });
}

template <class V>
void depthwise(const PlaneRows& rows) {
  const bool square = rows.kernel_height == rows.kernel_width && rows.stride_y == rows.step && rows.dilation_x == 1 &&
                      rows.dilation_y == 1;
  if (!square || (rows.kernel_width != 3 && rows.kernel_width != 5)) return any_kernel<V>(rows);
  if (rows.kernel_width == 3) return rows.step == 1 ? square_kernel<V, 3, 1>(rows) : square_kernel<V, 3, 2>(rows);
  return rows.step == 1 ? square_kernel<V, 5, 1>(rows) : square_kernel<V, 5, 2>(rows);
}

}  // namespace sparsify::f32
