#include "attention_loops.h"
#include "f32_vector_avx512.h"

namespace sparsify::attention {
namespace {

// A word is two numbers rounded to bfloat16, which VDPBF16PS multiplies and adds to an fp32 sum.
struct Pairs {
  using Vector = avx512::Vector;
  using Register = Vector::Register;
  static constexpr int numbers = 2;

  // Within 8e-5, relative: a fiftieth of what rounding to bfloat16 costs.
  static Register exponential(Register x) {
    constexpr float P[] = {0.9999280736f, 0.6932609862f, 0.2426111219f, 0.05517166493f};
    return attention::exponential<Vector, 3>(x, P);
  }
  static Register multiply_add(Register a, Register b, Register sum) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static void narrow(const float* x, int64_t count, float scale, float* words) {
    const Register factor = Vector::set(scale);
    for (int64_t i = 0; i < count; i += 32) {
      const Register low = _mm512_mul_ps(Vector::load(x + i, Vector::first(count - i)), factor);
      const Register high = _mm512_mul_ps(Vector::load(x + i + 16, Vector::first(count - i - 16)), factor);
      Vector::store(words + i / 2, reinterpret_cast<Register>(_mm512_cvtne2ps_pbh(high, low)));
    }
  }
  static void join(const float* const* rows, int64_t count, float* words) {
    const __m512i turn = _mm512_cvtepu8_epi16(  // 0, 16, 1, 17, ...
        _mm256_setr_epi8(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10,
                                              26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
    for (int64_t i = 0; i < count; i += 16) {
      const auto mask = Vector::first(count - i);
      const Register first = Vector::load(rows[0] + i, mask);
      const Register second = rows[1] == nullptr ? Vector::zero() : Vector::load(rows[1] + i, mask);
      const auto halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
      Vector::store(words + i, _mm512_castsi512_ps(_mm512_permutexvar_epi16(turn, halves)));
    }
  }
};

}  // namespace

extern const Loops avx512_bf16_loops;
const Loops avx512_bf16_loops = loops_named<Pairs>("attention-avx512-bf16");

}  // namespace sparsify::attention
