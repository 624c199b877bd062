// SPDX-License-Identifier: Apache-2.0
// Which rounding of its input a layer leaves to the engine's kernels, and where several layers that
// read one input agree on it.
#pragma once

#include <optional>
#include <span>

#include "device/cuda/engine_ops.h"
#include "plugin/format.h"
#include "pluq/abi.h"

namespace pluq {

// The scheme by which the method takes rounded activations, when the engine's kernels know it.
// tensors: the layer's, in host memory, by suffix: a static scale is read from them.
std::optional<RoundScheme> engine_rounding(const MethodDescription& method,
                                           std::span<const pluq_tensor> tensors);

// The scheme that all have; nothing when one has none or another.
std::optional<RoundScheme> common_rounding(std::span<const std::optional<RoundScheme>> schemes);

}  // namespace pluq
