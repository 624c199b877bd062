// SPDX-License-Identifier: Apache-2.0
// The buffers of a forward pass, sized once for the largest batch.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "device/memory.h"
#include "model/model.h"

namespace pluq {

struct Model::Scratch {
  std::vector<float> x;        // [T, hidden] residual stream
  std::vector<float> h;        // [T, hidden] normalised, or the output of a block
  std::vector<float> qkv;      // [T, (heads + 2 kv_heads) * head_dim]
  std::vector<float> a;        // [T, heads * head_dim] attention's output
  std::vector<float> gate_up;  // [T, 2 * widest MLP]
  // Mixture of experts.
  std::vector<float> router;    // [T, experts]
  std::vector<int32_t> chosen;  // [T, experts_per_token]
  std::vector<float> share;     // [T, experts_per_token]
  std::vector<int32_t> order,
      begin;  // rows by expert: order[begin[e] .. begin[e + 1]) = row * experts_per_token + choice
  std::vector<float> expert_x, expert_y;  // [T, hidden]
  std::vector<float> moe;                 // [T, hidden] sum over experts

  std::vector<std::vector<float>> attention;  // per worker, scratch
  Buffer workspace;                           // of the methods' apply
  std::span<std::byte> workspace_bytes() const { return {workspace.data(), workspace.size()}; }
};

}  // namespace pluq
