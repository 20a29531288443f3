// Convolutions without im2col: a tile is a strip of the output, `width` columns of some rows.
//
// Layout: of each channel the strip's input rows are packed once for each kernel column, already shifted, and for each
// phase of the stride, as [channel][kernel column][phase][row][width]. The kernel's row is then an offset of whole
// vectors: a nonzero's place (ky = phase + shift * stride_y) holds for every strip, and all loads are aligned. Against
// im2col this packs kernel_height times less and keeps that much more of K in the first cache; it wastes the lanes by
// which the output's width misses a multiple of the vector's.
#pragma once

#include <memory>
#include <vector>

#include "f32_prepared.h"

namespace sparsify::f32 {

// Where the rows of a kernel find their input in a packed strip.
struct StripLayout {
  StripLayout(const Image& image, int32_t vectors);

  std::vector<int32_t> phases;  // the remainders of ky * dilation_y by stride_y that occur
  int32_t shifts;               // most rows by which a kernel row is shifted
  int32_t rows;                 // of a packed channel and kernel column, all phases together
  int32_t channel_vectors;      // vectors of a packed channel

  std::vector<uint16_t> place(const Image& image, int32_t channels) const;
};

std::unique_ptr<Prepared> prepare_strips(const Loops& loops, const Weights& weights, const Shape& shape,
                                         const Plan& plan);

}  // namespace sparsify::f32
