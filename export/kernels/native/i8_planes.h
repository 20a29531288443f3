// Bytes of channel_major and image activations: planes of quads, shared by every kernel whose lanes are positions.
//
// A quad is four channels' bytes at one position. A plane has one quad of channels at all positions of a grid; the grid
// is the image with its padding, so that a tap of the kernel is a constant distance, and an output row is followed by
// the few positions that no output has. A stride has its own planes for each remainder (phase), where steps are 1
// again. So a convolution reads its operand in place, without im2col. Weights follow in the order (tap, quad of
// channels).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "i8_share.h"
#include "pool.h"
#include "problem.h"
#include "quantize.h"

namespace sparsify {

// Where everything lies, for one group of one image. Offsets and strides are in bytes.
struct PlaneMap {
  int64_t channel_quads;         // ceil(channels of the group / 4)
  int64_t plane;                 // from a plane to the next: an odd multiple of 64, to spread over the cache
  int64_t planes;                // phases * channel_quads
  int64_t positions;             // of the grid up to the last output
  std::vector<int64_t> offsets;  // [taps * channel_quads] of position 0 as each tap sees it
  // The same of planes of bytes, four in the place of each: [4 taps * channel_quads], empty unless spread out.
  std::vector<int64_t> byte_offsets;
  int64_t byte_plane;            // from one to the next, an odd multiple of 64
  std::vector<uint16_t> lanes;   // [vectors of 16 positions, of whole tiles of 64] which are outputs
  std::vector<int64_t> outputs;  // [the same] index of the first of them
  int64_t height, width;         // of the grid
  std::vector<int32_t> phases;   // [stride_y * stride_x] its number among the planes, -1 where no tap reads it

  int64_t bytes() const { return planes * plane + slack; }
  int64_t spread_bytes() const { return 4 * planes * byte_plane + slack; }
  int64_t quads() const { return static_cast<int64_t>(offsets.size()); }
  void spread_out();
  static constexpr int64_t slack = 256;  // a pair of vectors past the last position may be read
};

PlaneMap channel_major_map(int64_t channels, int64_t n);
PlaneMap image_map(const Image& image);

// A layer's columns in the order of the planes: [taps][channel_quads][4], -1 where a quad has no such channel.
std::vector<int32_t> plane_order(int64_t channels, int64_t taps);

// Quantises to `planes`, and writes what each position's byte stands for to steps[n or positions, up to a whole pair].
// channel_major has one absmax a position, an image one for all.
void fill_channel_major(const PlaneMap& map, const float* x, int64_t channels, int64_t n, uint8_t* planes, float* steps,
                        Pool& pool);
// token_major has one absmax a token; planes as channel_major_map has them, with tokens for positions.
void fill_token_major(const PlaneMap& map, const float* x, int64_t columns, int64_t n, uint8_t* planes, float* steps,
                      Pool& pool);
// `absmax` is the image's; x is the group's first channel.
void fill_image(const PlaneMap& map, const Image& image, const float* x, float absmax, uint8_t* planes, Pool& pool);

// The same as planes of bytes, of a map that was spread out, by Quantizer::bytes or turned_bytes. Planes of channels
// that only fill up quads stay unwritten.
void fill_channel_major_bytes(const PlaneMap& map, const float* x, int64_t channels, int64_t n, QuantizeBytes quantize,
                              uint8_t* bytes, float* steps, Pool& pool);
void fill_image_bytes(const PlaneMap& map, const Image& image, const float* x, float absmax, uint8_t* bytes,
                      Pool& pool);

// Blocks of channel_major, for one pass over x to find scales and one to quantise: writes steps and calls
// quantise(first, count, inverse, channels), a block on a thread; inverse[count] of the block's positions.
template <class Quantise>
void for_scaled_positions(const float* x, int64_t channels, int64_t n, float* steps, Pool& pool, Quantise&& quantise) {
  constexpr int64_t most = 1024, cached_bytes = 1 << 20;
  const auto scale = [&](int64_t first, int64_t count, float* largest) {
    for (int64_t j = 0; j < count; ++j) {
      const ByteScale of = byte_scale(largest[j]);
      largest[j] = of.inverse;
      steps[first + j] = of.step;
    }
  };
  const int64_t threads = pool.threads();
  if (threads > 1 && n <= most && channels * n * 4 <= cached_bytes * threads) {
    // Few positions: each thread seeks and quantises in channels of its own.
    const int64_t parts = std::min(threads, (channels + 3) / 4);
    std::vector<float> largest(static_cast<size_t>(parts * n));
    pool.for_each(static_cast<size_t>(parts), [&](size_t i) {
      const Range mine = share_of(channels, parts, static_cast<int64_t>(i), 4);
      quantizer().absmax_of_columns(x + mine.begin * n, n, mine.count(), n, largest.data() + static_cast<int64_t>(i) * n);
    });
    for (int64_t j = n; j < parts * n; ++j) largest[j % n] = std::max(largest[j % n], largest[j]);
    scale(0, n, largest.data());
    pool.for_each(static_cast<size_t>(parts), [&](size_t i) {
      quantise(0, n, largest.data(), share_of(channels, parts, static_cast<int64_t>(i), 4));
    });
    return;
  }
  // Positions whose columns stay in L2 between the two passes; long runs, because a row of x may be a page of its own.
  const int64_t block = std::clamp<int64_t>(cached_bytes / (4 * channels) / 64 * 64, 64, most);
  const int64_t blocks = ((n + block - 1) / block + threads - 1) / threads * threads;
  pool.for_each(static_cast<size_t>(blocks), [&](size_t task) {
    const Range mine = share_of(n, blocks, static_cast<int64_t>(task), 64);
    if (mine.count() == 0) return;
    float inverse[most];
    quantizer().absmax_of_columns(x + mine.begin, n, channels, mine.count(), inverse);
    scale(mine.begin, mine.count(), inverse);
    quantise(mine.begin, mine.count(), inverse, Range{0, channels});
  });
}

}  // namespace sparsify
