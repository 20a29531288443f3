// A layer from its blob to its result: what the ONNX operators and the C ABI have in common.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "convolution.h"
#include "kernel.h"

namespace sparsify {

// Which kernel is wanted: "auto", or a name of the table.
struct KernelWish {
  std::string name = "auto";
  // A plan made on another processor is advice: where its kernel cannot run here, the cheapest that can is taken.
  // Otherwise the name is an order, and an error where it cannot be followed.
  bool advice = false;
};

// none, relu, relu6, gelu, gelu_tanh, silu or hardswish; throws UsageError for another word.
Activation activation_named(std::string_view name);

// Packed weights, checked. Points into `bytes`, which must outlive it, or has a copy of its own where they lie at an
// address that no 64-bit word may have. Throws FormatError for a blob that is not one.
class Blob {
 public:
  explicit Blob(std::span<const std::byte> bytes);
  const Weights& weights() const { return weights_; }

 private:
  std::unique_ptr<uint64_t[]> copy_;
  Weights weights_;
};

// What is known of a layer; `n`, `height` and `width` of the input are 0 where unknown. A pointwise convolution is
// channel_major. Throws UsageError where geometry and weights do not fit.
Shape linear_shape(int64_t n, int threads);
Shape conv_shape(const Convolution& convolution, const Weights& weights, int64_t n, int64_t height, int64_t width,
                 int threads);

// Weights and the kernel prepared for them. Any number of threads may run one layer at once.
class Layer {
 public:
  const Weights& weights() const { return blob_.weights(); }
  const KernelInfo& kernel() const { return *kernel_; }
  size_t bytes() const { return prepared_->bytes(); }

 protected:
  // Throws UsageError where no kernel serves the weights.
  Layer(Blob&& blob, const Shape& shape, const KernelWish& wish);
  const Prepared& prepared() const { return *prepared_; }

 private:
  Blob blob_;
  const KernelInfo* kernel_;
  std::unique_ptr<Prepared> prepared_;
};

// y[n][rows] = x[n][columns] times the transposed weights, then the epilogue.
class LinearLayer : public Layer {
 public:
  // `n` is how many tokens are expected, 0 where unknown. Throws FormatError for a blob that is not one.
  LinearLayer(std::span<const std::byte> blob, int64_t n, int threads, const KernelWish& wish);

  void run(const float* x, int64_t n, const Epilogue& epilogue, float* y, Pool& pool) const;
};

// y[batch][rows][out_height][out_width] from x[batch][channels][height][width].
class ConvolutionLayer : public Layer {
 public:
  // `n` output positions, `height` and `width` of the input are expected; each 0 where unknown. Throws FormatError
  // for a blob that is not one.
  ConvolutionLayer(std::span<const std::byte> blob, const Convolution& convolution, int64_t n, int64_t height,
                   int64_t width, int threads, const KernelWish& wish);

  // Geometry of one image of this size; throws UsageError where the channels or the size do not fit.
  Image image(int64_t channels, int64_t height, int64_t width) const;
  void run(const float* x, int64_t batch, const Image& image, const Epilogue& epilogue, float* y, Pool& pool) const;

 private:
  ConvolutionLayer(Blob&& blob, const Convolution& convolution, int64_t n, int64_t height, int64_t width, int threads,
                   const KernelWish& wish);

  Convolution convolution_;
};

}  // namespace sparsify
