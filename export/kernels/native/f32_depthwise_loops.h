// A depthwise convolution's strip of one plane. Layout: the strip's input rows are first copied into lines with zeros
// on both sides, [row][phase][line], where phase p of stride s holds every s-th column from p on; so that a kernel
// column reads a line from some offset on, at either stride. Order: bands of output rows, vectors of columns, input rows,
// kernel columns; an input vector is loaded once for all rows of the band that it counts in. A result is the bias and the
// taps added up row by row of the kernel. Usual kernels are read from the planes themselves, channel after channel.
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

// Calls `of_many` for every R rows until all are done, the last R once more in part rather than one by one.
template <int R, class OfMany, class OfOne>
[[gnu::always_inline]] inline void in_bands(int32_t rows, OfMany&& of_many, OfOne&& of_one) {
  if (rows < R) {
    for (int32_t r = 0; r < rows; ++r) of_one(r);
    return;
  }
  for (int32_t r = 0; r < rows; r += R) of_many(r + R <= rows ? r : rows - R);
}

template <class V, int R>
[[gnu::always_inline]] inline void finish_band(const PlaneRows& rows, int32_t first, int32_t x,
                                               const typename V::Register (&sum)[R]) {
  const int32_t lanes = rows.width - x;
  const int64_t at = int64_t{first} * rows.width + x;
  const auto finished = [&](int j) __attribute__((always_inline)) {
    auto result = sum[j];
    if (rows.residual != nullptr) result = V::add(result, V::load(rows.residual + at + j * rows.width, V::first(lanes)));
    // A NaN is passed on where it is the second operand.
    return V::smaller(V::set(rows.high), V::larger(V::set(rows.low), result));
  };
  if (lanes >= V::width || rows.more) {
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) V::store(rows.y + at + j * rows.width, finished(j));
    return;
  }
  const auto mask = V::first(lanes);
#pragma GCC unroll 8
  for (int j = 0; j < R; ++j) V::store(rows.y + at + j * rows.width, mask, finished(j));
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
  in_bands<BAND>(
      rows.rows, [&](int32_t r) __attribute__((always_inline)) { square_band<V, K, S, BAND>(rows, tap, r); },
      [&](int32_t r) __attribute__((always_inline)) { square_band<V, K, S, 1>(rows, tap, r); });
}

// Of the vectors that a vector of output columns is made from, the lanes that lie in the image. Kernel column k of
// stride 1 is the load from column k on; of stride 2 it is half of the lanes of two loads, shared by two columns.
template <class V, int K, int S>
struct Inside {
  static constexpr int loads = S == 1 ? K : K + 1;

  int32_t x;  // the first column of output
  typename V::Mask lanes[loads] = {};
  bool all;

  explicit Inside(const Planes& planes) { begin(planes, 0); }

  static constexpr int offset(int load) { return S == 1 ? load : load / 2 * 2 + load % 2 * V::width; }

  [[gnu::always_inline]] void begin(const Planes& planes, int32_t at) {
    x = at;
    const int32_t from = planes.pad_left - x * S, to = from + planes.width;  // of the padded row, the columns that exist
    all = from <= 0 && to >= offset(loads - 1) + V::width;
    if (all) return;
#pragma GCC unroll 8
    for (int i = 0; i < loads; ++i) lanes[i] = V::between(from - offset(i), to - offset(i));
  }
};

// Calls multiply(k, vector) for every column k of the kernel.
template <class V, int K, int S, class Load, class Multiply>
[[gnu::always_inline]] inline void kernel_columns(const float* from, Load&& load, Multiply&& multiply) {
  using I = Inside<V, K, S>;
#pragma GCC unroll 8
  for (int k = 0; k < K; k += S) {
    if constexpr (S == 1) {
      multiply(k, load(from + I::offset(k), k));
    } else {
      const auto low = load(from + I::offset(k), k), high = load(from + I::offset(k + 1), k + 1);
      multiply(k, V::even(low, high));
      if (k + 1 < K) multiply(k + 1, V::odd(low, high));
    }
  }
}

// Output rows [first, first + R) of a square kernel of K taps a side, stride S in both directions, from the plane itself.
template <class V, int K, int S, int R>
[[gnu::always_inline]] inline void plane_band(const Planes& planes, const float* plane, const PlaneRows& rows,
                                              const typename V::Register (&tap)[K * K], Inside<V, K, S>& inside,
                                              int32_t first) {
  const auto row_at = [&](int i) __attribute__((always_inline)) {
    const int32_t y = first * S - planes.pad_top + i;
    return y < 0 || y >= planes.height ? planes.zeros : plane + int64_t{y} * planes.width - planes.pad_left;
  };
  [[maybe_unused]] const float* row[R + K - 1];  // twice as many are worked out faster than they are kept
  if constexpr (S == 1) {
#pragma GCC unroll 16
    for (int i = 0; i < R + K - 1; ++i) row[i] = row_at(i);
  }
  const auto band = [&](int32_t x, auto&& load) __attribute__((always_inline)) {
    typename V::Register sum[R];
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) sum[j] = V::set(rows.bias);
#pragma GCC unroll 16
    for (int i = 0; i < (R - 1) * S + K; ++i) {
      const float* from = S == 1 ? row[i] : row_at(i);
      kernel_columns<V, K, S>(from + x * S, load, [&](int k, auto operand) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int j = 0; j < R; ++j) {
          const int ky = i - j * S;
          if (ky >= 0 && ky < K) sum[j] = V::fma(tap[ky * K + k], operand, sum[j]);
        }
      });
    }
    finish_band<V, R>(rows, first, x, sum);
  };
  for (int32_t x = 0; x < rows.width; x += V::width) {
    if (x > 0 && x + V::width > rows.width) x = rows.width - V::width;  // some columns twice, none masked
    if (inside.x != x) inside.begin(planes, x);
    if (inside.all) {
      band(x, [](const float* p, int) __attribute__((always_inline)) { return V::load(p); });
    } else {
      band(x, [&](const float* p, int i) __attribute__((always_inline)) { return V::load(p, inside.lanes[i]); });
    }
  }
}

template <class V, int K, int S, int R>
void plane_kernel(const Planes& planes, PlaneRows rows) {
  Inside<V, K, S> inside(planes);
  const int64_t results = int64_t{rows.rows} * rows.width;
  for (int32_t c = planes.first; c < planes.last; ++c) {
    const float* plane = planes.x + int64_t{c / planes.multiplier} * planes.height * planes.width;
    rows.bias = planes.bias == nullptr ? 0 : planes.bias[c];
    rows.more = rows.width < V::width && rows.residual == nullptr && (planes.last - 1 - c) * results >= V::width;
    typename V::Register tap[K * K];
#pragma GCC unroll 32
    for (int i = 0; i < K * K; ++i) tap[i] = V::broadcast(rows.taps + i);
    in_bands<R>(
        rows.rows,
        [&](int32_t r) __attribute__((always_inline)) { plane_band<V, K, S, R>(planes, plane, rows, tap, inside, r); },
        [&](int32_t r) __attribute__((always_inline)) { plane_band<V, K, S, 1>(planes, plane, rows, tap, inside, r); });
    rows.taps += K * K;
    rows.y += results;
    if (rows.residual != nullptr) rows.residual += results;
  }
}

// Bands of seven rows take fewer loads a row, where registers hold them and no row is done twice for them.
template <class V, int K, int S>
void plane_bands(const Planes& planes, const PlaneRows& rows) {
  if constexpr (V::registers >= K * K + TALL_BAND + 2) {
    const auto done = [&](int32_t band) { return (rows.rows + band - 1) / band * band; };
    if (done(TALL_BAND) <= done(BAND)) return plane_kernel<V, K, S, TALL_BAND>(planes, rows);
  }
  plane_kernel<V, K, S, BAND>(planes, rows);
}

template <class V>
void planes_in_place(const Planes& planes, const PlaneRows& rows) {
  if (rows.kernel_width == 3) return rows.step == 1 ? plane_bands<V, 3, 1>(planes, rows) : plane_bands<V, 3, 2>(planes, rows);
  rows.step == 1 ? plane_bands<V, 5, 1>(planes, rows) : plane_bands<V, 5, 2>(planes, rows);
}

template <class V>
void depthwise_in_place(const Planes& planes, const PlaneRows& rows) {
  if constexpr (requires { typename V::Half; }) {
    if (rows.width <= V::Half::width) return planes_in_place<typename V::Half>(planes, rows);
  }
  planes_in_place<V>(planes, rows);
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
  in_bands<BAND>(
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
