#include "convolution.h"

#include <array>
#include <limits>
#include <string>

#include "errors.h"

namespace sparsify {
namespace {

constexpr int64_t LARGEST = std::numeric_limits<int32_t>::max();

int32_t checked(const char* name, int64_t value, int64_t least) {
  if (value < least || value > LARGEST) {
    throw UsageError(std::string(name) + " must be " + std::to_string(least) + " or more, and fit 32 bits; got " +
                     std::to_string(value));
  }
  return static_cast<int32_t>(value);
}

void check_count(const char* name, size_t count, size_t expected) {
  if (count != 0 && count != expected) {
    throw UsageError(std::string(name) + " must have " + std::to_string(expected) +
                     " entries for this kernel_shape; got " + std::to_string(count));
  }
}

}  // namespace

Convolution convolution_of(std::span<const int64_t> kernel_shape, std::span<const int64_t> strides,
                           std::span<const int64_t> pads, std::span<const int64_t> dilations, int64_t groups) {
  const size_t axes = kernel_shape.size();
  if (axes != 1 && axes != 2) {
    throw UsageError("kernel_shape must have 1 or 2 entries; got " + std::to_string(axes));
  }
  check_count("strides", strides.size(), axes);
  check_count("pads", pads.size(), 2 * axes);
  check_count("dilations", dilations.size(), axes);
  Convolution convolution;
  // The last axis is x; where there is one axis only, y keeps what leaves it alone.
  const auto set = [&](size_t axis, int32_t& kernel, int32_t& stride, int32_t& dilation, int32_t& begin, int32_t& end) {
    kernel = checked("kernel_shape", kernel_shape[axis], 1);
    stride = strides.empty() ? 1 : checked("strides", strides[axis], 1);
    dilation = dilations.empty() ? 1 : checked("dilations", dilations[axis], 1);
    begin = pads.empty() ? 0 : checked("pads", pads[axis], 0);
    end = pads.empty() ? 0 : checked("pads", pads[axis + axes], 0);
  };
  Convolution& c = convolution;
  if (axes == 2) set(0, c.kernel_height, c.stride_y, c.dilation_y, c.pad_top, c.pad_bottom);
  set(axes - 1, c.kernel_width, c.stride_x, c.dilation_x, c.pad_left, c.pad_right);
  c.groups = checked("group", groups, 1);
  return convolution;
}

int64_t output_length(int64_t length, int32_t kernel, int32_t stride, int32_t dilation, int32_t pad_begin,
                      int32_t pad_end) {
  const int64_t padded = length + pad_begin + pad_end;
  const int64_t reach = int64_t{kernel - 1} * dilation + 1;
  if (padded < reach) {
    throw UsageError("a kernel that reaches over " + std::to_string(reach) + " positions does not fit into " +
                     std::to_string(padded) + ", padding included");
  }
  return (padded - reach) / stride + 1;
}

Image image_of(const Convolution& c, int64_t channels, int64_t height, int64_t width) {
  Image image{};
  image.channels = checked("channels", channels, 1);
  image.height = checked("height", height, 0);
  image.width = checked("width", width, 0);
  image.kernel_height = c.kernel_height;
  image.kernel_width = c.kernel_width;
  image.stride_y = c.stride_y;
  image.stride_x = c.stride_x;
  image.dilation_y = c.dilation_y;
  image.dilation_x = c.dilation_x;
  image.pad_top = c.pad_top;
  image.pad_left = c.pad_left;
  image.groups = c.groups;
  if (height == 0 && width == 0) return image;
  const int64_t out_height =
      output_length(height, c.kernel_height, c.stride_y, c.dilation_y, c.pad_top, c.pad_bottom);
  const int64_t out_width = output_length(width, c.kernel_width, c.stride_x, c.dilation_x, c.pad_left, c.pad_right);
  image.out_height = checked("output height", out_height, 1);
  image.out_width = checked("output width", out_width, 1);
  return image;
}

}  // namespace sparsify
