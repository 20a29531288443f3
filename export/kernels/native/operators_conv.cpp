// SparseConv: Y[B, rows, ...] = activation(conv(X[B, C, ...], W) + bias + residual), over one or two spatial axes.
#include <array>

#include "layer.h"
#include "operators.h"

namespace sparsify::ort {
namespace {

enum Input : size_t { X, W, BIAS, RESIDUAL };

constexpr std::array<InputSpec, 4> INPUTS = {{
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, true},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
}};

struct ConvAttributes {
  LayerAttributes layer;
  Convolution convolution;
  size_t axes;
};

ConvAttributes conv_attributes(const Attributes& attributes) {
  const std::vector<int64_t> none;
  const auto kernel_shape = attributes.integers("kernel_shape").value_or(none);
  ConvAttributes conv{layer_attributes(attributes),
                      convolution_of(kernel_shape, attributes.integers("strides").value_or(none),
                                     attributes.integers("pads").value_or(none),
                                     attributes.integers("dilations").value_or(none),
                                     attributes.integer("group").value_or(1)),
                      kernel_shape.size()};
  activation_named(conv.layer.activation);
  if (conv.layer.columns % conv.convolution.positions() != 0) {
    throw UsageError("attribute 'columns' must be channels times kernel positions");
  }
  if (conv.layer.rows % conv.convolution.groups != 0) {
    throw UsageError("attribute 'rows' must divide into 'group' parts");
  }
  return conv;
}

int64_t channels_of(const ConvAttributes& conv) {
  return conv.layer.columns / conv.convolution.positions() * conv.convolution.groups;
}

// A size where it is known, 0 otherwise; the height of a 1-D image is 1.
int64_t known_size(const Dims& dims, size_t axes, size_t axis) {
  if (dims.size() != axes + 2) return 0;
  for (size_t i = 2; i < dims.size(); ++i) {
    if (dims[i] < 1) return 0;
  }
  if (axes == 1) return axis == 0 ? 1 : dims[2];
  return dims[2 + axis];
}

class SparseConv final : public OperatorKernel {
 public:
  explicit SparseConv(const Node& node) : SparseConv(node, conv_attributes(node), node.input_dims(X)) {}

  void compute(const Call& call, Pool& pool) const override {
    const Tensor x = *call.input(X);
    if (x.dims.size() != axes_ + 2) {
      throw UsageError("X must have " + std::to_string(axes_ + 2) + " axes; got " + text_of(x.dims));
    }
    const Image image = layer_.image(x.dims[1], axes_ == 1 ? 1 : x.dims[2], x.dims.back());
    const int64_t rows = layer_.weights().rows;
    Dims y_dims = {x.dims[0], rows};
    if (axes_ == 2) y_dims.push_back(image.out_height);
    y_dims.push_back(image.out_width);
    Epilogue epilogue;
    epilogue.bias = optional_floats(call, BIAS, "bias", {rows});
    epilogue.residual = optional_floats(call, RESIDUAL, "residual", y_dims);
    epilogue.activation = activation_;
    layer_.run(x.floats(), x.dims[0], image, epilogue, call.output(0, y_dims), pool);
  }

 private:
  SparseConv(const Node& node, const ConvAttributes& conv, const Dims& x_dims)
      : layer_(packed_weights(node), conv.convolution, conv.layer.expected_n, known_size(x_dims, conv.axes, 0),
               known_size(x_dims, conv.axes, 1), conv.layer.threads, KernelWish{conv.layer.kernel, true}),
        activation_(activation_named(conv.layer.activation)),
        axes_(conv.axes) {
    check_size(layer_.weights(), conv.layer);
  }

  ConvolutionLayer layer_;
  Activation activation_;
  size_t axes_;
};

// An unknown length under a convolution is unknown, too, unless nothing changes it; it gets a name that says how it
// came about, because ONNX Runtime takes dimensions of one name to be equal.
Inference::Dim length_after(const Inference::Dim& length, int32_t kernel, int32_t stride, int32_t dilation,
                            int32_t pad_begin, int32_t pad_end) {
  if (length.size >= 0) return {output_length(length.size, kernel, stride, dilation, pad_begin, pad_end), ""};
  const int64_t change = int64_t{pad_begin} + pad_end - int64_t{kernel - 1} * dilation;
  if (stride == 1 && change == 0) return length;
  if (length.symbol.empty()) return length;
  return {-1, "(" + length.symbol + " + " + std::to_string(change - 1) + ") / " + std::to_string(stride) + " + 1"};
}

void infer(const Inference& inference) {
  const ConvAttributes conv = conv_attributes(inference);
  auto dims = inference.input(X);
  if (dims.empty()) return;
  if (dims.size() != conv.axes + 2) {
    throw UsageError("X must have " + std::to_string(conv.axes + 2) + " axes; got " + std::to_string(dims.size()));
  }
  if (dims[1].size >= 0 && dims[1].size != channels_of(conv)) {
    throw UsageError("X must have " + std::to_string(channels_of(conv)) + " channels; got " +
                     std::to_string(dims[1].size));
  }
  dims[1] = {conv.layer.rows, ""};
  const Convolution& c = conv.convolution;
  if (conv.axes == 2) {
    dims[2] = length_after(dims[2], c.kernel_height, c.stride_y, c.dilation_y, c.pad_top, c.pad_bottom);
  }
  dims.back() = length_after(dims.back(), c.kernel_width, c.stride_x, c.dilation_x, c.pad_left, c.pad_right);
  inference.set_output(dims);
}

}  // namespace

const OperatorSpec SPARSE_CONV = {
    "SparseConv", INPUTS,
    [](const Node& node) -> std::unique_ptr<OperatorKernel> { return std::make_unique<SparseConv>(node); }, infer};

}  // namespace sparsify::ort
