// Attention: Y = softmax(scale Q K^T + mask) V, head by head, of tokens with their heads side by side or of heads apart.
#include <array>
#include <cmath>

#include "attention.h"
#include "operators.h"

namespace sparsify::ort {
namespace {

enum Input : size_t { Q, K, V, MASK };

constexpr std::array<InputSpec, 4> INPUTS = {{
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
}};

struct AttentionAttributes {
  int64_t heads;
  bool heads_first;  // of Y
  float scale;
  bool nan_is_zero;
  attention::Precision precision;
};

AttentionAttributes attention_attributes(const Attributes& attributes) {
  const auto heads = attributes.integer("heads");
  if (!heads || *heads < 1) throw UsageError("attribute 'heads' must be there and at least 1");
  const auto scale = attributes.number("scale");
  if (!scale || !std::isfinite(*scale)) throw UsageError("attribute 'scale' must be there and finite");
  const int64_t heads_first = attributes.integer("heads_first").value_or(0);
  if (heads_first != 0 && heads_first != 1) throw UsageError("attribute 'heads_first' must be 0 or 1");
  const int64_t nan_is_zero = attributes.integer("nan_is_zero").value_or(0);
  if (nan_is_zero != 0 && nan_is_zero != 1) throw UsageError("attribute 'nan_is_zero' must be 0 or 1");
  return {*heads, heads_first == 1, *scale, nan_is_zero == 1,
          attention::precision_named(attributes.text("precision").value_or("f32"))};
}

// [batch, tokens, heads * features], or [batch, heads, tokens, features].
struct Operand {
  int64_t batch, tokens, features;
  attention::Rows<const float> rows;

  Operand(const Tensor& tensor, int64_t heads, const char* name) {
    const Dims& dims = tensor.dims;
    const bool apart = dims.size() == 4;
    if (apart ? dims[1] != heads : dims.size() != 3 || dims[2] % heads != 0) {
      throw UsageError(std::string(name) + " must have the shape [batch, tokens, heads * features] or [batch, heads, " +
                       "tokens, features] with " + std::to_string(heads) + " heads; got " + text_of(dims));
    }
    batch = dims[0];
    tokens = dims[apart ? 2 : 1];
    features = apart ? dims[3] : dims[2] / heads;
    rows = apart ? attention::heads_apart(tensor.floats(), heads, tokens, features)
                 : attention::heads_together(tensor.floats(), heads, tokens, features);
  }
};

// Of a shape that broadcasts to [batch, heads, queries, keys], with all keys.
attention::Rows<const float> mask_rows(const Call& call, const attention::Problem& problem) {
  const auto mask = call.input(MASK);
  if (!mask) return {};
  const Dims whole = {problem.batch, problem.heads, problem.queries, problem.keys};
  const size_t missing = whole.size() - std::min(whole.size(), mask->dims.size());
  int64_t strides[4] = {};
  int64_t stride = 1;
  bool fits = mask->dims.size() <= whole.size() && !mask->dims.empty() && mask->dims.back() == problem.keys;
  for (size_t i = whole.size(); fits && i > missing; --i) {
    const int64_t dim = mask->dims[i - 1 - missing];
    fits = dim == whole[i - 1] || dim == 1;
    strides[i - 1] = dim == 1 ? 0 : stride;
    stride *= dim;
  }
  if (!fits) {
    throw UsageError("mask must have all keys and broadcast to " + text_of(whole) + "; got " + text_of(mask->dims));
  }
  return {mask->floats(), strides[0], strides[1], strides[2]};
}

class Attention final : public OperatorKernel {
 public:
  explicit Attention(const Node& node) : attributes_(attention_attributes(node)) {}

  void compute(const Call& call, Pool& pool) const override {
    const int64_t heads = attributes_.heads;
    const Operand q(*call.input(Q), heads, "Q"), k(*call.input(K), heads, "K"), v(*call.input(V), heads, "V");
    if (k.batch != q.batch || v.batch != q.batch || k.features != q.features || v.tokens != k.tokens) {
      throw UsageError("Q, K and V must have one batch, Q and K equally many features, K and V equally many tokens; got " +
                       text_of(call.input(Q)->dims) + ", " + text_of(call.input(K)->dims) + ", " +
                       text_of(call.input(V)->dims));
    }
    attention::Problem problem = {
        .batch = q.batch,
        .heads = heads,
        .queries = q.tokens,
        .keys = k.tokens,
        .depth = q.features,
        .width = v.features,
        .scale = attributes_.scale,
        .nan_is_zero = attributes_.nan_is_zero,
        .q = q.rows,
        .k = k.rows,
        .v = v.rows,
        .mask = {},
        .y = {},
    };
    problem.mask = mask_rows(call, problem);
    const bool apart = attributes_.heads_first;
    const Dims dims = apart ? Dims{q.batch, heads, q.tokens, v.features} : Dims{q.batch, q.tokens, heads * v.features};
    float* const y = call.output(0, dims);
    problem.y = apart ? attention::heads_apart(y, heads, q.tokens, v.features)
                      : attention::heads_together(y, heads, q.tokens, v.features);
    attention::run(problem, attributes_.precision, pool);
  }

 private:
  AttentionAttributes attributes_;
};

void infer(const Inference& inference) {
  const AttentionAttributes attributes = attention_attributes(inference);
  const auto q = inference.input(Q), v = inference.input(V);
  const bool apart = v.size() == 4;
  if ((q.size() != 3 && q.size() != 4) || (v.size() != 3 && !apart)) return;
  Inference::Dim features = v.back();  // of a head where they are apart, else of all
  if (apart != attributes.heads_first) {
    const int64_t size = apart ? features.size * attributes.heads : features.size / attributes.heads;
    features = {features.size < 0 ? -1 : size, ""};
  }
  const auto tokens = q[q.size() - 2];
  if (attributes.heads_first) {
    inference.set_output({q[0], {attributes.heads, ""}, tokens, features});
  } else {
    inference.set_output({q[0], tokens, features});
  }
}

}  // namespace

const OperatorSpec ATTENTION = {
    "Attention", INPUTS,
    [](const Node& node) -> std::unique_ptr<OperatorKernel> { return std::make_unique<Attention>(node); }, infer};

}  // namespace sparsify::ort
