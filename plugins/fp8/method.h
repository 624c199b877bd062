// SPDX-License-Identifier: Apache-2.0
// The linear method of format fp8: 8-bit float weights with scales, and activations rounded to e4m3
// or not.
//   weight            F8_E4M3 or F8_E5M2 [N, K]        e4m3: s eeee mmm, bias 7, no infinities
//   weight_scale      [], [1]              one scale                                   W = weight *
//   scale
//                     [P], [P, 1]          one per part of a weight fused on disk (q, k, v)
//                     [N], [N, 1]          one per row
//                     [ceil(N / bn), ceil(K / bk)]   one per block; a group of columns is a block
//                     of one row
//   weight_scale_inv  the same; despite its name a multiplier too, unless the config says
//   "inverse"; also named `scale` input_scale       [] or [1], static activations: q = e4m3(clamp(x
//   / s, +-448)); the largest of several
#pragma once

#include <memory>
#include <string>

#include "pluq/cpu/float_linear.hpp"

namespace fp8 {

enum class Rounding { kNone, kToken, kGroup, kStatic };

struct Settings {
  Rounding rounding = Rounding::kNone;
  int64_t group_size = 128;          // kGroup
  int64_t block_n = 0, block_k = 0;  // 0: no blocks
  float bound = 0;  // kToken: |x| above it counts as this much (activation_scale_ub); 0: no bound
  bool inverse = false;  // scales divide
};

bool has_tensors(const pluq::LayerDesc& layer);

// Throws pluq::invalid or pluq::unsupported when the tensors contradict the settings.
std::unique_ptr<pluq::LinearMethod> make_method(const pluq::LayerDesc& layer,
                                                const pluq::Device& device,
                                                const Settings& settings);

}  // namespace fp8
