// Room for a thread's packed block and sums.
#pragma once

#include <cstddef>

namespace sparsify::f32 {

// At least `floats` floats on a line of the cache, this thread's until it asks again.
float* scratch(size_t floats);

}  // namespace sparsify::f32
