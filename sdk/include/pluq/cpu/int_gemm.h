// SPDX-License-Identifier: Apache-2.0
// The integer GEMM family as its callers see it: describe a matrix (IntSpec), pack it, size the
// workspace, and run the IntKernels of an ISA (int_types.h). Not for ISA files: these include
// int_gemm_<isa>.inl alone.
//
//   IntSpec spec{...};                                       // shape, groups, zero kind, scale
//   type if (const char* why = int_check(spec)) refuse(why); void* packed = aligned_alloc(64,
//   int_packed_bytes(spec)); IntWeights w = int_pack_init(spec, packed); int_pack_panels(w, source,
//   0, w.num_panels, packed, scratch);        // or a share of panels per worker
//   kernels->quantize(&w, &in, workspace, worker, n); barrier; kernels->gemm(&w, &in, &out,
//   workspace, worker, n);
#pragma once

#include <cmath>
#include <cstring>

#include "pluq/cpu/int_types.h"

namespace pluq {
namespace cpu {

struct IntSpec {
  int64_t n = 0;
  int64_t k = 0;
  int32_t bits = 4;  // of the codes: 2..4 are stored in 4 bits, 5..8 in 8
  int32_t group_size =
      -1;  // columns per group when group_begin is NULL; -1: one group. The last may be short
  int32_t num_groups = 0;  // with group_begin only
  const int32_t* group_begin =
      nullptr;  // [num_groups + 1], from 0 up to K, not falling; empty groups are allowed
  const int32_t* perm = nullptr;  // [K] position -> original column (act-order); NULL: the identity
  IntScaleType scale_type = IntScaleType::kF32;
  IntZeroKind zero_kind = IntZeroKind::kConstant;
  int32_t zero_constant = 8;
  bool sums = false;  // keep sums: needed for activations that have a zero point
};

// Where the packer takes one output row's data from. Callbacks may be called from several workers
// at once, for different n, and must not throw.
struct IntPackSource {
  void* user = nullptr;
  void (*codes)(void* user, int64_t n,
                uint8_t* out) = nullptr;  // [K] codes in original column order
  void (*scales)(void* user, int64_t n, float* out) = nullptr;  // [G]
  void (*zeros)(void* user, int64_t n,
                float* out) = nullptr;  // [G] zeros or offsets; unused for kConstant
};

namespace int_detail {

constexpr int64_t align_up(int64_t bytes) {
  return (bytes + kIntAlign - 1) / kIntAlign * kIntAlign;
}

inline int64_t num_groups(const IntSpec& s) {
  if (s.group_begin) return s.num_groups;
  const int64_t size = s.group_size < 0 ? s.k : s.group_size;
  return size > 0 ? (s.k + size - 1) / size : 0;
}

inline int64_t group_begin(const IntSpec& s, int64_t g) {
  if (s.group_begin) return s.group_begin[g];
  const int64_t size = s.group_size < 0 ? s.k : s.group_size;
  return g * size < s.k ? g * size : s.k;
}

inline int64_t padded_length(const IntSpec& s) {
  int64_t total = 0;
  for (int64_t g = 0, groups = num_groups(s); g < groups; ++g) {
    const int64_t length = group_begin(s, g + 1) - group_begin(s, g);
    total += (length + kIntStep - 1) / kIntStep * kIntStep;
  }
  return total;
}

inline int32_t storage_bits(const IntSpec& s) { return s.bits <= 4 ? 4 : 8; }

inline int64_t header_bytes(const IntSpec& s) {
  return align_up(2 * (num_groups(s) + 1) * 4) + (s.perm ? align_up(s.k * 4) : 0);
}

inline int32_t meta_bytes(const IntSpec& s) {
  int32_t bytes = kIntPanel * (s.scale_type == IntScaleType::kF32 ? 4 : 2);
  if (s.zero_kind == IntZeroKind::kInteger) bytes += kIntPanel * 2;
  if (s.zero_kind == IntZeroKind::kOffset) bytes += kIntPanel * 4;
  return bytes + (s.sums ? kIntPanel * 4 : 0);
}

inline int64_t panel_bytes(const IntSpec& s) {
  return padded_length(s) * kIntPanel * storage_bits(s) / 8 + num_groups(s) * meta_bytes(s);
}

inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

// f32 -> f16, to nearest even; *exact tells whether nothing was lost.
inline uint16_t to_f16(float value, bool* exact) {
  const uint32_t bits = float_to_bits(value), magnitude = bits & 0x7fffffffu;
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  *exact = false;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude == 0x7f800000u) {
    *exact = true;
    return static_cast<uint16_t>(sign | 0x7c00u);
  }
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  if (exponent > 15) return static_cast<uint16_t>(sign | 0x7c00u);
  if (exponent < -25) {
    *exact = magnitude == 0;
    return sign;
  }
  const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  const int drop = exponent >= -14 ? 13 : -exponent - 1;
  uint32_t result = mantissa >> drop;
  const uint32_t rest = mantissa & ((1u << drop) - 1), half = 1u << (drop - 1);
  *exact = rest == 0;
  if (rest > half || (rest == half && (result & 1))) ++result;
  if (exponent >= -14)
    result += static_cast<uint32_t>(exponent + 14) << 10;  // the hidden bit adds the other 1
  return static_cast<uint16_t>(sign | result);
}

inline uint16_t to_bf16(float value, bool* exact) {
  const uint32_t bits = float_to_bits(value);
  *exact = (bits & 0xffffu) == 0;
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

inline void store_scale(IntScaleType type, uint8_t* at, int n, float value) {
  bool exact;
  if (type == IntScaleType::kF32) {
    std::memcpy(at + 4 * n, &value, 4);
  } else {
    const uint16_t half =
        type == IntScaleType::kF16 ? to_f16(value, &exact) : to_bf16(value, &exact);
    std::memcpy(at + 2 * n, &half, 2);
  }
}

}  // namespace int_detail

// NULL when the matrix can be packed, else why not. Does not read perm.
inline const char* int_check(const IntSpec& s) {
  if (s.n < 0 || s.k < 1 || s.n > INT32_MAX || s.k > INT32_MAX / 2)
    return "N must be at least 0 and K at least 1, both below 2^30";
  if (s.bits < 2 || s.bits > 8) return "codes must have 2 to 8 bits";
  if (!s.group_begin && s.group_size != -1 && s.group_size < 1)
    return "the group size must be -1 or at least 1";
  if (s.group_begin && s.num_groups < 1) return "there must be at least one group";
  const int64_t groups = int_detail::num_groups(s);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t length = int_detail::group_begin(s, g + 1) - int_detail::group_begin(s, g);
    if (length < 0) return "group begins must not fall";
    if (length > kIntMaxGroup)
      return "a group has more than 32768 columns: split it and repeat its scales";
  }
  if (int_detail::group_begin(s, 0) != 0 || int_detail::group_begin(s, groups) != s.k)
    return "groups must cover 0..K";
  return nullptr;
}

// The narrowest type that holds all `count` scales exactly.
inline IntScaleType int_scale_type(const float* scales, int64_t count) {
  bool f16 = true, bf16 = true;
  for (int64_t i = 0; i < count && (f16 || bf16); ++i) {
    bool exact;
    int_detail::to_f16(scales[i], &exact);
    f16 = f16 && exact;
    int_detail::to_bf16(scales[i], &exact);
    bf16 = bf16 && exact;
  }
  return f16 ? IntScaleType::kF16 : bf16 ? IntScaleType::kBf16 : IntScaleType::kF32;
}

// Bytes of the packed matrix; the buffer must be 64-byte aligned.
inline int64_t int_packed_bytes(const IntSpec& s) {
  return int_detail::header_bytes(s) +
         (s.n + kIntPanel - 1) / kIntPanel * int_detail::panel_bytes(s);
}

// Bytes of scratch that one worker needs in int_pack_panels.
inline int64_t int_pack_scratch_bytes(const IntSpec& s) {
  return int_detail::align_up(kIntPanel * s.k) +
         int_detail::align_up(2 * 4 * int_detail::num_groups(s));
}

// Writes the tables at the head of `packed` and describes the matrix. One thread; panels are still
// empty.
inline IntWeights int_pack_init(const IntSpec& s, void* packed) {
  IntWeights w;
  uint8_t* base = static_cast<uint8_t*>(packed);
  const int64_t groups = int_detail::num_groups(s);
  int32_t* begin = reinterpret_cast<int32_t*>(base);
  int32_t* padded = begin + groups + 1;
  padded[0] = 0;
  for (int64_t g = 0; g <= groups; ++g) {
    begin[g] = static_cast<int32_t>(int_detail::group_begin(s, g));
    if (g > 0)
      padded[g] = padded[g - 1] + (begin[g] - begin[g - 1] + kIntStep - 1) / kIntStep * kIntStep;
  }
  if (s.perm) {
    int32_t* perm = reinterpret_cast<int32_t*>(base + int_detail::align_up(2 * (groups + 1) * 4));
    std::memcpy(perm, s.perm, static_cast<size_t>(s.k) * 4);
    w.perm = perm;
  }
  w.n = s.n;
  w.k = s.k;
  w.code_bits = int_detail::storage_bits(s);
  w.num_groups = static_cast<int32_t>(groups);
  w.scale_type = s.scale_type;
  w.zero_kind = s.zero_kind;
  w.zero_constant = s.zero_kind == IntZeroKind::kConstant ? s.zero_constant : 0;
  w.has_sums = s.sums ? 1 : 0;
  w.group_begin = begin;
  w.padded_begin = padded;
  w.panels = base + int_detail::header_bytes(s);
  w.num_panels = (s.n + kIntPanel - 1) / kIntPanel;
  w.panel_bytes = int_detail::panel_bytes(s);
  w.scale_bytes = kIntPanel * (s.scale_type == IntScaleType::kF32 ? 4 : 2);
  w.zero_bytes = s.zero_kind == IntZeroKind::kConstant
                     ? 0
                     : kIntPanel * (s.zero_kind == IntZeroKind::kOffset ? 4 : 2);
  w.sum_bytes = s.sums ? kIntPanel * 4 : 0;
  return w;
}

// Packs panels [panel_begin, panel_end): any worker may do any panels. `packed` is int_pack_init's
// buffer, `scratch` this worker's own int_pack_scratch_bytes. Codes beyond the storage width are
// cut to it.
inline void int_pack_panels(const IntWeights& w, const IntPackSource& source, int64_t panel_begin,
                            int64_t panel_end, void* packed, void* scratch) {
  uint8_t* codes = static_cast<uint8_t*>(scratch);  // [32, K]
  float* scales = reinterpret_cast<float*>(codes + int_detail::align_up(kIntPanel * w.k));  // [G]
  float* zeros = scales + w.num_groups;                                                     // [G]
  uint8_t* panels =
      static_cast<uint8_t*>(packed) + (w.panels - static_cast<const uint8_t*>(packed));
  const int mask = w.code_bits == 4 ? 15 : 255;
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    uint8_t* panel = panels + p * w.panel_bytes;
    std::memset(panel, 0, static_cast<size_t>(w.panel_bytes));
    for (int n = 0; n < kIntPanel && p * kIntPanel + n < w.n; ++n) {
      const int64_t row = p * kIntPanel + n;
      uint8_t* row_codes = codes + n * w.k;
      source.codes(source.user, row, row_codes);
      source.scales(source.user, row, scales);
      if (w.zero_kind != IntZeroKind::kConstant) source.zeros(source.user, row, zeros);
      uint8_t* at = panel;
      for (int32_t g = 0; g < w.num_groups; ++g) {
        const int32_t begin = w.group_begin[g], length = w.group_begin[g + 1] - begin;
        int64_t sum = 0;
        for (int32_t i = 0; i < length; ++i) {
          const int32_t position = begin + i;
          const int code = row_codes[w.perm ? w.perm[position] : position] & mask;
          const int step = i / kIntStep, in_step = i % kIntStep, half = in_step / 4,
                    lane = in_step % 4;
          sum += code;
          if (w.code_bits == 4) {
            at[step * 128 + n * 4 + lane] |= static_cast<uint8_t>(code << (4 * half));
          } else {
            at[step * 256 + half * 128 + n * 4 + lane] = static_cast<uint8_t>(code);
          }
        }
        at += static_cast<int64_t>(w.padded_begin[g + 1] - w.padded_begin[g]) * kIntPanel *
              w.code_bits / 8;
        int_detail::store_scale(w.scale_type, at, n, scales[g]);
        at += w.scale_bytes;
        int32_t zero = w.zero_constant;
        if (w.zero_kind == IntZeroKind::kInteger) {
          const int16_t value = static_cast<int16_t>(std::lrint(zeros[g]));
          std::memcpy(at + 2 * n, &value, 2);
          zero = value;
        } else if (w.zero_kind == IntZeroKind::kOffset) {
          std::memcpy(at + 4 * n, &zeros[g], 4);
          zero = 0;
        }
        at += w.zero_bytes;
        if (w.has_sums) {
          const int32_t value = static_cast<int32_t>(sum - static_cast<int64_t>(zero) * length);
          std::memcpy(at + 4 * n, &value, 4);
        }
        at += w.sum_bytes;
      }
    }
  }
}

// Bytes of workspace for up to `m` rows; never falls when m or n_workers grows. 64-byte aligned
// memory of the caller.
inline int64_t int_workspace_bytes(const IntWeights& w, int64_t m, IntActivation mode,
                                   int n_workers) {
  const int64_t rows = m * (mode == IntActivation::kExact ? 3 : 1);
  const int64_t tile_rows = rows < kIntSuperRows ? rows : kIntSuperRows;
  const int64_t codes =
      rows * (w.padded_begin[w.num_groups] * (w.code_bits == 8 ? 2 : 1) + 8 * w.num_groups);
  const int64_t per_worker =
      tile_rows * kIntPanel * 4 + kIntScratchRows * kIntPanel * 4 + kIntUnpackSteps * 256;
  return int_detail::align_up(codes) + int_detail::align_up(m * 8) +
         n_workers * int_detail::align_up(per_worker);
}

}  // namespace cpu
}  // namespace pluq
