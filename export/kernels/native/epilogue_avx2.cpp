#include "epilogue_loops.h"
#include "f32_vector_avx2.h"

namespace sparsify::epilogue {

extern const Loops avx2_loops;
const Loops avx2_loops = {finish_token_major<avx2::Vector>, finish_channel_major<avx2::Vector>};

}  // namespace sparsify::epilogue
