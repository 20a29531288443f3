// The operators of domain `sparsify`: what they take, and how one becomes what ONNX Runtime calls.
#pragma once

#include <memory>
#include <span>

#include "ort_api.h"
#include "ort_pool.h"
#include "weights.h"

namespace sparsify::ort {

struct InputSpec {
  ONNXTensorElementDataType type;
  bool required;
};

// One node of a session. compute() may run on several threads at once.
class OperatorKernel {
 public:
  virtual ~OperatorKernel() = default;
  virtual void compute(const Call& call, Pool& pool) const = 0;
};

struct OperatorSpec {
  const char* name;
  std::span<const InputSpec> inputs;
  std::unique_ptr<OperatorKernel> (*create)(const Node& node);
  void (*infer)(const Inference& inference);  // checks every attribute, too
};

extern const OperatorSpec SPARSE_LINEAR;
extern const OperatorSpec SPARSE_CONV;
extern const OperatorSpec ATTENTION;

// What ONNX Runtime knows of an operator. The operators of one registration share `threads`: sessions made from one set
// of options have equally many.
class Operator final : public OrtCustomOp {
 public:
  Operator(const OrtApi& api, const OperatorSpec& spec, ThreadCount& threads, bool infers_shapes);

  const OrtApi& api;
  const OperatorSpec& spec;
  ThreadCount& threads;
};

// Which inputs are there, told apart from a wrong size: throws UsageError unless absent or of these dims.
const float* optional_floats(const Call& call, size_t index, const char* name, const Dims& dims);

// The attributes both operators have.
struct LayerAttributes {
  int32_t rows;
  int32_t columns;
  std::string activation;
  std::string kernel;
  int64_t expected_n;
  int threads;
};

// Throws UsageError for one that is missing or out of range.
LayerAttributes layer_attributes(const Attributes& attributes);

// Throws UsageError where the blob is for a layer of another size.
void check_size(const Weights& weights, const LayerAttributes& layer);

// Input 1, as long as the session lives. Throws UsageError where it is not constant.
std::span<const std::byte> packed_weights(const Node& node);

}  // namespace sparsify::ort
