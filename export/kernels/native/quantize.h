// Activations as unsigned bytes: byte = round(x * 127 / absmax) + 128, one absmax for each token, position or image.
//
// Every instruction set gives the same bytes: absmax is the largest bit pattern without its sign (so a NaN wins and is
// passed on to the result), the product is rounded once to float and then to the nearest even integer. A byte is
// 1..255, and x is recovered within absmax / 254 and a rounding.
#pragma once

#include <cstdint>

namespace sparsify {

inline constexpr int quantized_zero = 128;
inline constexpr uint32_t quantized_zeros = 0x80808080;
// A smaller absmax counts as zero: its inverse would not be finite.
inline constexpr float least_absmax = 1e-30f;

// What a byte stands for, and the inverse; both zero for an absmax that counts as zero.
struct ByteScale {
  float step;     // absmax / 127
  float inverse;  // 127 / absmax
};

namespace {
[[maybe_unused]] inline ByteScale byte_scale(float absmax) {
  if (absmax < least_absmax) return {0.0f, 0.0f};
  return {absmax / 127.0f, 127.0f / absmax};
}
}  // namespace

// A token's bytes go to runs of 64, `run_stride` apart; what the last run lacks is quantized_zero. Returns the step.
using QuantizeToken = float (*)(const float* x, int64_t columns, uint8_t* runs, int64_t run_stride);
// The largest magnitude of x[0, count).
using Absmax = float (*)(const float* x, int64_t count);
// out[j] = largest magnitude of x[i * stride + j] over i in [0, rows), for j in [0, count).
using AbsmaxOfColumns = void (*)(const float* x, int64_t stride, int64_t rows, int64_t count, float* out);
// A quad is one position's bytes of four channels, the first in the lowest byte: out[j] from x[i][j], i in [0, 4), for
// j in [0, count). A null x[i] is a channel of zeros. inverse[j] is the position's 127 / absmax.
using QuantizeQuads = void (*)(const float* const x[4], const float* inverse, int64_t count, uint32_t* out);
// One channel's bytes: out[j] from x[j], for j in [0, count). Up to 63 more are written.
using QuantizeBytes = void (*)(const float* x, const float* inverse, int64_t count, uint8_t* out);
// In turned bytes, of each 64 the four of dword 4 i + j lie at dword 4 j + i.
// to[column * to_stride + row] = from[row * from_stride + column].
using TransposeQuads = void (*)(const uint32_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint32_t* to,
                                int64_t to_stride);

struct Quantizer {
  QuantizeToken token;
  Absmax absmax;
  AbsmaxOfColumns absmax_of_columns;
  QuantizeQuads quads;
  QuantizeBytes bytes;
  QuantizeBytes turned_bytes;
  TransposeQuads transpose;
};

// The best of this processor.
const Quantizer& quantizer();

}  // namespace sparsify
