// SPDX-License-Identifier: Apache-2.0
#include "engine/kv_choice.h"

#include <algorithm>

#include "base/error.h"
#include "checkpoint/dtype.h"

namespace pluq {
namespace {

bool is_fp8(uint32_t dtype) { return dtype == PLUQ_DTYPE_F8_E4M3 || dtype == PLUQ_DTYPE_F8_E5M2; }

// "a, b, c and 9 more"
std::string names(const std::vector<std::string>& all) {
  constexpr size_t kShown = 4;
  std::string out;
  for (size_t i = 0; i < std::min(all.size(), kShown); ++i) out += (i > 0 ? ", " : "") + all[i];
  if (all.size() > kShown) out += fmt::format(" and {} more", all.size() - kShown);
  return out;
}

void set_scale(KvChoice* choice, const std::string& name, KvScale scale) {
  static const char* const suffixes[] = {"", ":tensor", ":head", ":token"};
  choice->scale = scale;
  choice->text = name + suffixes[static_cast<int>(scale)];
}

// Why the checkpoint's scales cannot serve elements of this type; empty: they can. What fits a
// scale for one 8-bit float fits the other, too.
std::string no_scales(const KvScheme& scheme, uint32_t dtype) {
  if (scheme.format.empty()) return "the checkpoint has no KV scales";
  if (!scheme.unsupported.empty()) return "the checkpoint's scheme is not built";
  if (scheme.dynamic) return "the checkpoint has its KV scales computed";
  if (!scheme.missing.empty()) return "KV scales are missing for " + names(scheme.missing);
  if (dtype != scheme.dtype && !(is_fp8(dtype) && is_fp8(scheme.dtype))) {
    return fmt::format("the checkpoint's KV scales are for {}", kv_dtype_name(scheme.dtype));
  }
  return {};
}

// The checkpoint's scales; per tensor from those of heads the largest, which clamps nothing.
void take_scales(const KvScheme& scheme, bool per_tensor, size_t kv_heads, KvChoice* out) {
  out->k_scale = scheme.k_scale;
  out->v_scale = scheme.v_scale;
  if (!per_tensor || !scheme.per_head) return;
  for (std::vector<float>* scales : {&out->k_scale, &out->v_scale}) {
    for (auto at = scales->begin(); at != scales->end();
         at += static_cast<std::ptrdiff_t>(kv_heads)) {
      const auto end = at + static_cast<std::ptrdiff_t>(kv_heads);
      std::fill(at, end, *std::max_element(at, end));
    }
  }
}

// An 8-bit cache; `wish` is tensor, head, token or nothing.
void choose_scale(const KvScheme& scheme, const std::string& wish, size_t kv_heads,
                  const std::string& name, KvChoice* out) {
  if (wish == "token" || (wish.empty() && scheme.dynamic)) {
    set_scale(out, name, KvScale::kToken);
    return;
  }
  const std::string why = no_scales(scheme, out->dtype);
  if (why.empty()) {
    const bool per_tensor = wish == "tensor" || (wish.empty() && !scheme.per_head);
    take_scales(scheme, per_tensor, kv_heads, out);
    set_scale(out, name, per_tensor ? KvScale::kTensor : KvScale::kHead);
    for (const std::string& tensor : scheme.single) {
      out->warnings.push_back(fmt::format(
          "KV cache: there is no partner of '{}'; it scales both K and V of its layer", tensor));
    }
    return;
  }
  set_scale(out, name, KvScale::kToken);
  const bool expected = !wish.empty() || !scheme.missing.empty();
  if (expected) {
    out->warnings.push_back(
        fmt::format("KV cache: {}; scales are computed for each head and token instead", why));
  }
  out->reason += (out->reason.empty() ? "" : "; ") + why + ", so scales are computed";
}

}  // namespace

// f32 in exact mode, f16 in fast mode; but where the checkpoint rounds activations, noise of f16 in
// K and V flips roundings and grows (ct-w8a8-static: KL 5.8e-4 to its reference, against 6e-5 with
// f32), so it stays f32 there.
KvChoice choose_kv(const RunConfig& config, const std::vector<LayerReport>& layers,
                   const KvScheme& scheme, int64_t kv_heads) {
  KvChoice out;
  const bool by_checkpoint = config.activations == "checkpoint";
  if (!config.kv_dtype.empty()) {
    out.dtype = parse_kv_dtype(config.kv_dtype, "--kv-cache");
    out.text = config.kv_dtype;
  } else if (by_checkpoint && !scheme.unsupported.empty()) {
    fail_input("{}; --kv-cache DTYPE or --activations float runs the model without it",
               scheme.unsupported);
  } else if (by_checkpoint && scheme.in_force) {
    out.dtype = scheme.dtype;
    out.text = kv_dtype_name(scheme.dtype);
    out.reason = fmt::format("the checkpoint's own scheme, read by format '{}'", scheme.format);
  } else if (std::any_of(layers.begin(), layers.end(),
                         [](const LayerReport& l) { return l.rounds_activations; })) {
    out.text = "f32";
    out.reason = "default where the checkpoint rounds activations";
  } else {
    out.text = config.compute == "exact" ? "f32" : "f16";
    out.reason = "default of compute " + config.compute;
  }
  if (out.dtype == 0) out.dtype = parse_kv_dtype(out.text, "--kv-cache");
  if (is_kv_quantized(out.dtype)) {
    choose_scale(scheme, config.kv_scale, static_cast<size_t>(kv_heads), out.text, &out);
  }
  return out;
}

}  // namespace pluq
