#include "layer.h"

#include <array>
#include <cstring>
#include <utility>

#include "errors.h"

namespace sparsify {
namespace {

std::string known_kernels() {
  std::string names = "auto";
  for (const KernelInfo& kernel : kernels()) names += std::string(", ") + kernel.name;
  return names;
}

const KernelInfo* wanted(const Weights& weights, const Shape& shape, const KernelWish& wish) {
  if (wish.name != "auto") {
    const KernelInfo* named = kernel_named(wish.name.c_str());
    if (named == nullptr) throw UsageError("no kernel is named '" + wish.name + "'; there are " + known_kernels());
    if (named->can(cpu(), weights, shape)) return named;
    if (!wish.advice) {
      throw UsageError("kernel '" + wish.name + "' cannot run this layer on this processor (" + describe_cpu() + ")");
    }
  }
  const KernelInfo* chosen = choose(weights, shape);
  if (chosen == nullptr) throw UsageError("no kernel serves weights of this precision and pattern in this layer");
  return chosen;
}

}  // namespace

Activation activation_named(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, Activation>, 7> NAMES = {{
      {"none", Activation::none},
      {"relu", Activation::relu},
      {"relu6", Activation::relu6},
      {"gelu", Activation::gelu_erf},
      {"gelu_tanh", Activation::gelu_tanh},
      {"silu", Activation::silu},
      {"hardswish", Activation::hardswish},
  }};
  std::string words;
  for (const auto& [known, activation] : NAMES) {
    if (known == name) return activation;
    words += (words.empty() ? "" : ", ") + std::string(known);
  }
  throw UsageError("activation must be one of " + words + "; got '" + std::string(name) + "'");
}

Blob::Blob(std::span<const std::byte> bytes) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(uint64_t) != 0) {
    copy_ = std::make_unique<uint64_t[]>((bytes.size() + 7) / 8);
    std::memcpy(copy_.get(), bytes.data(), bytes.size());
    bytes = std::as_bytes(std::span(copy_.get(), (bytes.size() + 7) / 8)).first(bytes.size());
  }
  std::string error;
  if (!parse_weights(bytes, &weights_, &error)) throw FormatError(error);
}

Shape linear_shape(int64_t n, int threads) { return Shape{Layout::token_major, n, Image{}, threads}; }

Shape conv_shape(const Convolution& convolution, const Weights& weights, int64_t n, int64_t height, int64_t width,
                 int threads) {
  const int64_t positions = convolution.positions();
  if (weights.columns % positions != 0) {
    throw UsageError("weights of " + std::to_string(weights.columns) + " columns do not divide into kernels of " +
                     std::to_string(positions));
  }
  if (weights.rows % convolution.groups != 0) {
    throw UsageError("weights of " + std::to_string(weights.rows) + " rows do not divide into " +
                     std::to_string(convolution.groups) + " groups");
  }
  const int64_t channels = weights.columns / positions * convolution.groups;
  Shape shape{Layout::image, n, image_of(convolution, channels, height, width), threads};
  if (shape.n == 0) shape.n = int64_t{shape.image.out_height} * shape.image.out_width;
  if (convolution.pointwise()) shape.layout = Layout::channel_major;
  return shape;
}

Layer::Layer(Blob&& blob, const Shape& shape, const KernelWish& wish)
    : blob_(std::move(blob)), kernel_(wanted(weights(), shape, wish)), prepared_(kernel_->prepare(weights(), shape)) {}

LinearLayer::LinearLayer(std::span<const std::byte> blob, int64_t n, int threads, const KernelWish& wish)
    : Layer(Blob(blob), linear_shape(n, threads), wish) {}

void LinearLayer::run(const float* x, int64_t n, const Epilogue& epilogue, float* y, Pool& pool) const {
  if (n == 0) return;
  prepared().run(Problem{Layout::token_major, 1, n, x, y, Image{}, epilogue}, pool);
}

ConvolutionLayer::ConvolutionLayer(std::span<const std::byte> blob, const Convolution& convolution, int64_t n,
                                   int64_t height, int64_t width, int threads, const KernelWish& wish)
    : ConvolutionLayer(Blob(blob), convolution, n, height, width, threads, wish) {}

// The blob is moved from inside Layer's constructor, after its weights have told the shape.
ConvolutionLayer::ConvolutionLayer(Blob&& blob, const Convolution& convolution, int64_t n, int64_t height,
                                   int64_t width, int threads, const KernelWish& wish)
    : Layer(std::move(blob), conv_shape(convolution, blob.weights(), n, height, width, threads), wish),
      convolution_(convolution) {}

Image ConvolutionLayer::image(int64_t channels, int64_t height, int64_t width) const {
  const int64_t expected = weights().columns / convolution_.positions() * convolution_.groups;
  if (channels != expected) {
    throw UsageError("the weights are for " + std::to_string(expected) + " input channels; got " +
                     std::to_string(channels));
  }
  if (height < 1 || width < 1) throw UsageError("an image must have at least one position");
  return image_of(convolution_, channels, height, width);
}

void ConvolutionLayer::run(const float* x, int64_t batch, const Image& image, const Epilogue& epilogue, float* y,
                           Pool& pool) const {
  if (batch == 0) return;
  const Layout layout = convolution_.pointwise() ? Layout::channel_major : Layout::image;
  const int64_t n = int64_t{image.out_height} * image.out_width;
  prepared().run(Problem{layout, batch, n, x, y, image, epilogue}, pool);
}

}  // namespace sparsify
