// The loops of f32_spmm.h, f32_pack.h, f32_depthwise_loops.h and f32_gemv.h for NEON.
#include "f32_depthwise_loops.h"
#include "f32_pack.h"
#include "f32_spmm.h"
#include "f32_vector_neon.h"

namespace sparsify::f32 {

using V = neon::Vector;

extern const Loops neon_loops;
const Loops neon_loops = {
    V::width,      V::most_vectors, pack_tokens<V>,   pack_channels<V>, pack_image<V>,
    pack_lines<V>, depthwise<V>,  nullptr,
    pack_strip<V>, multiply_any<V>, unpack_tokens<V>, gemv_slice<V, float>,
    gemv_slice<V, Half>, gemv_slice<V, Bfloat16>, peak<V, 10>, peak<V, 1>, read<V>,
};

}  // namespace sparsify::f32
