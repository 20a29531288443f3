#include "i8_bands.h"

#include <algorithm>

#include "epilogue.h"
#include "i8_token_blocks.h"
#include "quantize.h"

namespace sparsify {

void Bands::finish(int64_t position, int64_t first, int64_t count, const int32_t* sums) const {
  const Epilogue& epilogue = problem.epilogue;
  const int64_t there = std::min(tile_positions, map.positions - position);
  alignas(64) float scaled[band_rows * tile_positions];
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = first + r;
    loops.scale(sums + r * tile_positions, offsets[row], scales[row], steps + position,
                epilogue.bias ? epilogue.bias[row] : 0.0f, scaled + r * tile_positions);
  }
  if (problem.layout == Layout::token_major) {
    quantizer().transpose(reinterpret_cast<const uint32_t*>(scaled), tile_positions, count, there,
                          reinterpret_cast<uint32_t*>(problem.y + position * rows + first), rows);
    return;
  }
  const int64_t width = map.width, out_width = problem.layout == Layout::image ? problem.image.out_width : width;
  int64_t begin = -1, end = 0;  // of the outputs written
  for (int64_t p = 0; p < there;) {
    const int64_t y = (position + p) / width, x = (position + p) % width, run = std::min(width - x, there - p);
    const int64_t length = std::min(run, out_width - x), output = y * out_width + x;
    if (length > 0) {
      for (int64_t r = 0; r < count; ++r) {
        std::copy_n(scaled + r * tile_positions + p, length, problem.y + (first + r) * problem.n + output);
      }
      begin = begin < 0 ? output : begin;
      end = output + length;
    }
    p += run;
  }
  if (begin >= 0) finish_channel_major(epilogue, problem.y, problem.n, first, count, begin, end - begin);
}

void fill_planes(const Problem& problem, const PlaneMap& map, int64_t channels, uint8_t* planes, float* steps,
                 Pool& pool) {
  if (problem.layout == Layout::token_major) {
    fill_token_major(map, problem.x, channels, problem.n, planes, steps, pool);
  } else if (problem.layout == Layout::channel_major) {
    fill_channel_major(map, problem.x, channels, problem.n, planes, steps, pool);
  } else {
    const float absmax = quantizer().absmax(problem.x, channels * problem.image.height * problem.image.width);
    const int64_t tiles = (map.positions + tile_positions - 1) / tile_positions;
    std::fill(steps, steps + tiles * tile_positions, byte_scale(absmax).step);
    fill_image(map, problem.image, problem.x, absmax, planes, pool);
  }
}

void spread_planes(const PlaneMap& map, SpreadQuads spread, const uint8_t* quads, uint8_t* bytes, Pool& pool) {
  for_shares(pool, map.planes, [&](Range mine) {
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      spread(quads + i * map.plane, map.plane / 4, bytes + 4 * i * map.byte_plane, map.byte_plane);
    }
  });
}

}  // namespace sparsify
