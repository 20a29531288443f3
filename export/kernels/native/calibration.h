// What this machine takes for the pieces of which every kernel is made: the constants of the cost model.
#pragma once

#include "f32_loops.h"
#include "i8_quads.h"
#include "i8_row_panels.h"

namespace sparsify {

// Nanoseconds, of one instruction set's loops, measured in a few milliseconds when first asked for.
struct Calibration {
  double load;         // of one vector from the first cache with its multiply-add
  double row;          // of beginning and ending a row of a block
  double sum;          // of fetching and storing one vector of a row's sums
  double pack;         // of one vector copied into a tile
  double jump;         // of beginning at another row of a large image, before the first vector
  double gather;       // of one group of a gather with its multiply-add
  double stream_byte;  // of one byte that is read or written in another cache than the first two
  double multiply;     // of one multiplication and addition of a dense product, at the peak of the multiplier
  double cycle;        // of the processor, while it multiplies
};

const Calibration& calibration(const f32::Loops& loops);
Calibration measure(const f32::Loops& loops);  // anew

// Nanoseconds of int8 weights in groups of four times a tile of 64 positions, likewise.
struct GroupCalibration {
  double group;  // of one group, its activations in the first cache
  double row;    // of beginning and ending a row of a block, its sums fetched and kept
  double token_result;  // of one result: scaled, turned and written
  double position_row;  // of a row of the last block where lanes are positions: its results written to the second cache
};

const GroupCalibration& calibration(const QuadLoops& loops);

// Nanoseconds of one activation of an image in the second cache: the largest magnitude sought, then quantised.
struct QuantizeCalibration {
  double quads;
  double bytes;  // to planes of single channels
};

const QuantizeCalibration& quantize_calibration();

// Nanoseconds on AMX tiles, likewise. A product is 16 x 16 x 64 multiplications of bytes.
struct TileCalibration {
  double product;  // of one product of tiles that are there
  double step;     // of the inner loop of i8_amx_core.h alone: four tiles fetched, two past L1, and four products
};

// Only where cpu().amx_int8.
const TileCalibration& tile_calibration();
TileCalibration measure_tiles();  // anew

// What the cost models count in.
double cycle_ns(const f32::Loops& loops);

// A dense product's time for one multiplication on this machine's best instruction set, as BLAS libraries reach it:
// what a sparse layer has to beat.
double dense_multiply_ns();

// Nanoseconds of int8 weights in panels of rows (i8_row_panels.h), likewise.
struct RowCalibration {
  double dot;     // of a row's quad times 16 positions
  double gather;  // of a line of a panel's own quad
};

const RowCalibration& calibration(const RowLoops& loops);

}  // namespace sparsify
