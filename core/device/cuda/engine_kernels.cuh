// SPDX-License-Identifier: Apache-2.0
// The engine's kernels and their launches, compiled by nvcc (engine.cu) and for the CPU
// (engine_emulated.cc). B: activations are bf16, else f16.
#pragma once

#include <cmath>
#include <stdexcept>
#include <type_traits>

#include "device/cuda/attention_kernels.cuh"
#include "device/cuda/engine_ops.h"
#include "device/cuda/sampling_kernels.cuh"
#include "pluq/cuda/cuda.hpp"
#include "pluq/cuda/quantized/round_row.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace engine {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kBlockTokens = 16;       // of the KV cache
constexpr int kMaxPerLane = 8;         // head_dim up to 256
constexpr int kActivateThreads = 512;  // of a block that makes and rounds a whole row

template <bool B>
PLUQ_DEVICE float widen(uint16_t h) {
  if constexpr (B) {
    return bf16_to_f32(h);
  } else {
    return f16_to_f32(h);
  }
}
template <bool B>
PLUQ_DEVICE uint16_t narrow(float v) {
  if constexpr (B) {
    return f32_to_bf16(v);
  } else {
    return f32_to_f16(v);
  }
}
template <bool B>
PLUQ_DEVICE float value(uint16_t h) {
  return widen<B>(h);
}
template <bool B>
PLUQ_DEVICE float value(float v) {
  return v;
}

PLUQ_DEVICE int64_t global_thread() {
  return static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
}

// Sum over the block, in every thread; `shared` has kWarps elements. Ends ready for another use.
PLUQ_DEVICE float block_sum(float v, const smem<float>& shared) {
  v = warp_sum(v);
  if (lane_id() == 0) shared.store(warp_id(), v);
  sync_threads();
  float sum = 0;
  for (int i = 0; i < kWarps; ++i) sum += shared.load(i);
  sync_threads();
  return sum;
}

template <bool B>
PLUQ_KERNEL(kThreads, 1)
void kernel_embed(gmem<const uint16_t> y, gmem<float> x, float multiplier, int64_t count) {
  const int64_t i = global_thread();
  if (i < count) x.store(i, widen<B>(y.load(i)) * multiplier);
}

template <bool B>
PLUQ_KERNEL(kThreads, 1)
void kernel_narrow(gmem<const float> x, gmem<uint16_t> y, int64_t count) {
  const int64_t i = global_thread();
  if (i < count) y.store(i, narrow<B>(x.load(i)));
}

// Whether a kernel rounds the rows that it makes, and to what.
enum class Rounds { kNo, kInt8, kFp8 };

// Row m of 16-bit values value16(i), rounded.
template <bool B, Rounds R, int Threads, class Value>
PLUQ_DEVICE void round_made(const Value& value16, int64_t m, const gmem<uint8_t>& codes,
                            const gmem<float>& scales, const gmem<int32_t>& zeros,
                            const smem<float>& slots, const RoundShape& shape) {
  if constexpr (R != Rounds::kNo) {
    round_row<R == Rounds::kInt8, Threads>([&](int64_t i) { return widen<B>(value16(i)); }, m,
                                           RoundOutput{codes, scales, zeros, {}}, slots, shape);
  }
}

template <bool B, Rounds R>
PLUQ_KERNEL(kThreads, 1)
void kernel_rms_norm(gmem<const float> x, gmem<const float> weight, gmem<const int32_t> list,
                     gmem<uint16_t> y, int64_t hidden, float eps, gmem<uint8_t> codes,
                     gmem<float> scales, gmem<int32_t> zeros, RoundShape shape) {
  PLUQ_STATIC_SMEM(float, shared, kWarps);
  const int64_t row = block_idx().x;
  const int64_t from = (list ? list.load(row) : row) * hidden, to = row * hidden;
  float factor = 1;
  if (weight) {
    float sum = 0;
    for (int64_t i = thread_idx().x; i < hidden; i += kThreads) {
      const float v = x.load(from + i);
      sum += v * v;
    }
    factor = 1.0F / sqrtf(block_sum(sum, shared) / static_cast<float>(hidden) + eps);
  }
  const auto normed = [&](int64_t i) {
    const float v = x.load(from + i) * factor;
    return narrow<B>(weight ? v * weight.load(i) : v);
  };
  if (y) {
    for (int64_t i = thread_idx().x; i < hidden; i += kThreads) y.store(to + i, normed(i));
  }
  round_made<B, R, kThreads>(normed, row, codes, scales, zeros, shared, shape);
}

template <bool B, class Y>
PLUQ_KERNEL(kThreads, 1)
void kernel_add_block(gmem<float> x, gmem<const Y> y, gmem<const float> weight, int64_t hidden,
                      float eps, float multiplier) {
  PLUQ_STATIC_SMEM(float, shared, kWarps);
  const int64_t at = static_cast<int64_t>(block_idx().x) * hidden;
  float factor = 1;
  if (weight) {
    float sum = 0;
    for (int64_t i = thread_idx().x; i < hidden; i += kThreads) {
      const float v = value<B>(y.load(at + i));
      sum += v * v;
    }
    factor = 1.0F / sqrtf(block_sum(sum, shared) / static_cast<float>(hidden) + eps);
  }
  for (int64_t i = thread_idx().x; i < hidden; i += kThreads) {
    const float v = value<B>(y.load(at + i)) * factor;
    x.store(at + i, x.load(at + i) + multiplier * (weight ? v * weight.load(i) : v));
  }
}

// kernel_add_block, and the norm of what x is then.
template <bool B, class Y, Rounds R>
PLUQ_KERNEL(kThreads, 1)
void kernel_add_norm(gmem<float> x, gmem<const Y> y, gmem<const float> weight, int64_t hidden,
                     float eps, float multiplier, gmem<const float> next, gmem<uint16_t> h,
                     gmem<uint8_t> codes, gmem<float> scales, gmem<int32_t> zeros,
                     RoundShape shape) {
  PLUQ_STATIC_SMEM(float, shared, kWarps);
  const int64_t at = static_cast<int64_t>(block_idx().x) * hidden;
  float factor = 1;
  if (weight) {
    float sum = 0;
    for (int64_t i = thread_idx().x; i < hidden; i += kThreads) {
      const float v = value<B>(y.load(at + i));
      sum += v * v;
    }
    factor = 1.0F / sqrtf(block_sum(sum, shared) / static_cast<float>(hidden) + eps);
  }
  float squares = 0;
  for (int64_t i = thread_idx().x; i < hidden; i += kThreads) {
    const float v = value<B>(y.load(at + i)) * factor;
    const float sum = x.load(at + i) + multiplier * (weight ? v * weight.load(i) : v);
    x.store(at + i, sum);
    squares += sum * sum;
  }
  float scale = 1;
  if (next) scale = 1.0F / sqrtf(block_sum(squares, shared) / static_cast<float>(hidden) + eps);
  const auto normed = [&](int64_t i) {
    const float v = x.load(at + i) * scale;
    return narrow<B>(next ? v * next.load(i) : v);
  };
  // Each thread reads what it wrote itself, but for groups that are rounded by one warp each.
  if (h) {
    for (int64_t i = thread_idx().x; i < hidden; i += kThreads) h.store(at + i, normed(i));
  }
  if constexpr (R == Rounds::kFp8) sync_threads();
  round_made<B, R, kThreads>(normed, block_idx().x, codes, scales, zeros, shared, shape);
}

// One warp per part.
template <bool B>
PLUQ_KERNEL(kThreads, 1)
void kernel_norm_segments(gmem<uint16_t> x, int64_t rows, int64_t ld, int64_t first,
                          int64_t segments, int64_t size, gmem<const float> weight, float eps) {
  const int64_t part = static_cast<int64_t>(block_idx().x) * kWarps + warp_id();
  if (part >= rows * segments) return;
  const int64_t at = part / segments * ld + first + part % segments * size;
  float sum = 0;
  for (int64_t i = lane_id(); i < size; i += 32) {
    const float v = widen<B>(x.load(at + i));
    sum += v * v;
  }
  const float factor = 1.0F / sqrtf(warp_sum(sum) / static_cast<float>(size) + eps);
  for (int64_t i = lane_id(); i < size; i += 32) {
    x.store(at + i, narrow<B>(widen<B>(x.load(at + i)) * factor * weight.load(i)));
  }
}

// ---------------------------------------------------------------- KV cache

struct KvF32 {
  using Element = float;
  static constexpr bool kScaled = false;
  static PLUQ_DEVICE float load(float e) { return e; }
  static PLUQ_DEVICE float store(float v) { return v; }
  static PLUQ_DEVICE float limit() { return 0; }
};
struct KvF16 {
  using Element = uint16_t;
  static constexpr bool kScaled = false;
  static PLUQ_DEVICE float load(uint16_t e) { return f16_to_f32(e); }
  static PLUQ_DEVICE uint16_t store(float v) { return f32_to_f16(v); }
  static PLUQ_DEVICE float limit() { return 0; }
};
struct KvBf16 {
  using Element = uint16_t;
  static constexpr bool kScaled = false;
  static PLUQ_DEVICE float load(uint16_t e) { return bf16_to_f32(e); }
  static PLUQ_DEVICE uint16_t store(float v) { return f32_to_bf16(v); }
  static PLUQ_DEVICE float limit() { return 0; }
};
struct KvE4m3 {
  using Element = uint8_t;
  static constexpr bool kScaled = true;
  static PLUQ_DEVICE float load(uint8_t e) { return e4m3_to_f32(e); }
  static PLUQ_DEVICE uint8_t store(float v) { return f32_to_e4m3(v); }
  static PLUQ_DEVICE float limit() { return 448.0F; }
};
struct KvE5m2 {
  using Element = uint8_t;
  static constexpr bool kScaled = true;
  static PLUQ_DEVICE float load(uint8_t e) {
    return f16_to_f32(static_cast<uint16_t>(static_cast<uint32_t>(e) << 8));
  }
  // To nearest even; values beyond the largest were clamped before.
  static PLUQ_DEVICE uint8_t store(float v) {
    const uint32_t bits = float_bits(v), sign = bits >> 24 & 0x80U, magnitude = bits & 0x7fffffffU;
    if (magnitude > 0x7f800000U) return static_cast<uint8_t>(sign | 0x7fU);
    if (magnitude < 0x38800000U) {  // below 2^-14: multiples of 2^-16
      const float steps = (bits_float(magnitude) + 192.0F) - 192.0F;
      return static_cast<uint8_t>(sign | static_cast<uint32_t>(steps * 65536.0F));
    }
    const uint32_t rounded = ((magnitude + 0xfffffU + (magnitude >> 21 & 1U)) >> 21) - (112U << 2);
    return static_cast<uint8_t>(sign | rounded);
  }
  static PLUQ_DEVICE float limit() { return 57344.0F; }
};
struct KvI8 {
  using Element = uint8_t;
  static constexpr bool kScaled = true;
  static PLUQ_DEVICE float load(uint8_t e) { return static_cast<float>(static_cast<int8_t>(e)); }
  static PLUQ_DEVICE uint8_t store(float v) {
    return static_cast<uint8_t>(static_cast<int8_t>(round_to_int(v)));
  }
  static PLUQ_DEVICE float limit() { return 127.0F; }
};

struct KvPlace {
  int64_t num_blocks, kv_heads, head_dim, layer;
  bool token_scales;
  // First element of the block of this token and head.
  PLUQ_DEVICE int64_t block(int32_t physical, int64_t head) const {
    return ((layer * num_blocks + physical) * kv_heads + head) * kBlockTokens * head_dim;
  }
  PLUQ_DEVICE int64_t scale(int32_t physical, int64_t token, int64_t head) const {
    return token_scales ? ((layer * num_blocks + physical) * kv_heads + head) * kBlockTokens +
                              token % kBlockTokens
                        : layer * kv_heads + head;
  }
};

// AttentionBatch as kernels take it.
struct BatchMemory {
  gmem<const DeviceChunk> chunks;
  gmem<const int32_t> row_chunk, tables;
  int64_t rows;
  bool token_scales;
};

// One warp per token and head of q, k and v.
template <bool B, class Kv>
PLUQ_KERNEL(kThreads, 1)
void kernel_rotate_and_store(gmem<uint16_t> qkv, AttentionShape shape, BatchMemory batch,
                             gmem<const float> cos, gmem<const float> sin, int64_t half) {
  using Element = typename Kv::Element;
  const int64_t all = shape.heads + 2 * shape.kv_heads;
  const int64_t unit = static_cast<int64_t>(block_idx().x) * kWarps + warp_id();
  if (unit >= batch.rows * all) return;
  const int64_t row = unit / all, head = unit % all, d = shape.head_dim;
  const DeviceChunk chunk = load_chunk(batch.chunks, batch.row_chunk.load(row));
  const KvPlace place{chunk.num_blocks, shape.kv_heads, d, shape.layer, batch.token_scales};
  const gmem<const int32_t> table = batch.tables + chunk.table;
  const int64_t position = chunk.start + row - chunk.first_row, at = row * shape.ld + head * d;
  const bool is_v = head >= shape.heads + shape.kv_heads, is_q = head < shape.heads;
  float values[kMaxPerLane];
  float largest = 0;
  PLUQ_UNROLL
  for (int j = 0; j < kMaxPerLane; ++j) {
    const int64_t i = lane_id() + 32 * j;
    values[j] = 0;
    if (i >= d) continue;
    float x = widen<B>(qkv.load(at + i));
    if (!is_v && i < 2 * half) {
      const bool low = i < half;
      const int64_t pair = low ? i + half : i - half, angle = position * half + (low ? i : pair);
      const float other = widen<B>(qkv.load(at + pair));
      x = x * cos.load(angle) + (low ? -other : other) * sin.load(angle);
    }
    values[j] = x;
    largest = fmaxf(largest, fabsf(x));
  }
  sync_warp();
  if (is_q) {
    PLUQ_UNROLL
    for (int j = 0; j < kMaxPerLane; ++j) {
      const int64_t i = lane_id() + 32 * j;
      if (i < d) qkv.store(at + i, narrow<B>(values[j]));
    }
    return;
  }
  const int64_t kv_head = head - shape.heads - (is_v ? shape.kv_heads : 0);
  const int32_t physical = table.load(position / kBlockTokens);
  const int64_t slot = position % kBlockTokens, block = place.block(physical, kv_head);
  float scale = 1;
  if constexpr (Kv::kScaled) {
    const gmem<float> scales(is_v ? chunk.v_scale : chunk.k_scale);
    const int64_t where = place.scale(physical, position, kv_head);
    if (place.token_scales) {
      scale = warp_max(largest) / Kv::limit();
      if (!(scale > 0)) scale = 1;
      if (lane_id() == 0) scales.store(where, scale);
    } else {
      scale = scales.load(where);
    }
  }
  PLUQ_UNROLL
  for (int j = 0; j < kMaxPerLane; ++j) {
    const int64_t i = lane_id() + 32 * j;
    if (i >= d) continue;
    float x = values[j];
    if constexpr (Kv::kScaled) x = fminf(fmaxf(x / scale, -Kv::limit()), Kv::limit());
    if (is_v) {
      gmem<Element>(static_cast<Element*>(chunk.v)).store(block + slot * d + i, Kv::store(x));
    } else {
      gmem<Element>(static_cast<Element*>(chunk.k))
          .store(block + i * kBlockTokens + slot, Kv::store(x));
    }
  }
}

// Dynamic shared memory of kernel_attention: a row of q per warp.
constexpr uint32_t attention_shared_bytes(int64_t head_dim) {
  return static_cast<uint32_t>(kWarps * head_dim * 4);
}

// Any type and length of head (kernel_attention_mma serves the usual ones). One warp per token and
// head: 32 keys at a time, a lane per key for the scores and a lane per
// column for the output, with a running maximum and sum.
template <bool B, class Kv>
PLUQ_KERNEL(kThreads, 1)
void kernel_attention(gmem<const uint16_t> qkv, AttentionShape shape, BatchMemory batch,
                      gmem<uint16_t> out) {
  using Element = typename Kv::Element;
  PLUQ_DYNAMIC_SMEM(raw);
  const int64_t unit = static_cast<int64_t>(block_idx().x) * kWarps + warp_id();
  if (unit >= batch.rows * shape.heads) return;
  const int64_t row = unit / shape.heads, head = unit % shape.heads, d = shape.head_dim;
  const DeviceChunk chunk = load_chunk(batch.chunks, batch.row_chunk.load(row));
  const KvPlace place{chunk.num_blocks, shape.kv_heads, d, shape.layer, batch.token_scales};
  const gmem<const int32_t> table = batch.tables + chunk.table;
  const gmem<const Element> k(static_cast<const Element*>(chunk.k)),
      v(static_cast<const Element*>(chunk.v));
  const gmem<const float> k_scale(chunk.k_scale), v_scale(chunk.v_scale);
  const int64_t kv_head = head / (shape.heads / shape.kv_heads),
                position = chunk.start + row - chunk.first_row;
  const auto columns = static_cast<uint32_t>(d);
  const auto q = raw.view<float>(static_cast<uint32_t>(warp_id()) * columns * 4, columns);
  for (int64_t i = lane_id(); i < d; i += 32) {
    q.store(i, widen<B>(qkv.load(row * shape.ld + head * d + i)) * shape.scale);
  }
  sync_warp();
  float sums[kMaxPerLane] = {};
  float largest = -INFINITY, total = 0;
  const int64_t oldest =
      shape.window > 0 && position + 1 > shape.window ? position + 1 - shape.window : 0;
  for (int64_t base = oldest / 32 * 32; base <= position; base += 32) {
    const int64_t key = base + lane_id();
    const bool seen = key >= oldest && key <= position;
    float score = -INFINITY;
    float value_scale = 1;
    if (seen) {
      const int32_t physical = table.load(key / kBlockTokens);
      const int64_t at = place.block(physical, kv_head) + key % kBlockTokens;
      score = 0;
      for (int64_t i = 0; i < d; ++i) {
        score = fma_f32(q.load(i), Kv::load(k.load(at + i * kBlockTokens)), score);
      }
      if constexpr (Kv::kScaled) {
        const int64_t where = place.scale(physical, key, kv_head);
        score *= k_scale.load(where);
        value_scale = v_scale.load(where);
      }
      if (shape.softcap > 0) score = shape.softcap * tanhf(score / shape.softcap);
    }
    const float block_largest = warp_max(score), next = fmaxf(largest, block_largest);
    const float rescale = largest == -INFINITY ? 0.0F : expf(largest - next);
    const float weight = seen ? expf(score - next) : 0.0F;
    total = total * rescale + warp_sum(weight);
    largest = next;
    PLUQ_UNROLL
    for (int j = 0; j < kMaxPerLane; ++j) sums[j] *= rescale;
    const int64_t first = base < oldest ? oldest : base;
    const int64_t last = base + 31 < position ? base + 31 : position;
    for (int64_t other = first; other <= last; ++other) {
      const int lane = static_cast<int>(other - base);
      const float w = shfl(weight * value_scale, lane);
      const int64_t at =
          place.block(table.load(other / kBlockTokens), kv_head) + other % kBlockTokens * d;
      PLUQ_UNROLL
      for (int j = 0; j < kMaxPerLane; ++j) {
        const int64_t i = lane_id() + 32 * j;
        if (i < d) sums[j] = fma_f32(w, Kv::load(v.load(at + i)), sums[j]);
      }
    }
  }
  PLUQ_UNROLL
  for (int j = 0; j < kMaxPerLane; ++j) {
    const int64_t i = lane_id() + 32 * j;
    if (i < d) out.store((row * shape.heads + head) * d + i, narrow<B>(sums[j] / total));
  }
}

// ---------------------------------------------------------------- rows

// act(gate) * up of column i, as 16 bits. `kind` is a DeviceActivation.
template <bool B>
PLUQ_DEVICE uint16_t activated(const gmem<const uint16_t>& gate, int64_t at, int64_t width,
                               int kind) {
  const float g = widen<B>(gate.load(at)), up = widen<B>(gate.load(at + width));
  float a;
  if (kind == static_cast<int>(DeviceActivation::kSilu)) {
    a = g / (1.0F + expf(-g));
  } else if (kind == static_cast<int>(DeviceActivation::kGeluTanh)) {
    a = 0.5F * g * (1.0F + tanhf(0.7978845608F * (g + 0.044715F * g * g * g)));
  } else {
    a = 0.5F * g * (1.0F + erff(g * 0.7071067812F));
  }
  return narrow<B>(a * up);
}

template <bool B>
PLUQ_KERNEL(kThreads, 1)
void kernel_activate(gmem<uint16_t> gate, int64_t count, int64_t width, int64_t ld, int kind) {
  const int64_t i = global_thread();
  if (i >= count) return;
  const int64_t at = i / width * ld + i % width;
  gate.store(at, activated<B>(gate, at, width, kind));
}

// A block per row. Values are computed once for their range and once for their codes, which costs
// less than memory for them would.
template <bool B, Rounds R>
PLUQ_KERNEL(kActivateThreads, 1)
void kernel_activate_rounded(gmem<const uint16_t> gate, int64_t width, int64_t ld, int kind,
                             gmem<uint8_t> codes, gmem<float> scales, gmem<int32_t> zeros,
                             RoundShape shape) {
  PLUQ_STATIC_SMEM(float, slots, kActivateThreads / 32);
  const int64_t row = block_idx().x;
  round_made<B, R, kActivateThreads>(
      [&](int64_t i) { return activated<B>(gate, row * ld + i, width, kind); }, row, codes, scales,
      zeros, slots, shape);
}

template <bool B, Rounds R>
PLUQ_KERNEL(kThreads, 1)
void kernel_round_rows(gmem<const uint16_t> x, gmem<const int32_t> list, int64_t per_row,
                       int64_t columns, gmem<uint8_t> codes, gmem<float> scales,
                       gmem<int32_t> zeros, RoundShape shape) {
  PLUQ_STATIC_SMEM(float, slots, kWarps);
  const int64_t row = block_idx().x;
  const int64_t from = (list ? list.load(row) / per_row : row) * columns;
  round_made<B, R, kThreads>([&](int64_t i) { return x.load(from + i); }, row, codes, scales, zeros,
                             slots, shape);
}

template <bool B>
PLUQ_KERNEL(kThreads, 1)
void kernel_clamp(gmem<uint16_t> x, int64_t count, float limit) {
  const int64_t i = global_thread();
  if (i >= count) return;
  const float v = widen<B>(x.load(i));
  if (v > limit) x.store(i, narrow<B>(limit));
  if (v < -limit) x.store(i, narrow<B>(-limit));
}

PLUQ_KERNEL(kThreads, 1)
void kernel_finish_logits(gmem<float> logits, int64_t count, float multiplier, float softcap) {
  const int64_t i = global_thread();
  if (i >= count) return;
  const float v = logits.load(i) * multiplier;
  logits.store(i, softcap > 0 ? softcap * tanhf(v / softcap) : v);
}

PLUQ_KERNEL(kThreads, 1)
void kernel_gather_rows(gmem<const uint16_t> x, gmem<const int32_t> list, int64_t per_row,
                        gmem<uint16_t> y, int64_t count, int64_t hidden) {
  const int64_t i = global_thread();
  if (i >= count * hidden) return;
  y.store(i, x.load(list.load(i / hidden) / per_row * hidden + i % hidden));
}

template <bool B>
PLUQ_KERNEL(kThreads, 1)
void kernel_add_rows(gmem<float> sum, gmem<const int32_t> list, int64_t per_row,
                     gmem<const float> share, gmem<const uint16_t> y, int64_t count,
                     int64_t hidden) {
  const int64_t i = global_thread();
  if (i >= count * hidden) return;
  const int32_t choice = list.load(i / hidden);
  const int64_t at = choice / per_row * hidden + i % hidden;
  sum.store(at, sum.load(at) + share.load(choice) * widen<B>(y.load(i)));
}

// ---------------------------------------------------------------- products of 16-bit matrices

// A warp computes 16 rows of x by 8 rows of w from global memory, fragment by fragment. This is the
// product where no library has one (the emulated device); k may be odd.
template <bool B, bool F32>
PLUQ_KERNEL(kThreads, 1)
void kernel_multiply(gmem<const uint16_t> x, int64_t ldx, gmem<const uint16_t> w, int64_t ldw,
                     gmem<const float> bias, int64_t m, int64_t n, int64_t k, gmem<uint16_t> y,
                     gmem<float> y32, int64_t ldy) {
  const int64_t m0 = static_cast<int64_t>(block_idx().y) * 16;
  const int64_t n0 = (static_cast<int64_t>(block_idx().x) * kWarps + warp_id()) * 8;
  if (n0 >= n) return;
  const int g = lane_id() / 4, t = lane_id() % 4;
  const auto pair = [k](const gmem<const uint16_t>& from, int64_t row, int64_t rows, int64_t ld,
                        int64_t column) -> uint32_t {
    if (row >= rows || column >= k) return 0;
    const uint32_t low = from.load(row * ld + column);
    return column + 1 < k ? low | static_cast<uint32_t>(from.load(row * ld + column + 1)) << 16
                          : low;
  };
  float c[4] = {0, 0, 0, 0};
  for (int64_t k0 = 0; k0 < k; k0 += 16) {
    const int64_t low = k0 + 2 * t, high = low + 8;
    const uint32_t a[4] = {pair(x, m0 + g, m, ldx, low), pair(x, m0 + g + 8, m, ldx, low),
                           pair(x, m0 + g, m, ldx, high), pair(x, m0 + g + 8, m, ldx, high)};
    const uint32_t b[2] = {pair(w, n0 + g, n, ldw, low), pair(w, n0 + g, n, ldw, high)};
    if constexpr (B) {
      mma_m16n8k16_bf16(c, a, b);
    } else {
      mma_m16n8k16_f16(c, a, b);
    }
  }
  for (int i = 0; i < 4; ++i) {
    const int64_t row = m0 + g + (i < 2 ? 0 : 8), column = n0 + 2 * t + (i & 1);
    if (row >= m || column >= n) continue;
    const float v = c[i] + (bias ? bias.load(column) : 0.0F);
    if constexpr (F32) {
      y32.store(row * ldy + column, v);
    } else {
      y.store(row * ldy + column, narrow<B>(v));
    }
  }
}

// ---------------------------------------------------------------- launches

inline uint32_t blocks(int64_t count, int64_t per_block) {
  return static_cast<uint32_t>((count + per_block - 1) / per_block);
}

template <bool B>
class Ops : public EngineOps {
 public:
  Ops(const Stream& stream, uint32_t sm_count) : stream_(stream), sm_count_(sm_count) {}

  void embed(const uint16_t* y, float* x, float multiplier, int64_t count) override {
    run(kernel_embed<B>, blocks(count, kThreads), "embed", in(y), out(x), multiplier, count);
  }
  void rms_norm(const float* x, const float* weight, const int32_t* list, uint16_t* y, int64_t rows,
                int64_t hidden, float eps, const RoundedRows* rounded) override {
    by_rounding(rounded, rows, hidden, [&](auto r, auto... to) {
      run(kernel_rms_norm<B, r.value>, rows, "rms_norm", in(x), in(weight), in(list), out(y),
          hidden, eps, to...);
    });
  }
  void add_block(float* x, const uint16_t* y, const float* weight, int64_t rows, int64_t hidden,
                 float eps, float multiplier, const float* next, uint16_t* h,
                 const RoundedRows* rounded) override {
    add(x, y, weight, rows, hidden, eps, multiplier, next, h, rounded);
  }
  void add_block(float* x, const float* y, const float* weight, int64_t rows, int64_t hidden,
                 float eps, float multiplier, const float* next, uint16_t* h,
                 const RoundedRows* rounded) override {
    add(x, y, weight, rows, hidden, eps, multiplier, next, h, rounded);
  }
  void norm_segments(uint16_t* x, int64_t rows, int64_t ld, int64_t first, int64_t segments,
                     int64_t size, const float* weight, float eps) override {
    run(kernel_norm_segments<B>, blocks(rows * segments, kWarps), "norm_segments", out(x), rows, ld,
        first, segments, size, in(weight), eps);
  }
  void rotate_and_store(uint16_t* qkv, const AttentionShape& shape, const AttentionBatch& batch,
                        const float* cos, const float* sin, int64_t half) override {
    const int64_t units = batch.rows * (shape.heads + 2 * shape.kv_heads);
    by_kv(batch.kv_dtype, [&](auto kind) {
      run(kernel_rotate_and_store<B, decltype(kind)>, blocks(units, kWarps), "rotate_and_store",
          out(qkv), shape, memory(batch), in(cos), in(sin), half);
    });
  }
  void attention(const uint16_t* qkv, const AttentionShape& shape, const AttentionBatch& batch,
                 float* partial, uint16_t* y) override {
    const bool small = shape.head_dim <= 128;
    if (batch.kv_dtype == PLUQ_DTYPE_F32 || shape.head_dim % 16 != 0 || shape.head_dim > 256) {
      by_kv(batch.kv_dtype, [&](auto kind) {
        start(kernel_attention<B, decltype(kind)>,
              LaunchShape{{blocks(batch.rows * shape.heads, kWarps), 1, 1},
                          kThreads,
                          attention_shared_bytes(shape.head_dim),
                          "attention"},
              in(qkv), shape, memory(batch), out(y));
      });
    } else if (batch.kv_dtype == PLUQ_DTYPE_F16) {
      small ? tensor_attention<CacheF16, 128>(qkv, shape, batch, partial, y)
            : tensor_attention<CacheF16, 256>(qkv, shape, batch, partial, y);
    } else if (batch.kv_dtype == PLUQ_DTYPE_BF16) {
      small ? tensor_attention<CacheBf16, 128>(qkv, shape, batch, partial, y)
            : tensor_attention<CacheBf16, 256>(qkv, shape, batch, partial, y);
    } else {
      small ? tensor_attention<Cache8, 128>(qkv, shape, batch, partial, y)
            : tensor_attention<Cache8, 256>(qkv, shape, batch, partial, y);
    }
  }
  void activate(uint16_t* gate, int64_t rows, int64_t width, int64_t ld,
                DeviceActivation activation, const RoundedRows* rounded) override {
    const int kind = static_cast<int>(activation);
    if (rounded == nullptr) {
      run(kernel_activate<B>, blocks(rows * width, kThreads), "activate", out(gate), rows * width,
          width, ld, kind);
      return;
    }
    const LaunchShape shape{
        {static_cast<uint32_t>(rows), 1, 1}, kActivateThreads, 0, "activate_rounded"};
    by_rounding(rounded, rows, width, [&](auto r, auto... to) {
      if constexpr (r.value != Rounds::kNo) {
        start(kernel_activate_rounded<B, r.value>, shape, in(gate), width, ld, kind, to...);
      }
    });
  }
  void round_rows(const uint16_t* x, const int32_t* list, int64_t per_row, int64_t rows,
                  int64_t columns, const RoundedRows& rounded) override {
    by_rounding(&rounded, rows, columns, [&](auto r, auto... to) {
      if constexpr (r.value != Rounds::kNo) {
        run(kernel_round_rows<B, r.value>, rows, "round_rows", in(x), in(list), per_row, columns,
            to...);
      }
    });
  }
  void clamp(uint16_t* x, int64_t count, float limit) override {
    run(kernel_clamp<B>, blocks(count, kThreads), "clamp", out(x), count, limit);
  }
  void finish_logits(float* logits, int64_t count, float multiplier, float softcap) override {
    run(kernel_finish_logits, blocks(count, kThreads), "finish_logits", out(logits), count,
        multiplier, softcap);
  }
  void argmax(const float* logits, int64_t rows, int64_t vocab, int32_t* ids) override {
    start(kernel_argmax, sampling_shape(rows, "argmax"), gmem<const float>(logits, rows * vocab),
          vocab, gmem<int32_t>(ids, rows));
  }
  void top_logits(const float* logits, int64_t rows, int64_t vocab, int32_t k, float scale,
                  int32_t* ids, float* values, int32_t* counts, double* rest) override {
    start(kernel_top_logits, sampling_shape(rows, "top_logits"),
          gmem<const float>(logits, rows * vocab), vocab, k, scale, gmem<int32_t>(ids, rows * k),
          gmem<float>(values, rows * k), gmem<int32_t>(counts, rows * 2), gmem<double>(rest, rows));
  }
  void gather_rows(const uint16_t* x, const int32_t* list, int64_t per_row, uint16_t* y,
                   int64_t count, int64_t hidden) override {
    run(kernel_gather_rows, blocks(count * hidden, kThreads), "gather_rows", in(x), in(list),
        per_row, out(y), count, hidden);
  }
  void add_rows(float* sum, const int32_t* list, int64_t per_row, const float* share,
                const uint16_t* y, int64_t count, int64_t hidden) override {
    run(kernel_add_rows<B>, blocks(count * hidden, kThreads), "add_rows", out(sum), in(list),
        per_row, in(share), in(y), count, hidden);
  }
  bool gemm(const pluq_gemm_args& a) override {
    constexpr uint32_t kType = B ? PLUQ_DTYPE_BF16 : PLUQ_DTYPE_F16;
    if (a.x_type != kType || a.w_type != kType || a.x_scale_kind != PLUQ_GEMM_SCALE_NONE ||
        a.w_scale_kind != PLUQ_GEMM_SCALE_NONE) {
      return false;
    }
    const auto* x = static_cast<const uint16_t*>(a.x);
    const auto* w = static_cast<const uint16_t*>(a.w);
    const LaunchShape shape{{blocks(a.n, 8 * kWarps), blocks(a.m, 16), 1}, kThreads, 0, "multiply"};
    const auto multiply = [&](auto kernel, uint16_t* y16, float* y32) {
      start(kernel, shape, in(x), a.ldx, in(w), a.ldw, in(a.bias), a.m, a.n, a.k, out(y16),
            out(y32), a.ldy);
    };
    if (a.y_type == PLUQ_DTYPE_F32) {
      multiply(kernel_multiply<B, true>, nullptr, static_cast<float*>(a.y));
    } else if (a.y_type == kType) {
      multiply(kernel_multiply<B, false>, static_cast<uint16_t*>(a.y), nullptr);
    } else {
      return false;
    }
    return true;
  }
  void gather(const uint16_t* w, const int32_t* ids, int64_t count, int64_t k,
              uint16_t* y) override {
    gather_rows(w, ids, 1, y, count, k);
  }

 protected:
  // y [count] = x in the ops' type
  void narrowed(const float* x, uint16_t* y, int64_t count) {
    run(kernel_narrow<B>, blocks(count, kThreads), "narrow", in(x), out(y), count);
  }

 private:
  template <class T>
  static gmem<const T> in(const T* p) {
    return gmem<const T>(p);
  }
  template <class T>
  static gmem<T> out(T* p) {
    return gmem<T>(p);
  }
  template <class Y>
  void add(float* x, const Y* y, const float* weight, int64_t rows, int64_t hidden, float eps,
           float multiplier, const float* next, uint16_t* h, const RoundedRows* rounded) {
    if (h == nullptr && rounded == nullptr) {
      run(kernel_add_block<B, Y>, rows, "add_block", out(x), in(y), in(weight), hidden, eps,
          multiplier);
      return;
    }
    by_rounding(rounded, rows, hidden, [&](auto r, auto... to) {
      run(kernel_add_norm<B, Y, r.value>, rows, "add_norm", out(x), in(y), in(weight), hidden, eps,
          multiplier, in(next), out(h), to...);
    });
  }
  template <Rounds R>
  using RoundsConstant = std::integral_constant<Rounds, R>;
  // f(which, codes, scales, zeros, shape) with a kernel's last arguments.
  template <class F>
  static void by_rounding(const RoundedRows* to, int64_t rows, int64_t columns, F f) {
    RoundShape shape;
    if (to == nullptr) {
      f(RoundsConstant<Rounds::kNo>{}, gmem<uint8_t>(), gmem<float>(), gmem<int32_t>(), shape);
      return;
    }
    const RoundScheme& scheme = to->scheme;
    shape.k = columns;
    shape.pitch = byte_pitch(columns);
    shape.group = scheme.group;
    shape.mode = static_cast<int32_t>(scheme.mode);
    shape.static_scale = scheme.static_scale;
    const gmem<uint8_t> codes(to->codes, rows * shape.pitch);
    const gmem<float> scales(to->scales, rows * scheme.groups(columns));
    const gmem<int32_t> zeros =
        scheme.has_zeros() ? gmem<int32_t>(to->zeros, rows) : gmem<int32_t>();
    if (rounds_to_int8(scheme.mode)) {
      f(RoundsConstant<Rounds::kInt8>{}, codes, scales, zeros, shape);
    } else {
      f(RoundsConstant<Rounds::kFp8>{}, codes, scales, zeros, shape);
    }
  }
  // With an array's length, so that the emulator checks it.
  static BatchMemory memory(const AttentionBatch& b) {
    return {gmem<const DeviceChunk>(b.chunks, b.num_chunks),
            gmem<const int32_t>(b.row_chunk, b.rows), in(b.tables), b.rows, b.token_scales};
  }

  // Few rows per KV head are shared out over their keys, many over blocks of 64 rows.
  template <class Cache, int D>
  void tensor_attention(const uint16_t* qkv, const AttentionShape& shape,
                        const AttentionBatch& batch, float* partial, uint16_t* y) {
    const int64_t rows = batch.longest * (shape.heads / shape.kv_heads);
    if (rows <= 64) {
      tensor_attention<Cache, D, true>(qkv, shape, batch, blocks(rows, 16), partial, y);
    } else {
      tensor_attention<Cache, D, false>(qkv, shape, batch, blocks(rows, 64), partial, y);
    }
  }
  template <class Cache, int D, bool Decode>
  void tensor_attention(const uint16_t* qkv, const AttentionShape& shape,
                        const AttentionBatch& batch, uint32_t tiles, float* partial, uint16_t* y) {
    AttentionArgs a{};
    a.ld = shape.ld;
    a.heads = static_cast<int32_t>(shape.heads);
    a.kv_heads = static_cast<int32_t>(shape.kv_heads);
    a.head_dim = static_cast<int32_t>(shape.head_dim);
    a.layer = static_cast<int32_t>(shape.layer);
    a.window = static_cast<int32_t>(shape.window);
    a.scale = shape.scale;
    a.softcap = shape.softcap;
    a.token_scales = batch.token_scales;
    a.bf16 = B;
    a.codes = batch.kv_dtype == PLUQ_DTYPE_F8_E4M3   ? KvCodes::kE4m3
              : batch.kv_dtype == PLUQ_DTYPE_F8_E5M2 ? KvCodes::kE5m2
                                                     : KvCodes::kI8;
    a.splits =
        Decode ? splits(tiles * shape.kv_heads * batch.num_chunks,
                        shape.window > 0 && shape.window < batch.keys ? shape.window : batch.keys)
               : 1;
    const auto heads = static_cast<uint32_t>(shape.kv_heads),
               chunks = static_cast<uint32_t>(batch.num_chunks);
    const gmem<const DeviceChunk> all(batch.chunks, batch.num_chunks);
    start(kernel_attention_mma<Cache, D, Decode>,
          LaunchShape{{tiles * static_cast<uint32_t>(a.splits), heads, chunks},
                      kAttentionThreads,
                      AttentionLayout<Cache, D, Decode>::kBytes,
                      "attention"},
          in(qkv), a, all, in(batch.tables), out(partial), out(y));
    if (a.splits == 1) return;
    start(kernel_attention_combine,
          LaunchShape{{tiles, heads, chunks}, kAttentionThreads, 0, "attention_combine"}, a, all,
          in(static_cast<const float*>(partial)), out(y));
  }
  // Parts of at least kFewestKeys keys, until twice the multiprocessors have work.
  int32_t splits(int64_t units, int64_t keys) const {
    constexpr int64_t kFewestKeys = 128, kMost = 64;
    const int64_t wanted = (int64_t{2} * sm_count_ + units - 1) / units, most = keys / kFewestKeys;
    const int64_t n = wanted < most ? wanted : most;
    return static_cast<int32_t>(n < 1 ? 1 : n > kMost ? kMost : n);
  }
  template <class F>
  static void by_kv(uint32_t dtype, F f) {
    switch (dtype) {
      case PLUQ_DTYPE_F32:
        return f(KvF32{});
      case PLUQ_DTYPE_BF16:
        return f(KvBf16{});
      case PLUQ_DTYPE_F8_E4M3:
        return f(KvE4m3{});
      case PLUQ_DTYPE_F8_E5M2:
        return f(KvE5m2{});
      case PLUQ_DTYPE_I8:
        return f(KvI8{});
      default:
        return f(KvF16{});
    }
  }
  static LaunchShape sampling_shape(int64_t rows, const char* name) {
    return {{static_cast<uint32_t>(rows), 1, 1}, kSampleThreads, 0, name};
  }
  template <class K, class... A>
  void start(K kernel, const LaunchShape& shape, A... args) {
    if (const LaunchError error = launch(kernel, shape, stream_, args...)) {
      throw std::runtime_error(error.text);
    }
  }
  template <class K, class... A>
  void run(K kernel, int64_t grid, const char* name, A... args) {
    start(kernel, LaunchShape{{static_cast<uint32_t>(grid), 1, 1}, kThreads, 0, name}, args...);
  }

  Stream stream_;
  uint32_t sm_count_;
};

}  // namespace engine
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
