// ONNX Runtime's C API with its statuses as exceptions, and only what the operators need of it.
//
// Everything here exists since API version 17, and we ask for that version, so that one binary serves every ONNX
// Runtime from 1.17 on.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "errors.h"

namespace sparsify::ort {

constexpr uint32_t API_VERSION = 17;

struct StatusError : std::runtime_error {
  StatusError(const std::string& what, OrtErrorCode code) : std::runtime_error(what), code(code) {}
  OrtErrorCode code;
};

// Throws StatusError where `status` is one; releases it.
void check(const OrtApi& api, OrtStatus* status);

// Runs f() and turns what it throws into a status that begins with `where`. No exception may cross into ONNX Runtime.
OrtStatus* status_of_current_exception(const OrtApi& api, const char* where) noexcept;
template <typename F>
OrtStatus* guarded(const OrtApi& api, const char* where, F&& f) noexcept {
  try {
    f();
    return nullptr;
  } catch (...) {
    return status_of_current_exception(api, where);
  }
}

using Dims = std::vector<int64_t>;
std::string text_of(std::span<const int64_t> dims);
int64_t product(std::span<const int64_t> dims);

struct Tensor {
  const void* data;
  Dims dims;  // -1 where unknown
  ONNXTensorElementDataType type;

  const float* floats() const { return static_cast<const float*>(data); }
};

// One call of an operator.
class Call {
 public:
  Call(const OrtApi& api, OrtKernelContext* context) : api_(api), context_(context) {}

  std::optional<Tensor> input(size_t index) const;  // nothing where an optional input was left out
  float* output(size_t index, const Dims& dims) const;
  const OrtApi& api() const { return api_; }
  OrtKernelContext* context() const { return context_; }

 private:
  const OrtApi& api_;
  OrtKernelContext* context_;
};

// A node's attributes, wherever they are read from: nothing where one is absent, UsageError where it has another type.
class Attributes {
 public:
  virtual ~Attributes() = default;
  virtual std::optional<int64_t> integer(const char* name) const = 0;
  virtual std::optional<float> number(const char* name) const = 0;
  virtual std::optional<std::string> text(const char* name) const = 0;
  virtual std::optional<std::vector<int64_t>> integers(const char* name) const = 0;
};

// The node a kernel is created for.
class Node final : public Attributes {
 public:
  Node(const OrtApi& api, const OrtKernelInfo* info) : api_(api), info_(info) {}

  std::optional<int64_t> integer(const char* name) const override;
  std::optional<float> number(const char* name) const override;
  std::optional<std::string> text(const char* name) const override;
  std::optional<std::vector<int64_t>> integers(const char* name) const override;

  std::string name() const;
  // A constant's bytes, which live as long as the session; nothing where the input is computed.
  std::optional<std::span<const std::byte>> constant(size_t index) const;
  Dims input_dims(size_t index) const;  // empty where unknown

 private:
  void check_absent(const char* name, const char* type) const;

  const OrtApi& api_;
  const OrtKernelInfo* info_;
};

// The node whose output shape is wanted.
class Inference final : public Attributes {
 public:
  Inference(const OrtApi& api, OrtShapeInferContext* context) : api_(api), context_(context) {}

  std::optional<int64_t> integer(const char* name) const override;
  std::optional<float> number(const char* name) const override;
  std::optional<std::string> text(const char* name) const override;
  std::optional<std::vector<int64_t>> integers(const char* name) const override;

  struct Dim {
    int64_t size = -1;  // -1 where unknown
    std::string symbol;
  };
  std::vector<Dim> input(size_t index) const;  // empty where unknown
  // Says nothing where a length is neither known nor named: the API has no way to say that of one axis.
  void set_output(const std::vector<Dim>& dims) const;

 private:
  const OrtOpAttr* attribute(const char* name) const;

  const OrtApi& api_;
  OrtShapeInferContext* context_;
};

}  // namespace sparsify::ort
