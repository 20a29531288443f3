// How each int8 kernel lays a layer out: the `prepare` functions of the table.
#pragma once

#include <memory>

#include "i8_quads.h"
#include "i8_row_panels.h"
#include "kernel.h"

namespace sparsify {

std::unique_ptr<Prepared> prepare_amx_tokens(const Weights& weights, const Shape& shape);
std::unique_ptr<Prepared> prepare_amx_positions(const Weights& weights, const Shape& shape);
std::unique_ptr<Prepared> prepare_amx_rows(const Weights& weights, const Shape& shape);  // rows_16, rows_32

std::unique_ptr<Prepared> prepare_gemv(const Weights& weights, const Shape& shape);
// `loops` are those of one instruction set.
std::unique_ptr<Prepared> prepare_quads(const QuadLoops& loops, const Weights& weights, const Shape& shape);
std::unique_ptr<Prepared> prepare_row_panels(const RowLoops& loops, const Weights& weights, const Shape& shape);

}  // namespace sparsify
