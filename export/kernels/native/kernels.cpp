#include <cstring>
#include <vector>

#include "f32_kernels.h"
#include "i8_kernels.h"
#include "kernel.h"

namespace sparsify {
namespace {

std::vector<KernelInfo> table() {
  std::vector<KernelInfo> all;
  const auto add = [&all](std::span<const KernelInfo> some) { all.insert(all.end(), some.begin(), some.end()); };
  add(f32_kernels());
  add(i8_kernels());
  return all;
}

}  // namespace

std::span<const KernelInfo> kernels() {
  static const std::vector<KernelInfo> once = table();
  return once;
}

const KernelInfo* choose(const Weights& weights, const Shape& shape) {
  const KernelInfo* best = nullptr;
  double best_cost = 0;
  for (const KernelInfo& kernel : kernels()) {
    if (!kernel.can(cpu(), weights, shape)) continue;
    const double cost = kernel.cost(weights, shape);
    if (best != nullptr && cost >= best_cost) continue;
    best = &kernel;
    best_cost = cost;
  }
  return best;
}

const KernelInfo* kernel_named(const char* name) {
  for (const KernelInfo& kernel : kernels()) {
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  }
  return nullptr;
}

}  // namespace sparsify
