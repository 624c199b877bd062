// SPDX-License-Identifier: Apache-2.0
// The float GEMM for its callers: sizes and packing. Not for ISA files (these include
// float_gemm_<isa>.inl alone).
#pragma once

#include <cstring>

#include "pluq/cpu/float_types.h"

namespace pluq {
namespace cpu {

inline int64_t float_type_bytes(FloatType type) {
  return type == FloatType::kF32 ? 4 : type == FloatType::kF16 || type == FloatType::kBf16 ? 2 : 1;
}
inline int64_t float_align(int64_t bytes) {
  return (bytes + kFloatAlign - 1) / kFloatAlign * kFloatAlign;
}

// Floats of the scale table.
inline int64_t float_scale_count(const FloatWeights& w) {
  if (w.scale == FloatScale::kRow) return w.n;
  if (w.scale == FloatScale::kBlock)
    return ((w.n + w.block_n - 1) / w.block_n) * ((w.k + w.block_k - 1) / w.block_k);
  return 0;
}

// Bytes of the packed buffer of a matrix whose shape, type and scale kind are set.
inline int64_t float_packed_bytes(const FloatWeights& w) {
  const int64_t panels = (w.n + kFloatPanel - 1) / kFloatPanel;
  return panels * w.k * kFloatPanel * float_type_bytes(w.type) +
         float_align(float_scale_count(w) * 4);
}

// Lays the matrix out in `packed` (64-byte aligned) and copies the scales; panels are still to be
// filled.
inline void float_pack_init(FloatWeights* w, const float* scales, void* packed) {
  w->num_panels = (w->n + kFloatPanel - 1) / kFloatPanel;
  w->panel_bytes = w->k * kFloatPanel * float_type_bytes(w->type);
  auto* base = static_cast<uint8_t*>(packed);
  w->panels = base;
  auto* table = reinterpret_cast<float*>(base + w->num_panels * w->panel_bytes);
  if (float_scale_count(*w) > 0)
    std::memcpy(table, scales, static_cast<size_t>(float_scale_count(*w)) * 4);
  w->scales = table;
}

// Fills panels [begin, end) from row-major elements [N, K] of the stored type, at any alignment.
inline void float_pack_panels(const FloatWeights& w, const void* source, int64_t begin, int64_t end,
                              void* packed) {
  const int64_t size = float_type_bytes(w.type);
  const auto* from = static_cast<const uint8_t*>(source);
  for (int64_t p = begin; p < end; ++p) {
    uint8_t* panel = static_cast<uint8_t*>(packed) + p * w.panel_bytes;
    const int64_t rows = w.n - p * kFloatPanel < kFloatPanel ? w.n - p * kFloatPanel : kFloatPanel;
    if (rows < kFloatPanel) std::memset(panel, 0, static_cast<size_t>(w.panel_bytes));
    for (int64_t r = 0; r < rows; ++r) {
      const uint8_t* row = from + (p * kFloatPanel + r) * w.k * size;
      for (int64_t k = 0; k < w.k; ++k) {
        std::memcpy(panel + (k * kFloatPanel + r) * size, row + k * size,
                    static_cast<size_t>(size));
      }
    }
  }
}

// Bytes of workspace for up to m rows; monotone in m and n_workers.
inline int64_t float_workspace_bytes(const FloatWeights& w, int64_t m, FloatRound round,
                                     int n_workers) {
  const int64_t rounded = round == FloatRound::kNone ? 0 : float_align(m * w.k * 4);
  const int64_t per_worker = kFloatDepth * kFloatPanel * 4 + 2 * float_align(m * kFloatPanel * 4);
  return rounded + n_workers * per_worker;
}

}  // namespace cpu
}  // namespace pluq
