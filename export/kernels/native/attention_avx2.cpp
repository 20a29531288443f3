#include "attention_loops.h"
#include "f32_vector_avx2.h"

namespace sparsify::attention {

extern const Loops avx2_loops;
const Loops avx2_loops = loops_named<Floats<avx2::Vector>>("attention-avx2");

}  // namespace sparsify::attention
