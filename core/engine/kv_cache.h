// SPDX-License-Identifier: Apache-2.0
// The KV cache of one sequence: blocks of 16 tokens from a block table. Address space for the whole
// context is reserved at once, memory is used as blocks are filled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "device/runtime.h"
#include "model/kv_view.h"

namespace pluq {

struct KvShape {
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  uint32_t dtype = 0;   // PLUQ_DTYPE_F32, F16, BF16, F8_E4M3, F8_E5M2 or I8
  int64_t context = 0;  // tokens

  // 8-bit types: one scale per layer and head, [layers, kv_heads] each; both empty: one per token
  // and head, computed when the token is stored.
  std::vector<float> k_scale, v_scale;

  bool quantized() const;
  bool token_scales() const { return quantized() && k_scale.empty(); }
  // Bytes of one token over all layers, K and V and their scales together.
  int64_t token_bytes() const;
};

class KvCache {
 public:
  // Throws Error(kFailed) with the numbers when the address space cannot be reserved. On a device
  // all of the memory is taken at once; only the block table stays with the host.
  explicit KvCache(const KvShape& shape, std::shared_ptr<DeviceRuntime> device = nullptr);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  // Makes the blocks for tokens [0, length) available.
  void grow(int64_t length);
  // Gives all blocks back; the next sequence may reuse them in another order.
  void clear();

  const KvShape& shape() const { return shape_; }
  KvView view() const;

 private:
  KvShape shape_;
  int64_t total_blocks_ = 0;
  size_t bytes_ = 0;
  std::byte* data_ = nullptr;
  DeviceBuffer on_device_;      // instead of mapped memory
  DeviceBuffer device_scales_;  // given scales, K's before V's
  size_t codes_bytes_ = 0;      // of K and V; scales of tokens lie behind them
  std::vector<int32_t> table_;  // [blocks of the sequence] -> physical block
  std::vector<int32_t> free_;   // physical blocks, the next one at the back
};

}  // namespace pluq
