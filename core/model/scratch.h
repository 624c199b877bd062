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
  std::vector<float> x;     // [T, hidden] residual stream
  std::vector<float> h;     // [T, hidden] normalised, or the output of a block
  std::vector<float> q;     // [T, heads * head_dim]
  std::vector<float> k, v;  // [T, kv_heads * head_dim]
  std::vector<float> a;     // [T, heads * head_dim] attention's output
  std::vector<float> gate, up;  // [T, intermediate]
  std::vector<std::vector<float>> scores;  // per worker
  Buffer workspace;                        // of the methods' apply
  std::span<std::byte> workspace_bytes() const { return {workspace.data(), workspace.size()}; }
};

}  // namespace pluq
