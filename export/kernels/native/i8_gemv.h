// A few tokens (decoding, one at a time) times int8 panels: bound by how fast the weights come from memory.
#pragma once

#include <cstdint>

#include "i8_panels.h"
#include "problem.h"

namespace sparsify {

inline constexpr int64_t most_gemv_tokens = 4;

struct Gemv {
  PanelView weights;         // Operand::second
  const uint8_t* bytes;      // [n][steps * 64]
  const float* token_steps;  // [n] what a token's byte stands for
  int64_t n;                 // 1 to most_gemv_tokens
  float* y;                  // [n][rows]
  Epilogue epilogue;         // all but LayerNorm
};

// The rows of panels [first, first + count). AVX-512 with VNNI and VBMI2.
void multiply_gemv(const Gemv& product, int64_t first, int64_t count);

}  // namespace sparsify
