// ONNX Runtime's own threads as a Pool.
#pragma once

#include <atomic>

#include "ort_api.h"
#include "pool.h"

namespace sparsify::ort {

// How many threads a session works with. The C API does not tell, so it is found out: as many tasks as there are
// processors are started together, and each waits a moment for the others; those that met ran at the same time.
class ThreadCount {
 public:
  int of(const Call& call);

 private:
  std::atomic<int> most_seen_{1};
  std::atomic<uint64_t> calls_{0};
};

class SessionPool final : public Pool {
 public:
  SessionPool(const Call& call, int threads) : call_(call), threads_(threads) {}

  int threads() const override { return threads_; }
  // What a task throws is thrown again here, once all are done.
  void run(size_t count, void (*task)(void*, size_t), void* argument) override;

 private:
  const Call& call_;
  int threads_;
};

}  // namespace sparsify::ort
