// The integers of a layer's int8 weights, every zero written out: what each int8 kernel's own layout is made from.
#pragma once

#include <cstdint>
#include <vector>

#include "i8_memory.h"
#include "weights.h"

namespace sparsify {

// int8 [rows][columns], for any pattern. Held only while a layer is prepared.
AlignedArray<int8_t> dense_integers(const Weights& weights);

// The same with columns in another order: [rows][order], zero where the order says -1.
AlignedArray<int8_t> dense_integers(const Weights& weights, const std::vector<int32_t>& order);

}  // namespace sparsify
