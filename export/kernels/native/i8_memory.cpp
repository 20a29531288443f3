#include "i8_memory.h"

#include <array>

namespace sparsify {

uint8_t* thread_scratch(Scratch use, size_t bytes) {
  thread_local std::array<AlignedArray<uint8_t>, static_cast<size_t>(Scratch::count)> held;
  AlignedArray<uint8_t>& array = held[static_cast<size_t>(use)];
  if (array.size() < bytes) array = AlignedArray<uint8_t>(bytes + bytes / 4);
  return array.data();
}

}  // namespace sparsify
