// Products of int8 weights with bytes of activations on AMX tiles. Only raw pointers cross into the AMX files.
#pragma once

#include <cstdint>

#include "i8_kept.h"
#include "i8_panels.h"
#include "problem.h"

namespace sparsify::amx {

inline constexpr int64_t pair_sums_bytes = 4096;
inline constexpr int64_t chunk_steps = 6;        // of several; measured: 4 to 8 are alike, 12 loses a tenth
inline constexpr int64_t most_chunk_steps = 12;  // of one alone, which keeps no sums between chunks
// The scratch a task needs for blocks of so many pairs of 16 tokens or positions.
inline constexpr int64_t room_bytes(int64_t pairs) {
  return pairs * pair_sums_bytes + 2 * most_chunk_steps * step_bytes;
}

// token_major. Tiles: [pair of 16 tokens][step][16-token half][token][64 columns].
struct Tokens {
  PanelView weights;        // Operand::second
  const uint8_t* tiles;
  const int64_t* offsets;   // [steps] 2048 * step
  const float* token_steps; // [n] what a token's byte stands for
  int64_t n;
  float* y;                 // [n][rows]
  Epilogue epilogue;        // all but LayerNorm
};

// channel_major and image. Planes: [quad of channels][position], lines of dwords; a step is 16 quads, `stride` apart.
struct Positions {
  PanelView weights;         // Operand::first
  const uint8_t* planes;
  const int64_t* offsets;    // [steps] of a step's first quad
  int64_t stride;            // from a quad to the next, bytes
  const float* position_steps;  // [positions, rounded up to 32] what a position's byte stands for
  int64_t positions;         // of this block, those that no output has included
  const uint16_t* lanes;     // [ceil(positions / 16), rounded up to even] which of 16 positions are outputs
  const int64_t* outputs;    // [the same] the index within y's row of the first of them
  int64_t n;                 // y's row
  float* y;                  // [rows][n]
  Epilogue epilogue;
};

inline constexpr int64_t group_tokens = 64;
inline constexpr int64_t gathered_step_bytes = group_tokens * kept_step_columns, sums_bytes = 4096;
// The scratch a task needs for weights whose panels have at most so many steps.
inline constexpr int64_t kept_room_bytes(int64_t steps) { return 2 * (sums_bytes + steps * gathered_step_bytes); }

// token_major, weights of rows_16 or rows_32. Planes: [group of 64 tokens][column][64], written by lay_planes.
struct KeptTokens {
  KeptView weights;
  const uint8_t* planes;
  int64_t columns;           // lines of a group's planes
  const float* token_steps;  // [n] what a token's byte stands for
  int64_t n;
  float* y;                  // [n][rows]
  Epilogue epilogue;         // all but LayerNorm
};

// Planes of 64 tokens [token][column], tokens `stride` apart: a column's bytes go to one line, in the order that
// becomes tiles of 16 tokens when four lines are interleaved. Columns: a multiple of 16.
void lay_planes(const uint8_t* bytes, int64_t stride, int64_t columns, uint8_t* planes);

// The rows of panels [first, first + count). Room as kept_room_bytes says, 64-byte aligned.
void multiply_kept(const KeptTokens& product, int64_t first, int64_t count, uint8_t* room);

// The rows of panels [first, first + count). Room as room_bytes says, 64-byte aligned.
void multiply_tokens(const Tokens& product, int64_t first, int64_t count, uint8_t* room);
void multiply_positions(const Positions& product, int64_t first, int64_t count, uint8_t* room);

// To be timed: as many steps of four products as asked, without and with fetching their tiles. A pass is all steps of
// two chunks for four pairs, 96 KB of tiles as of Tokens; `weights` is one chunk, expanded.
inline constexpr int64_t SAMPLE_CHUNKS = 2, SAMPLE_PAIRS = 4, SAMPLE_STEPS = SAMPLE_CHUNKS * chunk_steps * SAMPLE_PAIRS;
void repeat_products(int64_t steps, const uint8_t* weights);
void repeat_steps(int64_t passes, const uint8_t* tiles, const uint8_t* weights);

}  // namespace sparsify::amx
