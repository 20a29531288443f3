// Activations into and out of the packed tile [column][vectors][width] of f32_spmm.h.
#pragma once

#include <cstdint>

#include "epilogue_loops.h"
#include "f32_loops.h"

namespace sparsify::f32 {

constexpr int AHEAD = 32;  // floats that memory is asked for in advance: two lines

// A width x width square of `from` (rows [0, rows), columns [0, columns) exist) is written turned.
template <class V>
[[gnu::always_inline]] inline void turn(const float* from, int64_t from_stride, int64_t rows, int64_t columns,
                                        float* to, int64_t to_stride, int64_t to_rows, int64_t to_columns) {
  constexpr int W = V::width;
  typename V::Register square[W];
  if (rows >= W && columns >= W) {
    for (int i = 0; i < W; ++i) square[i] = V::load(from + i * from_stride);
  } else {
    const auto mask = V::first(columns);
    for (int i = 0; i < W; ++i) square[i] = i < rows ? V::load(from + i * from_stride, mask) : V::zero();
  }
  V::transpose(square);
  if (to_rows >= W && to_columns >= W) {
    for (int i = 0; i < W; ++i) V::store(to + i * to_stride, square[i]);
  } else {
    const auto mask = V::first(to_columns);
    for (int i = 0; i < W && i < to_rows; ++i) V::store(to + i * to_stride, mask, square[i]);
  }
}

template <class V>
void pack_tokens(const float* x, int64_t stride, int64_t tokens, int32_t columns, int32_t vectors, float* packed) {
  constexpr int W = V::width;
  const int64_t packed_stride = static_cast<int64_t>(vectors) * W;
  for (int32_t v = 0; v < vectors; ++v) {
    for (int32_t k = 0; k < columns; k += W) {
      for (int i = 0; i < W; ++i) __builtin_prefetch(x + (v * W + i) * stride + k + AHEAD);
      turn<V>(x + v * W * stride + k, stride, tokens - v * W, columns - k, packed + k * packed_stride + v * W,
              packed_stride, columns - k, W);
    }
  }
}

template <class V>
void unpack_tokens(float* sums, int32_t rows, int32_t vectors, int64_t tokens, Activation activation, float* y,
                   int64_t stride) {
  constexpr int W = V::width;
  const int64_t sums_stride = static_cast<int64_t>(vectors) * W;
  const auto square = [&](int32_t r, int32_t v) __attribute__((always_inline)) {
    for (int i = 0; i < W; ++i) __builtin_prefetch(y + (v * W + i) * stride + r + AHEAD, 1);
    turn<V>(sums + r * sums_stride + v * W, sums_stride, rows - r, W, y + v * W * stride + r, stride, tokens - v * W,
            rows - r);
  };
  if (activation == Activation::none) {  // few tokens at a time: their lines may all fall into one set of the cache
    for (int32_t v = 0; v < vectors; ++v) {
      for (int32_t r = 0; r < rows; r += W) square(r, v);
    }
    return;
  }
  for (int32_t r = 0; r < rows; r += W) {  // rows are turned while they are in the first cache
    epilogue::finish_span<V>(activation, sums + r * sums_stride, nullptr, sums_stride * (rows - r < W ? rows - r : W));
    for (int32_t v = 0; v < vectors; ++v) square(r, v);
  }
}

template <class V>
void pack_channels(const float* x, int64_t stride, int64_t positions, int32_t columns, int32_t vectors,
                   float* packed) {
  constexpr int W = V::width;
  for (int32_t k = 0; k < columns; ++k, x += stride) {
    for (int32_t v = 0; v < vectors; ++v, packed += W) {
      __builtin_prefetch(x + (v + vectors) * W);  // the next tile's
      V::store(packed, V::load(x + v * W, V::first(positions - v * W)));
    }
  }
}

template <class V>
[[gnu::always_inline]] inline void copy_segment(const Segment& segment, const float* plane, int32_t step, float* to) {
  constexpr int W = V::width;
  to += segment.to;
  int32_t i = 0;
  if (segment.from < 0) {
    for (; i + W <= segment.length; i += W) V::store(to + i, V::zero());
    if (i < segment.length) V::store(to + i, V::first(segment.length - i), V::zero());
    return;
  }
  const float* from = plane + segment.from;
  if (step == 1) {
    for (; i + W <= segment.length; i += W) V::store(to + i, V::load(from + i));
    const auto mask = V::first(segment.length - i);
    if (i < segment.length) V::store(to + i, mask, V::load(from + i, mask));
    return;
  }
  for (; i < segment.length; ++i) to[i] = from[static_cast<int64_t>(i) * step];
}

template <class V>
void pack_image(const float* x, const Gather& gather, int32_t first, int32_t columns, int32_t vectors, float* packed) {
  int32_t tap = first % gather.taps;
  const float* plane = x + first / gather.taps * gather.plane;
  for (int32_t k = 0; k < columns; ++k, packed += static_cast<int64_t>(vectors) * V::width) {
    for (int32_t s = gather.tap_start[tap]; s < gather.tap_start[tap + 1]; ++s) {
      copy_segment<V>(gather.segments[s], plane, gather.step, packed);
    }
    if (++tap == gather.taps) {
      tap = 0;
      plane += gather.plane;
    }
  }
}

template <class V>
void pack_strip(const float* x, const StripTile& tile, int32_t channels, float* packed) {
  constexpr int W = V::width;
  for (int32_t c = 0; c < channels; ++c, x += tile.plane) {
    for (int32_t kx = 0; kx < tile.kernel_width; ++kx) {
      const int32_t from = tile.lane_from[kx], to = tile.lane_to[kx];
      for (int32_t r = 0; r < tile.rows; ++r, packed += W) {
        const float* source = x + tile.row[r] + tile.column[kx];
        if (tile.row[r] < 0 || from >= to) {
          V::store(packed, V::zero());
        } else if (tile.step == 1 && to - from == W) {
          V::store(packed, V::load(source));
        } else if (tile.step == 1) {
          V::store(packed, V::load_between(source, from, to));
        } else {
          V::store(packed, V::load_steps(source, tile.step, from, to));
        }
      }
    }
  }
}

}  // namespace sparsify::f32
