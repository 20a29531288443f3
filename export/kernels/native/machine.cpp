#include "machine.h"

#include <algorithm>

#include "calibration.h"
#include "cpu.h"
#include "f32_instruction_sets.h"
#include "i8_memory.h"
#include "stopwatch.h"

namespace sparsify {
namespace {

volatile float sink;  // so that no measured work is left out

// Gigabytes a second, which are bytes a nanosecond.
double read_gb_s(const f32::Loops& loops, int bytes) {
  constexpr int LEAST = 1 << 20;  // a time, so that the clock's own does not count
  const int floats = bytes / 4096 * 1024;
  const AlignedArray<float> x(static_cast<size_t>(floats));
  const int times = std::max(1, LEAST / bytes);
  const double took = quickest([&] { sink = loops.read(x.data(), floats, times); });
  return 4.0 * floats * times / took;
}

}  // namespace

sk_machine measure_machine() {
  const f32::Loops& loops = f32::best_loops();
  const Calibration constants = measure(loops);
  sk_machine machine = {};
  machine.fma_gflops = 2 / constants.multiply;
  machine.read_l1_gb_s = read_gb_s(loops, cpu().l1_bytes / 2);
  machine.read_l2_gb_s = read_gb_s(loops, cpu().l2_bytes / 2);
  machine.read_beyond_l2_gb_s = read_gb_s(loops, 4 * cpu().l2_bytes);
  machine.stream_gb_s = 1 / constants.stream_byte;
  if (!cpu().amx_int8) return machine;
  const TileCalibration tiles = measure_tiles();
  machine.tile_product_ns = tiles.product;
  machine.tile_step_ns = tiles.step;
  return machine;
}

}  // namespace sparsify
