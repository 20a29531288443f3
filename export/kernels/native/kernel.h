// A kernel is one way of multiplying. The table KERNELS says which serves what; a plan chooses by the cost it states.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "cpu.h"
#include "pool.h"
#include "problem.h"
#include "weights.h"

namespace sparsify {

// A layer's weights laid out for one kernel. Immutable once made: any number of threads may run it at once.
class Prepared {
 public:
  virtual ~Prepared() = default;
  virtual void run(const Problem& problem, Pool& pool) const = 0;
  virtual size_t bytes() const = 0;  // what it holds in memory, beside the blob it was made from
};

// What is known of a layer before anything runs.
struct Shape {
  Layout layout;
  int64_t n;       // expected tokens or positions; 0 where unknown
  Image image;     // where the layout is image, with height and width 0 where unknown
  int threads;
};

struct KernelInfo {
  const char* name;      // "f32-avx512", "i8-amx", ...
  const char* serves;    // one line for people: `sparsify_kernels.kernel_names()`
  bool (*can)(const Cpu& cpu, const Weights& weights, const Shape& shape);
  // Expected time of one call in nanoseconds, from the constants of calibration.h.
  double (*cost)(const Weights& weights, const Shape& shape);
  std::unique_ptr<Prepared> (*prepare)(const Weights& weights, const Shape& shape);
};

std::span<const KernelInfo> kernels();  // in kernels.cpp: the one table

// The cheapest kernel that can; null where none can (the portable ones can for any precision).
const KernelInfo* choose(const Weights& weights, const Shape& shape);
const KernelInfo* kernel_named(const char* name);

}  // namespace sparsify
