// The loops of f32_spmm.h, f32_pack.h, f32_depthwise_loops.h and f32_gemv.h for any processor.
#include "f32_depthwise_loops.h"
#include "f32_pack.h"
#include "f32_spmm.h"
#include "f32_vector_portable.h"

namespace sparsify::f32 {

using V = portable::Vector;

extern const Loops portable_loops;
const Loops portable_loops = {
    V::width,      V::most_vectors, pack_tokens<V>,   pack_channels<V>, pack_image<V>,
    pack_lines<V>, depthwise<V>,  nullptr,
    pack_strip<V>, multiply_any<V>, unpack_tokens<V>, gemv_slice<V, float>,
    nullptr,       nullptr,         peak<V, 10>,      peak<V, 1>,  // no kernel of the portable loops gathers
    read<V>,
};

}  // namespace sparsify::f32
