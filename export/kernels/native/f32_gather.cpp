#include "f32_gather.h"

#include <algorithm>

namespace sparsify::f32 {

int32_t group_count(const Shape& shape) {
  return shape.layout == Layout::image ? std::max(1, shape.image.groups) : 1;
}

const float* group_input(const Problem& problem, int64_t group, int64_t image) {
  const Image& of = problem.image;
  const int64_t channel = image * of.channels + group * (of.channels / std::max(1, of.groups));
  return problem.x + channel * of.height * of.width;
}

GatherTile::GatherTile(const Image& image, int64_t first, int64_t positions, int64_t width)
    : step_(image.stride_x), plane_(static_cast<int64_t>(image.height) * image.width) {
  const int32_t taps = image.kernel_height * image.kernel_width;
  tap_start_.reserve(taps + 1);
  tap_start_.push_back(0);
  for (int32_t tap = 0; tap < taps; ++tap) {
    int64_t done = 0;
    while (done < positions) {
      const int64_t position = first + done;
      const auto out_y = static_cast<int32_t>(position / image.out_width);
      const auto out_x = static_cast<int32_t>(position % image.out_width);
      const int64_t length = std::min<int64_t>(image.out_width - out_x, positions - done);
      add_row(image, tap, out_y, out_x, static_cast<int32_t>(length), static_cast<int32_t>(done));
      done += length;
    }
    if (positions < width) {
      segments_.push_back({static_cast<int32_t>(positions), -1, static_cast<int32_t>(width - positions)});
    }
    tap_start_.push_back(static_cast<int32_t>(segments_.size()));
  }
}

// Output row out_y from out_x on: zeros left of the image, what lies in it, zeros right of it.
void GatherTile::add_row(const Image& image, int32_t tap, int32_t out_y, int32_t out_x, int32_t length, int32_t to) {
  const int64_t y = static_cast<int64_t>(out_y) * image.stride_y - image.pad_top +
                    static_cast<int64_t>(tap / image.kernel_width) * image.dilation_y;
  const int64_t x = static_cast<int64_t>(out_x) * image.stride_x - image.pad_left +
                    static_cast<int64_t>(tap % image.kernel_width) * image.dilation_x;
  int64_t inside_from = 0, inside_to = 0;
  if (y >= 0 && y < image.height) {
    const int64_t step = image.stride_x;
    inside_from = x >= 0 ? 0 : (-x + step - 1) / step;
    inside_to = x >= image.width ? 0 : (image.width - x + step - 1) / step;
    inside_from = std::min<int64_t>(inside_from, length);
    inside_to = std::clamp<int64_t>(inside_to, inside_from, length);
  }
  const auto add = [&](int64_t begin, int64_t end, int64_t from) {
    if (begin < end) {
      segments_.push_back({to + static_cast<int32_t>(begin), static_cast<int32_t>(from),
                           static_cast<int32_t>(end - begin)});
    }
  };
  add(0, inside_from, -1);
  add(inside_from, inside_to, y * image.width + x + inside_from * image.stride_x);
  add(inside_to, length, -1);
}

Gather GatherTile::view() const {
  return {segments_.data(), tap_start_.data(), static_cast<int32_t>(tap_start_.size()) - 1, step_, plane_};
}

}  // namespace sparsify::f32
