#include "i8_bands.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "epilogue.h"
#include "f32_loops.h"
#include "i8_memory.h"
#include "i8_share.h"
#include "i8_token_blocks.h"
#include "quantize.h"

namespace sparsify {

void Bands::finish(int64_t position, int64_t first, int64_t count, const int32_t* sums) const {
  if (problem.layout == Layout::token_major) finish_tokens(position, first, count, sums);
  else finish_positions(position, first, count, sums);
}

void Bands::finish_tokens(int64_t token, int64_t first, int64_t count, const int32_t* sums) const {
  const float* const bias = problem.epilogue.bias;
  alignas(64) float scaled[band_rows * tile_positions];
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    loops.scale(sums + r * tile_positions, offsets[row], scales[row], steps + token, bias ? bias[row] : 0.0f,
                scaled + r * tile_positions);
  }
  quantizer().transpose(reinterpret_cast<const uint32_t*>(scaled), tile_positions, count,
                        std::min(tile_positions, map.positions - token),
                        reinterpret_cast<uint32_t*>(problem.y + token * rows + first), rows);
}

Results Bands::results(int64_t position) const {
  const Epilogue& epilogue = problem.epilogue;
  const bool done = f32::done_in_registers(epilogue.activation);
  return {offsets, scales, epilogue.bias, steps + position,
          map.lanes.data() + position / 16, map.outputs.data() + position / 16, problem.n,
          epilogue.residual, problem.y, done ? epilogue.activation : Activation::none};
}

void Bands::finish_positions(int64_t position, int64_t first, int64_t count, const int32_t* sums) const {
  const Results to = results(position);
  for (int64_t r = 0; r < count; ++r) loops.write(sums + r * tile_positions, to, first + r);
  activate(position, first, count);
}

void Bands::activate(int64_t position, int64_t first, int64_t count) const {
  if (f32::done_in_registers(problem.epilogue.activation)) return;
  Epilogue rest;
  rest.activation = problem.epilogue.activation;
  const auto v = static_cast<size_t>(position / 16);
  const int64_t begin = map.outputs[v], end = map.outputs[v + 3] + std::popcount(map.lanes[v + 3]);
  finish_channel_major(rest, problem.y, problem.n, first, count, begin, end - begin);
}

namespace {

// An image has one scale; steps are written for whole tiles. Returns the largest magnitude.
float scale_image(const Problem& problem, const PlaneMap& map, int64_t channels, float* steps, Pool& pool) {
  constexpr int64_t WORTH_A_THREAD = 16384;  // floats
  const int64_t count = channels * problem.image.height * problem.image.width;
  const int64_t parts = std::clamp<int64_t>(count / WORTH_A_THREAD, 1, pool.threads());
  std::vector<float> most(static_cast<size_t>(parts));
  pool.for_each(most.size(), [&](size_t i) {
    const Range mine = share_of(count, parts, static_cast<int64_t>(i));
    most[i] = quantizer().absmax(problem.x + mine.begin, mine.count());
  });
  const float absmax = *std::max_element(most.begin(), most.end());
  const int64_t tiles = (map.positions + tile_positions - 1) / tile_positions;
  std::fill(steps, steps + tiles * tile_positions, byte_scale(absmax).step);
  return absmax;
}

}  // namespace

void fill_planes(const Problem& problem, const PlaneMap& map, int64_t channels, uint8_t* planes, float* steps,
                 Pool& pool) {
  if (problem.layout == Layout::token_major) {
    fill_token_major(map, problem.x, channels, problem.n, planes, steps, pool);
  } else if (problem.layout == Layout::channel_major) {
    fill_channel_major(map, problem.x, channels, problem.n, planes, steps, pool);
  } else {
    fill_image(map, problem.image, problem.x, scale_image(problem, map, channels, steps, pool), planes, pool);
  }
}

void fill_byte_planes(const Problem& problem, const PlaneMap& map, int64_t channels, const ToBytes& to, uint8_t* bytes,
                      float* steps, Pool& pool) {
  if (problem.layout == Layout::channel_major) {
    fill_channel_major_bytes(map, problem.x, channels, problem.n, to.quantize, bytes, steps, pool);
  } else if (problem.layout == Layout::image) {
    fill_image_bytes(map, problem.image, problem.x, scale_image(problem, map, channels, steps, pool), bytes, pool);
  } else {  // tokens have to be turned, which takes four bytes of each at a time
    uint8_t* const quads = thread_scratch(Scratch::panels, static_cast<size_t>(map.bytes()));
    fill_token_major(map, problem.x, channels, problem.n, quads, steps, pool);
    for_shares(pool, map.planes, [&](Range mine) {
      for (int64_t i = mine.begin; i < mine.end; ++i) {
        to.spread(quads + i * map.plane, map.plane / 4, bytes + 4 * i * map.byte_plane, map.byte_plane);
      }
    });
  }
}

}  // namespace sparsify
