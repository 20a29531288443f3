// int8 weights for dot products of quads without AMX: panels of rows that multiply the same columns.
//
// Of rows_16 and rows_32 a panel is 16 or 32 rows with the columns that any of them keeps, four by four, wherever they
// are. Of every other pattern it is 64 rows, with all columns, or chosen likewise where many of those only fill quads
// of channels up, as of an image's three. A quad's dword is a row's weights in its four columns,
// the first one's in the lowest byte; dwords lie [panel][block of 96 quads][strip of 4 rows][quad][row].
#pragma once

#include <cstdint>
#include <vector>

#include "i8_memory.h"
#include "i8_quads.h"
#include "weights.h"

namespace sparsify {

inline constexpr int64_t line_bytes = tile_positions * 4;  // a quad's activations of a tile
inline constexpr int64_t strip_rows = 4;                   // whose sums of a tile stay in registers
inline constexpr int64_t panel_block_quads = 96;           // whose lines of a tile stay in L1: 24 KB

// What the layer reads; made by RowPanels::view.
struct RowPanelView {
  int64_t rows;             // of the group
  int64_t height;           // rows of a panel; the last may have fewer
  int64_t panels;           // ceil(rows / height)
  int64_t quads;            // of any panel, at most
  bool whole;               // every panel has every column in order
  const int64_t* starts;    // [panels + 1] a panel's first quad among all
  const int32_t* columns;   // [quads][4]; past a panel's last one, column 0 and weights of zero; empty where whole
  const uint32_t* values;   // a panel's begin at starts[panel] * height
  const int32_t* offsets;   // [rows] -128 * sum of the row's weights: takes the activations' zero point out again
};

// Whether rows keep and drop their columns together.
bool shares_columns(Pattern pattern);

// Whether each panel chooses columns of its own; `channels` are those of a group.
bool chooses_columns(Pattern pattern, int64_t channels);

class RowPanels {
 public:
  // integers: int8 [rows][columns], columns a multiple of four.
  RowPanels(const int8_t* integers, int64_t rows, int64_t columns, Pattern pattern, bool chosen);
  RowPanelView view() const;
  size_t bytes() const;

 private:
  void choose_columns(const int8_t* integers, int64_t columns);
  void lay_row(int64_t row, const int8_t* integers);

  int64_t rows_, height_, panels_, quads_ = 0;
  bool whole_;
  std::vector<int64_t> starts_{0};
  std::vector<int32_t> columns_;
  AlignedArray<uint32_t> values_;
  std::vector<int32_t> offsets_;
};

// What an instruction set's file offers. Integers and roundings are the same in all.
struct RowLoops {
  // sums[row][0, 16 * sixteens) = (or, where `add`, +=) products of a strip, [quad][row] in `weights`, with lines of
  // tile_positions dwords, one a quad, that follow one another. Sums of a row lie tile_positions apart.
  void (*multiply)(const uint32_t* weights, int64_t quads, const uint8_t* lines, int64_t sixteens, bool add,
                   int32_t* sums);
  // Lines of quads whose columns lie apart: a column's bytes begin at planes[offsets[columns[quad][i]]].
  void (*gather)(const uint8_t* planes, const int64_t* offsets, const int32_t* columns, int64_t quads, uint8_t* lines);
  SpreadQuads spread;
  const QuadLoops* quads;  // of the same instruction set: its `scale`
};

#if defined(__x86_64__)
extern const RowLoops avx2_rows;
extern const RowLoops avxvnni_rows;
extern const RowLoops avx512vnni_rows;
#endif

}  // namespace sparsify
