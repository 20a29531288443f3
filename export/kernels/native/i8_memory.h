// 64-byte aligned memory: arrays a layer keeps, and scratch a thread keeps between calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace sparsify {

// Memory of trivial values, aligned to a cache line and zero at first.
template <typename T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(size_t count)
      : count_(count), data_(static_cast<T*>(::operator new(round_up(count * sizeof(T)), alignment))) {
    std::memset(static_cast<void*>(data_), 0, round_up(count * sizeof(T)));
  }
  ~AlignedArray() { ::operator delete(data_, alignment); }
  AlignedArray(AlignedArray&& other) noexcept
      : count_(std::exchange(other.count_, 0)), data_(std::exchange(other.data_, nullptr)) {}
  AlignedArray& operator=(AlignedArray&& other) noexcept {
    std::swap(count_, other.count_);
    std::swap(data_, other.data_);
    return *this;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return count_; }
  size_t bytes() const { return count_ * sizeof(T); }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  static constexpr std::align_val_t alignment{64};
  static size_t round_up(size_t bytes) { return (bytes + 127) / 64 * 64; }  // a whole line may be read from any value

  size_t count_ = 0;
  T* data_ = nullptr;
};

// What a thread's scratch holds; each is grown to the largest size asked of it and freed when the thread ends.
enum class Scratch { activations, scales, panels, results, image, rows, count };

// At least `bytes` of this thread's scratch, with whatever the last user left in it.
uint8_t* thread_scratch(Scratch use, size_t bytes);

}  // namespace sparsify
