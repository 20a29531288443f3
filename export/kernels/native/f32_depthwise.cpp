#include "f32_depthwise.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "calibration.h"
#include "epilogue.h"
#include "f32_gather.h"
#include "f32_rows.h"
#include "f32_scratch.h"

namespace sparsify::f32 {
namespace {

// Of beginning at another plane, copied or in place.
constexpr double CYCLES_OF_A_COPY = 120, CYCLES_OF_A_PLANE = 60;
// Of a vector of half as many lanes, which narrow planes take where there is one, in the time of a whole one.
constexpr double TIME_OF_HALF = 0.55;

// How a plane is cut into strips, whose lines the first cache keeps beside what is written.
struct Strips {
  int64_t line;  // floats
  int32_t rows;  // of output, a multiple of BAND

  Strips(const Image& image, int width) {
    const auto whole = [&](int64_t count, int64_t of) { return (count + of - 1) / of * of; };
    const int64_t step = image.stride_x, reach = (image.kernel_width - 1) * int64_t{image.dilation_x} / step;
    const int64_t read = whole(image.out_width, width) + reach;
    const int64_t written = (image.pad_left + step - 1) / step + whole(image.width, step * width) / step;
    line = whole(std::max(read, written), width);
    const double room = 0.7 * cpu().l1_bytes / (static_cast<double>(line * step) * sizeof(float));  // input rows
    const double fit = (room - (image.kernel_height - 1) * image.dilation_y) / image.stride_y;
    rows = std::clamp(static_cast<int32_t>(fit) / BAND * BAND, BAND, static_cast<int32_t>(whole(image.out_height, BAND)));
  }

  int64_t input_rows(const Image& image, int32_t output_rows) const {
    return int64_t{output_rows - 1} * image.stride_y + int64_t{image.kernel_height - 1} * image.dilation_y + 1;
  }
};

// Whether there are loops for it that copy nothing.
bool in_place(const Loops& loops, const Image& image) {
  return loops.depthwise_in_place != nullptr && image.stride_x == image.stride_y && image.dilation_x == 1 &&
         image.dilation_y == 1 && image.kernel_height == image.kernel_width &&
         (image.kernel_width == 3 || image.kernel_width == 5);
}

// Of one plane.
double nanoseconds_in_place(const Loops& loops, const Image& image) {
  const Calibration& constants = calibration(loops);
  const bool half = loops.width == 16 && image.out_width <= 8;
  const double vectors = half ? TIME_OF_HALF : std::ceil(static_cast<double>(image.out_width) / loops.width);
  const int32_t width = image.kernel_width;
  const double parted = image.stride_x == 1 ? 0 : 2 * width + 1;  // loads and permutations of a row
  const double lines = (image.out_height - 1.0) * image.stride_y + width;
  const double row = width * width * constants.load + constants.row;
  return CYCLES_OF_A_PLANE * cycle_ns(loops) + vectors * (image.out_height * row + lines * parted * constants.load);
}

double nanoseconds_of_copy(const Loops& loops, const Image& image) {
  const Calibration& constants = calibration(loops);
  const Strips strips(image, loops.width);
  const double vectors = std::ceil(static_cast<double>(image.out_width) / loops.width);
  const double bands = std::ceil(static_cast<double>(image.out_height) / strips.rows);
  const double lines = static_cast<double>(strips.input_rows(image, image.out_height)) +
                       (bands - 1) * (image.kernel_height - 1) * image.dilation_y;
  const double packed = lines * std::ceil(static_cast<double>(image.width) / loops.width);
  const double products = image.out_height * vectors * image.kernel_height * image.kernel_width;
  return CYCLES_OF_A_COPY * cycle_ns(loops) + products * constants.load + image.out_height * vectors * constants.sum +
         packed * constants.pack + (lines + image.out_height) * constants.row;
}

class DepthwiseMatrix final : public Prepared {
 public:
  DepthwiseMatrix(const Loops& loops, const Weights& weights)
      : loops_(loops), rows_(weights.rows), columns_(weights.columns),
        taps_(static_cast<size_t>(weights.rows) * static_cast<size_t>(weights.columns)) {
    const auto sparse = sparse_rows<float>(weights);
    for (int32_t r = 0; r < rows_; ++r) {
      for (int64_t i = sparse.start[r]; i < sparse.start[r + 1]; ++i) {
        taps_[static_cast<size_t>(int64_t{r} * columns_ + sparse.column[i])] = sparse.value[i];
      }
    }
  }

  void run(const Problem& problem, Pool& pool) const override {
    const Strips strips(problem.image, loops_.width);
    const int64_t threads = std::max(1, pool.threads());
    const int64_t pieces = std::min<int64_t>(rows_, threads == 1 ? 1 : 4 * threads);
    pool.for_each(static_cast<size_t>(problem.batch * pieces), [&](size_t i) {
      const auto task = static_cast<int64_t>(i);
      const int64_t image = task / pieces, piece = task % pieces;
      const auto first = static_cast<int32_t>(rows_ * piece / pieces);
      const auto last = static_cast<int32_t>(rows_ * (piece + 1) / pieces);
      if (in_place(loops_, problem.image)) return run_in_place(problem, strips, image, first, last);
      const int64_t lines = strips.input_rows(problem.image, strips.rows) * problem.image.stride_x;
      float* room = scratch(static_cast<size_t>(lines * strips.line));
      std::fill_n(room, lines * strips.line, 0.0f);  // beside the rows it stays so
      for (int32_t r = first; r < last; ++r) run_plane(problem, strips, image, r, room);
    });
  }

  size_t bytes() const override { return taps_.size() * sizeof(float); }

 private:
  void run_in_place(const Problem& problem, const Strips& strips, int64_t image, int32_t first, int32_t last) const {
    const Image& of = problem.image;
    const int64_t room = (of.stride_x + 2) * strips.line;
    float* zeros = scratch(static_cast<size_t>(room));
    std::fill_n(zeros, room, 0.0f);
    const Planes planes = {group_input(problem, 0, image), problem.epilogue.bias, first, last, rows_ / of.groups,
                           of.height, of.width, of.pad_top, of.pad_left, zeros};
    loops_.depthwise_in_place(planes, describe(problem, first, image * rows_ + first));
    for (int32_t r = first; r < last; ++r) finish(problem, image, r);
  }

  void run_plane(const Problem& problem, const Strips& strips, int64_t image, int32_t row, float* room) const {
    const Image& of = problem.image;
    const float* x = group_input(problem, row / (rows_ / of.groups), image);
    PlaneRows out = describe(problem, row, image * rows_ + row);
    out.lines = room;
    out.line = strips.line;
    for (int32_t first = 0; first < of.out_height; first += strips.rows) {
      out.rows = std::min(strips.rows, of.out_height - first);
      loops_.pack_lines({x, of.height, of.width, first * of.stride_y - of.pad_top,
                         static_cast<int32_t>(strips.input_rows(of, out.rows)), of.pad_left, of.stride_x, room,
                         strips.line});
      loops_.depthwise(out);
      const int64_t done = int64_t{out.rows} * out.width;
      out.y += done;
      if (out.residual != nullptr) out.residual += done;
    }
    finish(problem, image, row);
  }

  void finish(const Problem& problem, int64_t image, int32_t row) const {
    if (done_in_registers(problem.epilogue.activation)) return;
    Epilogue rest;
    rest.activation = problem.epilogue.activation;
    finish_channel_major(rest, problem.y + image * rows_ * problem.n, problem.n, row, 1, 0, problem.n);
  }

  PlaneRows describe(const Problem& problem, int32_t row, int64_t plane) const {
    constexpr float INFINITE = std::numeric_limits<float>::infinity();
    const Image& image = problem.image;
    const Epilogue& epilogue = problem.epilogue;
    const bool cut = epilogue.activation == Activation::relu || epilogue.activation == Activation::relu6;
    PlaneRows out = {};
    out.step = image.stride_x;
    out.stride_y = image.stride_y;
    out.kernel_height = image.kernel_height;
    out.kernel_width = image.kernel_width;
    out.dilation_y = image.dilation_y;
    out.dilation_x = image.dilation_x;
    out.taps = taps_.data() + int64_t{row} * columns_;
    out.bias = epilogue.bias == nullptr ? 0 : epilogue.bias[row];
    out.low = cut ? 0 : -INFINITE;
    out.high = epilogue.activation == Activation::relu6 ? 6 : INFINITE;
    out.y = problem.y + plane * problem.n;
    out.residual = epilogue.residual == nullptr ? nullptr : epilogue.residual + plane * problem.n;
    out.rows = image.out_height;
    out.width = image.out_width;
    return out;
  }

  const Loops& loops_;
  int32_t rows_, columns_;
  std::vector<float> taps_;  // [rows][columns]
};

}  // namespace

bool is_depthwise(const Weights& weights, const Shape& shape) {
  const Image& image = shape.image;
  return shape.layout == Layout::image && image.groups > 1 && image.stride_x <= MOST_DEPTHWISE_STRIDE &&
         weights.columns == image.kernel_height * image.kernel_width;
}

double depthwise_nanoseconds(const Loops& loops, const Weights& weights, const Shape& shape) {
  constexpr int32_t UNKNOWN = 14;  // pixels a side
  Image image = shape.image;
  if (image.out_height == 0) {
    image.out_height = image.out_width = UNKNOWN;
    image.height = UNKNOWN * image.stride_y;
    image.width = UNKNOWN * image.stride_x;
  }
  const double plane = in_place(loops, image) ? nanoseconds_in_place(loops, image) : nanoseconds_of_copy(loops, image);
  const double moved = static_cast<double>(weights.rows) * sizeof(float) *
                       (static_cast<double>(image.height) * image.width + image.out_height * static_cast<double>(image.out_width));
  const double far = calibration(loops).stream_byte * std::max(0.0, moved - 0.5 * cpu().l2_bytes);
  return (weights.rows * plane + far) / std::max(1, shape.threads);
}

std::unique_ptr<Prepared> prepare_depthwise(const Loops& loops, const Weights& weights) {
  return std::make_unique<DepthwiseMatrix>(loops, weights);
}

}  // namespace sparsify::f32
