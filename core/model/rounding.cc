// SPDX-License-Identifier: Apache-2.0
#include "model/rounding.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "checkpoint/convert.h"

namespace pluq {
namespace {

// The one element of a floating-point tensor; nothing when it is another kind of tensor, or when
// methods could not use it as a scale.
std::optional<float> static_scale(std::span<const pluq_tensor> tensors, std::string_view suffix) {
  for (const pluq_tensor& t : tensors) {
    if (std::string_view(t.name.data, t.name.size) != suffix) continue;
    int64_t elements = 1;
    for (uint32_t i = 0; i < t.rank; ++i) elements *= t.shape[i];
    const uint32_t id = t.dtype.id;
    const bool real = id == PLUQ_DTYPE_F32 || id == PLUQ_DTYPE_F16 || id == PLUQ_DTYPE_BF16;
    if (elements != 1 || !real || t.data == nullptr) return {};
    const float scale = to_f32(id, {static_cast<const std::byte*>(t.data), t.data_bytes})[0];
    if (!(scale > 0) || !std::isfinite(scale)) return {};
    return scale;
  }
  return {};
}

}  // namespace

std::optional<RoundScheme> engine_rounding(const MethodDescription& method,
                                           std::span<const pluq_tensor> tensors) {
  const ActivationRounding& a = method.activations;
  if (!method.takes_quantized || a.permuted) return {};
  const bool int8 = a.dtype == PLUQ_DTYPE_I8, fp8 = a.dtype == PLUQ_DTYPE_F8_E4M3;
  RoundScheme out;
  if (a.strategy == PLUQ_STRATEGY_TENSOR && !a.dynamic && a.symmetric && (int8 || fp8)) {
    const std::optional<float> scale = static_scale(tensors, a.static_scale);
    if (!scale) return {};
    out.mode = int8 ? cuda::RoundMode::kInt8Static : cuda::RoundMode::kFp8Static;
    out.static_scale = *scale;
    return out;
  }
  if (!a.dynamic) return {};
  if (a.strategy == PLUQ_STRATEGY_TOKEN && int8) {
    if (a.divisor != (a.symmetric ? 127 : 255)) return {};
    out.mode = a.symmetric ? cuda::RoundMode::kInt8Token : cuda::RoundMode::kInt8TokenAsym;
    return out;
  }
  if (!fp8 || !a.symmetric || a.divisor != 448) return {};
  if (a.strategy == PLUQ_STRATEGY_TOKEN) {
    out.mode = cuda::RoundMode::kFp8Token;
    return out;
  }
  if (a.strategy != PLUQ_STRATEGY_GROUP || a.group_size < 1) return {};
  out.mode = cuda::RoundMode::kFp8Group;
  out.group = a.group_size;
  return out;
}

std::optional<RoundScheme> common_rounding(std::span<const std::optional<RoundScheme>> schemes) {
  const bool same = std::all_of(schemes.begin(), schemes.end(), [&](const auto& s) {
    return s.has_value() && s == schemes.front();
  });
  return schemes.empty() || !same ? std::nullopt : schemes.front();
}

}  // namespace pluq
