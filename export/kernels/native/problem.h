// One product to be done: where the activations lie, where the result goes, and what follows the product.
#pragma once

#include <cstdint>

namespace sparsify {

enum class Layout : uint8_t {
  token_major,    // x[n][columns] -> y[n][rows]: linear layers
  channel_major,  // x[columns][n] -> y[rows][n]: 1x1 convolutions without stride or padding
  image,          // x[channels][height][width] -> y[rows][out_height][out_width]: every other convolution
};

enum class Activation : uint8_t { none, relu, relu6, gelu_erf, gelu_tanh, silu, hardswish };

// A convolution's geometry, one image of the batch at a time. A 1-D convolution has height 1 and kernel_height 1.
struct Image {
  int32_t channels, height, width;          // of all groups
  int32_t kernel_height, kernel_width;
  int32_t stride_y, stride_x;
  int32_t dilation_y, dilation_x;
  int32_t pad_top, pad_left;                // what lies outside is zero; bottom and right follow from out_*
  int32_t out_height, out_width;
  int32_t groups;

  bool operator==(const Image&) const = default;
};

// What follows the product, in this order: bias, residual, activation, LayerNorm. A null pointer leaves a step out.
struct Epilogue {
  const float* bias = nullptr;        // [rows]
  const float* residual = nullptr;    // laid out as y
  Activation activation = Activation::none;
  const float* norm_scale = nullptr;  // [rows]; token_major only
  const float* norm_shift = nullptr;  // [rows]
  float norm_epsilon = 0;
};

struct Problem {
  Layout layout;
  int64_t batch;     // images, or 1 for token_major; x and y advance by a whole image
  int64_t n;         // tokens, or out_height * out_width
  const float* x;
  float* y;
  Image image;       // read where the layout is image
  Epilogue epilogue;
};

}  // namespace sparsify
