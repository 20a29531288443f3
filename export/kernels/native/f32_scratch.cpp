#include "f32_scratch.h"

#include <cstdint>
#include <vector>

namespace sparsify::f32 {

float* scratch(size_t floats) {
  constexpr size_t LINE = 64;
  static thread_local std::vector<float> room;  // it only grows
  const size_t wanted = floats + LINE / sizeof(float);
  if (room.size() < wanted) room.resize(wanted);
  const auto address = reinterpret_cast<uintptr_t>(room.data());
  return room.data() + (LINE - address % LINE) % LINE / sizeof(float);
}

}  // namespace sparsify::f32
