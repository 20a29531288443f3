// The loops of f16_spmm.h and f16_pack.h for AVX512-FP16.
#include <bit>

#include "f16_pack.h"
#include "f16_spmm.h"

namespace sparsify::f16 {
namespace {

void pair(float* value, int64_t count, float scale) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t half = std::bit_cast<uint16_t>(static_cast<_Float16>(value[i] * scale));
    value[i] = std::bit_cast<float>(half << 16 | half);
  }
}

}  // namespace

const Loops avx512_loops = {scale_tokens, scale_channels, pack_tokens, pack_channels, multiply_any<>, pair};

}  // namespace sparsify::f16
