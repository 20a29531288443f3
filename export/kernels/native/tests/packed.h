// Random weights in the blob's format, written here a second time so that the library's reader has an opposite.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace sparsify_tests {

using Random = std::mt19937_64;

int64_t between(Random& random, int64_t least, int64_t most);
float normal(Random& random);

enum Precision : uint8_t { F32, F16, BF16, I8 };
enum Pattern : uint8_t { DENSE, UNSTRUCTURED, BLOCK_1X4, ROWS_16, ROWS_32 };

struct Packed {
  int64_t rows, columns;
  Precision precision;
  Pattern pattern;
  std::vector<double> weights;  // [rows][columns], as they are stored: the oracle's
  std::vector<uint8_t> bytes;

  // Writes the checksum anew after `bytes` were changed.
  void seal();
};

// `density` of the blocks are kept; some rows are left empty.
Packed random_packed(Random& random, int64_t rows, int64_t columns, Precision precision, Pattern pattern,
                     double density);

}  // namespace sparsify_tests
