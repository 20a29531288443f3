#include "ort_pool.h"

#include <bit>
#include <chrono>
#include <thread>

#include "first_error.h"

namespace sparsify::ort {
namespace {

using Clock = std::chrono::steady_clock;

// A thread that sleeps may come late on a busy machine. While nobody has come, the first calls and then one in so many
// look for somebody. Once work is shared, all are counted anew at the 4th, 16th, 64th ... call, for so much of the
// layers' time.
constexpr std::chrono::nanoseconds PATIENCE = std::chrono::milliseconds(1);
constexpr uint64_t OFTEN = 64, SELDOM = 17;  // calls; a prime, so that every layer has its turn

struct Census {
  const std::function<void(Pool&)>& compute;
  int expected;
  std::atomic<bool> begun{false}, done{false};
  std::atomic<int> others{0};
  FirstError error{};

  static void task(void* argument, size_t) {
    auto& census = *static_cast<Census*>(argument);
    if (!census.begun.exchange(true)) {
      SerialPool alone;
      census.error.guard([&] { census.compute(alone); });
      census.done = true;
      return;
    }
    if (census.done) return;
    census.others.fetch_add(1);
    // Whoever left early could take another task and be counted twice.
    while (!census.done && census.others < census.expected) std::this_thread::yield();
  }
};

int processors() {
  static const int once = static_cast<int>(std::thread::hardware_concurrency());
  return once;
}

}  // namespace

void ThreadCount::share(const Call& call, const std::function<void(Pool&)>& compute) {
  const int seen = most_seen_;
  if (seen >= processors()) return run(call, compute);
  const uint64_t number = calls_.fetch_add(1) + 1;
  if (seen == 1) {
    return number <= OFTEN || number % SELDOM == 0 ? count(call, compute, 1) : run(call, compute);
  }
  const bool power_of_four = std::has_single_bit(number) && std::countr_zero(number) % 2 == 0;
  if (power_of_four) patience_ns_ = PATIENCE.count();
  if (patience_ns_ <= 0) return run(call, compute);
  const auto begin = Clock::now();
  count(call, compute, processors() - 1);
  patience_ns_ -= std::chrono::nanoseconds(Clock::now() - begin).count();
}

void ThreadCount::run(const Call& call, const std::function<void(Pool&)>& compute) const {
  SessionPool pool(call, most_seen_);
  compute(pool);
}

void ThreadCount::count(const Call& call, const std::function<void(Pool&)>& compute, int others) {
  Census census{compute, others};
  check(call.api(), call.api().KernelContext_ParallelFor(call.context(), &Census::task,
                                                         static_cast<size_t>(others) + 1, 0, &census));
  census.error.rethrow();
  int seen = most_seen_;
  while (seen < census.others + 1 && !most_seen_.compare_exchange_weak(seen, census.others + 1)) continue;
}

void SessionPool::run(size_t count, void (*task)(void*, size_t), void* argument) {
  if (count == 1 || threads_ == 1) {
    for (size_t i = 0; i < count; ++i) task(argument, i);
    return;
  }
  FirstError error;
  auto guarded_task = [&](size_t i) { error.guard([&] { task(argument, i); }); };
  const auto call_back = [](void* f, size_t i) { (*static_cast<decltype(guarded_task)*>(f))(i); };
  check(call_.api(), call_.api().KernelContext_ParallelFor(call_.context(), call_back, count, 0, &guarded_task));
  error.rethrow();
}

}  // namespace sparsify::ort
