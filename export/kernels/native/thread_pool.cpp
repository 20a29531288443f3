#include "thread_pool.h"

#include <unistd.h>

#include <map>
#include <memory>
#include <string>

#include "errors.h"
#include "first_error.h"

namespace sparsify {

// Tasks are taken one by one by whoever is free.
struct ThreadPool::Round {
  size_t count;
  void (*task)(void*, size_t);
  void* argument;
  std::atomic<size_t> next{0};
  FirstError error{};

  void take_part() {
    for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) error.guard([&] { task(argument, i); });
  }
};

ThreadPool::ThreadPool(int threads) : process_(getpid()) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  begun_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::work() {
  uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    begun_.wait(lock, [&] { return stop_ || number_ != seen; });
    if (stop_) return;
    seen = number_;
    Round* round = round_;
    lock.unlock();
    round->take_part();
    lock.lock();
    if (--busy_ == 0) ended_.notify_one();
  }
}

void ThreadPool::run(size_t count, void (*task)(void*, size_t), void* argument) {
  std::unique_lock running(running_, std::defer_lock);
  if (count <= 1 || workers_.empty() || getpid() != process_ || !running.try_lock()) {
    for (size_t i = 0; i < count; ++i) task(argument, i);
    return;
  }
  Round round{count, task, argument};
  {
    const std::lock_guard lock(mutex_);
    round_ = &round;
    busy_ = static_cast<int>(workers_.size());
    ++number_;
  }
  begun_.notify_all();
  round.take_part();
  {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return busy_ == 0; });
  }
  round.error.rethrow();
}

// Never freed: at the end of a process its threads cannot be joined from a library's destructors.
Pool& shared_pool(int threads) {
  if (threads < 1 || threads > 1024) throw UsageError("threads must be 1 to 1024; got " + std::to_string(threads));
  static auto& mutex = *new std::mutex;
  static auto& pools = *new std::map<int, std::unique_ptr<ThreadPool>>;
  const std::lock_guard lock(mutex);
  std::unique_ptr<ThreadPool>& pool = pools[threads];
  if (!pool) pool = std::make_unique<ThreadPool>(threads);
  return *pool;
}

}  // namespace sparsify
