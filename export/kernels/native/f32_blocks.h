// Rows of a matrix cut into blocks of columns, each block's rows sorted by their number of nonzeros.
#pragma once

#include <cstdint>
#include <vector>

#include "f32_loops.h"
#include "f32_rows.h"

namespace sparsify::f32 {

// Rows [first_row, first_row + rows), which all read the same channels. Owns what its blocks point at.
class Part {
 public:
  // Blocks of `place.size()` columns; the last may be narrower. place[k] is where column k of a block lies when it is
  // packed, in units of the stride that `multiply` is given.
  Part(const SparseRows<float>& rows, int32_t first_row, int32_t row_count, int32_t columns,
       const std::vector<uint16_t>& place);
  Part(Part&&) = default;
  Part& operator=(Part&&) = delete;

  int32_t first_row() const { return first_row_; }
  int32_t rows() const { return rows_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  size_t bytes() const;

 private:
  void add_block(const SparseRows<float>& rows, std::vector<int64_t>& next, int32_t first_column, int32_t columns,
                 const std::vector<uint16_t>& place);

  int32_t first_row_, rows_;
  std::vector<Block> blocks_;
  std::vector<Run> runs_;
  std::vector<int32_t> row_;
  std::vector<uint16_t> index_;
  std::vector<float> value_;
};

// All rows, group by group and each group in `parts` parts (fewer where it has fewer rows).
std::vector<Part> make_parts(const SparseRows<float>& rows, int32_t columns, int32_t groups, int32_t parts,
                             const std::vector<uint16_t>& place);

size_t total_bytes(const std::vector<Part>& parts);

// Columns packed side by side: place[k] = k.
std::vector<uint16_t> side_by_side(int32_t columns);

}  // namespace sparsify::f32
