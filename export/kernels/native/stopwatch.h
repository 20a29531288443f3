// How every piece of a kernel is timed.
#pragma once

#include <algorithm>
#include <chrono>

namespace sparsify {

inline constexpr int REPEATS = 12;

// Nanoseconds of one call: the quickest of some, as others may be using the machine.
template <class F>
double quickest(F&& work) {
  double best = 1e30;
  for (int i = 0; i < REPEATS; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count());
  }
  return best;
}

}  // namespace sparsify
