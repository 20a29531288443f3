// The portable quantisation, which defines what the others must give, and the choice among all.
#include "quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "cpu.h"

namespace sparsify {

#if defined(__x86_64__)
extern const Quantizer avx512_quantizer;
#endif

namespace {

int32_t magnitude(float x) { return std::bit_cast<int32_t>(x) & 0x7fffffff; }

uint32_t byte_of(float x, float inverse) {
  const float scaled = x * inverse;
  // A rounding over 127 at most, but for a NaN or an infinity, whose step is one too.
  if (!(scaled > -127.5f && scaled < 127.5f)) return 0;
  return static_cast<uint32_t>(static_cast<int32_t>(std::nearbyint(scaled)) + quantized_zero);
}

float absmax(const float* x, int64_t count) {
  int32_t most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, magnitude(x[i]));
  return std::bit_cast<float>(most);
}

float token(const float* x, int64_t columns, uint8_t* runs, int64_t run_stride) {
  const ByteScale scale = byte_scale(absmax(x, columns));
  for (int64_t first = 0; first < columns; first += 64, runs += run_stride) {
    for (int64_t k = 0; k < 64; ++k) {
      runs[k] = static_cast<uint8_t>(first + k < columns ? byte_of(x[first + k], scale.inverse) : quantized_zero);
    }
  }
  return scale.step;
}

void absmax_of_columns(const float* x, int64_t stride, int64_t rows, int64_t count, float* out) {
  std::fill(out, out + count, 0.0f);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < count; ++j) {
      out[j] = std::bit_cast<float>(std::max(std::bit_cast<int32_t>(out[j]), magnitude(x[i * stride + j])));
    }
  }
}

void quads(const float* const x[4], const float* inverse, int64_t count, uint32_t* out) {
  for (int64_t j = 0; j < count; ++j) {
    out[j] = 0;
    for (int i = 0; i < 4; ++i) {
      const uint32_t byte = x[i] != nullptr ? byte_of(x[i][j], inverse[j]) : uint32_t{quantized_zero};
      out[j] |= byte << (8 * i);
    }
  }
}

void bytes(const float* x, const float* inverse, int64_t count, uint8_t* out) {
  for (int64_t j = 0; j < count; ++j) out[j] = static_cast<uint8_t>(byte_of(x[j], inverse[j]));
}

void turned_bytes(const float* x, const float* inverse, int64_t count, uint8_t* out) {
  for (int64_t j = 0; j < count; ++j) {
    const int64_t dword = j % 64 / 4;
    out[j / 64 * 64 + (dword % 4 * 4 + dword / 4) * 4 + j % 4] = static_cast<uint8_t>(byte_of(x[j], inverse[j]));
  }
}

void transpose(const uint32_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint32_t* to,
               int64_t to_stride) {
  for (int64_t column = 0; column < columns; ++column) {
    for (int64_t row = 0; row < rows; ++row) to[column * to_stride + row] = from[row * from_stride + column];
  }
}

constexpr Quantizer PORTABLE = {token, absmax, absmax_of_columns, quads, bytes, turned_bytes, transpose};

}  // namespace

const Quantizer& quantizer() {
#if defined(__x86_64__)
  if (cpu().avx512) return avx512_quantizer;
#endif
  return PORTABLE;
}

}  // namespace sparsify
