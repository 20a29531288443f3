// What follows the product and its bias, over results that are still in the cache.
#pragma once

#include <cstdint>

#include "problem.h"

namespace sparsify {

// y already holds product + bias. Residual, activation and LayerNorm of whole tokens, in place, of tokens
// [first, first + count) of y[.][rows].
void finish_token_major(const Epilogue& epilogue, float* y, int64_t rows, int64_t first, int64_t count);

// y already holds product + bias. Residual and activation of rows [first_row, first_row + rows) at positions
// [first, first + count) of y[.][n].
void finish_channel_major(const Epilogue& epilogue, float* y, int64_t n, int64_t first_row, int64_t rows, int64_t first,
                          int64_t count);

}  // namespace sparsify
