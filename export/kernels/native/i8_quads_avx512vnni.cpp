#include "f32_vector_avx512.h"
#include "i8_quad_loops.h"

namespace sparsify {
namespace {

struct Integers {
  static constexpr int width = 16, vectors = 4;
  using Register = __m512i;
  static Register zero() { return _mm512_setzero_si512(); }
  static Register load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static void store(int32_t* p, Register v) { _mm512_storeu_si512(p, v); }
  static __m512i weights(uint32_t quad) { return _mm512_set1_epi32(static_cast<int>(quad)); }
  static __m512i bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static Register dot(Register sum, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static __m512 floats(const int32_t* sums, int32_t offset) {
    return _mm512_cvtepi32_ps(_mm512_add_epi32(load(sums), _mm512_set1_epi32(offset)));
  }
};

}  // namespace

const QuadLoops avx512vnni_quads = {Grouping::quads, quad_loops::multiply<Integers>,
                                    quad_loops::scale<Integers, avx512::Vector>, nullptr};

}  // namespace sparsify
