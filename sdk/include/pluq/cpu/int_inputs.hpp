// SPDX-License-Identifier: Apache-2.0
// How the integer kernels round activations for a compressed-tensors scheme.
#pragma once

#include <string>

#include "pluq/compressed_tensors.hpp"
#include "pluq/cpu/int_linear.hpp"

namespace pluq {
namespace cpu {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  // *why: what of it is not built, else untouched.
  inline IntInputs int8_inputs(const ct::QuantArgs& x, std::string* why) {
    if (x.is_float || x.bits != 8) {
      *why = std::string("activations of ") + std::to_string(x.bits) +
             (x.is_float ? "-bit floats" : "-bit integers") + " are not built; 8-bit integers are";
    } else if (x.dynamic && x.strategy != ct::Strategy::kToken) {
      *why = "dynamic activations of strategy '" + x.strategy_text + "' are not built; token is";
    } else if (!x.dynamic && x.strategy != ct::Strategy::kTensor) {
      *why = "static activations of strategy '" + x.strategy_text + "' are not built; tensor is";
    }
    if (!x.dynamic) return IntInputs::kStatic;
    return x.symmetric ? IntInputs::kToken : IntInputs::kTokenAsym;
  }

}  // namespace )
}  // namespace cpu
}  // namespace pluq
