#include "ort_api.h"

#include <new>

namespace sparsify::ort {
namespace {

// What the API hands out and wants back.
template <typename T>
using Owned = std::unique_ptr<T, void(ORT_API_CALL*)(T*)>;

// Whether the call went well; what it complained about is dropped.
bool succeeded(const OrtApi& api, OrtStatus* status) {
  api.ReleaseStatus(status);
  return status == nullptr;
}

Dims dims_of(const OrtApi& api, const OrtTensorTypeAndShapeInfo* info) {
  size_t rank = 0;
  check(api, api.GetDimensionsCount(info, &rank));
  Dims dims(rank);
  check(api, api.GetDimensions(info, dims.data(), rank));
  return dims;
}

Tensor tensor_of(const OrtApi& api, const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api, api.GetTensorTypeAndShape(value, &info));
  const Owned<OrtTensorTypeAndShapeInfo> owned(info, api.ReleaseTensorTypeAndShapeInfo);
  Tensor tensor{nullptr, dims_of(api, info), ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED};
  check(api, api.GetTensorElementType(info, &tensor.type));
  void* data = nullptr;  // the API has no reading form
  check(api, api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  tensor.data = data;
  return tensor;
}

}  // namespace

void check(const OrtApi& api, OrtStatus* status) {
  if (status == nullptr) return;
  const Owned<OrtStatus> owned(status, api.ReleaseStatus);
  throw StatusError(api.GetErrorMessage(status), api.GetErrorCode(status));
}

OrtStatus* status_of_current_exception(const OrtApi& api, const char* where) noexcept {
  const auto status = [&](OrtErrorCode code, const char* what) {
    try {
      return api.CreateStatus(code, (std::string(where) + ": " + what).c_str());
    } catch (...) {
      return api.CreateStatus(code, what);
    }
  };
  try {
    throw;
  } catch (const StatusError& error) {
    return status(error.code, error.what());
  } catch (const UsageError& error) {
    return status(ORT_INVALID_ARGUMENT, error.what());
  } catch (const FormatError& error) {
    return status(ORT_INVALID_GRAPH, error.what());
  } catch (const std::bad_alloc&) {
    return status(ORT_FAIL, "not enough memory");
  } catch (const std::exception& error) {
    return status(ORT_FAIL, error.what());
  } catch (...) {
    return status(ORT_FAIL, "unknown error");
  }
}

std::string text_of(std::span<const int64_t> dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  return text + "]";
}

int64_t product(std::span<const int64_t> dims) {
  int64_t all = 1;
  for (const int64_t dim : dims) all *= dim;
  return all;
}

std::optional<Tensor> Call::input(size_t index) const {
  const OrtValue* value = nullptr;
  check(api_, api_.KernelContext_GetInput(context_, index, &value));
  if (value == nullptr) return std::nullopt;
  return tensor_of(api_, value);
}

float* Call::output(size_t index, const Dims& dims) const {
  OrtValue* value = nullptr;
  check(api_, api_.KernelContext_GetOutput(context_, index, dims.data(), dims.size(), &value));
  void* data = nullptr;
  check(api_, api_.GetTensorMutableData(value, &data));
  return static_cast<float*>(data);
}

std::optional<int64_t> Node::integer(const char* name) const {
  int64_t value = 0;
  if (succeeded(api_, api_.KernelInfoGetAttribute_int64(info_, name, &value))) return value;
  check_absent(name, "int");
  return std::nullopt;
}

std::optional<float> Node::number(const char* name) const {
  float value = 0;
  if (succeeded(api_, api_.KernelInfoGetAttribute_float(info_, name, &value))) return value;
  check_absent(name, "float");
  return std::nullopt;
}

std::optional<std::string> Node::text(const char* name) const {
  size_t size = 0;
  if (!succeeded(api_, api_.KernelInfoGetAttribute_string(info_, name, nullptr, &size))) {
    check_absent(name, "string");
    return std::nullopt;
  }
  std::string value(size, '\0');
  check(api_, api_.KernelInfoGetAttribute_string(info_, name, value.data(), &size));
  value.resize(size - 1);  // less the closing zero
  return value;
}

std::optional<std::vector<int64_t>> Node::integers(const char* name) const {
  size_t size = 0;
  if (!succeeded(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size))) {
    check_absent(name, "list of ints");
    return std::nullopt;
  }
  std::vector<int64_t> values(size);
  check(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, values.data(), &size));
  return values;
}

// The API says that an attribute could not be read, and not why; if it can be read as something else, it is there.
void Node::check_absent(const char* name, const char* type) const {
  int64_t integer = 0;
  float number = 0;
  size_t size = 0;
  if (succeeded(api_, api_.KernelInfoGetAttribute_int64(info_, name, &integer)) ||
      succeeded(api_, api_.KernelInfoGetAttribute_float(info_, name, &number)) ||
      succeeded(api_, api_.KernelInfoGetAttribute_string(info_, name, nullptr, &size)) ||
      succeeded(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size)) ||
      succeeded(api_, api_.KernelInfoGetAttributeArray_float(info_, name, nullptr, &size))) {
    throw UsageError("attribute '" + std::string(name) + "' must be of type " + type);
  }
}

std::string Node::name() const {
  size_t size = 0;
  if (!succeeded(api_, api_.KernelInfo_GetNodeName(info_, nullptr, &size))) return "";
  std::string name(size, '\0');
  check(api_, api_.KernelInfo_GetNodeName(info_, name.data(), &size));
  name.resize(size - 1);
  return name;
}

std::optional<std::span<const std::byte>> Node::constant(size_t index) const {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(api_, api_.KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value));
  if (is_constant == 0 || value == nullptr) return std::nullopt;
  const Tensor tensor = tensor_of(api_, value);
  if (tensor.type != ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8) throw UsageError("packed weights must be a uint8 tensor");
  return std::span(static_cast<const std::byte*>(tensor.data), static_cast<size_t>(product(tensor.dims)));
}

Dims Node::input_dims(size_t index) const {
  OrtTypeInfo* type = nullptr;
  check(api_, api_.KernelInfo_GetInputTypeInfo(info_, index, &type));
  const Owned<OrtTypeInfo> owned(type, api_.ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* info = nullptr;  // part of `type`
  check(api_, api_.CastTypeInfoToTensorInfo(type, &info));
  return info == nullptr ? Dims{} : dims_of(api_, info);
}

const OrtOpAttr* Inference::attribute(const char* name) const {
  const OrtOpAttr* attribute = nullptr;
  if (!succeeded(api_, api_.ShapeInferContext_GetAttribute(context_, name, &attribute))) return nullptr;
  return attribute;
}

std::optional<int64_t> Inference::integer(const char* name) const {
  const OrtOpAttr* attribute = this->attribute(name);
  if (attribute == nullptr) return std::nullopt;
  int64_t value = 0;
  size_t size = 0;
  if (!succeeded(api_, api_.ReadOpAttr(attribute, ORT_OP_ATTR_INT, &value, sizeof value, &size))) {
    throw UsageError("attribute '" + std::string(name) + "' must be an int");
  }
  return value;
}

std::optional<float> Inference::number(const char* name) const {
  const OrtOpAttr* attribute = this->attribute(name);
  if (attribute == nullptr) return std::nullopt;
  float value = 0;
  size_t size = 0;
  if (!succeeded(api_, api_.ReadOpAttr(attribute, ORT_OP_ATTR_FLOAT, &value, sizeof value, &size))) {
    throw UsageError("attribute '" + std::string(name) + "' must be a float");
  }
  return value;
}

// An attribute of another type reads as an empty string.
std::optional<std::string> Inference::text(const char* name) const {
  const OrtOpAttr* attribute = this->attribute(name);
  if (attribute == nullptr) return std::nullopt;
  std::string value(256, '\0');
  size_t size = 0;
  if (!succeeded(api_, api_.ReadOpAttr(attribute, ORT_OP_ATTR_STRING, value.data(), value.size(), &size)) || size < 2) {
    throw UsageError("attribute '" + std::string(name) + "' must be a string of 1 to 255 bytes");
  }
  value.resize(size - 1);
  return value;
}

// An attribute of another type reads as an empty list.
std::optional<std::vector<int64_t>> Inference::integers(const char* name) const {
  const OrtOpAttr* attribute = this->attribute(name);
  if (attribute == nullptr) return std::nullopt;
  std::vector<int64_t> values(8);
  size_t size = 0;
  if (!succeeded(api_, api_.ReadOpAttr(attribute, ORT_OP_ATTR_INTS, values.data(), values.size() * sizeof(int64_t),
                                       &size)) ||
      size == 0) {
    throw UsageError("attribute '" + std::string(name) + "' must be 1 to 8 ints");
  }
  values.resize(size / sizeof(int64_t));
  return values;
}

// Part of the context, though the API hands it out as if it were the caller's: it is not released.
std::vector<Inference::Dim> Inference::input(size_t index) const {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api_, api_.ShapeInferContext_GetInputTypeShape(context_, index, &info));
  const Dims sizes = dims_of(api_, info);
  std::vector<const char*> symbols(sizes.size());
  check(api_, api_.GetSymbolicDimensions(info, symbols.data(), symbols.size()));
  std::vector<Dim> dims(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) dims[i] = Dim{sizes[i], symbols[i] == nullptr ? "" : symbols[i]};
  return dims;
}

void Inference::set_output(const std::vector<Dim>& dims) const {
  for (const Dim& dim : dims) {
    if (dim.size < 0 && dim.symbol.empty()) return;
  }
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api_, api_.CreateTensorTypeAndShapeInfo(&info));
  const Owned<OrtTensorTypeAndShapeInfo> owned(info, api_.ReleaseTensorTypeAndShapeInfo);
  Dims sizes;
  std::vector<const char*> symbols;
  for (const Dim& dim : dims) {
    sizes.push_back(dim.size);
    symbols.push_back(dim.symbol.c_str());
  }
  check(api_, api_.SetTensorElementType(info, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT));
  check(api_, api_.SetDimensions(info, sizes.data(), sizes.size()));
  check(api_, api_.SetSymbolicDimensions(info, symbols.data(), symbols.size()));
  check(api_, api_.ShapeInferContext_SetOutputTypeShape(context_, 0, info));
}

}  // namespace sparsify::ort
