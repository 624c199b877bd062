// SPDX-License-Identifier: Apache-2.0
// Which KV cache a model runs with, and why: the user's wish, else the checkpoint's scheme, else
// the default of the arithmetic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "model/kv_scheme.h"
#include "model/linear.h"

namespace pluq {

enum class KvScale { kNone, kTensor, kHead, kToken };

struct KvChoice {
  uint32_t dtype = 0;                   // PLUQ_DTYPE_F32, F16, BF16, F8_E4M3, F8_E5M2 or I8
  KvScale scale = KvScale::kNone;       // of 8-bit types; kToken: per head and token, computed
  std::vector<float> k_scale, v_scale;  // [layers, kv_heads] of kTensor and kHead, else empty
  std::string text;                     // as --kv-cache takes it: "f16", "fp8_e4m3:tensor"
  std::string reason;  // why; empty when a flag or file asks for it and gets it as asked
  std::vector<std::string> warnings;
};

// Throws Error(kInput) when the checkpoint asks for a KV cache that is not built.
KvChoice choose_kv(const RunConfig& config, const std::vector<LayerReport>& layers,
                   const KvScheme& scheme, int64_t kv_heads);

}  // namespace pluq
