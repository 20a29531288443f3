#include "attention_loops.h"
#include "f32_vector_portable.h"

namespace sparsify::attention {

extern const Loops portable_loops;
const Loops portable_loops = loops_named<Floats<portable::Vector>>("attention-portable");

}  // namespace sparsify::attention
