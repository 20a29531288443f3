// The nonzeros of a matrix row by row, whatever pattern and float precision the file holds them in.
#pragma once

#include <cstdint>
#include <vector>

#include "f32_stored.h"
#include "weights.h"

namespace sparsify {

// Row r holds [start[r], start[r + 1]) of `column` and `value`, columns rising. Stored zeros are left out.
template <class Value>
struct SparseRows {
  std::vector<int64_t> start;
  std::vector<int32_t> column;
  std::vector<Value> value;

  int64_t count(int32_t row) const { return start[row + 1] - start[row]; }
};

// Of f32, f16 and bf16 widened to float; or of one of them as it is stored.
template <class Value>
SparseRows<Value> sparse_rows(const Weights& weights);

// Part of the weights that is kept, from the header alone.
double density(const Weights& weights);

}  // namespace sparsify
