// SPDX-License-Identifier: Apache-2.0
// Attention on the tensor cores over the paged KV cache, for 16- and 8-bit caches and heads of up
// to 256 columns in multiples of 16. The query heads that share a KV head are rows of one product:
// row r of a chunk is token r / group, head kv_head * group + r % group.
//
// A block has 4 warps and walks over tiles of kKeys keys, copied two tiles ahead. While reading a
// prompt each warp has 16 rows of its own and all keys; in decode all warps have the same 16 rows,
// each a 16th of 64 keys, and several blocks may share the keys of a sequence (splits), whose
// results kernel_attention_combine adds in a fixed order.
//
// 16-bit products: bf16 for a bf16 cache, else f16, which holds every 8-bit code exactly. Scores
// and sums are f32. Scales of single tokens act on scores (K) and on the weights (V): the running
// maximum is that of score + log2(scale of V), so that no weight leaves the range of f16.
#pragma once

#include "device/cuda/engine_ops.h"
#include "pluq/cuda/cuda.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace engine {

constexpr int kAttentionThreads = 128;
constexpr float kLog2E = 1.4426950408889634F;
constexpr float kNoScore = -1e30F;

enum class KvCodes : int { kE4m3 = 0, kE5m2 = 1, kI8 = 2 };

struct CacheF16 {
  static constexpr bool kBf16 = false, kCodes = false;
};
struct CacheBf16 {
  static constexpr bool kBf16 = true, kCodes = false;
};
struct Cache8 {
  static constexpr bool kBf16 = false, kCodes = true;
};

// What all blocks of a launch share.
struct AttentionArgs {
  int64_t ld;  // of qkv
  int32_t heads, kv_heads, head_dim, layer, window, splits;
  float scale, softcap;
  bool token_scales, bf16;  // bf16: type of qkv and out
  KvCodes codes;
};

PLUQ_DEVICE DeviceChunk load_chunk(gmem<const DeviceChunk> chunks, int64_t index) {
  const gmem<const uint64_t> words = chunks.template as<const uint64_t>() + index * 8;
  const gmem<const int32_t> small = words.template as<const int32_t>();
  DeviceChunk c;
  c.k = reinterpret_cast<void*>(words.load(0));
  c.v = reinterpret_cast<void*>(words.load(1));
  c.k_scale = reinterpret_cast<float*>(words.load(2));
  c.v_scale = reinterpret_cast<float*>(words.load(3));
  c.num_blocks = static_cast<int64_t>(words.load(4));
  c.first_row = small.load(10), c.count = small.load(11);
  c.start = small.load(12), c.table = small.load(13);
  return c;
}

// Two 8-bit codes to two f16.
PLUQ_DEVICE uint32_t widen_codes(KvCodes codes, uint32_t two) {
  if (codes == KvCodes::kE4m3) return e4m3x2_to_f16x2(static_cast<uint16_t>(two));
  if (codes == KvCodes::kE5m2) return (two & 0xffU) << 8 | (two & 0xff00U) << 16;
  // 1024 + 128 + code in the low bits of an f16, less 1152
  const uint32_t biased = (two & 0xffU) | (two & 0xff00U) << 8;
  return sub_f16x2((biased ^ 0x00800080U) | 0x64006400U, splat16(0x6480));
}

// 16 codes to 16 f16.
PLUQ_DEVICE void widen16(KvCodes codes, const u32x4& from, u32x4* low, u32x4* high) {
  uint32_t out[8];
  PLUQ_UNROLL
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = widen_codes(codes, from.v[i] & 0xffffU);
    out[2 * i + 1] = widen_codes(codes, from.v[i] >> 16);
  }
  *low = u32x4{{out[0], out[1], out[2], out[3]}};
  *high = u32x4{{out[4], out[5], out[6], out[7]}};
}

// Two values of x in the type of the product.
template <bool ToBf16>
PLUQ_DEVICE uint32_t convert_pair(uint32_t two, bool from_bf16) {
  if (from_bf16 == ToBf16) return two;
  if constexpr (ToBf16) {
    const f32x2 v = unpack_f16x2(two);
    return pack_bf16x2(v.v[0], v.v[1]);
  } else {
    constexpr float kLargest = 65504.0F;
    const f32x2 v = unpack_bf16x2(two);
    return pack_f16x2(fminf(fmaxf(v.v[0], -kLargest), kLargest),
                      fminf(fmaxf(v.v[1], -kLargest), kLargest));
  }
}

template <bool Bf16>
PLUQ_DEVICE void multiply_add(float* c, const uint32_t* a, const uint32_t* b) {
  if constexpr (Bf16) {
    mma_m16n8k16_bf16(c, a, b);
  } else {
    mma_m16n8k16_f16(c, a, b);
  }
}

// Where the parts of dynamic shared memory begin, in bytes. K: blocks of [D, 16], the two halves of
// a row of columns exchanged in every second group of four rows, V: rows of D and 16 bytes apart,
// so that ldmatrix meets no bank twice.
template <class Cache, int D, bool Decode>
struct AttentionLayout {
  static constexpr int kKeys = D <= 128 ? 64 : 32;
  static constexpr int kRows = Decode ? 16 : 64;
  static constexpr uint32_t kRowBytes = (D + 8) * 2;
  static constexpr uint32_t kKBytes = kKeys * D * 2, kVBytes = kKeys * kRowBytes;
  static constexpr uint32_t kRawBytes = kKeys * D;  // K or V as 8-bit codes
  static constexpr uint32_t kQ = 0, kTile = kRows * kRowBytes;
  // 16-bit caches: two stages of K and V. 8-bit: two stages of codes, then K and V widened once.
  static constexpr uint32_t kStage = Cache::kCodes ? 2 * kRawBytes : kKBytes + kVBytes;
  static constexpr uint32_t kWide = kTile + 2 * kStage;
  static constexpr uint32_t kEnd = kWide + (Cache::kCodes ? kKBytes + kVBytes : 0);
  // After the last tile the warps of a decode block exchange [4, 16, D + 2] floats from kTile on.
  static constexpr uint32_t kExchange = Decode ? kTile + 4 * 16 * (D + 2) * 4 : 0;
  static constexpr uint32_t kBytes = kEnd > kExchange ? kEnd : kExchange;
};

PLUQ_DEVICE uint32_t k_chunk(int row, int chunk) {
  return static_cast<uint32_t>(row * 16 + ((chunk ^ (row >> 2)) & 1) * 8);
}

// One block's work: rows [row0, row0 + kRows) of a chunk and keys [begin, end).
template <class Cache, int D, bool Decode>
struct AttentionBlock {
  using Layout = AttentionLayout<Cache, D, Decode>;
  static constexpr int kKeys = Layout::kKeys, kBlocks = kKeys / 16;
  // Blocks of 16 keys that one warp multiplies in a tile.
  static constexpr int kMine = Decode ? 1 : kBlocks;
  static constexpr bool kBf16 = Cache::kBf16;

  const AttentionArgs& a;
  const DeviceChunk& chunk;
  gmem<const int32_t> table;
  smem<unsigned char> raw;
  int kv_head, last;  // last: newest key that any row sees

  float sums[D / 8][4];
  float largest[2], total[2];

  PLUQ_DEVICE int64_t place(int32_t physical) const {
    return ((a.layer * chunk.num_blocks + physical) * a.kv_heads + kv_head) * 16 * a.head_dim;
  }
  PLUQ_DEVICE float token_scale(gmem<const float> scales, int key) const {
    if (!a.token_scales) return scales.load(a.layer * a.kv_heads + kv_head);
    const int64_t physical = table.load(chunk.table + key / 16);
    return scales.load(((a.layer * chunk.num_blocks + physical) * a.kv_heads + kv_head) * 16 +
                       key % 16);
  }

  // Starts copying tile `base` into stage; keys beyond the last become zero.
  PLUQ_DEVICE void copy(int base, int stage) const {
    const int d = a.head_dim;
    const uint32_t at = Layout::kTile + static_cast<uint32_t>(stage) * Layout::kStage;
    if constexpr (Cache::kCodes) {
      const gmem<const uint8_t> k(static_cast<const uint8_t*>(chunk.k)),
          v(static_cast<const uint8_t*>(chunk.v));
      const auto to_k = raw.view<uint8_t>(at, Layout::kRawBytes),
                 to_v = raw.view<uint8_t>(at + Layout::kRawBytes, Layout::kRawBytes);
      // d pieces of 16 bytes per block of keys, for K as for V
      for (int i = static_cast<int>(thread_idx().x); i < kBlocks * d; i += kAttentionThreads) {
        const int block = i / d, row = i % d, key = base + block * 16;
        const bool some = key <= last;
        const int64_t from = place(table.load(chunk.table + (some ? key : base) / 16)) + row * 16;
        const int token = row * 16 / d;  // of V: rows of d codes
        cp_async16(to_k, (block * D + row) * 16, k, from, some);
        cp_async16(to_v, (block * D + row) * 16, v, from, some && key + token <= last);
      }
    } else {
      const gmem<const uint16_t> k(static_cast<const uint16_t*>(chunk.k)),
          v(static_cast<const uint16_t*>(chunk.v));
      const auto to_k = raw.view<uint16_t>(at, Layout::kKBytes / 2),
                 to_v = raw.view<uint16_t>(at + Layout::kKBytes, Layout::kVBytes / 2);
      // 2 d pieces of 16 bytes per block of keys
      for (int i = static_cast<int>(thread_idx().x); i < kBlocks * 2 * d; i += kAttentionThreads) {
        const int block = i / (2 * d), piece = i % (2 * d), key = base + block * 16;
        const bool some = key <= last;
        const int64_t from = place(table.load(chunk.table + (some ? key : base) / 16)) + piece * 8;
        const int token = piece * 8 / d, column = piece * 8 % d;
        cp_async16(to_k, block * D * 16 + k_chunk(piece / 2, piece % 2), k, from, some);
        cp_async16(to_v, (block * 16 + token) * (D + 8) + column, v, from,
                   some && key + token <= last);
      }
    }
    cp_async_commit();
  }

  // 8-bit codes of a stage to f16.
  PLUQ_DEVICE void widen(int stage) const {
    const int d = a.head_dim;
    const uint32_t at = Layout::kTile + static_cast<uint32_t>(stage) * Layout::kStage;
    const auto from_k = raw.view<uint8_t>(at, Layout::kRawBytes),
               from_v = raw.view<uint8_t>(at + Layout::kRawBytes, Layout::kRawBytes);
    const auto to_k = raw.view<uint16_t>(Layout::kWide, Layout::kKBytes / 2),
               to_v = raw.view<uint16_t>(Layout::kWide + Layout::kKBytes, Layout::kVBytes / 2);
    for (int i = static_cast<int>(thread_idx().x); i < kBlocks * d; i += kAttentionThreads) {
      const int block = i / d, row = i % d;
      u32x4 low, high;
      widen16(a.codes, from_k.load16((block * D + row) * 16), &low, &high);
      to_k.store16(block * D * 16 + k_chunk(row, 0), low);
      to_k.store16(block * D * 16 + k_chunk(row, 1), high);
      widen16(a.codes, from_v.load16((block * D + row) * 16), &low, &high);
      const int token = row * 16 / d, column = row * 16 % d;
      to_v.store16((block * 16 + token) * (D + 8) + column, low);
      to_v.store16((block * 16 + token) * (D + 8) + column + 8, high);
    }
  }

  // A tile's keys from `first_block` on; rows g and g + 8 of this warp's 16 see keys
  // [oldest[i], newest[i]].
  PLUQ_DEVICE void tile(int base, int stage, int first_block, uint32_t q_row, const int* oldest,
                        const int* newest) {
    const int d = a.head_dim, lane = static_cast<int>(lane_id());
    const uint32_t at = Cache::kCodes
                            ? Layout::kWide
                            : Layout::kTile + static_cast<uint32_t>(stage) * Layout::kStage;
    const auto q = raw.view<uint16_t>(Layout::kQ, Layout::kRows * (D + 8));
    const auto k = raw.view<uint16_t>(at, Layout::kKBytes / 2),
               v = raw.view<uint16_t>(at + Layout::kKBytes, Layout::kVBytes / 2);
    const int row_of_lane = (lane & 7) + (lane >> 3 & 1) * 8, half_of_lane = lane >> 4;
    float s[2 * kMine][4];
    PLUQ_UNROLL
    for (int j = 0; j < 2 * kMine; ++j) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
    PLUQ_UNROLL
    for (int kd = 0; kd < D / 16; ++kd) {
      if (kd * 16 >= d) break;
      uint32_t qa[4];
      ldmatrix_x4(qa, q,
                  (static_cast<int>(q_row) + row_of_lane) * (D + 8) + kd * 16 + half_of_lane * 8);
      PLUQ_UNROLL
      for (int j = 0; j < kMine; ++j) {
        uint32_t kb[4];
        ldmatrix_x4_trans(
            kb, k, (first_block + j) * D * 16 + k_chunk(kd * 16 + row_of_lane, half_of_lane));
        multiply_add<kBf16>(s[2 * j], qa, kb);
        multiply_add<kBf16>(s[2 * j + 1], qa, kb + 2);
      }
    }
    const float factor = a.scale * kLog2E, cap = a.softcap * kLog2E;
    float peak[2] = {largest[0], largest[1]};
    float v_scale[2 * kMine][2];
    PLUQ_UNROLL
    for (int j = 0; j < 2 * kMine; ++j) {
      PLUQ_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int key = base + first_block * 16 + j * 8 + 2 * (lane & 3) + i;
        float k_scale = 1, shift = 0;
        v_scale[j][i] = 1;
        if constexpr (Cache::kCodes) {
          const int there = key <= last ? key : last;
          k_scale = token_scale(gmem<const float>(chunk.k_scale), there);
          if (a.token_scales) {
            v_scale[j][i] = token_scale(gmem<const float>(chunk.v_scale), there);
            shift = log2f(fmaxf(v_scale[j][i], 1e-30F));
          }
        }
        PLUQ_UNROLL
        for (int r = 0; r < 2; ++r) {
          float& score = s[j][2 * r + i];
          score *= factor * k_scale;
          if (a.softcap > 0) score = cap * tanhf(score / cap);
          if (key < oldest[r] || key > newest[r]) score = -INFINITY;
          peak[r] = fmaxf(peak[r], score + shift);
        }
      }
    }
    PLUQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      peak[r] = fmaxf(peak[r], shfl_xor(peak[r], 1));
      peak[r] = fmaxf(peak[r], shfl_xor(peak[r], 2));
      const float rescale = exp2_approx(largest[r] - peak[r]);
      largest[r] = peak[r];
      total[r] *= rescale;
      PLUQ_UNROLL
      for (int n = 0; n < D / 8; ++n) {
        sums[n][2 * r] *= rescale;
        sums[n][2 * r + 1] *= rescale;
      }
    }
    PLUQ_UNROLL
    for (int j = 0; j < kMine; ++j) {
      uint32_t p[4];
      PLUQ_UNROLL
      for (int half = 0; half < 2; ++half) {
        PLUQ_UNROLL
        for (int r = 0; r < 2; ++r) {
          const int t = 2 * j + half;
          float w[2];
          PLUQ_UNROLL
          for (int i = 0; i < 2; ++i) {
            const float e = exp2_approx(s[t][2 * r + i] - largest[r]);
            total[r] += e;
            w[i] = e * v_scale[t][i];
          }
          p[2 * half + r] = kBf16 ? pack_bf16x2(w[0], w[1]) : pack_f16x2(w[0], w[1]);
        }
      }
      PLUQ_UNROLL
      for (int n = 0; n < D / 16; ++n) {
        if (n * 16 >= d) break;
        uint32_t vb[4];
        ldmatrix_x4_trans(
            vb, v, ((first_block + j) * 16 + row_of_lane) * (D + 8) + n * 16 + half_of_lane * 8);
        multiply_add<kBf16>(sums[2 * n], p, vb);
        multiply_add<kBf16>(sums[2 * n + 1], p, vb + 2);
      }
    }
  }
};

PLUQ_DEVICE void store_pair(gmem<uint16_t> out, int64_t at, float x, float y, bool bf16) {
  out.store_as<uint32_t>(at, bf16 ? pack_bf16x2(x, y) : pack_f16x2(x, y));
}

// Grid: (tiles of rows of the longest chunk * splits, kv_heads, chunks). partial, with splits:
// [chunk, kv_head, tile, split, 16 rows, head_dim + 2]: sums, largest, total.
template <class Cache, int D, bool Decode>
PLUQ_KERNEL(kAttentionThreads, D <= 128 && !Decode ? 2 : 1)
void kernel_attention_mma(gmem<const uint16_t> qkv, AttentionArgs a, gmem<const DeviceChunk> chunks,
                          gmem<const int32_t> table, gmem<float> partial, gmem<uint16_t> out) {
  using Layout = AttentionLayout<Cache, D, Decode>;
  PLUQ_DYNAMIC_SMEM(raw);
  const DeviceChunk chunk = load_chunk(chunks, block_idx().z);
  const int d = a.head_dim, group = a.heads / a.kv_heads, kv_head = static_cast<int>(block_idx().y);
  const int part = static_cast<int>(block_idx().x) % a.splits,
            row0 = static_cast<int>(block_idx().x) / a.splits * Layout::kRows;
  const int rows = chunk.count * group;
  if (row0 >= rows) return;
  const int lane = static_cast<int>(lane_id()), warp = static_cast<int>(warp_id());
  const auto q = raw.view<uint16_t>(Layout::kQ, Layout::kRows * (D + 8));
  const int pieces = d / 8;
  for (int i = static_cast<int>(thread_idx().x); i < Layout::kRows * pieces;
       i += kAttentionThreads) {
    const int row = i / pieces, column = i % pieces * 8, r = row0 + row;
    u32x4 v{{0, 0, 0, 0}};
    if (r < rows) {
      v = qkv.load16((chunk.first_row + r / group) * a.ld + (kv_head * group + r % group) * d +
                     column);
      PLUQ_UNROLL
      for (int j = 0; j < 4; ++j) v.v[j] = convert_pair<Cache::kBf16>(v.v[j], a.bf16);
    }
    q.store16(row * (D + 8) + column, v);
  }

  const int last_row = row0 + Layout::kRows < rows ? row0 + Layout::kRows - 1 : rows - 1;
  const int newest_token = chunk.start + last_row / group,
            oldest_token = chunk.start + row0 / group;
  const auto first_key = [&](int token) {
    return a.window > 0 && token + 1 > a.window ? token + 1 - a.window : 0;
  };
  AttentionBlock<Cache, D, Decode> block{a, chunk, table, raw, kv_head, newest_token, {}, {}, {}};
  int oldest[2], newest[2];
  PLUQ_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int r = row0 + (Decode ? 0 : warp * 16) + lane / 4 + 8 * i;
    newest[i] = chunk.start + (r < rows ? r : rows - 1) / group;
    oldest[i] = first_key(newest[i]);
    block.largest[i] = kNoScore;
    block.total[i] = 0;
  }
  PLUQ_UNROLL
  for (int n = 0; n < D / 8; ++n) {
    block.sums[n][0] = block.sums[n][1] = block.sums[n][2] = block.sums[n][3] = 0;
  }

  // This part's tiles.
  const int begin = first_key(oldest_token) / Layout::kKeys,
            all = newest_token / Layout::kKeys + 1 - begin,
            first = begin + static_cast<int>(static_cast<int64_t>(all) * part / a.splits),
            end = begin + static_cast<int>(static_cast<int64_t>(all) * (part + 1) / a.splits);
  if (first < end) block.copy(first * Layout::kKeys, 0);
  for (int t = first; t < end; ++t) {
    const int stage = (t - first) & 1;
    if (t + 1 < end) {
      block.copy((t + 1) * Layout::kKeys, stage ^ 1);
    } else {
      cp_async_commit();
    }
    cp_async_wait<1>();
    sync_threads();
    if constexpr (Cache::kCodes) {
      block.widen(stage);
      sync_threads();
    }
    if constexpr (Decode) {
      if (warp < Layout::kKeys / 16) {
        block.tile(t * Layout::kKeys, stage, warp, 0, oldest, newest);
      }
    } else {
      block.tile(t * Layout::kKeys, stage, 0, static_cast<uint32_t>(warp * 16), oldest, newest);
    }
    sync_threads();
  }
  cp_async_wait_all();
  PLUQ_UNROLL
  for (int i = 0; i < 2; ++i) {
    block.total[i] += shfl_xor(block.total[i], 1);
    block.total[i] += shfl_xor(block.total[i], 2);
  }
  const float v_scale = Cache::kCodes && !a.token_scales
                            ? block.token_scale(gmem<const float>(chunk.v_scale), 0)
                            : 1.0F;
  if constexpr (!Decode) {
    PLUQ_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int r = row0 + warp * 16 + lane / 4 + 8 * i;
      if (r >= rows) continue;
      const int64_t at = (static_cast<int64_t>(chunk.first_row + r / group) * a.heads +
                          kv_head * group + r % group) *
                         d;
      const float inverse = v_scale / block.total[i];
      PLUQ_UNROLL
      for (int n = 0; n < D / 8; ++n) {
        if (n * 8 >= d) break;
        store_pair(out, at + n * 8 + 2 * (lane & 3), block.sums[n][2 * i] * inverse,
                   block.sums[n][2 * i + 1] * inverse, a.bf16);
      }
    }
    return;
  }
  // Decode: the four warps' sums are brought together.
  const auto exchange = raw.view<float>(Layout::kTile, 4 * 16 * (D + 2));
  PLUQ_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int at = (warp * 16 + lane / 4 + 8 * i) * (D + 2);
    PLUQ_UNROLL
    for (int n = 0; n < D / 8; ++n) {
      if (n * 8 >= d) break;
      exchange.store(at + n * 8 + 2 * (lane & 3), block.sums[n][2 * i]);
      exchange.store(at + n * 8 + 2 * (lane & 3) + 1, block.sums[n][2 * i + 1]);
    }
    if ((lane & 3) == 0) {
      exchange.store(at + D, block.largest[i]);
      exchange.store(at + D + 1, block.total[i]);
    }
  }
  sync_threads();
  const int64_t unit =
      ((static_cast<int64_t>(block_idx().z) * a.kv_heads + kv_head) * grid_dim().x +
       block_idx().x) *
      16 * (d + 2);
  for (int row = warp; row < 16 && row0 + row < rows; row += 4) {
    float peak = kNoScore;
    for (int w = 0; w < 4; ++w) peak = fmaxf(peak, exchange.load((w * 16 + row) * (D + 2) + D));
    float weight[4], total = 0;
    PLUQ_UNROLL
    for (int w = 0; w < 4; ++w) {
      const int at = (w * 16 + row) * (D + 2);
      weight[w] = exp2_approx(exchange.load(at + D) - peak);
      total += weight[w] * exchange.load(at + D + 1);
    }
    const int r = row0 + row;
    const int64_t to = (static_cast<int64_t>(chunk.first_row + r / group) * a.heads +
                        kv_head * group + r % group) *
                       d;
    for (int i = lane * 2; i < d; i += 64) {
      float v[2] = {0, 0};
      PLUQ_UNROLL
      for (int w = 0; w < 4; ++w) {
        const int at = (w * 16 + row) * (D + 2) + i;
        v[0] += weight[w] * exchange.load(at);
        v[1] += weight[w] * exchange.load(at + 1);
      }
      if (a.splits == 1) {
        store_pair(out, to + i, v[0] * v_scale / total, v[1] * v_scale / total, a.bf16);
      } else {
        partial.store(unit + row * (d + 2) + i, v[0] * v_scale);
        partial.store(unit + row * (d + 2) + i + 1, v[1] * v_scale);
      }
    }
    if (a.splits > 1 && lane == 0) {
      partial.store(unit + row * (d + 2) + d, peak);
      partial.store(unit + row * (d + 2) + d + 1, total);
    }
  }
}

// Grid: (tiles of the longest chunk, kv_heads, chunks); a warp per row.
PLUQ_KERNEL(kAttentionThreads, 1)
void kernel_attention_combine(AttentionArgs a, gmem<const DeviceChunk> chunks,
                              gmem<const float> partial, gmem<uint16_t> out) {
  const DeviceChunk chunk = load_chunk(chunks, block_idx().z);
  const int d = a.head_dim, group = a.heads / a.kv_heads, kv_head = static_cast<int>(block_idx().y),
            row0 = static_cast<int>(block_idx().x) * 16, rows = chunk.count * group,
            lane = static_cast<int>(lane_id());
  for (int row = static_cast<int>(warp_id()); row < 16 && row0 + row < rows; row += 4) {
    const int64_t unit =
        ((static_cast<int64_t>(block_idx().z) * a.kv_heads + kv_head) * grid_dim().x +
         block_idx().x) *
            a.splits * 16 * (d + 2) +
        row * (d + 2);
    const int64_t step = 16 * (d + 2);
    float peak = kNoScore, total = 0;
    for (int s = 0; s < a.splits; ++s) peak = fmaxf(peak, partial.load(unit + s * step + d));
    for (int s = 0; s < a.splits; ++s) {
      total += exp2_approx(partial.load(unit + s * step + d) - peak) *
               partial.load(unit + s * step + d + 1);
    }
    const int r = row0 + row;
    const int64_t to = (static_cast<int64_t>(chunk.first_row + r / group) * a.heads +
                        kv_head * group + r % group) *
                       d;
    for (int i = lane * 2; i < d; i += 64) {
      float v[2] = {0, 0};
      for (int s = 0; s < a.splits; ++s) {
        const float w = exp2_approx(partial.load(unit + s * step + d) - peak);
        v[0] += w * partial.load(unit + s * step + i);
        v[1] += w * partial.load(unit + s * step + i + 1);
      }
      store_pair(out, to + i, v[0] / total, v[1] / total, a.bf16);
    }
  }
}

}  // namespace engine
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
