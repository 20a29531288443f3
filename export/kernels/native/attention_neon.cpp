#include "attention_loops.h"
#include "f32_vector_neon.h"

namespace sparsify::attention {

extern const Loops neon_loops;
const Loops neon_loops = loops_named<Floats<neon::Vector>>("attention-neon");

}  // namespace sparsify::attention
