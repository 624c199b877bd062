// SPDX-License-Identifier: Apache-2.0
// The model's own operators on the CPU, one table per instruction set. All work on f32 rows; the
// bits of a result do not depend on how rows are split over workers.
#pragma once

#include <cstdint>

#include "model/kv_view.h"

namespace pluq {

enum class Isa;  // device/isa.h; kept out of the per-ISA files

struct AttentionArgs {
  const float* q = nullptr;  // rows of heads * head_dim, ldq apart
  int64_t ldq = 0;
  float* out = nullptr;  // [count, heads * head_dim]
  int64_t count = 0;     // query tokens, at positions start .. start + count - 1
  int64_t start = 0;
  int64_t heads = 0;  // query heads, a multiple of kv.kv_heads
  int64_t layer = 0;
  int64_t window = 0;  // a token sees itself and window - 1 before it; 0: all
  float scale = 1;
  float softcap = 0;  // scores become softcap * tanh(score / softcap); 0: they stay
  KvView kv;
  int64_t tile = 1;          // query tokens worked on together, attention_tile
  float* scratch = nullptr;  // this worker's, attention_scratch floats
};

struct CpuOps {
  const char* isa;
  // y = x / rms(x) * weight, rows of K; y may be x.
  void (*rms_norm)(const float* x, const float* weight, float* y, int64_t rows, int64_t k,
                   float eps);
  void (*add)(float* x, const float* y, int64_t count);                       // x += y
  void (*add_scaled)(float* x, const float* y, float factor, int64_t count);  // x += factor * y
  void (*scale)(float* x, float factor, int64_t count);
  void (*softcap)(float* x, float cap, int64_t count);  // x = cap * tanh(x / cap)
  // gate = act(gate) * up
  void (*silu_mul)(float* gate, const float* up, int64_t count);
  void (*gelu_tanh_mul)(float* gate, const float* up, int64_t count);  // the tanh form of GELU
  void (*gelu_mul)(float* gate, const float* up, int64_t count);       // the erf form
  // Rotates dimensions [0, half) against [half, 2 half) of each head; cos and sin [half].
  void (*rope)(float* x, int64_t heads, int64_t head_dim, int64_t half, const float* cos,
               const float* sin);
  // Stores one token's K or V, [kv_heads, head_dim] f32, into the cache.
  void (*store_kv)(const KvView& kv, bool value, int64_t layer, int64_t token, const float* x);
  // Causal attention: this worker's share of the tiles of query tokens of all kv heads.
  void (*attention)(const AttentionArgs& args, int worker, int n_workers);
};

// Tiles are as large as a few MB of scores allow; what a token gets does not depend on its tile.
static inline int64_t attention_tile(int64_t context, int64_t heads_per_kv) {
  const int64_t fit = (int64_t{1} << 19) / (heads_per_kv * (context + kKvBlock));
  return fit < 1 ? 1 : fit > 8 ? 8 : fit;
}
// Floats of AttentionArgs::scratch.
static inline int64_t attention_scratch(int64_t context, int64_t heads_per_kv, int64_t head_dim) {
  return attention_tile(context, heads_per_kv) * heads_per_kv * (context + kKvBlock) +
         kKvBlock * head_dim;
}

const CpuOps& cpu_ops(Isa isa);

}  // namespace pluq
