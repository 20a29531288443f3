// Activations as planes of bytes of single channels, quantised straight to where they stay.
#include <algorithm>
#include <cstring>

#include "i8_memory.h"
#include "i8_planes.h"
#include "i8_token_blocks.h"

namespace sparsify {
namespace {

constexpr int64_t most_inverses = 1024;

template <size_t size>
void copy(uint8_t* to, const uint8_t* from) {
  std::memcpy(to, from, size);
}

// Rows of images are short: pieces that may overlap instead of a call.
void copy_row(uint8_t* to, const uint8_t* from, int64_t count) {
  if (count < 8) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
  } else if (count < 16) {
    copy<8>(to, from);
    copy<8>(to + count - 8, from + count - 8);
  } else {
    for (int64_t i = 0; i + 16 <= count; i += 16) copy<16>(to + i, from + i);
    copy<16>(to + count - 16, from + count - 16);
  }
}

template <int64_t step>
void copy_steps(uint8_t* to, const uint8_t* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * step];
}

void copy_steps(uint8_t* to, const uint8_t* from, int64_t step, int64_t count) {
  if (step == 1) return copy_row(to, from, count);
  if (step == 2) return copy_steps<2>(to, from, count);
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * step];
}

// Of one channel's image [height][width], what a phase's grid has of it; the rest of the plane is zero points.
void lay_phase(const PlaneMap& map, const Image& image, int64_t phase, const uint8_t* bytes, uint8_t* plane) {
  std::memset(plane, quantized_zero, static_cast<size_t>(map.byte_plane));
  // Grid position (y, x) is the image's (y * stride_y + up, x * stride_x + left).
  const int64_t up = phase / image.stride_x - image.pad_top, left = phase % image.stride_x - image.pad_left;
  const int64_t begin = left < 0 ? (-left + image.stride_x - 1) / image.stride_x : 0;
  const int64_t end = std::min(map.width, (image.width - left + image.stride_x - 1) / image.stride_x);
  for (int64_t y = 0; y < map.height && begin < end; ++y) {
    const int64_t from = y * image.stride_y + up;
    if (from < 0 || from >= image.height) continue;
    copy_steps(plane + y * map.width + begin, bytes + from * image.width + left + begin * image.stride_x,
               image.stride_x, end - begin);
  }
}

}  // namespace

void fill_channel_major_bytes(const PlaneMap& map, const float* x, int64_t channels, int64_t n, QuantizeBytes quantize,
                              uint8_t* bytes, float* steps, Pool& pool) {
  for_scaled_positions(x, channels, n, steps, pool, [&](int64_t first, int64_t count, const float* inverse) {
    for (int64_t c = 0; c < channels; ++c) {
      quantize(x + c * n + first, inverse, count, bytes + c * map.byte_plane + first);
    }
  });
}

void fill_image_bytes(const PlaneMap& map, const Image& image, const float* x, float absmax, uint8_t* bytes,
                      Pool& pool) {
  const int64_t n = int64_t{image.height} * image.width;
  for_shares(pool, image.channels / image.groups, [&](Range mine) {
    uint8_t* const channel = thread_scratch(Scratch::image, static_cast<size_t>(n) + 64);
    float inverse[most_inverses];
    std::fill(inverse, inverse + std::min(n, most_inverses), byte_scale(absmax).inverse);
    for (int64_t c = mine.begin; c < mine.end; ++c) {
      for (int64_t i = 0; i < n; i += most_inverses) {
        quantizer().bytes(x + c * n + i, inverse, std::min(most_inverses, n - i), channel + i);
      }
      for (int64_t phase = 0; phase < image.stride_y * image.stride_x; ++phase) {
        const int64_t number = map.phases[static_cast<size_t>(phase)];
        if (number < 0) continue;
        lay_phase(map, image, phase, channel, bytes + (number * map.channel_quads * 4 + c) * map.byte_plane);
      }
    }
  });
}

}  // namespace sparsify
