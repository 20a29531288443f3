// Many tokens times int8 panels without AMX: dense products, whatever the weights' pattern.
#pragma once

#include <cstdint>

#include "i8_panels.h"
#include "problem.h"

namespace sparsify {

struct Wide {
  PanelView weights;         // Operand::second
  const uint8_t* bytes;      // [n][steps * 64]
  const float* token_steps;  // [n] what a token's byte stands for
  int64_t n;
  float* y;                  // [n][rows]
  Epilogue epilogue;         // all but LayerNorm
};

// What multiply_wide needs as `room`: a panel, expanded.
inline int64_t wide_room_bytes(const PanelView& weights) { return weights.steps * step_bytes; }

// The rows of panels [first, first + count). AVX-512 with VNNI and VBMI2.
void multiply_wide(const Wide& product, int64_t first, int64_t count, uint8_t* room);

inline constexpr int64_t wide_tokens = 12;  // that are multiplied at once

}  // namespace sparsify
