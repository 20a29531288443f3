// SparseLinear: Y[..., rows] = LayerNorm(activation(X[..., columns] W^T + bias + residual)).
#include <array>

#include "layer.h"
#include "operators.h"

namespace sparsify::ort {
namespace {

enum Input : size_t { X, W, BIAS, RESIDUAL, NORM_SCALE, NORM_SHIFT };

constexpr std::array<InputSpec, 6> INPUTS = {{
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, true},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
}};

// Tokens, where every leading axis is known; 0 otherwise.
int64_t tokens_of(const Dims& dims) {
  if (dims.empty()) return 0;
  const std::span leading(dims.data(), dims.size() - 1);
  for (const int64_t dim : leading) {
    if (dim < 0) return 0;
  }
  return product(leading);
}

float norm_epsilon(const Attributes& attributes) {
  const float epsilon = attributes.number("norm_epsilon").value_or(0);
  if (!(epsilon >= 0)) throw UsageError("attribute 'norm_epsilon' must not be negative");
  return epsilon;
}

class SparseLinear final : public OperatorKernel {
 public:
  explicit SparseLinear(const Node& node) : SparseLinear(node, layer_attributes(node)) {}

  void compute(const Call& call, Pool& pool) const override {
    const Tensor x = *call.input(X);
    const Weights& weights = layer_.weights();
    if (x.dims.empty() || x.dims.back() != weights.columns) {
      throw UsageError("X must have the shape [..., " + std::to_string(weights.columns) + "]; got " + text_of(x.dims));
    }
    Dims y_dims = x.dims;
    y_dims.back() = weights.rows;
    const Dims row_dims = {weights.rows};
    Epilogue epilogue;
    epilogue.bias = optional_floats(call, BIAS, "bias", row_dims);
    epilogue.residual = optional_floats(call, RESIDUAL, "residual", y_dims);
    epilogue.activation = activation_;
    epilogue.norm_scale = optional_floats(call, NORM_SCALE, "norm_scale", row_dims);
    epilogue.norm_shift = optional_floats(call, NORM_SHIFT, "norm_shift", row_dims);
    epilogue.norm_epsilon = norm_epsilon_;
    if ((epilogue.norm_scale == nullptr) != (epilogue.norm_shift == nullptr)) {
      throw UsageError("norm_scale and norm_shift come together or not at all");
    }
    layer_.run(x.floats(), tokens_of(x.dims), epilogue, call.output(0, y_dims), pool);
  }

 private:
  SparseLinear(const Node& node, const LayerAttributes& attributes)
      : layer_(packed_weights(node), attributes.expected_n != 0 ? attributes.expected_n : tokens_of(node.input_dims(X)),
               attributes.threads, KernelWish{attributes.kernel, true}),
        activation_(activation_named(attributes.activation)),
        norm_epsilon_(norm_epsilon(node)) {
    check_size(layer_.weights(), attributes);
  }

  LinearLayer layer_;
  Activation activation_;
  float norm_epsilon_;
};

void infer(const Inference& inference) {
  const LayerAttributes attributes = layer_attributes(inference);
  activation_named(attributes.activation);
  norm_epsilon(inference);
  auto dims = inference.input(X);
  if (dims.empty()) return;
  if (dims.back().size >= 0 && dims.back().size != attributes.columns) {
    throw UsageError("X must have " + std::to_string(attributes.columns) + " columns; got " +
                     std::to_string(dims.back().size));
  }
  dims.back() = {attributes.rows, ""};
  inference.set_output(dims);
}

}  // namespace

const OperatorSpec SPARSE_LINEAR = {
    "SparseLinear", INPUTS,
    [](const Node& node) -> std::unique_ptr<OperatorKernel> { return std::make_unique<SparseLinear>(node); }, infer};

}  // namespace sparsify::ort
