#include "ort_pool.h"

#include <bit>
#include <chrono>
#include <thread>

#include "first_error.h"

namespace sparsify::ort {
namespace {

// A busy machine may wake a thread late, so a low count is doubted again at the 4th, 16th, 64th ... call.
constexpr auto PATIENCE = std::chrono::milliseconds(1);

struct Meeting {
  int expected;
  std::chrono::steady_clock::time_point end = std::chrono::steady_clock::now() + PATIENCE;
  std::atomic<int> arrived{0};

  static void join(void* argument, size_t) {
    auto& meeting = *static_cast<Meeting*>(argument);
    if (std::chrono::steady_clock::now() >= meeting.end) return;
    meeting.arrived.fetch_add(1);
    while (meeting.arrived.load() < meeting.expected && std::chrono::steady_clock::now() < meeting.end) {
      std::this_thread::yield();
    }
  }
};

}  // namespace

int ThreadCount::of(const Call& call) {
  static const int processors = static_cast<int>(std::thread::hardware_concurrency());
  if (most_seen_ >= processors) return most_seen_;
  const uint64_t number = calls_.fetch_add(1) + 1;
  const bool power_of_four = std::has_single_bit(number) && std::countr_zero(number) % 2 == 0;
  if (!power_of_four) return most_seen_;
  Meeting meeting{processors};
  check(call.api(), call.api().KernelContext_ParallelFor(call.context(), &Meeting::join,
                                                         static_cast<size_t>(processors), 0, &meeting));
  int seen = most_seen_;
  while (seen < meeting.arrived && !most_seen_.compare_exchange_weak(seen, meeting.arrived)) continue;
  return most_seen_;
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
