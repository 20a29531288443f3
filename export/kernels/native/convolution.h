// The geometry of a convolution as ONNX writes it, and what an image becomes under it.
#pragma once

#include <cstdint>
#include <span>

#include "problem.h"

namespace sparsify {

// A 1-D convolution has kernel_height 1, stride_y 1, dilation_y 1 and no padding above and below.
struct Convolution {
  int32_t kernel_height = 1, kernel_width = 1;
  int32_t stride_y = 1, stride_x = 1;
  int32_t dilation_y = 1, dilation_x = 1;
  int32_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  int32_t groups = 1;

  int64_t positions() const { return int64_t{kernel_height} * kernel_width; }
  // A matrix product per position and nothing else.
  bool pointwise() const {
    return kernel_height == 1 && kernel_width == 1 && stride_y == 1 && stride_x == 1 && groups == 1 && pad_top == 0 &&
           pad_left == 0 && pad_bottom == 0 && pad_right == 0;
  }
};

// From ONNX's attributes, of one or two spatial axes; `pads` has all beginnings, then all ends. An empty span is
// ONNX's default. Throws UsageError.
Convolution convolution_of(std::span<const int64_t> kernel_shape, std::span<const int64_t> strides,
                           std::span<const int64_t> pads, std::span<const int64_t> dilations, int64_t groups);

// Length of an output axis; throws UsageError where the kernel does not fit into the padded input.
int64_t output_length(int64_t length, int32_t kernel, int32_t stride, int32_t dilation, int32_t pad_begin,
                      int32_t pad_end);

// The geometry for images of this size; a height and width of 0 are unknown and stay 0. Throws UsageError.
Image image_of(const Convolution& convolution, int64_t channels, int64_t height, int64_t width);

}  // namespace sparsify
