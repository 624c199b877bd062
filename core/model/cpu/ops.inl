// SPDX-License-Identifier: Apache-2.0
// The operators of ops.h, compiled once per instruction set. The including file defines
// PLUQ_OPS_NAMESPACE. Loops are written so that the compiler vectorises them: reductions run in 16
// fixed lanes that are added in a fixed order, so the bits are the same for every width.

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "model/cpu/ops.h"

namespace pluq {
namespace PLUQ_OPS_NAMESPACE {
namespace {

constexpr int kLanes = 16;

inline float add_lanes(const float* s) {
  float t[8];
  for (int i = 0; i < 8; ++i) t[i] = s[i] + s[i + 8];
  return ((t[0] + t[4]) + (t[2] + t[6])) + ((t[1] + t[5]) + (t[3] + t[7]));
}

inline float dot(const float* a, const float* b, int64_t n) {
  float s[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) s[j] += a[i + j] * b[i + j];
  }
  for (; i < n; ++i) s[i % kLanes] += a[i] * b[i];
  return add_lanes(s);
}

// e^x within 2 ulp for x <= 0 (and usable up to 88); 0 below -87.
inline float exp_approx(float x) {
  const float clamped = x < -87.0F ? -87.0F : x > 88.0F ? 88.0F : x;
  const float n = __builtin_floorf(clamped * 1.44269504088896341F + 0.5F);
  const float r = (clamped - n * 0.693359375F) - n * -2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  memcpy(&power, &bits, 4);
  const float value = p * power;
  return x < -87.0F ? 0.0F : value;
}

void rms_norm(const float* x, const float* weight, float* y, int64_t rows, int64_t k, float eps) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* a = x + r * k;
    float* b = y + r * k;
    const float scale = 1.0F / sqrtf(dot(a, a, k) / static_cast<float>(k) + eps);
    for (int64_t i = 0; i < k; ++i) b[i] = weight[i] * (a[i] * scale);
  }
}

void add(float* x, const float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] += y[i];
}

void add_scaled(float* x, const float* y, float factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] += factor * y[i];
}

void scale(float* x, float factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] *= factor;
}

// tanh by e^(-2|x|): within 1e-7 of the exact value.
inline float tanh_approx(float x) {
  const float t = exp_approx(-2.0F * __builtin_fabsf(x));
  return __builtin_copysignf((1.0F - t) / (1.0F + t), x);
}

void softcap(float* x, float cap, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = cap * tanh_approx(x[i] / cap);
}

void silu_mul(float* gate, const float* up, int64_t count) {
  for (int64_t i = 0; i < count; ++i) gate[i] = gate[i] / (1.0F + exp_approx(-gate[i])) * up[i];
}

// x / 2 (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
void gelu_tanh_mul(float* gate, const float* up, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = gate[i];
    const float u = 0.797884560802865F * (x + 0.044715F * x * x * x);
    gate[i] = x / (1.0F + exp_approx(-2.0F * u)) * up[i];
  }
}

void gelu_mul(float* gate, const float* up, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    gate[i] = 0.5F * gate[i] * (1.0F + erff(gate[i] * 0.707106781186548F)) * up[i];
}

void rope(float* x, int64_t heads, int64_t head_dim, int64_t half, const float* cos,
          const float* sin) {
  for (int64_t h = 0; h < heads; ++h) {
    float* a = x + h * head_dim;
    float* b = a + half;
    for (int64_t i = 0; i < half; ++i) {
      const float first = a[i] * cos[i] - b[i] * sin[i];
      b[i] = b[i] * cos[i] + a[i] * sin[i];
      a[i] = first;
    }
  }
}

inline uint16_t to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float from_bf16(uint16_t h) {
  const uint32_t bits = static_cast<uint32_t>(h) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
// Round to nearest even; beyond the range to infinity.
inline uint16_t to_f16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7fffffffU;
  if (bits > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00);
  if (bits >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00);
  if (bits < 0x38800000U) {  // subnormal: let the float adder round
    float magnitude;
    memcpy(&magnitude, &bits, 4);
    const float shifted = magnitude + 0.5F;
    uint32_t out;
    memcpy(&out, &shifted, 4);
    return static_cast<uint16_t>(sign | (out - 0x3f000000U));
  }
  bits += 0xfff + (bits >> 13 & 1);
  return static_cast<uint16_t>(sign | ((bits - 0x38000000U) >> 13));
}
inline float from_f16(uint16_t h) {
  // Scale by 2^112 so that the float multiplier normalises subnormals; infinities and NaN keep
  // their exponent.
  uint32_t bits = static_cast<uint32_t>(h & 0x7fff) << 13;
  float value;
  memcpy(&value, &bits, 4);
  value *= 0x1.0p112F;
  memcpy(&bits, &value, 4);
  const uint32_t special = (h & 0x7c00) == 0x7c00 ? 0x7f800000U : 0U;
  bits |= special | static_cast<uint32_t>(h & 0x8000) << 16;
  memcpy(&value, &bits, 4);
  return value;
}

// 8-bit floats, to nearest even; values beyond the largest were clamped before.
inline uint8_t to_e4m3(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint8_t>(sign | 0x7f);
  if (magnitude < 0x3c800000U) {  // below 2^-6: multiples of 2^-9, by the float adder
    float small;
    memcpy(&small, &magnitude, 4);
    return static_cast<uint8_t>(sign |
                                static_cast<uint32_t>(((small + 24576.0F) - 24576.0F) * 512.0F));
  }
  return static_cast<uint8_t>(
      sign | (((magnitude + 0x7ffffU + (magnitude >> 20 & 1)) >> 20) - (120U << 3)));
}
inline float from_e4m3(uint8_t code) {
  uint32_t bits = static_cast<uint32_t>(code & 0x7f) << 20;
  float value;
  memcpy(&value, &bits, 4);
  value *= 0x1.0p120F;
  memcpy(&bits, &value, 4);
  const uint32_t special = (code & 0x7f) == 0x7f ? 0x7fc00000U : 0U;
  bits |= special | static_cast<uint32_t>(code & 0x80) << 24;
  memcpy(&value, &bits, 4);
  return value;
}
inline uint8_t to_e5m2(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint8_t>(sign | 0x7f);
  if (magnitude < 0x38800000U) {  // below 2^-14: multiples of 2^-16
    float small;
    memcpy(&small, &magnitude, 4);
    return static_cast<uint8_t>(sign |
                                static_cast<uint32_t>(((small + 192.0F) - 192.0F) * 65536.0F));
  }
  return static_cast<uint8_t>(
      sign | (((magnitude + 0xfffffU + (magnitude >> 21 & 1)) >> 21) - (112U << 2)));
}

inline float kv_limit(uint32_t dtype) {
  return dtype == PLUQ_DTYPE_F8_E4M3 ? 448.0F : dtype == PLUQ_DTYPE_F8_E5M2 ? 57344.0F : 127.0F;
}

// One token's codes of one head, `step` apart: round(clamp(x / scale)).
inline void store_codes(uint32_t dtype, uint8_t* to, int64_t step, const float* from, int64_t n,
                        float scale) {
  const float limit = kv_limit(dtype), low = dtype == PLUQ_DTYPE_I8 ? -128.0F : -limit;
  for (int64_t i = 0; i < n; ++i) {
    const float v = from[i] / scale;
    const float x = v > limit ? limit : v < low ? low : v;
    to[i * step] =
        dtype == PLUQ_DTYPE_F8_E4M3 ? to_e4m3(x)
        : dtype == PLUQ_DTYPE_F8_E5M2
            ? to_e5m2(x)
            : static_cast<uint8_t>(static_cast<int8_t>(x == x ? __builtin_rintf(x) : 0.0F));
  }
}

inline float token_scale(uint32_t dtype, const float* x, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float a = __builtin_fabsf(x[i]);
    largest = a > largest ? a : largest;
  }
  const float scale = largest / kv_limit(dtype);
  return scale > 0 ? scale : 1.0F;
}

// One token's K or V of one head: `step` elements apart.
inline void store_row(uint32_t dtype, uint8_t* to, int64_t step, const float* from, int64_t n) {
  if (dtype == PLUQ_DTYPE_F32) {
    auto* out = reinterpret_cast<float*>(to);
    for (int64_t i = 0; i < n; ++i) out[i * step] = from[i];
    return;
  }
  auto* out = reinterpret_cast<uint16_t*>(to);
  if (dtype == PLUQ_DTYPE_BF16) {
    for (int64_t i = 0; i < n; ++i) out[i * step] = to_bf16(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i * step] = to_f16(from[i]);
  }
}

void store_kv(const KvView& kv, bool value, int64_t layer, int64_t token, const float* x) {
  const int64_t slot = token % kKvBlock, step = value ? 1 : kKvBlock;
  uint8_t* base = reinterpret_cast<uint8_t*>(value ? kv.v : kv.k);
  float* scales = value ? kv.v_scale : kv.k_scale;
  for (int64_t h = 0; h < kv.kv_heads; ++h) {
    const int64_t block = kv.block(layer, token, h);
    const int64_t at = value ? block + slot * kv.head_dim : block + slot;
    const float* from = x + h * kv.head_dim;
    if (scales == nullptr) {
      store_row(kv.dtype, base + at * (kv.dtype == PLUQ_DTYPE_F32 ? 4 : 2), step, from,
                kv.head_dim);
      continue;
    }
    float* scale = scales + kv.scale(layer, token, h);
    if (kv.token_scales) *scale = token_scale(kv.dtype, from, kv.head_dim);
    store_codes(kv.dtype, base + at, step, from, kv.head_dim, *scale);
  }
}

// `count` elements of a block as f32, in the cache's order; of 8-bit types without their scales.
inline const float* load_block(const KvView& kv, const std::byte* half, int64_t block,
                               int64_t count, float* buffer) {
  const uint8_t* base = reinterpret_cast<const uint8_t*>(half);
  const auto* words = reinterpret_cast<const uint16_t*>(base) + block;
  const uint8_t* codes = base + block;
  switch (kv.dtype) {
    case PLUQ_DTYPE_F32:
      return reinterpret_cast<const float*>(base) + block;
    case PLUQ_DTYPE_BF16:
      for (int64_t i = 0; i < count; ++i) buffer[i] = from_bf16(words[i]);
      break;
    case PLUQ_DTYPE_F8_E4M3:
      for (int64_t i = 0; i < count; ++i) buffer[i] = from_e4m3(codes[i]);
      break;
    case PLUQ_DTYPE_F8_E5M2:
      for (int64_t i = 0; i < count; ++i)
        buffer[i] = from_f16(static_cast<uint16_t>(codes[i] << 8));
      break;
    case PLUQ_DTYPE_I8:
      for (int64_t i = 0; i < count; ++i)
        buffer[i] = static_cast<float>(static_cast<int8_t>(codes[i]));
      break;
    default:
      for (int64_t i = 0; i < count; ++i) buffer[i] = from_f16(words[i]);
  }
  return buffer;
}

// The scales of the 16 tokens of a block, or nullptr.
inline const float* block_scales(const KvView& kv, const float* scales, int64_t layer,
                                 int64_t token, int64_t kv_head, float* buffer) {
  if (scales == nullptr) return nullptr;
  const float* first = scales + kv.scale(layer, token, kv_head);
  if (kv.token_scales) return first;
  for (int64_t i = 0; i < kKvBlock; ++i) buffer[i] = *first;
  return buffer;
}

// Softmax of n scores in place.
inline void softmax(float* s, int64_t n) {
  float largest = s[0];
  for (int64_t i = 1; i < n; ++i) largest = s[i] > largest ? s[i] : largest;
  for (int64_t i = 0; i < n; ++i) s[i] = exp_approx(s[i] - largest);
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lanes[j] += s[i + j];
  }
  for (; i < n; ++i) lanes[i % kLanes] += s[i];
  const float factor = 1.0F / add_lanes(lanes);
  for (i = 0; i < n; ++i) s[i] *= factor;
}

inline float madd(float a, float b, float c) {
#ifdef __FMA__
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// scores[r][16] = scale * q[r] . K for R rows; k: [d, 16]. Each score is one chain of multiply-adds
// over d.
template <int R>
inline void score_rows(const float* const* q, const float* k, int64_t d, float scale,
                       float* const* scores) {
  float acc[R][kKvBlock] = {};
  for (int64_t i = 0; i < d; ++i) {
    for (int r = 0; r < R; ++r) {
      const float a = q[r][i];
      for (int j = 0; j < kKvBlock; ++j) acc[r][j] = madd(a, k[i * kKvBlock + j], acc[r][j]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < kKvBlock; ++j) scores[r][j] = acc[r][j] * scale;
  }
}

// out[r][0..d) += sum over keys [begin, end) of weights[r][i] * v[i]; v: [16, d]. One chain over
// the keys per output.
template <int R>
inline void value_rows(const float* const* weights, const float* v, int64_t d, int64_t begin,
                       int64_t end, float* const* out) {
  constexpr int kColumns = 16;
  int64_t j = 0;
  for (; j + kColumns <= d; j += kColumns) {
    float acc[R][kColumns];
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < kColumns; ++c) acc[r][c] = out[r][j + c];
    }
    for (int64_t i = begin; i < end; ++i) {
      for (int r = 0; r < R; ++r) {
        const float w = weights[r][i];
        for (int c = 0; c < kColumns; ++c) acc[r][c] = madd(w, v[i * d + j + c], acc[r][c]);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < kColumns; ++c) out[r][j + c] = acc[r][c];
    }
  }
  for (; j < d; ++j) {
    for (int r = 0; r < R; ++r) {
      for (int64_t i = begin; i < end; ++i)
        out[r][j] = madd(weights[r][i], v[i * d + j], out[r][j]);
    }
  }
}

// One query row: a token and a head.
struct QueryRow {
  const float* q;
  float* out;
  float* scores;        // of keys [base of the tile, ...)
  int64_t first, keys;  // sees keys [first, keys)
};

constexpr int kRowsAtOnce = 4;

// Multiplies what the rows hold of the block at `at` by one factor per key.
inline void scale_block(const QueryRow* rows, int64_t n, const float* scales, int64_t at,
                        int64_t base) {
  if (scales == nullptr) return;
  for (int64_t r = 0; r < n; ++r) {
    const int64_t begin = rows[r].first > at ? rows[r].first - at : 0,
                  end = rows[r].keys - at < kKvBlock ? rows[r].keys - at : kKvBlock;
    float* s = rows[r].scores + (at - base);
    for (int64_t i = begin; i < end; ++i) s[i] *= scales[i];
  }
}

// The rows of a tile over one block of keys at `at`.
inline void score_block(const QueryRow* rows, int64_t n, const float* k, int64_t at, int64_t base,
                        const AttentionArgs& args) {
  const int64_t d = args.kv.head_dim;
  const float* q[kRowsAtOnce];
  float* scores[kRowsAtOnce];
  int held = 0;
  for (int64_t r = 0; r < n; ++r) {
    if (rows[r].keys <= at || rows[r].first >= at + kKvBlock) continue;
    q[held] = rows[r].q;
    scores[held] = rows[r].scores + (at - base);
    if (++held < kRowsAtOnce) continue;
    score_rows<kRowsAtOnce>(q, k, d, args.scale, scores);
    held = 0;
  }
  for (int r = 0; r < held; ++r) score_rows<1>(q + r, k, d, args.scale, scores + r);
}

inline void value_block(const QueryRow* rows, int64_t n, const float* v, int64_t at, int64_t base,
                        int64_t d) {
  const float* weights[kRowsAtOnce];
  float* out[kRowsAtOnce];
  int held = 0;
  for (int64_t r = 0; r < n; ++r) {
    const QueryRow& row = rows[r];
    const int64_t begin = row.first > at ? row.first - at : 0,
                  end = row.keys - at < kKvBlock ? row.keys - at : kKvBlock;
    if (begin >= end) continue;
    const float* w = row.scores + (at - base);
    if (begin > 0 || end < kKvBlock) {  // the ends of what the row sees
      value_rows<1>(&w, v, d, begin, end, &row.out);
      continue;
    }
    weights[held] = w;
    out[held] = row.out;
    if (++held < kRowsAtOnce) continue;
    value_rows<kRowsAtOnce>(weights, v, d, 0, kKvBlock, out);
    held = 0;
  }
  for (int r = 0; r < held; ++r) value_rows<1>(weights + r, v, d, 0, kKvBlock, out + r);
}

// A few query tokens of one kv head: scores of all blocks of keys, softmax, weighted sum of values.
// Each block is read twice for the whole tile. What a query gets depends on its position and the
// cache alone.
inline void attention_of_tile(const AttentionArgs& args, int64_t kv_head, int64_t begin,
                              int64_t end) {
  const KvView& kv = args.kv;
  const int64_t d = kv.head_dim, group = args.heads / kv.kv_heads;
  const auto first_key = [&](int64_t keys) {
    return args.window > 0 && keys > args.window ? keys - args.window : 0;
  };
  const int64_t base = first_key(args.start + begin + 1) / kKvBlock * kKvBlock,
                last = args.start + end;
  const int64_t stride = (last - base + kKvBlock - 1) / kKvBlock * kKvBlock;
  constexpr int64_t kMaxRows = 64;
  QueryRow rows[kMaxRows];
  float scales[kKvBlock];
  float* buffer = args.scratch + args.tile * group * stride;
  // Rows of heads beyond kMaxRows are worked on in further rounds.
  for (int64_t h0 = 0; h0 < group; h0 += kMaxRows / args.tile) {
    const int64_t h1 = h0 + kMaxRows / args.tile < group ? h0 + kMaxRows / args.tile : group;
    int64_t n = 0;
    for (int64_t token = begin; token < end; ++token) {
      for (int64_t h = h0; h < h1; ++h) {
        QueryRow& row = rows[n];
        row.q = args.q + token * args.ldq + (kv_head * group + h) * d;
        row.out = args.out + (token * args.heads + kv_head * group + h) * d;
        row.scores = args.scratch + n * stride;
        row.keys = args.start + token + 1;
        row.first = first_key(row.keys);
        ++n;
      }
    }
    for (int64_t at = base; at < last; at += kKvBlock) {
      score_block(rows, n,
                  load_block(kv, kv.k, kv.block(args.layer, at, kv_head), kKvBlock * d, buffer), at,
                  base, args);
      scale_block(rows, n, block_scales(kv, kv.k_scale, args.layer, at, kv_head, scales), at, base);
    }
    for (int64_t r = 0; r < n; ++r) {
      float* seen = rows[r].scores + (rows[r].first - base);
      if (args.softcap > 0) softcap(seen, args.softcap, rows[r].keys - rows[r].first);
      softmax(seen, rows[r].keys - rows[r].first);
      memset(rows[r].out, 0, static_cast<size_t>(d) * 4);
    }
    for (int64_t at = base; at < last; at += kKvBlock) {
      const int64_t held = last - at < kKvBlock ? last - at : kKvBlock;
      scale_block(rows, n, block_scales(kv, kv.v_scale, args.layer, at, kv_head, scales), at, base);
      value_block(rows, n,
                  load_block(kv, kv.v, kv.block(args.layer, at, kv_head), held * d, buffer), at,
                  base, d);
    }
  }
}

void attention(const AttentionArgs& args, int worker, int n_workers) {
  const int64_t tiles = (args.count + args.tile - 1) / args.tile;
  // Later tiles see more keys, so tiles go round the workers.
  for (int64_t i = worker; i < tiles * args.kv.kv_heads; i += n_workers) {
    const int64_t begin = i / args.kv.kv_heads * args.tile;
    const int64_t end = begin + args.tile < args.count ? begin + args.tile : args.count;
    attention_of_tile(args, i % args.kv.kv_heads, begin, end);
  }
}

}  // namespace

extern const CpuOps table;
const CpuOps table{PLUQ_OPS_NAME, &rms_norm,      &add,      &add_scaled, &scale,    &softcap,
                   &silu_mul,     &gelu_tanh_mul, &gelu_mul, &rope,       &store_kv, &attention};

}  // namespace PLUQ_OPS_NAMESPACE
}  // namespace pluq
