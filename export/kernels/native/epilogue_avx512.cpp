#include "epilogue_loops.h"
#include "f32_vector_avx512.h"

namespace sparsify::epilogue {

extern const Loops avx512_loops;
const Loops avx512_loops = {finish_token_major<avx512::Vector>, finish_channel_major<avx512::Vector>};

}  // namespace sparsify::epilogue
