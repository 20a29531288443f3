#include "c_api.h"

#include <limits>
#include <new>
#include <string>
#include <vector>

#include "attention.h"
#include "cpu.h"
#include "errors.h"
#include "layer.h"
#include "machine.h"
#include "thread_pool.h"

using namespace sparsify;

namespace {

thread_local std::string last_error;
thread_local int last_error_kind = SK_OK;

void remember(int kind, const char* what) noexcept {
  last_error_kind = kind;
  try {
    last_error = what;
  } catch (...) {
    last_error.clear();
  }
}

// f(), or `otherwise` with the error remembered: no exception leaves the library.
template <typename T, typename F>
T guarded(T otherwise, F&& f) noexcept {
  try {
    return f();
  } catch (const UsageError& error) {
    remember(SK_USAGE, error.what());
  } catch (const FormatError& error) {
    remember(SK_FORMAT, error.what());
  } catch (const std::bad_alloc&) {
    remember(SK_FAILED, "not enough memory");
  } catch (const std::exception& error) {
    remember(SK_FAILED, error.what());
  } catch (...) {
    remember(SK_FAILED, "unknown error");
  }
  return otherwise;
}

std::span<const std::byte> span_of(const void* blob, size_t bytes) {
  if (blob == nullptr) throw UsageError("the packed weights are a null pointer");
  return {static_cast<const std::byte*>(blob), bytes};
}

const char* required(const char* what, const char* text) {
  if (text == nullptr) throw UsageError(std::string(what) + " is a null pointer");
  return text;
}

void check_not_negative(const char* what, int64_t value) {
  if (value < 0) throw UsageError(std::string(what) + " must not be negative; got " + std::to_string(value));
}

std::vector<float> copied(const float* values, int32_t count) {
  return values == nullptr ? std::vector<float>() : std::vector<float>(values, values + count);
}

const float* pointer_or_null(const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); }

Convolution convolution_of(const sk_geometry* geometry) {
  if (geometry == nullptr || geometry->kernel_shape == nullptr) throw UsageError("the geometry is a null pointer");
  const sk_geometry& g = *geometry;
  if (g.axes != 1 && g.axes != 2) throw UsageError("axes must be 1 or 2; got " + std::to_string(g.axes));
  const auto axes = static_cast<size_t>(g.axes);
  const auto list = [](const int64_t* values, size_t count) {
    return values == nullptr ? std::span<const int64_t>() : std::span(values, count);
  };
  return sparsify::convolution_of(list(g.kernel_shape, axes), list(g.strides, axes), list(g.pads, 2 * axes),
                                  list(g.dilations, axes), g.groups);
}

int costs_of(const Weights& weights, const Shape& shape, double* costs) {
  for (const KernelInfo& kernel : kernels()) {
    const bool can = kernel.can(cpu(), weights, shape);
    *costs++ = can ? kernel.cost(weights, shape) : std::numeric_limits<double>::infinity();
  }
  return SK_OK;
}

}  // namespace

struct sk_linear {
  LinearLayer layer;
  std::vector<float> bias, norm_scale, norm_shift;
  Epilogue epilogue;
  Pool& pool;
};

struct sk_conv {
  ConvolutionLayer layer;
  std::vector<float> bias;
  Epilogue epilogue;
  Pool& pool;
};

extern "C" {

const char* sk_last_error(void) { return last_error.c_str(); }

int sk_last_error_kind(void) { return last_error_kind; }

const char* sk_describe_cpu(void) {
  static const std::string text = describe_cpu();
  return text.c_str();
}

sk_linear* sk_linear_create(const void* blob, size_t bytes, const float* bias, const float* norm_scale,
                            const float* norm_shift, float norm_epsilon, const char* activation, const char* kernel,
                            int64_t expected_n, int threads) {
  return guarded<sk_linear*>(nullptr, [&] {
    check_not_negative("expected_n", expected_n);
    if ((norm_scale == nullptr) != (norm_shift == nullptr)) {
      throw UsageError("norm_scale and norm_shift come together or not at all");
    }
    const KernelWish wish{required("kernel", kernel), false};
    Pool& pool = shared_pool(threads);
    auto made = std::unique_ptr<sk_linear>(
        new sk_linear{LinearLayer(span_of(blob, bytes), expected_n, threads, wish), {}, {}, {}, {}, pool});
    const int32_t rows = made->layer.weights().rows;
    made->bias = copied(bias, rows);
    made->norm_scale = copied(norm_scale, rows);
    made->norm_shift = copied(norm_shift, rows);
    made->epilogue.bias = pointer_or_null(made->bias);
    made->epilogue.activation = activation_named(required("activation", activation));
    made->epilogue.norm_scale = pointer_or_null(made->norm_scale);
    made->epilogue.norm_shift = pointer_or_null(made->norm_shift);
    made->epilogue.norm_epsilon = norm_epsilon;
    return made.release();
  });
}

int sk_linear_run(const sk_linear* layer, const float* x, int64_t n, const float* residual, float* y) {
  return guarded<int>(SK_FAILED, [&] {
    check_not_negative("n", n);
    Epilogue epilogue = layer->epilogue;
    epilogue.residual = residual;
    layer->layer.run(x, n, epilogue, y, layer->pool);
    return SK_OK;
  });
}

void sk_linear_free(sk_linear* layer) { delete layer; }
int32_t sk_linear_rows(const sk_linear* layer) { return layer->layer.weights().rows; }
int32_t sk_linear_columns(const sk_linear* layer) { return layer->layer.weights().columns; }
const char* sk_linear_kernel(const sk_linear* layer) { return layer->layer.kernel().name; }
size_t sk_linear_bytes(const sk_linear* layer) { return layer->layer.bytes(); }

sk_conv* sk_conv_create(const void* blob, size_t bytes, const sk_geometry* geometry, const float* bias,
                        const char* activation, const char* kernel, int64_t expected_height, int64_t expected_width,
                        int threads) {
  return guarded<sk_conv*>(nullptr, [&] {
    check_not_negative("expected_height", expected_height);
    check_not_negative("expected_width", expected_width);
    const KernelWish wish{required("kernel", kernel), false};
    Pool& pool = shared_pool(threads);
    auto made = std::unique_ptr<sk_conv>(new sk_conv{
        ConvolutionLayer(span_of(blob, bytes), convolution_of(geometry), 0, expected_height, expected_width, threads,
                         wish),
        {}, {}, pool});
    made->bias = copied(bias, made->layer.weights().rows);
    made->epilogue.bias = pointer_or_null(made->bias);
    made->epilogue.activation = activation_named(required("activation", activation));
    return made.release();
  });
}

int sk_conv_output(const sk_conv* layer, int64_t channels, int64_t height, int64_t width, int64_t out[2]) {
  return guarded<int>(SK_FAILED, [&] {
    const Image image = layer->layer.image(channels, height, width);
    out[0] = image.out_height;
    out[1] = image.out_width;
    return SK_OK;
  });
}

int sk_conv_run(const sk_conv* layer, const float* x, int64_t batch, int64_t channels, int64_t height, int64_t width,
                const float* residual, float* y) {
  return guarded<int>(SK_FAILED, [&] {
    check_not_negative("batch", batch);
    Epilogue epilogue = layer->epilogue;
    epilogue.residual = residual;
    layer->layer.run(x, batch, layer->layer.image(channels, height, width), epilogue, y, layer->pool);
    return SK_OK;
  });
}

void sk_conv_free(sk_conv* layer) { delete layer; }
int32_t sk_conv_rows(const sk_conv* layer) { return layer->layer.weights().rows; }
const char* sk_conv_kernel(const sk_conv* layer) { return layer->layer.kernel().name; }
size_t sk_conv_bytes(const sk_conv* layer) { return layer->layer.bytes(); }

int sk_attention_run(const sk_attention* shape, const float* q, const float* k, const float* v, const float* mask,
                     float* y) {
  return guarded<int>(SK_FAILED, [&] {
    if (shape == nullptr) throw UsageError("the shape is a null pointer");
    const sk_attention& of = *shape;
    check_not_negative("batch", of.batch);
    check_not_negative("queries", of.queries);
    check_not_negative("keys", of.keys);
    if (of.heads < 1 || of.depth < 1 || of.width < 1) throw UsageError("heads, depth and width must be at least 1");
    const attention::Problem problem = {
        .batch = of.batch,
        .heads = of.heads,
        .queries = of.queries,
        .keys = of.keys,
        .depth = of.depth,
        .width = of.width,
        .scale = of.scale,
        .nan_is_zero = false,
        .q = attention::heads_together(q, of.heads, of.queries, of.depth),
        .k = attention::heads_together(k, of.heads, of.keys, of.depth),
        .v = attention::heads_together(v, of.heads, of.keys, of.width),
        .mask = {mask, of.mask_batch, of.mask_head, of.mask_query},
        .y = attention::heads_together(y, of.heads, of.queries, of.width),
    };
    attention::run(problem, attention::precision_named(required("precision", of.precision)), shared_pool(of.threads));
    return SK_OK;
  });
}

const char* sk_attention_kernel(const char* precision) {
  return guarded<const char*>(
      nullptr, [&] { return attention::kernel_name(attention::precision_named(required("precision", precision))); });
}

int sk_measure_machine(sk_machine* machine) {
  return guarded<int>(SK_FAILED, [&] {
    if (machine == nullptr) throw UsageError("the machine is a null pointer");
    *machine = measure_machine();
    return SK_OK;
  });
}

size_t sk_kernel_count(void) { return kernels().size(); }
const char* sk_kernel_name(size_t index) { return index < kernels().size() ? kernels()[index].name : nullptr; }
const char* sk_kernel_serves(size_t index) { return index < kernels().size() ? kernels()[index].serves : nullptr; }

int sk_linear_costs(const void* blob, size_t bytes, int64_t n, int threads, double* costs) {
  return guarded<int>(SK_FAILED, [&] {
    check_not_negative("n", n);
    return costs_of(Blob(span_of(blob, bytes)).weights(), linear_shape(n, threads), costs);
  });
}

int sk_conv_costs(const void* blob, size_t bytes, const sk_geometry* geometry, int64_t height, int64_t width,
                  int threads, double* costs) {
  return guarded<int>(SK_FAILED, [&] {
    const Blob packed(span_of(blob, bytes));
    const Shape shape = conv_shape(convolution_of(geometry), packed.weights(), 0, height, width, threads);
    return costs_of(packed.weights(), shape, costs);
  });
}

}  // extern "C"
