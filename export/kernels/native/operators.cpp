#include "operators.h"

#include <limits>

namespace sparsify::ort {
namespace {

// What CreateKernelV2 makes and the later callbacks, which do not know the operator, are given.
struct Instance {
  const Operator& owner;
  std::unique_ptr<OperatorKernel> kernel;
};

const Operator& self(const OrtCustomOp* op) { return *static_cast<const Operator*>(op); }

OrtStatus* ORT_API_CALL create(const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info, void** made) {
  const Operator& owner = self(op);
  return guarded(owner.api, owner.spec.name, [&] {
    const Node node(owner.api, info);
    auto instance = std::make_unique<Instance>(Instance{owner, owner.spec.create(node)});
    *made = instance.release();
  });
}

OrtStatus* ORT_API_CALL compute(void* kernel, OrtKernelContext* context) {
  const auto& instance = *static_cast<const Instance*>(kernel);
  const OrtApi& api = instance.owner.api;
  return guarded(api, instance.owner.spec.name, [&] {
    const Call call(api, context);
    instance.owner.threads.share(call, [&](Pool& pool) { instance.kernel->compute(call, pool); });
  });
}

OrtStatus* ORT_API_CALL infer(const OrtCustomOp* op, OrtShapeInferContext* context) {
  const Operator& owner = self(op);
  return guarded(owner.api, owner.spec.name, [&] { owner.spec.infer(Inference(owner.api, context)); });
}

int32_t required_size(const Attributes& attributes, const char* name) {
  const auto value = attributes.integer(name);
  if (!value) throw UsageError("attribute '" + std::string(name) + "' is missing");
  if (*value < 1 || *value > std::numeric_limits<int32_t>::max()) {
    throw UsageError("attribute '" + std::string(name) + "' must be at least 1; got " + std::to_string(*value));
  }
  return static_cast<int32_t>(*value);
}

}  // namespace

Operator::Operator(const OrtApi& api, const OperatorSpec& spec, ThreadCount& threads, bool infers_shapes)
    : OrtCustomOp{}, api(api), spec(spec), threads(threads) {
  version = API_VERSION;
  GetName = [](const OrtCustomOp* op) { return self(op).spec.name; };
  GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU's
  GetInputTypeCount = [](const OrtCustomOp* op) { return self(op).spec.inputs.size(); };
  GetInputType = [](const OrtCustomOp* op, size_t index) { return self(op).spec.inputs[index].type; };
  GetInputCharacteristic = [](const OrtCustomOp* op, size_t index) {
    return self(op).spec.inputs[index].required ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
  GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
  GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
  GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 0; };
  GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
  GetStartVersion = [](const OrtCustomOp*) { return 1; };
  GetEndVersion = [](const OrtCustomOp*) { return 1; };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = [](void* kernel) { delete static_cast<Instance*>(kernel); };
  InferOutputShapeFn = infers_shapes ? infer : nullptr;
}

const float* optional_floats(const Call& call, size_t index, const char* name, const Dims& dims) {
  const auto tensor = call.input(index);
  if (!tensor) return nullptr;
  if (tensor->dims != dims) {
    throw UsageError(std::string(name) + " must have the shape " + text_of(dims) + "; got " + text_of(tensor->dims));
  }
  return tensor->floats();
}

LayerAttributes layer_attributes(const Attributes& attributes) {
  LayerAttributes layer{
      .rows = required_size(attributes, "rows"),
      .columns = required_size(attributes, "columns"),
      .activation = attributes.text("activation").value_or("none"),
      .kernel = attributes.text("kernel").value_or("auto"),
      .expected_n = attributes.integer("expected_n").value_or(0),
      .threads = 1,
  };
  if (layer.expected_n < 0) throw UsageError("attribute 'expected_n' must not be negative");
  const int64_t threads = attributes.integer("expected_threads").value_or(1);
  if (threads < 1 || threads > 4096) throw UsageError("attribute 'expected_threads' must be 1 to 4096");
  layer.threads = static_cast<int>(threads);
  return layer;
}

void check_size(const Weights& weights, const LayerAttributes& layer) {
  if (weights.rows == layer.rows && weights.columns == layer.columns) return;
  throw UsageError("W holds " + text_of(Dims{weights.rows, weights.columns}) + " weights; the attributes say " +
                   text_of(Dims{layer.rows, layer.columns}));
}

std::span<const std::byte> packed_weights(const Node& node) {
  const auto blob = node.constant(1);
  if (!blob) throw UsageError("W must be a constant of the graph");
  return *blob;
}

}  // namespace sparsify::ort
