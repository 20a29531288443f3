#include "f32_vector_avx2.h"
#include "i8_quad_loops.h"
#include "i8_row_loops.h"

namespace sparsify {
namespace {

// vpmaddubsw would saturate, so bytes are widened: even and odd ones each make one vpmaddwd.
struct Integers {
  static constexpr int width = 8, vectors = 4, strip_vectors = 2;
  using Register = __m256i;
  struct Halves {
    __m256i even, odd;  // 16-bit
  };
  static Register zero() { return _mm256_setzero_si256(); }
  static Register load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store(int32_t* p, Register v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static Halves weights(uint32_t quad) {
    const __m256i w = _mm256_set1_epi32(static_cast<int>(quad));
    return {_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)};
  }
  static Halves bytes(const uint8_t* p) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srli_epi16(x, 8)};
  }
  static Register dot(Register sum, Halves x, Halves w) {
    const __m256i even = _mm256_madd_epi16(x.even, w.even), odd = _mm256_madd_epi16(x.odd, w.odd);
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
  }
  static __m256 floats(const int32_t* sums, int32_t offset) {
    return _mm256_cvtepi32_ps(_mm256_add_epi32(load(sums), _mm256_set1_epi32(offset)));
  }
};

constexpr auto scale = quad_loops::scale<Integers, avx2::Vector>;
constexpr auto write = quad_loops::write<scale>;

}  // namespace

const QuadLoops avx2_quads = {Grouping::quads, quad_loops::multiply<Integers>, quad_loops::multiply_to<Integers, write>,
                              scale, write, quad_loops::copy, nullptr};
const RowLoops avx2_rows = {row_loops::multiply<Integers>, row_loops::gather<Integers>, row_loops::spread<Integers>,
                            &avx2_quads};

}  // namespace sparsify
