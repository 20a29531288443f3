// The portable epilogue, and which of all serves.
#include "epilogue.h"

#include "cpu.h"
#include "epilogue_loops.h"
#include "f32_vector_portable.h"

namespace sparsify {
namespace epilogue {

#if defined(__x86_64__)
extern const Loops avx512_loops, avx2_loops;
#elif defined(__aarch64__)
extern const Loops neon_loops;
#endif

namespace {

constexpr Loops PORTABLE = {finish_token_major<portable::Vector>, finish_channel_major<portable::Vector>};

const Loops& loops() {
#if defined(__x86_64__)
  if (cpu().avx512) return avx512_loops;
  if (cpu().avx2) return avx2_loops;
#elif defined(__aarch64__)
  if (cpu().neon) return neon_loops;
#endif
  return PORTABLE;
}

bool nothing(const Epilogue& epilogue) {
  return epilogue.residual == nullptr && epilogue.activation == Activation::none && epilogue.norm_scale == nullptr;
}

}  // namespace
}  // namespace epilogue

void finish_token_major(const Epilogue& epilogue, float* y, int64_t rows, int64_t first, int64_t count) {
  if (!epilogue::nothing(epilogue)) epilogue::loops().token_major(epilogue, y, rows, first, count);
}

void finish_channel_major(const Epilogue& epilogue, float* y, int64_t n, int64_t first_row, int64_t rows, int64_t first,
                          int64_t count) {
  if (!epilogue::nothing(epilogue)) {
    epilogue::loops().channel_major(epilogue, y, n, first_row, rows, first, count);
  }
}

}  // namespace sparsify
