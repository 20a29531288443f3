// How fast this machine is at the moment: the roofs under which every kernel stays.
#pragma once

#include "c_api.h"

namespace sparsify {

// Measured anew, in a tenth of a second: a machine that is shared, or whose clock changes, is not always as fast.
sk_machine measure_machine();

}  // namespace sparsify
