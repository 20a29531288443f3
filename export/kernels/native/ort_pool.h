// ONNX Runtime's own threads as a Pool.
#pragma once

#include <atomic>
#include <functional>

#include "ort_api.h"
#include "pool.h"

namespace sparsify::ort {

// How many threads a session works with. The C API does not tell, so it is found out while a layer is computed: the
// computation is the first of several tasks, and whoever comes for another while it lasts is counted. No call waits for
// anybody, and a session of one thread loses nothing.
class ThreadCount {
 public:
  // Calls compute(pool), where pool is the session's threads, or one of them while the others are counted.
  void share(const Call& call, const std::function<void(Pool&)>& compute);

 private:
  void run(const Call& call, const std::function<void(Pool&)>& compute) const;
  void count(const Call& call, const std::function<void(Pool&)>& compute, int others);

  std::atomic<int> most_seen_{1};
  std::atomic<uint64_t> calls_{0};
  std::atomic<int64_t> patience_ns_{0};  // how much longer the threads are counted
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
