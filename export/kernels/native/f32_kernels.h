// The table's rows for float weights.
#pragma once

#include <span>

#include "kernel.h"

namespace sparsify {

std::span<const KernelInfo> f32_kernels();

}  // namespace sparsify
