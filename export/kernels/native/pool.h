// Work shared over threads that somebody else owns: ONNX Runtime's, or none.
#pragma once

#include <cstddef>

namespace sparsify {

class Pool {
 public:
  virtual ~Pool() = default;
  virtual int threads() const = 0;
  // Calls task(argument, i) for i in [0, count), each once, on any thread; returns when all are done.
  virtual void run(size_t count, void (*task)(void*, size_t), void* argument) = 0;

  template <typename F>
  void for_each(size_t count, F&& f) {
    run(count, [](void* argument, size_t i) { (*static_cast<F*>(argument))(i); }, &f);
  }
};

class SerialPool final : public Pool {
 public:
  int threads() const override { return 1; }
  void run(size_t count, void (*task)(void*, size_t), void* argument) override {
    for (size_t i = 0; i < count; ++i) task(argument, i);
  }
};

}  // namespace sparsify
