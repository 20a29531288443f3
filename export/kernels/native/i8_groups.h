// A layer by its groups: every group of every image is a product of its own, all of one shape.
#pragma once

#include <memory>
#include <mutex>

#include "i8_planes.h"
#include "kernel.h"

namespace sparsify {

// The map of the size that was last asked for, which as a rule is the next one's too. Any thread may ask.
class LastMap {
 public:
  template <class Make>
  std::shared_ptr<const PlaneMap> of(const Image& image, int64_t n, Make&& make) const {
    const std::lock_guard lock(mutex_);
    if (map_ == nullptr || image != image_ || n != n_) {
      map_ = std::make_shared<const PlaneMap>(make());
      image_ = image;
      n_ = n;
    }
    return map_;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const PlaneMap> map_;
  mutable Image image_{};
  mutable int64_t n_ = 0;
};

struct Groups {
  // `spread`: its maps are of planes of bytes, too.
  Groups(const Weights& weights, const Shape& shape, bool spread = false)
      : spread(spread), image(shape.layout == Layout::image), count(image ? shape.image.groups : 1), rows(weights.rows / count),
        taps(image ? int64_t{shape.image.kernel_height} * shape.image.kernel_width : 1),
        channels(weights.columns / taps) {}

  bool spread, image;
  int64_t count;
  int64_t rows;      // of one group
  int64_t taps;      // positions of the kernel
  int64_t channels;  // of one group
  LastMap maps;

  // Calls run(problem, map, group) for one group of one image after the other; x, y, bias and residual are its own.
  template <class Run>
  void for_each(const Problem& problem, Run&& run) const {
    const auto map = maps.of(problem.image, problem.n, [&] {
      PlaneMap made = image ? image_map(problem.image) : channel_major_map(channels, problem.n);
      if (spread) made.spread_out();
      return made;
    });
    const int64_t in_group = channels * (image ? int64_t{problem.image.height} * problem.image.width : problem.n);
    for (int64_t i = 0; i < problem.batch * count; ++i) {
      const int64_t group = i % count, skipped = i * rows * problem.n;
      Problem one = problem;
      one.x += i * in_group;
      one.y += skipped;
      if (one.epilogue.residual) one.epilogue.residual += skipped;
      if (one.epilogue.bias) one.epilogue.bias += group * rows;
      run(one, *map, group);
    }
  }
};

}  // namespace sparsify
