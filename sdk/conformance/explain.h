// SPDX-License-Identifier: Apache-2.0
// Words for the author of a method whose y is wrong: where it is wrong, and what the kernel seems
// to do instead, found by asking it more.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "conformance/cases.h"

namespace pluq::conformance {

// apply once more: y [m, N] of x [m, K]; `gap` elements lie between the rows of x. Throws Failure
// when it cannot be.
using Ask = std::function<std::vector<float>(const std::vector<float>& x, int64_t m, int64_t gap,
                                             const float* bias)>;

struct WrongResult {
  const Instance& in;
  const std::vector<float>& x;      // [at least m, K]
  const std::vector<double>& want;  // [at least m, N], without bias
  const float* bias;                // [N], or null
  int64_t m, gap;
  const std::vector<float>& y;  // [m, N]
  double bound;                 // what the row-wise relative error may be
};
// One or more sentences, beginning with a space. Never throws; what it was doing is the step.
std::string explain(const WrongResult& wrong, const Ask& ask);

// How the weights `got` differ from `want`, both [n, k], or empty when they do not by more than
// `tolerance` of the largest. `who` says what got is: "apply uses", "dequantize gives".
std::string compare_weights(const std::vector<float>& got, const std::vector<float>& want,
                            int64_t n, int64_t k, double tolerance, const std::string& who);

}  // namespace pluq::conformance
