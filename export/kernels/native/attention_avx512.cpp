#include "attention_loops.h"
#include "f32_vector_avx512.h"

namespace sparsify::attention {

extern const Loops avx512_loops;
const Loops avx512_loops = loops_named<Floats<avx512::Vector>>("attention-avx512");

}  // namespace sparsify::attention
