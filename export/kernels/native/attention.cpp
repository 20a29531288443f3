#include "attention.h"

#include <algorithm>

#include "attention_loops.h"
#include "cpu.h"
#include "errors.h"
#include "f32_scratch.h"

namespace sparsify::attention {

#if defined(__x86_64__)
extern const Loops avx512_bf16_loops, avx512_loops, avx2_loops;
#elif defined(__aarch64__)
extern const Loops neon_loops;
#endif
extern const Loops portable_loops;

namespace {

// Queries of a task: packing keys and values is then some hundredth of its work.
constexpr int64_t TASK_QUERIES = 32 * ROWS;

const Loops& loops_for(Precision precision) {
#if defined(__x86_64__)
  if (precision == Precision::bf16 && cpu().avx512_bf16) return avx512_bf16_loops;
  if (cpu().avx512) return avx512_loops;
  if (cpu().avx2) return avx2_loops;
#elif defined(__aarch64__)
  if (cpu().neon) return neon_loops;
#endif
  static_cast<void>(precision);
  return portable_loops;
}

Head head_of(const Problem& problem, int64_t batch, int64_t head, int64_t first) {
  const bool masked = problem.mask.data != nullptr;
  return {
      .q = problem.q.at(batch, head, first),
      .k = problem.k.at(batch, head, 0),
      .v = problem.v.at(batch, head, 0),
      .mask = masked ? problem.mask.at(batch, head, first) : nullptr,
      .q_token = problem.q.token,
      .k_token = problem.k.token,
      .v_token = problem.v.token,
      .mask_token = problem.mask.token,
      .y = problem.y.at(batch, head, first),
      .y_token = problem.y.token,
      .queries = std::min(TASK_QUERIES, problem.queries - first),
      .keys = problem.keys,
      .depth = problem.depth,
      .width = problem.width,
      .scale = problem.scale,
      .nan_is_zero = problem.nan_is_zero,
  };
}

// The sum over no keys.
void fill_zero(const Problem& problem) {
  for (int64_t i = 0; i < problem.batch * problem.heads * problem.queries; ++i) {
    const int64_t head = i / problem.queries;
    std::fill_n(problem.y.at(head / problem.heads, head % problem.heads, i % problem.queries), problem.width, 0.0f);
  }
}

}  // namespace

Precision precision_named(const std::string& name) {
  if (name == "f32") return Precision::f32;
  if (name == "bf16") return Precision::bf16;
  throw UsageError("precision must be f32 or bf16; got " + name);
}

void run(const Problem& problem, Precision precision, Pool& pool) {
  if (problem.width == 0) return;  // however many heads: a file may say any number of them
  if (problem.keys == 0) return fill_zero(problem);
  const Loops& loops = loops_for(precision);
  const int64_t parts = (problem.queries + TASK_QUERIES - 1) / TASK_QUERIES;
  pool.for_each(static_cast<size_t>(problem.batch * problem.heads * parts), [&](size_t i) {
    const auto task = static_cast<int64_t>(i);
    const int64_t head = task / parts;
    const Head one = head_of(problem, head / problem.heads, head % problem.heads, task % parts * TASK_QUERIES);
    loops.run(one, f32::scratch(static_cast<size_t>(loops.room(one))));
  });
}

const char* kernel_name(Precision precision) { return loops_for(precision).name; }

}  // namespace sparsify::attention
