// channel_major and image on AMX: an image is quantised to planes (i8_planes.h), then blocks of positions are
// multiplied with every panel. Tiles are read from the planes in place where each step of 16 quads lies in one tap;
// else a block's quads are first copied one under the other.
#if defined(__x86_64__)
#include <algorithm>
#include <cstring>
#include <vector>

#include "i8_amx.h"
#include "i8_groups.h"
#include "i8_integers.h"
#include "i8_planes.h"
#include "i8_prepared.h"
#include "i8_share.h"
#include "quantize.h"

namespace sparsify {
namespace {

constexpr int64_t most_positions = 128;  // a block: sums of 16 KB
constexpr int64_t step_quads = step_columns / 4;

class AmxPositionLayer final : public Prepared {
 public:
  AmxPositionLayer(const Weights& weights, const Shape& shape)
      : groups_(weights, shape) {
    const std::vector<int32_t> order = plane_order(groups_.channels, groups_.taps);
    const AlignedArray<int8_t> integers = dense_integers(weights, order);
    const int64_t columns = static_cast<int64_t>(order.size());
    in_place_ = groups_.taps == 1 || (groups_.channels + 3) / 4 % step_quads == 0;
    const int64_t rows = groups_.rows;
    for (int64_t g = 0; g < groups_.count; ++g) {
      panels_.emplace_back(integers.data() + g * rows * columns, rows, columns, weights.scales + g * rows,
                           Operand::first, weights.pattern != Pattern::dense);
    }
  }

  size_t bytes() const override {
    size_t total = 0;
    for (const Panels& panels : panels_) total += panels.bytes();
    return total;
  }

  void run(const Problem& problem, Pool& pool) const override {
    groups_.for_each(problem, [&](const Problem& one, const PlaneMap& map, int64_t group) {
      run_group(one, map, panels_[static_cast<size_t>(group)].view(), pool);
    });
  }

 private:
  void run_group(const Problem& problem, const PlaneMap& map, const PanelView& weights, Pool& pool) const {
    // The last step may reach past the last quad, where the weights are zero.
    const int64_t room = map.bytes() + step_quads * map.plane, pairs = (map.positions + 31) / 32;
    uint8_t* const planes = thread_scratch(Scratch::activations, static_cast<size_t>(room));
    float* const steps = reinterpret_cast<float*>(thread_scratch(Scratch::scales, static_cast<size_t>(pairs) * 128));
    if (problem.layout == Layout::image) {
      const float absmax = quantizer().absmax(problem.x, groups_.channels * problem.image.height * problem.image.width);
      std::fill(steps, steps + pairs * 32, byte_scale(absmax).step);
      fill_image(map, problem.image, problem.x, absmax, planes, pool);
    } else {
      fill_channel_major(map, problem.x, groups_.channels, problem.n, planes, steps, pool);
    }
    const int64_t blocks = (map.positions + most_positions - 1) / most_positions;
    const int64_t parts = blocks >= pool.threads() ? 1 : std::min<int64_t>(pool.threads(), weights.panels);
    pool.for_each(static_cast<size_t>(blocks * parts), [&](size_t task) {
      const int64_t i = static_cast<int64_t>(task);
      const Range block = share_of(map.positions, blocks, i / parts, 32);
      const Range panels = share_of(weights.panels, parts, i % parts);
      if (block.count() > 0) multiply_block(problem, map, weights, planes, steps, block, panels);
    });
  }

  void multiply_block(const Problem& problem, const PlaneMap& map, const PanelView& weights, const uint8_t* planes,
                      const float* steps, Range block, Range panels) const {
    amx::Positions product{weights,       planes + block.begin * 4,
                           nullptr,       map.plane,
                           steps + block.begin, block.count(),
                           map.lanes.data() + block.begin / 16, map.outputs.data() + block.begin / 16,
                           problem.n,     problem.y,
                           problem.epilogue};
    std::vector<int64_t> offsets(static_cast<size_t>(weights.steps));
    if (in_place_) {
      for (int64_t step = 0; step < weights.steps; ++step) offsets[step] = map.offsets[step * step_quads];
    } else {
      const int64_t pairs = (block.count() + 31) / 32;
      product.stride = pairs * 128 + 64;
      product.planes = gathered(map, planes + block.begin * 4, pairs * 128, product.stride, weights.steps * step_quads);
      for (int64_t step = 0; step < weights.steps; ++step) offsets[step] = step * step_quads * product.stride;
    }
    product.offsets = offsets.data();
    const int64_t room = amx::room_bytes((block.count() + 31) / 32);
    amx::multiply_positions(product, panels.begin, panels.count(),
                            thread_scratch(Scratch::panels, static_cast<size_t>(room)));
  }

  // Lines of `bytes`, one for each quad in the weights' order.
  static const uint8_t* gathered(const PlaneMap& map, const uint8_t* planes, int64_t bytes, int64_t stride,
                                 int64_t lines) {
    uint8_t* const to = thread_scratch(Scratch::image, static_cast<size_t>(lines * stride));
    for (int64_t q = 0; q < map.quads(); ++q) {
      std::memcpy(to + q * stride, planes + map.offsets[static_cast<size_t>(q)], static_cast<size_t>(bytes));
    }
    return to;
  }

  Groups groups_;
  bool in_place_;
  std::vector<Panels> panels_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_amx_positions(const Weights& weights, const Shape& shape) {
  return std::make_unique<AmxPositionLayer>(weights, shape);
}

}  // namespace sparsify
#endif
