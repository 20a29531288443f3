// What can be wrong from outside, told apart because callers answer differently. Thrown inside the library only:
// the C ABI and the operators turn them into their own kind of error.
#pragma once

#include <stdexcept>

namespace sparsify {

struct UsageError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// The packed weights are not what they should be.
struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace sparsify
