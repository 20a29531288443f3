// The inner loop of the AMX kernels with nothing between its products, to be timed.
#include "i8_amx_core.h"

namespace sparsify::amx {

void repeat_products(int64_t steps, const uint8_t* weights) {
  using P = Product<Operand::first>;
  const Tiles configured;
  // Operands that were only configured are known to be zero, and are multiplied in half the time.
  _tile_loadd(4, weights, 64);
  _tile_loadd(5, weights, 64);
  _tile_loadd(6, weights, 64);
  _tile_loadd(7, weights, 64);
  for (int64_t step = 0; step < steps; ++step) {
    P::into_0();
    P::into_1();
    P::into_2();
    P::into_3();
  }
}

void repeat_steps(int64_t passes, const uint8_t* tiles, const uint8_t* weights) {
  constexpr int64_t STEPS = SAMPLE_CHUNKS * chunk_steps;
  int64_t offsets[STEPS];
  for (int64_t step = 0; step < STEPS; ++step) offsets[step] = step * step_bytes;
  const Tiles configured;
  for (int64_t pass = 0; pass < passes; ++pass) {
    for (int64_t from = 0; from < STEPS; from += chunk_steps) {
      for (int64_t i = 0; i < SAMPLE_PAIRS; ++i) {
        const Pair pair = {tiles + i * STEPS * step_bytes, offsets, 64, 1024};
        multiply<Operand::first, true>(pair, weights, from, from + chunk_steps, [] {});
      }
    }
  }
}

}  // namespace sparsify::amx
