#include "i8_planes.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "i8_memory.h"
#include "quantize.h"

namespace sparsify {
namespace {

int64_t plane_bytes(int64_t positions) { return ((positions * 4 + PlaneMap::slack) / 64 | 1) * 64; }

// Which of the grid's positions are outputs: the first out_width of each row of `width`.
void mark_outputs(PlaneMap& map, int64_t out_height, int64_t out_width) {
  map.positions = (out_height - 1) * map.width + out_width;
  const int64_t vectors = (map.positions + 63) / 64 * 4;
  map.lanes.assign(static_cast<size_t>(vectors), 0);
  map.outputs.assign(static_cast<size_t>(vectors), 0);
  int64_t output = 0;
  for (int64_t v = 0; v < vectors; ++v) {
    map.outputs[static_cast<size_t>(v)] = output;
    for (int64_t p = v * 16; p < std::min(v * 16 + 16, map.positions); ++p) {
      if (p % map.width >= out_width) continue;
      map.lanes[static_cast<size_t>(v)] = static_cast<uint16_t>(map.lanes[static_cast<size_t>(v)] | 1u << (p % 16));
      ++output;
    }
  }
}

// Quads [first, first + count) of a channel quad, from channels `n` apart.
void quantize_quad(const float* x, int64_t n, int64_t present, const float* inverse, int64_t count, uint32_t* out) {
  const float* channels[4];
  for (int64_t i = 0; i < 4; ++i) channels[i] = i < present ? x + i * n : nullptr;
  quantizer().quads(channels, inverse, count, out);
}

}  // namespace

PlaneMap channel_major_map(int64_t channels, int64_t n) {
  PlaneMap map{};
  map.channel_quads = map.planes = (channels + 3) / 4;
  map.height = 1;
  map.width = n;
  map.plane = plane_bytes(n);
  map.phases = {0};
  for (int64_t q = 0; q < map.channel_quads; ++q) map.offsets.push_back(q * map.plane);
  mark_outputs(map, 1, n);
  return map;
}

PlaneMap image_map(const Image& image) {
  PlaneMap map{};
  map.channel_quads = (image.channels / image.groups + 3) / 4;
  map.height = image.out_height + int64_t{image.kernel_height - 1} * image.dilation_y / image.stride_y;
  map.width = image.out_width + int64_t{image.kernel_width - 1} * image.dilation_x / image.stride_x;
  map.plane = plane_bytes(map.height * map.width);
  map.phases.assign(static_cast<size_t>(image.stride_y) * static_cast<size_t>(image.stride_x), -1);
  int32_t phases = 0;
  for (int64_t ky = 0; ky < image.kernel_height; ++ky) {
    for (int64_t kx = 0; kx < image.kernel_width; ++kx) {
      const int64_t y = ky * image.dilation_y, x = kx * image.dilation_x;
      int32_t& phase = map.phases[static_cast<size_t>(y % image.stride_y * image.stride_x + x % image.stride_x)];
      if (phase < 0) phase = phases++;
      const int64_t at = (y / image.stride_y * map.width + x / image.stride_x) * 4;
      for (int64_t q = 0; q < map.channel_quads; ++q) {
        map.offsets.push_back((phase * map.channel_quads + q) * map.plane + at);
      }
    }
  }
  map.planes = phases * map.channel_quads;
  mark_outputs(map, image.out_height, image.out_width);
  return map;
}

void PlaneMap::spread_out() {
  byte_plane = ((plane / 4 + 63) / 64 | 1) * 64;
  for (const int64_t offset : offsets) {
    for (int64_t i = 0; i < 4; ++i) {
      byte_offsets.push_back((offset / plane * 4 + i) * byte_plane + offset % plane / 4);
    }
  }
}

std::vector<int32_t> plane_order(int64_t channels, int64_t taps) {
  std::vector<int32_t> order;
  for (int64_t tap = 0; tap < taps; ++tap) {
    for (int64_t c = 0; c < (channels + 3) / 4 * 4; ++c) {
      order.push_back(c < channels ? static_cast<int32_t>(c * taps + tap) : -1);
    }
  }
  return order;
}

void fill_channel_major(const PlaneMap& map, const float* x, int64_t channels, int64_t n, uint8_t* planes, float* steps,
                        Pool& pool) {
  for_scaled_positions(x, channels, n, steps, pool, [&](int64_t first, int64_t count, const float* inverse, Range mine) {
    for (int64_t q = mine.begin / 4; q < (mine.end + 3) / 4; ++q) {
      quantize_quad(x + 4 * q * n + first, n, channels - 4 * q, inverse, count,
                    reinterpret_cast<uint32_t*>(planes + q * map.plane) + first);
    }
  });
}

void fill_token_major(const PlaneMap& map, const float* x, int64_t columns, int64_t n, uint8_t* planes, float* steps,
                      Pool& pool) {
  constexpr int64_t block = 16;  // tokens whose bytes are turned at once
  const int64_t token_bytes = (columns + 63) / 64 * 64;
  pool.for_each(static_cast<size_t>((n + block - 1) / block), [&](size_t task) {
    const int64_t first = static_cast<int64_t>(task) * block, count = std::min(block, n - first);
    uint8_t* const bytes = thread_scratch(Scratch::image, static_cast<size_t>(block * token_bytes));
    for (int64_t t = 0; t < count; ++t) {
      steps[first + t] = quantizer().token(x + (first + t) * columns, columns, bytes + t * token_bytes, 64);
    }
    quantizer().transpose(reinterpret_cast<const uint32_t*>(bytes), token_bytes / 4, count, map.channel_quads,
                          reinterpret_cast<uint32_t*>(planes) + first, map.plane / 4);
  });
}

void fill_image(const PlaneMap& map, const Image& image, const float* x, float absmax, uint8_t* planes, Pool& pool) {
  const int64_t channels = image.channels / image.groups, n = int64_t{image.height} * image.width;
  const float inverse = byte_scale(absmax).inverse;
  pool.for_each(static_cast<size_t>(map.channel_quads), [&](size_t task) {
    const int64_t q = static_cast<int64_t>(task);
    auto* const quads = reinterpret_cast<uint32_t*>(thread_scratch(Scratch::image, static_cast<size_t>(n) * 8));
    auto* const inverses = reinterpret_cast<float*>(quads + n);
    std::fill(inverses, inverses + n, inverse);
    quantize_quad(x + 4 * q * n, n, channels - 4 * q, inverses, n, quads);
    for (int64_t phase = 0; phase < image.stride_y * image.stride_x; ++phase) {
      const int32_t number = map.phases[static_cast<size_t>(phase)];
      if (number < 0) continue;
      auto* const plane = reinterpret_cast<uint32_t*>(planes + (number * map.channel_quads + q) * map.plane);
      std::fill(plane, plane + map.plane / 4, quantized_zeros);
      // Grid position (y, x) is the image's (y * stride_y + up, x * stride_x + left).
      const int64_t up = phase / image.stride_x - image.pad_top, left = phase % image.stride_x - image.pad_left;
      const int64_t begin = left < 0 ? (-left + image.stride_x - 1) / image.stride_x : 0;
      const int64_t end = std::min(map.width, (image.width - left + image.stride_x - 1) / image.stride_x);
      for (int64_t y = 0; y < map.height && begin < end; ++y) {
        const int64_t from = y * image.stride_y + up;
        if (from < 0 || from >= image.height) continue;
        const uint32_t* row = quads + from * image.width + left;
        uint32_t* to = plane + y * map.width;
        if (image.stride_x == 1) std::copy(row + begin, row + end, to + begin);
        else for (int64_t i = begin; i < end; ++i) to[i] = row[i * image.stride_x];
      }
    }
  });
}

}  // namespace sparsify
