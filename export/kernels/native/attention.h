// Attention by scaled dot products: Y = softmax(scale Q K^T + mask) V, head by head (Vaswani et al. 2017, section 3.2.1).
#pragma once

#include <cstdint>
#include <string>

#include "pool.h"

namespace sparsify::attention {

// Where the floats of a batch's, head's and token's features begin: at data + the sum of index times stride.
template <class Float>
struct Rows {
  Float* data;
  int64_t batch, head, token;

  Float* at(int64_t b, int64_t h, int64_t t) const { return data + b * batch + h * head + t * token; }
};

// Of [batch][tokens][heads][features], and of [batch][heads][tokens][features].
template <class Float>
Rows<Float> heads_together(Float* data, int64_t heads, int64_t tokens, int64_t features) {
  return {data, heads * tokens * features, features, heads * features};
}
template <class Float>
Rows<Float> heads_apart(Float* data, int64_t heads, int64_t tokens, int64_t features) {
  return {data, heads * tokens * features, tokens * features, features};
}

struct Problem {
  int64_t batch, heads, queries, keys;
  int64_t depth;  // features of Q and K
  int64_t width;  // features of V and Y
  float scale;
  bool nan_is_zero = false;  // of weights: where all keys of a query are masked, it gets zeros
  Rows<const float> q, k, v;
  Rows<const float> mask;  // a number a key, added to scale Q K^T; strides are 0 where it is broadcast, data may be null
  Rows<float> y;
};

enum class Precision {
  f32,
  bf16,  // both products of numbers rounded to bfloat16, added up in fp32, where the processor has that; fp32 elsewhere
};

// "f32" or "bf16"; throws UsageError for any other.
Precision precision_named(const std::string& name);

// Of one query the result has the same bits for any threads and any other queries. A query all of whose keys are masked
// by -inf gets NaN, as softmax says, unless `nan_is_zero`.
void run(const Problem& problem, Precision precision, Pool& pool);

// "attention-avx512-bf16", ...: what `run` takes here.
const char* kernel_name(Precision precision);

}  // namespace sparsify::attention
