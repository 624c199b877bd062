// SPDX-License-Identifier: Apache-2.0
// What the engine itself runs on a CUDA device. Every pointer is device memory, every call only
// queues work on the device's stream. Activations are 16-bit words of the type the ops were made
// for (f16 or bf16); the residual stream and norm weights are f32. One source, engine_kernels.cuh,
// is behind both the emulated device and a GPU.
#pragma once

#include <cstdint>

#include "pluq/cuda/quantized/ops.h"
#include "pluq/ext/gemm.h"

namespace pluq {

// Consecutive new tokens of one sequence and its paged KV cache (laid out as model/kv_view.h says),
// as kernels read it from memory of the device.
struct DeviceChunk {
  void* k = nullptr;
  void* v = nullptr;
  float* k_scale = nullptr;  // 8-bit types, else null
  float* v_scale = nullptr;
  int64_t num_blocks = 0;
  int32_t first_row = 0, count = 0;  // its rows in the batch
  int32_t start = 0;                 // position of the first token
  int32_t table = 0;                 // its block table's place in AttentionBatch::tables
  int64_t reserved = 0;
};

// The sequences of a forward pass. Kernels take everything that changes from one decode step to the
// next from memory, so that a recorded pass can be run again.
struct AttentionBatch {
  const DeviceChunk* chunks = nullptr;  // [num_chunks]
  const int32_t* row_chunk = nullptr;   // [rows] the chunk of each row
  const int32_t* tables = nullptr;      // block tables
  int64_t rows = 0, num_chunks = 0;
  int64_t longest = 0;                 // tokens of the longest chunk
  int64_t keys = 0;                    // no chunk has more keys, new ones included
  uint32_t kv_dtype = PLUQ_DTYPE_F16;  // F32, F16, BF16, F8_E4M3, F8_E5M2 or I8
  bool token_scales = false;
};

// Rows of qkv [rows, ld]: q [heads, head_dim], then k and v [kv_heads, head_dim] each.
struct AttentionShape {
  int64_t ld = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t layer = 0;
  int64_t window = 0;  // keys a query sees, itself included; 0: all
  float scale = 1, softcap = 0;
};

// Floats of scratch that attention() may need.
inline int64_t attention_partial_floats(uint32_t sm_count, int64_t head_dim) {
  return int64_t{4} * sm_count * 16 * (head_dim + 2);
}

enum class DeviceActivation { kSilu, kGeluTanh, kGelu };

// How rows are rounded to 8 bits: a scheme that methods publish and the engine's kernels know.
struct RoundScheme {
  cuda::RoundMode mode = cuda::RoundMode::kFp8Token;
  int64_t group = 0;       // kFp8Group: columns per scale
  float static_scale = 1;  // k*Static
  bool operator==(const RoundScheme& other) const {
    return mode == other.mode && group == other.group && static_scale == other.static_scale;
  }

  int64_t groups(int64_t columns) const {
    return mode == cuda::RoundMode::kFp8Group ? (columns + group - 1) / group : 1;
  }
  bool has_zeros() const { return mode == cuda::RoundMode::kInt8TokenAsym; }
};

// Where an operator writes its rows rounded, as pluq_quantized has them; null: it does not. The
// codes are those of the 16-bit values that it writes otherwise, bit for bit.
struct RoundedRows {
  RoundScheme scheme;
  uint8_t* codes = nullptr;  // [rows, byte_pitch(columns)], zero beyond the columns
  float* scales = nullptr;   // [rows, groups]
  int32_t* zeros = nullptr;  // [rows], with has_zeros()
};

class EngineOps {
 public:
  virtual ~EngineOps() = default;
  // Throw std::runtime_error with a sentence when a kernel cannot be started.

  // x [count] = y * multiplier
  virtual void embed(const uint16_t* y, float* x, float multiplier, int64_t count) = 0;
  // y [rows, hidden] = norm(x of row list[i], or i without a list); without a weight: x itself. y
  // may be null when the rows are wanted rounded alone.
  virtual void rms_norm(const float* x, const float* weight, const int32_t* list, uint16_t* y,
                        int64_t rows, int64_t hidden, float eps, const RoundedRows* rounded) = 0;
  // x [rows, hidden] += multiplier * norm(y), or y itself without a weight; then, with h or
  // `rounded`, h [rows, hidden] = norm(x) by `next`, or x itself without it. h may be y.
  virtual void add_block(float* x, const uint16_t* y, const float* weight, int64_t rows,
                         int64_t hidden, float eps, float multiplier, const float* next,
                         uint16_t* h, const RoundedRows* rounded) = 0;
  virtual void add_block(float* x, const float* y, const float* weight, int64_t rows,
                         int64_t hidden, float eps, float multiplier, const float* next,
                         uint16_t* h, const RoundedRows* rounded) = 0;
  // In place: each of `segments` parts of `size` columns, from column `first` of each row, is
  // normalised with weight [size].
  virtual void norm_segments(uint16_t* x, int64_t rows, int64_t ld, int64_t first, int64_t segments,
                             int64_t size, const float* weight, float eps) = 0;
  // x [count] is clamped to +-limit; what is not a number stays.
  virtual void clamp(uint16_t* x, int64_t count, float limit) = 0;
  // Rotates q and k by cos and sin [context, half] (half 0: not at all), q in place, and stores k
  // and v in the caches.
  virtual void rotate_and_store(uint16_t* qkv, const AttentionShape& shape,
                                const AttentionBatch& batch, const float* cos, const float* sin,
                                int64_t half) = 0;
  // out [rows, heads * head_dim]; partial: attention_partial_floats()
  virtual void attention(const uint16_t* qkv, const AttentionShape& shape,
                         const AttentionBatch& batch, float* partial, uint16_t* out) = 0;
  // gate [rows, width] = act(gate) * up; up lies `width` columns behind, rows ld apart. With
  // `rounded` only that is written, and gate stays.
  virtual void activate(uint16_t* gate, int64_t rows, int64_t width, int64_t ld,
                        DeviceActivation activation, const RoundedRows* rounded) = 0;
  // Rows of x, columns apart: row list[i] / per_row, or i without a list.
  virtual void round_rows(const uint16_t* x, const int32_t* list, int64_t per_row, int64_t rows,
                          int64_t columns, const RoundedRows& rounded) = 0;
  // logits [count] = softcap * tanh(logits * multiplier / softcap); softcap 0: no cap
  virtual void finish_logits(float* logits, int64_t count, float multiplier, float softcap) = 0;
  // ids [rows] of the largest logits [rows, vocab]: the lowest on a tie, -1 where the largest is
  // not finite
  virtual void argmax(const float* logits, int64_t rows, int64_t vocab, int32_t* ids) = 0;
  // The k largest finite logits of each row, in no order, the lowest ids among equal ones: ids and
  // values [rows, k]; counts [rows, 2]: how many there are, and how many logits are finite (-1: the
  // largest is not); rest [rows]: the sum of exp((logit - largest) * scale) over the other finite
  // ones in a fixed order, with scale > 0.
  virtual void top_logits(const float* logits, int64_t rows, int64_t vocab, int32_t k, float scale,
                          int32_t* ids, float* values, int32_t* counts, double* rest) = 0;
  // y [count, hidden] = rows list[i] / per_row of x
  virtual void gather_rows(const uint16_t* x, const int32_t* list, int64_t per_row, uint16_t* y,
                           int64_t count, int64_t hidden) = 0;
  // sum [.., hidden] of row list[i] / per_row += share[list[i]] * y [count, hidden]
  virtual void add_rows(float* sum, const int32_t* list, int64_t per_row, const float* share,
                        const uint16_t* y, int64_t count, int64_t hidden) = 0;
  // A product of 16-bit matrices of the ops' type, or of e4m3 ones; false when there is none for
  // these arguments, and nothing was queued.
  virtual bool gemm(const pluq_gemm_args& args) = 0;
  // y [count, k] = rows ids[i] of w
  virtual void gather(const uint16_t* w, const int32_t* ids, int64_t count, int64_t k,
                      uint16_t* y) = 0;
};

}  // namespace pluq
