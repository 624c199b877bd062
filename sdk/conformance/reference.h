// SPDX-License-Identifier: Apache-2.0
// What y should be: dequantize() times x in double, x rounded first by the activation scheme that
// the method publishes.
#pragma once

#include <string>
#include <vector>

#include "conformance/cases.h"

namespace pluq::conformance {

// x [m, k] with values that no implementation of the scheme can round in two ways: those next to a
// tie are moved. `rounded` receives x as the scheme leaves it. Throws Failure for a scheme that
// cannot be followed.
std::vector<float> make_inputs(const Instance& instance, int64_t m, uint64_t seed,
                               std::vector<double>* rounded);

// The same for activations of a 16-bit type: every value is exact in it.
std::vector<float> make_short_inputs(const Instance& in, uint32_t dtype, int64_t m, uint64_t seed,
                                     std::vector<double>* rounded);

// x as pluq_quantized carries it, by the scheme that the method publishes.
struct QuantizedInputs {
  std::vector<uint8_t> codes;  // [m, ld], zero beyond K
  int64_t ld = 0;              // K rounded up to 64
  std::vector<float> scales;   // [m, groups]
  std::vector<int32_t> zeros;  // the same; empty where the scheme is symmetric
};
// x: make_short_inputs's. Throws Failure for a scheme whose codes have more than 8 bits.
QuantizedInputs quantize_inputs(const Instance& in, const std::vector<float>& x, int64_t m);

// y [m, n] = rounded W^T + bias in double.
std::vector<double> reference(const std::vector<double>& rounded, const std::vector<float>& weight,
                              const float* bias, int64_t m, int64_t n, int64_t k);

// The largest row-wise relative L2 error of y (rows ldy apart).
double row_error(const float* y, int64_t ldy, const std::vector<double>& want, int64_t m,
                 int64_t n);

}  // namespace pluq::conformance
