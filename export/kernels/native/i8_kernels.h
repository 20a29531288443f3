// The int8 kernels: rows of the one table in kernels.cpp.
#pragma once

#include <span>

#include "kernel.h"

namespace sparsify {

std::span<const KernelInfo> i8_kernels();

}  // namespace sparsify
