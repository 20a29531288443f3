#include "f32_gemv_prepared.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "epilogue.h"
#include "f32_rows.h"

namespace sparsify::f32 {
namespace {

constexpr int32_t SEGMENT = 65536;  // columns that an index of 16 bits can tell apart
constexpr int MOST_WIDTH = 16;

template <class Value>
class SlicedMatrix final : public Prepared {
 public:
  SlicedMatrix(const Loops& loops, GemvLoop<Value> multiply, const Weights& weights)
      : loops_(loops), multiply_(multiply), rows_(weights.rows), columns_(weights.columns),
        segments_(std::max(1, (weights.columns + SEGMENT - 1) / SEGMENT)) {
    const auto rows = sparse_rows<Value>(weights);
    order_.resize(static_cast<size_t>(rows_));
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) { return rows.count(a) > rows.count(b); });
    for (int32_t first = 0; first < rows_; first += loops_.width) {
      for (int32_t s = 0; s < segments_; ++s) add_slice(rows, first, s * SEGMENT);
    }
  }

  void run(const Problem& problem, Pool& pool) const override {
    const int64_t slices = static_cast<int64_t>(slices_.size()) / segments_;
    const int64_t tasks = std::min<int64_t>(slices, pool.threads() <= 1 ? 1 : 4 * static_cast<int64_t>(pool.threads()));
    pool.for_each(static_cast<size_t>(tasks), [&](size_t i) {
      const auto task = static_cast<int64_t>(i);
      for (int64_t g = slices * task / tasks; g < slices * (task + 1) / tasks; ++g) run_rows(problem, g);
    });
    finish_token_major(problem.epilogue, problem.y, rows_, 0, problem.n);
  }

  size_t bytes() const override {
    return slices_.size() * sizeof(Slice) + order_.size() * 4 + index_.size() * 2 + value_.size() * sizeof(Value);
  }

 private:
  // Rows order_[first, first + width) and columns [first_column, first_column + SEGMENT).
  void add_slice(const SparseRows<Value>& rows, int32_t first, int32_t first_column) {
    const int32_t width = loops_.width, present = std::min(width, rows_ - first);
    int64_t begin[MOST_WIDTH], count[MOST_WIDTH] = {}, length = 0;
    for (int32_t r = 0; r < present; ++r) {
      const int32_t row = order_[static_cast<size_t>(first + r)];
      const auto from = rows.column.begin() + rows.start[row], to = rows.column.begin() + rows.start[row + 1];
      const auto inside = std::lower_bound(from, to, first_column);
      begin[r] = inside - rows.column.begin();
      count[r] = std::lower_bound(inside, to, first_column + SEGMENT) - inside;
      length = std::max(length, count[r]);
    }
    slices_.push_back({static_cast<int64_t>(value_.size()) / width, static_cast<int32_t>(length), first_column});
    for (int64_t i = 0; i < length; ++i) {
      for (int32_t r = 0; r < width; ++r) {
        // What is padded reads a column of the row's own, so that an infinity elsewhere does not become its NaN.
        const int64_t at = count[r] == 0 ? -1 : begin[r] + std::min(i, count[r] - 1);
        index_.push_back(at < 0 ? uint16_t{0} : static_cast<uint16_t>(rows.column[at] - first_column));
        value_.push_back(i < count[r] ? rows.value[at] : Value{});
      }
    }
  }

  void run_rows(const Problem& problem, int64_t group) const {
    const Gemv<Value> gemv = {index_.data(), value_.data()};
    const int64_t first = group * loops_.width, present = std::min<int64_t>(loops_.width, rows_ - first);
    for (int64_t t = 0; t < problem.n; ++t) {
      alignas(64) float sums[MOST_WIDTH] = {};
      for (int32_t s = 0; s < segments_; ++s) {
        multiply_(gemv, slices_[static_cast<size_t>(group * segments_ + s)], problem.x + t * columns_, sums);
      }
      for (int64_t r = 0; r < present; ++r) {
        const int32_t row = order_[static_cast<size_t>(first + r)];
        problem.y[t * rows_ + row] = sums[r] + (problem.epilogue.bias == nullptr ? 0 : problem.epilogue.bias[row]);
      }
    }
  }

  const Loops& loops_;
  GemvLoop<Value> multiply_;
  int32_t rows_, columns_, segments_;
  std::vector<int32_t> order_;
  std::vector<Slice> slices_;
  std::vector<uint16_t> index_;
  std::vector<Value> value_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_gemv(const Loops& loops, const Weights& weights) {
  switch (weights.precision) {
    case Precision::f16: return std::make_unique<SlicedMatrix<Half>>(loops, loops.gemv_f16, weights);
    case Precision::bf16: return std::make_unique<SlicedMatrix<Bfloat16>>(loops, loops.gemv_bf16, weights);
    default: return std::make_unique<SlicedMatrix<float>>(loops, loops.gemv, weights);
  }
}

double gemv_groups(const Weights& weights, int width) {
  return static_cast<double>(weights.kept) / width + static_cast<double>(weights.rows) / width;
}

}  // namespace sparsify::f32
