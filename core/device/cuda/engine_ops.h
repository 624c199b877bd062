// SPDX-License-Identifier: Apache-2.0
// What the engine itself runs on a CUDA device. Every pointer is device memory, every call only
// queues work on the device's stream. Activations are 16-bit words of the type the ops were made
// for (f16 or bf16); the residual stream and norm weights are f32. One source, engine_kernels.cuh,
// is behind both the emulated device and a GPU.
#pragma once

#include <cstdint>

#include "pluq/abi.h"

namespace pluq {

// The paged KV cache, laid out as model/kv_view.h says.
struct DeviceKv {
  uint32_t dtype = PLUQ_DTYPE_F16;  // F32, F16, BF16, F8_E4M3, F8_E5M2 or I8
  int64_t num_blocks = 0, kv_heads = 0, head_dim = 0;
  const int32_t* table = nullptr;  // [ceil(length / 16)]
  void* k = nullptr;
  void* v = nullptr;
  bool token_scales = false;
  float* k_scale = nullptr;  // 8-bit types, else null
  float* v_scale = nullptr;
};

// Consecutive tokens of one sequence: rows of qkv [count, ld] with q [heads, head_dim], then k and
// v [kv_heads, head_dim] each.
struct AttentionShape {
  int64_t count = 0, ld = 0;
  int64_t start = 0;  // position of the first token
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t layer = 0;
  int64_t window = 0;  // keys a query sees, itself included; 0: all
  float scale = 1, softcap = 0;
};

enum class DeviceActivation { kSilu, kGeluTanh, kGelu };

class EngineOps {
 public:
  virtual ~EngineOps() = default;
  // Throw std::runtime_error with a sentence when a kernel cannot be started.

  // x [count] = y * multiplier
  virtual void embed(const uint16_t* y, float* x, float multiplier, int64_t count) = 0;
  // y [rows, hidden] = norm(x of row list[i], or i without a list); without a weight: x itself.
  virtual void rms_norm(const float* x, const float* weight, const int32_t* list, uint16_t* y,
                        int64_t rows, int64_t hidden, float eps) = 0;
  // x [rows, hidden] += multiplier * norm(y), or y itself without a weight
  virtual void add_block(float* x, const uint16_t* y, const float* weight, int64_t rows,
                         int64_t hidden, float eps, float multiplier) = 0;
  virtual void add_block(float* x, const float* y, const float* weight, int64_t rows,
                         int64_t hidden, float eps, float multiplier) = 0;
  // In place: each of `segments` parts of `size` columns, from column `first` of each row, is
  // normalised with weight [size].
  virtual void norm_segments(uint16_t* x, int64_t rows, int64_t ld, int64_t first, int64_t segments,
                             int64_t size, const float* weight, float eps) = 0;
  // Rotates q and k by cos and sin [context, half] (half 0: not at all), q in place, and stores k
  // and v in the cache.
  virtual void rotate_and_store(uint16_t* qkv, const AttentionShape& shape, const float* cos,
                                const float* sin, int64_t half, const DeviceKv& kv) = 0;
  // out [count, heads * head_dim]
  virtual void attention(const uint16_t* qkv, const AttentionShape& shape, const DeviceKv& kv,
                         uint16_t* out) = 0;
  // gate [rows, width] = act(gate) * up; up lies `width` columns behind, rows ld apart
  virtual void activate(uint16_t* gate, int64_t rows, int64_t width, int64_t ld,
                        DeviceActivation activation) = 0;
  // logits [count] = softcap * tanh(logits * multiplier / softcap); softcap 0: no cap
  virtual void finish_logits(float* logits, int64_t count, float multiplier, float softcap) = 0;
  // y [count, hidden] = rows list[i] / per_row of x
  virtual void gather_rows(const uint16_t* x, const int32_t* list, int64_t per_row, uint16_t* y,
                           int64_t count, int64_t hidden) = 0;
  // sum [.., hidden] of row list[i] / per_row += share[list[i]] * y [count, hidden]
  virtual void add_rows(float* sum, const int32_t* list, int64_t per_row, const float* share,
                        const uint16_t* y, int64_t count, int64_t hidden) = 0;
  // y [m, n] = x [m, k] w^T + bias; w [n, k] of the 16-bit type; bias f32 [n] or null. y is of the
  // 16-bit type, or f32.
  virtual void multiply(const uint16_t* x, int64_t ldx, const uint16_t* w, const float* bias,
                        int64_t m, int64_t n, int64_t k, void* y, int64_t ldy, bool y_is_f32) = 0;
  // y [count, k] = rows ids[i] of w
  virtual void gather(const uint16_t* w, const int32_t* ids, int64_t count, int64_t k,
                      uint16_t* y) = 0;
};

}  // namespace pluq
