// Random layers through the C ABI against loops in double precision, every kernel that can serve each. Built with the
// sanitizers by `make kernels-sanitize`: every array is exactly as large as it must be, so a byte too far is seen.
//
//     random_layers COUNT SEED
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "../c_api.h"
#include "packed.h"

using namespace sparsify_tests;

namespace {

// A blob where ONNX Runtime might have put it: anywhere.
struct Misplaced {
  std::unique_ptr<uint8_t[]> memory;
  const uint8_t* blob;
  size_t size;

  Misplaced(Random& random, const std::vector<uint8_t>& bytes) : size(bytes.size()) {
    const auto shift = static_cast<size_t>(between(random, 0, 63));
    memory = std::make_unique<uint8_t[]>(shift + size);
    std::memcpy(memory.get() + shift, bytes.data(), size);
    blob = memory.get() + shift;
  }
};

std::vector<float> normals(Random& random, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

// One output before the epilogue, and how far a kernel may be from it.
struct Sum {
  double value = 0, magnitude = 0, weights = 0;
  int nonzeros = 0;

  void add(double weight, double x) {
    value += weight * x;
    magnitude += std::abs(weight * x);
    weights += std::abs(weight);
    nonzeros += weight != 0;
  }
  // Rounding of every fp32 product and sum. int8 besides rounds the activation, symmetrically, to 127 steps; halves
  // have 11 bits, and what is small beside the largest fewer (f16_spmm.h; at most 300 nonzeros here).
  double bound(const std::string& kernel, double largest_x) const {
    double besides = 0;
    if (kernel.starts_with("i8")) besides = 0.51 * largest_x / 127 * weights;
    if (kernel.starts_with("f16")) besides = (nonzeros + 2) / 1740.0 * magnitude + 1e-7 * largest_x * weights;
    return 4e-6 * magnitude + 1e-5 + besides;
  }
};

constexpr double STEEPEST = 1.5;  // of all activations: hardswish at 3

double activated(const std::string& name, double v) {
  if (name == "relu") return v > 0 ? v : 0;
  if (name == "relu6") return std::fmin(std::fmax(v, 0), 6);
  if (name == "hardswish") return v * std::fmin(std::fmax(v + 3, 0), 6) / 6;
  if (name == "gelu") return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
  if (name == "gelu_tanh") return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
  if (name == "silu") return v / (1 + std::exp(-v));
  return v;
}

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

void expect_near(const std::string& what, size_t index, double got, double expected, double bound) {
  if (std::abs(got - expected) <= bound) return;  // a NaN fails
  fail(what + ": output " + std::to_string(index) + " is " + std::to_string(got) + ", expected " +
       std::to_string(expected) + " within " + std::to_string(bound));
}

const char* random_activation(Random& random) {
  constexpr const char* NAMES[] = {"none", "relu", "relu6", "gelu", "gelu_tanh", "silu", "hardswish"};
  return NAMES[between(random, 0, 6)];
}

// `columns` are so many that int8 kernels take them in several blocks only where the weights are int8.
Packed random_weights(Random& random, int64_t rows, int64_t columns) {
  constexpr double DENSITIES[] = {0, 0.02, 0.1, 0.3, 1};
  const auto precision = columns > 300 ? I8 : static_cast<Precision>(between(random, F32, I8));
  const auto pattern = static_cast<Pattern>(between(random, DENSE, ROWS_32));
  return random_packed(random, rows, columns, precision, pattern, DENSITIES[between(random, 0, 4)]);
}

std::string description(const Packed& w, const char* kernel) {
  return std::string(kernel) + " [" + std::to_string(w.rows) + ", " + std::to_string(w.columns) + "] precision " +
         std::to_string(w.precision) + " pattern " + std::to_string(w.pattern);
}

// Runs twice at the same time: a prepared layer must not change. Both results are returned.
template <typename Run>
std::pair<std::vector<float>, std::vector<float>> run_twice(size_t size, const Run& run) {
  std::pair<std::vector<float>, std::vector<float>> results{std::vector<float>(size), std::vector<float>(size)};
  int second = 0;
  std::thread other([&] { second = run(results.second.data()); });
  const int first = run(results.first.data());
  other.join();
  if (first != SK_OK || second != SK_OK) fail(sk_last_error());
  return results;
}

std::vector<bool> served(const std::vector<double>& costs) {
  std::vector<bool> can;
  for (const double cost : costs) can.push_back(std::isfinite(cost));
  return can;
}

void check_linear(Random& random) {
  const int64_t most_columns = between(random, 0, 7) == 0 ? 1000 : 300;
  const Packed w = random_weights(random, between(random, 1, 70), between(random, 1, most_columns));
  const int64_t most = between(random, 0, 7) == 0 ? 140 : 40;  // several blocks of tokens take the oracle its time
  const int64_t n = between(random, 0, 3) == 0 ? 1 : between(random, 1, most);
  const Misplaced blob(random, w.bytes);
  const auto x = normals(random, n * w.columns), bias = normals(random, w.rows), residual = normals(random, n * w.rows);
  const bool has_bias = between(random, 0, 1), has_residual = between(random, 0, 1);
  const char* activation = random_activation(random);
  const int threads = static_cast<int>(between(random, 1, 2));
  std::vector<double> costs(sk_kernel_count());
  if (sk_linear_costs(blob.blob, blob.size, n, threads, costs.data()) != SK_OK) fail(sk_last_error());
  const auto can = served(costs);
  for (size_t k = 0; k < can.size(); ++k) {
    if (!can[k]) continue;
    const char* kernel = sk_kernel_name(k);
    sk_linear* layer = sk_linear_create(blob.blob, blob.size, has_bias ? bias.data() : nullptr, nullptr, nullptr, 0,
                                        activation, kernel, n, threads);
    if (layer == nullptr) fail(sk_last_error());
    const auto [first, second] = run_twice(static_cast<size_t>(n * w.rows), [&](float* y) {
      return sk_linear_run(layer, x.data(), n, has_residual ? residual.data() : nullptr, y);
    });
    sk_linear_free(layer);
    const std::string what = "linear " + description(w, kernel) + " n " + std::to_string(n) + " " + activation;
    for (int64_t i = 0; i < n; ++i) {
      double largest = 0;
      for (int64_t c = 0; c < w.columns; ++c) largest = std::max(largest, std::abs(double{x[i * w.columns + c]}));
      for (int64_t r = 0; r < w.rows; ++r) {
        Sum sum;
        for (int64_t c = 0; c < w.columns; ++c) sum.add(w.weights[r * w.columns + c], x[i * w.columns + c]);
        const auto at = static_cast<size_t>(i * w.rows + r);
        const double before = sum.value + (has_bias ? bias[r] : 0) + (has_residual ? residual[at] : 0);
        expect_near(what, at, first[at], activated(activation, before), STEEPEST * sum.bound(kernel, largest));
        expect_near(what + ", second thread", at, second[at], first[at], 0);
      }
    }
  }
}

struct Convolution {
  int64_t axes, groups, batch, channels, height, width, rows;
  int64_t kernel[2], strides[2], pads[4], dilations[2];

  sk_geometry geometry() const { return {axes, kernel, strides, pads, dilations, groups}; }
};

// Of a usual kernel, on planes down to a size at which results lie closer than a vector.
void make_depthwise(Random& random, Convolution& c) {
  c.groups = c.channels = between(random, 2, 9);
  c.rows = c.groups * between(random, 1, 2);
  const int64_t kernel = between(random, 0, 1) ? 3 : 5, stride = between(random, 1, 2);
  for (int64_t a = 0; a < 2; ++a) {
    c.kernel[a] = kernel;
    c.strides[a] = stride;
    c.dilations[a] = 1;
    c.pads[a] = c.pads[a + 2] = kernel / 2;
  }
  c.height = between(random, 1, 20);
  c.width = between(random, 1, 20);
}

// With one axis, index 0 of every list is x; `pads` has its beginning and its end.
Convolution random_convolution(Random& random) {
  Convolution c{};
  c.axes = between(random, 0, 3) == 0 ? 1 : 2;
  c.groups = between(random, 0, 2) == 0 ? between(random, 2, 4) : 1;
  c.batch = between(random, 1, 2);
  c.channels = c.groups * between(random, 1, 12);
  c.rows = c.groups * between(random, 1, 24);
  const bool pointwise = between(random, 0, 3) == 0;
  for (int64_t a = 0; a < c.axes; ++a) {
    c.kernel[a] = pointwise ? 1 : between(random, 1, 4);
    c.strides[a] = pointwise ? 1 : between(random, 1, 3);
    c.dilations[a] = pointwise ? 1 : between(random, 1, 2);
    c.pads[a] = pointwise ? 0 : between(random, 0, 3);
    c.pads[a + c.axes] = pointwise ? 0 : between(random, 0, 3);
  }
  c.height = c.axes == 1 ? 1 : between(random, 7, 20);
  c.width = between(random, 7, 40);
  if (c.axes == 2 && between(random, 0, 3) == 0) make_depthwise(random, c);
  return c;
}

Sum sum_at(const Convolution& c, const Packed& w, const std::vector<float>& x, int64_t image, int64_t row,
           int64_t out_y, int64_t out_x) {
  const bool flat = c.axes == 1;
  const int64_t last = c.axes - 1, group_channels = c.channels / c.groups;
  const int64_t kernel_height = flat ? 1 : c.kernel[0], kernel_width = c.kernel[last];
  const int64_t first_channel = row / (c.rows / c.groups) * group_channels;
  Sum sum;
  for (int64_t i = 0; i < w.columns; ++i) {
    const int64_t channel = i / (kernel_height * kernel_width);
    const int64_t ky = i / kernel_width % kernel_height, kx = i % kernel_width;
    const int64_t y = flat ? 0 : out_y * c.strides[0] - c.pads[0] + ky * c.dilations[0];
    const int64_t at = out_x * c.strides[last] - c.pads[last] + kx * c.dilations[last];
    const bool inside = y >= 0 && y < c.height && at >= 0 && at < c.width;
    const int64_t plane = image * c.channels + first_channel + channel;
    sum.add(w.weights[row * w.columns + i], inside ? double{x[(plane * c.height + y) * c.width + at]} : 0);
  }
  return sum;
}

void check_convolution(Random& random) {
  const Convolution c = random_convolution(random);
  const int64_t positions = c.kernel[0] * (c.axes == 2 ? c.kernel[1] : 1);
  const Packed w = random_weights(random, c.rows, c.channels / c.groups * positions);
  const Misplaced blob(random, w.bytes);
  const auto x = normals(random, c.batch * c.channels * c.height * c.width), bias = normals(random, c.rows);
  const char* activation = random_activation(random);
  const int threads = static_cast<int>(between(random, 1, 2));
  const sk_geometry geometry = c.geometry();
  double largest = 0;
  for (const float value : x) largest = std::max(largest, std::abs(double{value}));
  std::vector<double> costs(sk_kernel_count());
  if (sk_conv_costs(blob.blob, blob.size, &geometry, c.height, c.width, threads, costs.data()) != SK_OK) {
    fail(sk_last_error());
  }
  const auto can = served(costs);
  for (size_t k = 0; k < can.size(); ++k) {
    if (!can[k]) continue;
    const char* kernel = sk_kernel_name(k);
    sk_conv* layer = sk_conv_create(blob.blob, blob.size, &geometry, bias.data(), activation, kernel, c.height,
                                    c.width, threads);
    int64_t out[2];
    if (layer == nullptr || sk_conv_output(layer, c.channels, c.height, c.width, out) != SK_OK) fail(sk_last_error());
    const auto size = static_cast<size_t>(c.batch * c.rows * out[0] * out[1]);
    const auto residual = normals(random, static_cast<int64_t>(size));
    const auto [first, second] = run_twice(size, [&](float* y) {
      return sk_conv_run(layer, x.data(), c.batch, c.channels, c.height, c.width, residual.data(), y);
    });
    sk_conv_free(layer);
    const std::string what = "convolution " + description(w, kernel) + " " + activation;
    for (size_t at = 0; at < size; ++at) {
      const auto index = static_cast<int64_t>(at);
      const int64_t plane = index / (out[0] * out[1]), row = plane % c.rows;
      const Sum sum = sum_at(c, w, x, plane / c.rows, row, index / out[1] % out[0], index % out[1]);
      const double expected = activated(activation, sum.value + bias[row] + residual[at]);
      expect_near(what, at, first[at], expected, STEEPEST * sum.bound(kernel, largest));
      expect_near(what + ", second thread", at, second[at], first[at], 0);
    }
  }
}

struct Heads {
  sk_attention shape;
  std::vector<float> q, k, v, mask;

  explicit Heads(Random& random) {
    shape = {between(random, 1, 2), between(random, 1, 3), between(random, 1, 20), between(random, 1, 40),
             between(random, 1, 40), between(random, 1, 70), 0.3f, 0, 0, 0, "f32", static_cast<int>(between(random, 1, 2))};
    if (between(random, 0, 7) == 0) shape.keys = between(random, 250, 520);  // several blocks of keys
    const int64_t all = shape.batch * shape.heads;
    q = normals(random, all * shape.queries * shape.depth);
    k = normals(random, all * shape.keys * shape.depth);
    v = normals(random, all * shape.keys * shape.width);
    if (between(random, 0, 1)) return;
    shape.mask_query = between(random, 0, 1) ? shape.keys : 0;
    shape.mask_batch = shape.mask_query == 0 ? shape.keys : shape.queries * shape.keys;
    mask = normals(random, shape.batch * shape.mask_batch);
    for (float& value : mask) value = value > 1 ? -INFINITY : value;
    for (size_t i = 0; i < mask.size(); i += static_cast<size_t>(shape.keys)) mask[i] = 0;
  }

  // softmax(scale q k^T + mask) of one query.
  std::vector<double> weights(int64_t batch, int64_t head, int64_t query) const {
    const int64_t token = shape.heads * shape.depth;
    std::vector<double> scores;
    double total = 0;
    for (int64_t j = 0; j < shape.keys; ++j) {
      double score = 0;
      for (int64_t d = 0; d < shape.depth; ++d) {
        score += double{q[(batch * shape.queries + query) * token + head * shape.depth + d]} *
                 k[(batch * shape.keys + j) * token + head * shape.depth + d];
      }
      score *= shape.scale;
      if (!mask.empty()) score += mask[batch * shape.mask_batch + query * shape.mask_query + j];
      scores.push_back(std::exp(score));  // of numbers drawn here it overflows nowhere
      total += scores.back();
    }
    for (double& score : scores) score /= total;
    return scores;
  }
};

void check_attention(Random& random) {
  Heads heads(random);
  sk_attention& shape = heads.shape;
  const auto size = static_cast<size_t>(shape.batch * shape.queries * shape.heads * shape.width);
  for (const char* precision : {"f32", "bf16"}) {
    shape.precision = precision;
    const auto [first, second] = run_twice(size, [&](float* y) {
      return sk_attention_run(&shape, heads.q.data(), heads.k.data(), heads.v.data(),
                              heads.mask.empty() ? nullptr : heads.mask.data(), y);
    });
    const bool rounded = std::string(sk_attention_kernel(precision)).ends_with("bf16");
    for (size_t at = 0; at < size; ++at) {
      const auto index = static_cast<int64_t>(at), token = index / (shape.heads * shape.width);
      const int64_t head = index / shape.width % shape.heads, batch = token / shape.queries;
      const auto weights = heads.weights(batch, head, token % shape.queries);
      double expected = 0, magnitude = 0;
      for (int64_t j = 0; j < shape.keys; ++j) {
        const double v = heads.v[((batch * shape.keys + j) * shape.heads + head) * shape.width + index % shape.width];
        expected += weights[j] * v;
        magnitude += weights[j] * std::abs(v);
      }
      const double bound = (rounded ? 0.1 : 2e-5) * magnitude + 1e-6;
      expect_near(std::string("attention ") + precision, at, first[at], expected, bound);
      expect_near("attention, second thread", at, second[at], first[at], 0);
    }
  }
}

// A damaged blob is refused, or is one that can be run: never read outside.
void check_hostile(Random& random) {
  Packed w = random_weights(random, between(random, 1, 40), between(random, 1, 200));
  for (int64_t i = between(random, 1, 4); i > 0; --i) {
    const bool header = between(random, 0, 1);
    const auto last = static_cast<int64_t>(header ? std::min<size_t>(96, w.bytes.size()) : w.bytes.size()) - 1;
    w.bytes[static_cast<size_t>(between(random, 0, last))] ^= static_cast<uint8_t>(between(random, 1, 255));
  }
  if (between(random, 0, 1)) w.seal();
  if (between(random, 0, 3) == 0) {
    w.bytes.resize(static_cast<size_t>(between(random, 0, static_cast<int64_t>(w.bytes.size()))));
  }
  const Misplaced blob(random, w.bytes);
  sk_linear* layer = sk_linear_create(blob.blob, blob.size, nullptr, nullptr, nullptr, 0, "none", "auto", 3, 1);
  if (layer == nullptr) {
    if (std::string(sk_last_error()).empty()) fail("a damaged blob was refused without a word");
    return;
  }
  const auto x = normals(random, 3 * sk_linear_columns(layer));
  std::vector<float> y(static_cast<size_t>(3 * sk_linear_rows(layer)));
  if (sk_linear_run(layer, x.data(), 3, nullptr, y.data()) != SK_OK) fail(sk_last_error());
  sk_linear_free(layer);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) fail("usage: random_layers COUNT SEED");
  const long count = std::atol(argv[1]);
  Random random(std::strtoull(argv[2], nullptr, 10));
  for (long i = 0; i < count; ++i) {
    check_linear(random);
    check_convolution(random);
    check_attention(random);
    check_hostile(random);
  }
  std::printf("%ld layers of each kind, %zu kernels, on %s\n", count, sk_kernel_count(), sk_describe_cpu());
  return 0;
}
