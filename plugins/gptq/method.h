// SPDX-License-Identifier: Apache-2.0
// The linear methods of format gptq. Two layouts of the same thing, W[n, k] = scale[g, n] *
// (code[k, n] - zero[g, n]):
//
//   GPTQ                                                    compressed-tensors pack-quantized
//   qweight  I32 [ceil(K b / 32), N]  stream down a column  weight_packed      I32 [N, ceil(K b /
//   32)]  stream along a row scales   F16 [G, N]                                     weight_scale
//   [N, G] qzeros   I32 [G, ceil(N b / 32)]  stream along a row,   weight_zero_point  I32 [ceil(N b
//   / 32), G]  stream down a column
//            zero - 1 in version 1
//   g_idx    I32 [K]                  group of column k     weight_g_idx       I32 [K]
//                                                           weight_shape       I64 [2] = (N, K)
//   codes and zeros are unsigned there, and signed + 2^(b-1) here: the same numbers in the file.
//   4 bits, one word (LSB first):  k=7 |k=6 |k=5 |k=4 |k=3 |k=2 |k=1 |k=0
#pragma once

#include <memory>

#include "pluq/cpu/int_linear.hpp"

namespace gptq {

// What the configuration says of one layer.
struct Settings {
  int bits = 4;
  int64_t group_size = 128;  // -1: one group
  bool sym = true;
  bool desc_act = false;
  bool v1 = true;       // zero points stored minus one
  bool planar = false;  // gptq_p
  pluq::cpu::IntInputs inputs =
      pluq::cpu::IntInputs::kFloat;  // packed layers with int8 activations
};

bool has_gptq_tensors(const pluq::LayerDesc& layer);
bool has_packed_tensors(const pluq::LayerDesc& layer);

// Both throw pluq::invalid or pluq::unsupported when the tensors contradict the settings.
std::unique_ptr<pluq::LinearMethod> make_gptq(const pluq::LayerDesc& layer,
                                              const pluq::Device& device, const Settings& settings);
std::unique_ptr<pluq::LinearMethod> make_packed(const pluq::LayerDesc& layer,
                                                const pluq::Device& device,
                                                const Settings& settings);

}  // namespace gptq
