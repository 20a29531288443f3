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

void copy_steps(uint8_t* to, const uint8_t* from, int64_t step, int64_t count) {
  if (step == 1) return copy_row(to, from, count);
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * step];
}

// One channel [height][width]. Where a stride divides the width, its columns are split first, all rows at once: those
// of each remainder lie as an image of their own, and short rows are copied whole.
class Channel {
 public:
  static size_t room(const Image& image) { return 2 * (static_cast<size_t>(image.height) * image.width + 64); }

  Channel(const Image& image, uint8_t* room)
      : image_(image), n_(int64_t{image.height} * image.width),
        split_(image.width % image.stride_x == 0 ? image.stride_x : 1), bytes_(room), columns_(room) {
    if (split_ > 1) columns_ += n_ + 64;
  }

  uint8_t* bytes() { return bytes_; }

  // The columns that a phase reads, before `at`.
  void split(int64_t phase) {
    const int64_t first = ((phase - image_.pad_left) % split_ + split_) % split_;
    if (split_ == 2) split_by<2>(first);
    else if (split_ > 1) split_by(first, split_);
  }

  // Where x, x + stride_x, ... of the first row lie, so many bytes apart, and from one row to the next.
  const uint8_t* at(int64_t x) const { return columns_ + x % split_ * (n_ / split_) + x / split_; }
  int64_t step() const { return image_.stride_x / split_; }
  int64_t row() const { return image_.width / split_; }

 private:
  template <int64_t step>
  void split_by(int64_t first) {
    uint8_t* __restrict const to = columns_ + first * (n_ / step);
    for (int64_t i = 0; i < n_ / step; ++i) to[i] = bytes_[i * step + first];
  }
  void split_by(int64_t first, int64_t step) {
    for (int64_t i = 0; i < n_ / step; ++i) columns_[first * (n_ / step) + i] = bytes_[i * step + first];
  }

  const Image& image_;
  int64_t n_, split_;
  uint8_t* bytes_;
  uint8_t* columns_;
};

// What a phase's grid has of a channel; the rest of the plane is zero points.
void lay_phase(const PlaneMap& map, const Image& image, int64_t phase, const Channel& channel, uint8_t* plane) {
  std::memset(plane, quantized_zero, static_cast<size_t>(map.byte_plane));
  // Grid position (y, x) is the image's (y * stride_y + up, x * stride_x + left).
  const int64_t up = phase / image.stride_x - image.pad_top, left = phase % image.stride_x - image.pad_left;
  const int64_t begin = left < 0 ? (-left + image.stride_x - 1) / image.stride_x : 0;
  const int64_t end = std::min(map.width, (image.width - left + image.stride_x - 1) / image.stride_x);
  if (begin >= end) return;
  const uint8_t* const first = channel.at(begin * image.stride_x + left);
  const int64_t step = channel.step(), row = channel.row();
  for (int64_t y = 0; y < map.height; ++y) {
    const int64_t from = y * image.stride_y + up;
    if (from < 0 || from >= image.height) continue;
    copy_steps(plane + y * map.width + begin, first + from * row, step, end - begin);
  }
}

}  // namespace

void fill_channel_major_bytes(const PlaneMap& map, const float* x, int64_t channels, int64_t n, QuantizeBytes quantize,
                              uint8_t* bytes, float* steps, Pool& pool) {
  for_scaled_positions(x, channels, n, steps, pool, [&](int64_t first, int64_t count, const float* inverse, Range mine) {
    for (int64_t c = mine.begin; c < mine.end; ++c) {
      quantize(x + c * n + first, inverse, count, bytes + c * map.byte_plane + first);
    }
  });
}

void fill_image_bytes(const PlaneMap& map, const Image& image, const float* x, float absmax, uint8_t* bytes,
                      Pool& pool) {
  const int64_t n = int64_t{image.height} * image.width;
  for_shares(pool, image.channels / image.groups, [&](Range mine) {
    Channel channel(image, thread_scratch(Scratch::image, Channel::room(image)));
    float inverse[most_inverses];
    std::fill(inverse, inverse + std::min(n, most_inverses), byte_scale(absmax).inverse);
    for (int64_t c = mine.begin; c < mine.end; ++c) {
      for (int64_t i = 0; i < n; i += most_inverses) {
        quantizer().bytes(x + c * n + i, inverse, std::min(most_inverses, n - i), channel.bytes() + i);
      }
      int64_t split = -1;
      for (int64_t i = 0; i < image.stride_y * image.stride_x; ++i) {
        // Phases of the same columns follow each other.
        const int64_t phase = i % image.stride_y * image.stride_x + i / image.stride_y;
        const int64_t number = map.phases[static_cast<size_t>(phase)];
        if (number < 0) continue;
        if (phase % image.stride_x != split) channel.split(split = phase % image.stride_x);
        lay_phase(map, image, phase, channel, bytes + (number * map.channel_quads * 4 + c) * map.byte_plane);
      }
    }
  });
}

}  // namespace sparsify
