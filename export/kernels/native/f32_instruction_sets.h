// The loops that were compiled for this platform.
#pragma once

#include "cpu.h"
#include "f32_loops.h"

namespace sparsify::f32 {

#if defined(__x86_64__)
extern const Loops avx512_loops, avx2_loops;
#elif defined(__aarch64__)
extern const Loops neon_loops;
#endif
extern const Loops portable_loops;

// Of those that this processor has, the widest.
inline const Loops& best_loops() {
#if defined(__x86_64__)
  if (cpu().avx512) return avx512_loops;
  if (cpu().avx2) return avx2_loops;
#elif defined(__aarch64__)
  if (cpu().neon) return neon_loops;
#endif
  return portable_loops;
}

}  // namespace sparsify::f32
