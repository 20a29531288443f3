// Threads of our own, for callers who bring none: the C ABI's. ONNX Runtime's sessions use theirs (ort_pool.h).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "pool.h"

namespace sparsify {

// The caller works along, so `threads` - 1 are started. One run at a time is shared out; a second caller meanwhile, and
// a process forked from the one that started the threads, does its tasks alone.
class ThreadPool final : public Pool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool() override;

  int threads() const override { return static_cast<int>(workers_.size()) + 1; }
  // What a task throws is thrown again here, once all are done.
  void run(size_t count, void (*task)(void*, size_t), void* argument) override;

 private:
  struct Round;
  void work();

  std::vector<std::thread> workers_;
  std::mutex running_;  // held by the caller whose round is shared out
  std::mutex mutex_;    // guards what follows
  std::condition_variable begun_, ended_;
  Round* round_ = nullptr;
  uint64_t number_ = 0;  // of rounds begun
  int busy_ = 0;         // workers that have not finished the round
  bool stop_ = false;
  int64_t process_;
};

// The process's pool of this many threads, made at the first call; throws UsageError unless 1 to 1024.
Pool& shared_pool(int threads);

}  // namespace sparsify
