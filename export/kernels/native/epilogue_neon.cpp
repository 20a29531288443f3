#include "epilogue_loops.h"
#include "f32_vector_neon.h"

namespace sparsify::epilogue {

extern const Loops neon_loops;
const Loops neon_loops = {finish_token_major<neon::Vector>, finish_channel_major<neon::Vector>};

}  // namespace sparsify::epilogue
