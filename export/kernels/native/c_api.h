/* The kernels without ONNX Runtime: a C ABI for ctypes and other languages.
 *
 * Arrays are dense, row-major float32; nothing needs to be aligned beyond its element. A function that makes a handle
 * returns null, and one that returns int a number other than 0, where something is wrong: sk_last_error() says what, in
 * this thread, until the next failure. A handle may be run by any number of threads at once. */
#ifndef SPARSIFY_C_API_H
#define SPARSIFY_C_API_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SK_API __attribute__((visibility("default")))
#else
#define SK_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_linear sk_linear;
typedef struct sk_conv sk_conv;

enum sk_error { SK_OK = 0, SK_USAGE = 1, SK_FORMAT = 2, SK_FAILED = 3 };

/* A convolution as ONNX writes it; strides, pads and dilations may be null for ONNX's defaults. */
typedef struct sk_geometry {
  int64_t axes; /* 1 or 2 */
  const int64_t* kernel_shape;
  const int64_t* strides;
  const int64_t* pads; /* all beginnings, then all ends */
  const int64_t* dilations;
  int64_t groups;
} sk_geometry;

SK_API const char* sk_last_error(void);
SK_API int sk_last_error_kind(void);
SK_API const char* sk_describe_cpu(void);

/* y[n][rows] = LayerNorm(activation(x[n][columns] W^T + bias + residual)). The blob must outlive the handle; the other
 * arrays are copied. bias and residual may be null, and norm_scale and norm_shift both. `kernel` is "auto" or a name of
 * the table; expected_n is 0 where unknown. */
SK_API sk_linear* sk_linear_create(const void* blob, size_t bytes, const float* bias, const float* norm_scale,
                                   const float* norm_shift, float norm_epsilon, const char* activation,
                                   const char* kernel, int64_t expected_n, int threads);
SK_API int sk_linear_run(const sk_linear* layer, const float* x, int64_t n, const float* residual, float* y);
SK_API void sk_linear_free(sk_linear* layer);
SK_API int32_t sk_linear_rows(const sk_linear* layer);
SK_API int32_t sk_linear_columns(const sk_linear* layer);
SK_API const char* sk_linear_kernel(const sk_linear* layer);
SK_API size_t sk_linear_bytes(const sk_linear* layer); /* held beside the blob */

/* y[batch][rows][out_height][out_width] = activation(conv(x[batch][channels][height][width], W) + bias + residual).
 * The expected height and width are 0 where unknown; with one axis every height is 1. */
SK_API sk_conv* sk_conv_create(const void* blob, size_t bytes, const sk_geometry* geometry, const float* bias,
                               const char* activation, const char* kernel, int64_t expected_height,
                               int64_t expected_width, int threads);
/* Writes out_height and out_width of an image of this size. */
SK_API int sk_conv_output(const sk_conv* layer, int64_t channels, int64_t height, int64_t width, int64_t out[2]);
SK_API int sk_conv_run(const sk_conv* layer, const float* x, int64_t batch, int64_t channels, int64_t height,
                       int64_t width, const float* residual, float* y);
SK_API void sk_conv_free(sk_conv* layer);
SK_API int32_t sk_conv_rows(const sk_conv* layer);
SK_API const char* sk_conv_kernel(const sk_conv* layer);
SK_API size_t sk_conv_bytes(const sk_conv* layer);

/* y[batch][queries][heads][width] = softmax(scale q k^T + mask) v of q[batch][queries][heads][depth],
 * k[batch][keys][heads][depth] and v[batch][keys][heads][width], head by head. The mask, which may be null, has a number
 * a key; its strides, in floats, are 0 where it is the same for all. `precision` is "f32" or "bf16": both products of
 * numbers rounded to bfloat16, where the processor has that. */
typedef struct sk_attention {
  int64_t batch, heads, queries, keys, depth, width;
  float scale;
  int64_t mask_batch, mask_head, mask_query;
  const char* precision;
  int threads;
} sk_attention;
SK_API int sk_attention_run(const sk_attention* shape, const float* q, const float* k, const float* v,
                            const float* mask, float* y);
SK_API const char* sk_attention_kernel(const char* precision); /* what computes it here; null for a bad precision */

/* How fast this machine is at the moment, on one thread: the roofs under which every kernel stays. Measured anew at
 * each call, in a tenth of a second: a shared machine, or one whose clock changes, is not always as fast. */
typedef struct sk_machine {
  double fma_gflops;          /* multiply-adds of fp32, two operations each, with nothing to load */
  double read_l1_gb_s;        /* of half the first cache */
  double read_l2_gb_s;        /* of half the second */
  double read_beyond_l2_gb_s; /* of four times the second */
  double stream_gb_s;         /* read and written by a copy of 6 MB, both counted */
  double tile_product_ns;     /* AMX: 16 x 16 x 64 multiply-adds of int8, nothing to load; 0 where there is none */
  double tile_step_ns;        /* AMX: four products with their four tile loads, two of them from L2; or 0 */
} sk_machine;
SK_API int sk_measure_machine(sk_machine* machine);

/* The table of kernels. Costs are nanoseconds that one call is expected to take, one a kernel, infinite for a kernel
 * that cannot serve the layer on this processor. */
SK_API size_t sk_kernel_count(void);
SK_API const char* sk_kernel_name(size_t index);   /* null past the end */
SK_API const char* sk_kernel_serves(size_t index); /* one line for people; null past the end */
SK_API int sk_linear_costs(const void* blob, size_t bytes, int64_t n, int threads, double* costs);
SK_API int sk_conv_costs(const void* blob, size_t bytes, const sk_geometry* geometry, int64_t height, int64_t width,
                         int threads, double* costs);

#ifdef __cplusplus
}
#endif

#endif
