#include "f32_vector_avx2.h"
#include "i8_quad_loops.h"
#include "i8_row_loops.h"

namespace sparsify {
namespace {

struct Integers {
  static constexpr int width = 8, vectors = 8, strip_vectors = 2;
  using Register = __m256i;
  static Register zero() { return _mm256_setzero_si256(); }
  static Register load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store(int32_t* p, Register v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static __m256i weights(uint32_t quad) { return _mm256_set1_epi32(static_cast<int>(quad)); }
  static __m256i bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static Register dot(Register sum, __m256i x, __m256i w) { return _mm256_dpbusd_avx_epi32(sum, x, w); }
  static __m256 floats(const int32_t* sums, int32_t offset) {
    return _mm256_cvtepi32_ps(_mm256_add_epi32(load(sums), _mm256_set1_epi32(offset)));
  }
};

constexpr auto scale = quad_loops::scale<Integers, avx2::Vector>;
constexpr auto write = quad_loops::write<scale>;

}  // namespace

const QuadLoops avxvnni_quads = {
    Grouping::quads, quad_loops::multiply<Integers>, quad_loops::multiply_to<Integers, write>, scale, write,
    quad_loops::copy, nullptr};
const RowLoops avxvnni_rows = {row_loops::multiply<Integers>, row_loops::gather<Integers>, row_loops::spread<Integers>,
                               &avxvnni_quads};

}  // namespace sparsify
