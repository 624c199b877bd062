// SPDX-License-Identifier: Apache-2.0
// The operators of ops.h, compiled once per instruction set. The including file defines PLUQ_OPS_NAMESPACE. Loops are
// written so that the compiler vectorises them: reductions run in 16 fixed lanes that are added in a fixed order, so
// the bits are the same for every width.

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
  for (int64_t i = 0; i < count; ++i) gate[i] = 0.5F * gate[i] * (1.0F + erff(gate[i] * 0.707106781186548F)) * up[i];
}

void rope(float* x, int64_t heads, int64_t head_dim, int64_t half, const float* cos, const float* sin) {
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
  // Scale by 2^112 so that the float multiplier normalises subnormals; infinities and NaN keep their exponent.
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

void store_kv(const KvView& kv, bool value, int64_t layer, int64_t token, const float* x) {
  for (int64_t h = 0; h < kv.kv_heads; ++h) {
    const int64_t at = kv.offset(layer, token, h);
    const float* from = x + h * kv.head_dim;
    uint8_t* base = reinterpret_cast<uint8_t*>(value ? kv.v : kv.k);
    if (kv.dtype == PLUQ_DTYPE_F32) {
      memcpy(base + at * 4, from, static_cast<size_t>(kv.head_dim) * 4);
    } else {
      auto* to = reinterpret_cast<uint16_t*>(base) + at;
      if (kv.dtype == PLUQ_DTYPE_BF16) {
        for (int64_t i = 0; i < kv.head_dim; ++i) to[i] = to_bf16(from[i]);
      } else {
        for (int64_t i = 0; i < kv.head_dim; ++i) to[i] = to_f16(from[i]);
      }
    }
  }
}

// The rows of one block, of one kv head, as f32: [count, head_dim].
inline const float* load_block(const KvView& kv, bool value, int64_t layer, int64_t token, int64_t kv_head,
                               int64_t count, float* buffer) {
  const int64_t at = kv.offset(layer, token, kv_head);
  const uint8_t* base = reinterpret_cast<const uint8_t*>(value ? kv.v : kv.k);
  if (kv.dtype == PLUQ_DTYPE_F32) return reinterpret_cast<const float*>(base) + at;
  const auto* from = reinterpret_cast<const uint16_t*>(base) + at;
  const int64_t n = count * kv.head_dim;
  if (kv.dtype == PLUQ_DTYPE_BF16) {
    for (int64_t i = 0; i < n; ++i) buffer[i] = from_bf16(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) buffer[i] = from_f16(from[i]);
  }
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

// Two passes over the keys in blocks of 16: scores and their maximum, then weights and the weighted sum, both in the
// order of positions. What a query sees depends on its position and the cache alone.
void attention(const AttentionArgs& args, int64_t begin, int64_t end) {
  const KvView& kv = args.kv;
  const int64_t d = kv.head_dim, group = args.heads / kv.kv_heads;
  for (int64_t pair = begin; pair < end; ++pair) {
    const int64_t token = pair / kv.kv_heads, kv_head = pair % kv.kv_heads;
    const int64_t keys = args.start + token + 1;
    const int64_t first = args.window > 0 && keys > args.window ? keys - args.window : 0;  // keys [first, keys) are seen
    const int64_t base = first / kKvBlock * kKvBlock;
    const int64_t stride = (keys - base + kKvBlock - 1) / kKvBlock * kKvBlock;
    float* scores = args.scores;
    float* block = args.scores + group * stride;
    const float* q = args.q + token * args.ldq + kv_head * group * d;
    float* out = args.out + token * args.heads * d + kv_head * group * d;
    for (int64_t at = base; at < keys; at += kKvBlock) {
      const int64_t n = keys - at < kKvBlock ? keys - at : kKvBlock, skip = first > at ? first - at : 0;
      const float* k = load_block(kv, false, args.layer, at, kv_head, n, block);
      for (int64_t h = 0; h < group; ++h) {
        float* s = scores + h * stride + (at - base);
        for (int64_t i = skip; i < n; ++i) s[i] = dot(q + h * d, k + i * d, d) * args.scale;
        if (args.softcap > 0) softcap(s + skip, args.softcap, n - skip);
      }
    }
    for (int64_t h = 0; h < group; ++h) {
      softmax(scores + h * stride + (first - base), keys - first);
      for (int64_t i = 0; i < d; ++i) out[h * d + i] = 0;
    }
    for (int64_t at = base; at < keys; at += kKvBlock) {
      const int64_t n = keys - at < kKvBlock ? keys - at : kKvBlock, skip = first > at ? first - at : 0;
      const float* v = load_block(kv, true, args.layer, at, kv_head, n, block);
      for (int64_t h = 0; h < group; ++h) {
        float* o = out + h * d;
        for (int64_t i = skip; i < n; ++i) {
          const float w = scores[h * stride + (at - base) + i];
          const float* row = v + i * d;
          for (int64_t j = 0; j < d; ++j) o[j] += w * row[j];
        }
      }
    }
  }
}

}  // namespace

extern const CpuOps table;
const CpuOps table{PLUQ_OPS_NAME, &rms_norm,      &add,      &add_scaled, &scale,   &softcap,
                    &silu_mul,     &gelu_tanh_mul, &gelu_mul, &rope,       &store_kv, &attention};

}  // namespace PLUQ_OPS_NAMESPACE
}  // namespace pluq
