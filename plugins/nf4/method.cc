// SPDX-License-Identifier: Apache-2.0
// Two ways to multiply. Exactly: rows are decoded and multiplied as floats. Fast: the 16 values are
// rounded to 127ths, so that the integer kernels serve; with blocks that span rows, or K no
// multiple of the block, always exactly.
#include "nf4/method.h"

#include <algorithm>
#include <cmath>

#include "nf4/statistics.h"
#include "pluq/cpu/tables.hpp"
#include "pluq/cuda/quantized/block_linear.hpp"

namespace nf4 {
namespace {

using namespace pluq;

class Nf4Method final : public cpu::IntLinear {
 public:
  Nf4Method(const LayerDesc& layer, const Device& device)
      : IntLinear(layer, device, cpu::int_tables()) {
    if (!layer.whole()) {
      throw unsupported(
          "layer " + layer.name +
          ": blocks of bitsandbytes run over the flattened weight, so split layers are not built");
    }
    elements_ = layer.in_features * layer.out_features;
    if (layer.in_features % 2 != 0) {
      throw unsupported(
          format("layer %s: in_features is %lld; rows of 4-bit codes must begin at a byte, so it "
                 "must be even",
                 layer.name.c_str(), static_cast<long long>(layer.in_features)));
    }
    if (const Tensor& w = layer.tensors.at("weight"); w.elements() != elements_ / 2) {
      throw invalid(format(
          "layer %s: weight is %s, expected %lld bytes for [%lld, %lld]", layer.name.c_str(),
          w.text().c_str(), static_cast<long long>(elements_ / 2),
          static_cast<long long>(layer.out_features), static_cast<long long>(layer.in_features)));
    }
    const int64_t blocks = std::max<int64_t>(layer.tensors.at("weight.absmax").elements(), 1);
    guess_ = (elements_ + blocks - 1) / blocks;  // the block size, until the quant state is read
    state_ = state_suffix(layer.tensors);
    fast_ =
        !layer.exact && !layer.float_activations && guess_ > 0 && layer.in_features % guess_ == 0;
    bits_ = 8;
    zero_constant_ = 128;
    group_size_ = guess_;
    num_groups_ = fast_ ? layer.in_features / guess_ : 1;
    choose_activation(cpu::IntInputs::kFloat);
  }

  MethodInfo describe() const override {
    MethodInfo info;
    const bool fp4 = state_.size() >= 3 && state_.compare(state_.size() - 3, 3, "fp4") == 0;
    const bool nested = layer().tensors.at("weight.absmax").dtype_id() == PLUQ_DTYPE_U8;
    info.scheme = std::string(fp4 ? "fp4" : "nf4") + " b" + std::to_string(guess_) +
                  (nested ? " nested" : "");
    info.bits_per_weight = 4 + (nested ? 8.0 + 32.0 / 256 : 32.0) / static_cast<double>(guess_);
    if (fast_) {
      describe_arithmetic(&info);
      // A value moves by at most 1/254 of the block's largest; a block's root mean square is above
      // a fifth of that.
      info.error_bound += 5.0 / 254;
      info.reason = "values rounded to 127ths; --compute exact keeps them";
    } else {
      info.kernel = "dequantize_f32";
      info.arithmetic = PLUQ_ARITHMETIC_F32;
      info.error_bound = 1e-5;
      info.reason = layer().exact || layer().float_activations
                        ? "the table's values are no integers"
                        : "a block spans rows";
    }
    return info;
  }

  int64_t elements() const { return elements_; }

  std::vector<WeightSpec> create_weights() const override {
    std::vector<WeightSpec> out;
    for (const Tensor& t : layer().tensors.all()) {
      if (t.name() != "weight" && t.name().rfind("weight.", 0) != 0) continue;
      WeightSpec s = shard::spec(t.name().c_str(), t.dtype_id(), t.shape(), {});
      if (t.name() == "weight.quant_map" || t.name() == "weight.nested_quant_map")
        s.sample = Sample::real(-1, 1);
      if (t.dtype_id() == PLUQ_DTYPE_F32 && t.name().find("absmax") != std::string::npos)
        s.sample = Sample::real(1e-3, 1e-2);
      if (t.name() == state_) s.sample = Sample::bytes();
      out.push_back(s);
    }
    return out;
  }

  ProcessPlan process_plan(const Tensors& tensors) override {
    if (fast_) return IntLinear::process_plan(tensors);
    settle(tensors);
    return {};  // the tensors stay; apply decodes rows
  }
  void process_weights_after_loading(const Exec& exec, const Tensors& tensors,
                                     uint8_t* buffer) override {
    if (!fast_) return;
    stats_.bind(tensors);
    IntLinear::process_weights_after_loading(exec, tensors, buffer);
  }
  uint64_t workspace(int64_t max_tokens, int n_workers) const override {
    return fast_ ? IntLinear::workspace(max_tokens, n_workers)
                 : LinearMethod::workspace(max_tokens, n_workers);
  }
  void apply(const Exec& exec, const Activation& x, const float* bias,
             const Output& y) const override {
    if (fast_) {
      IntLinear::apply(exec, x, bias, y);
    } else {
      fallback_apply(exec, x, bias, y);
    }
  }

  void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    Statistics stats = stats_;
    if (settled_) {
      stats.bind(tensors);
    } else {
      stats = read_statistics(layer().name, tensors, elements_, false);
    }
    const uint8_t* packed = tensors.at("weight").data();
    const int64_t k = layer().k();
    for (int64_t n = n_begin; n < n_end; ++n) {
      float* row = out + (n - n_begin) * ld;
      for (int64_t i = 0; i < k;) {
        const int64_t block = (n * k + i) / stats.blocksize;
        const int64_t end = std::min(k, (block + 1) * stats.blocksize - n * k);
        const float scale = stats.scale(block);
        for (; i < end; ++i) row[i] = stats.map[code(packed, n * k + i)] * scale;
      }
    }
  }

  void fill(std::string_view, uint64_t, uint8_t* data, uint64_t bytes) override {
    const std::string text = "{\"blocksize\": " + std::to_string(guess_) +
                             ", \"nested_blocksize\": 256, \"nested_offset\": 0.05}";
    std::memset(data, ' ', bytes);
    if (text.size() <= bytes) std::memcpy(data, text.data(), text.size());
  }

 protected:
  void settle(const Tensors& tensors) override {
    const Statistics stats = read_statistics(layer().name, tensors, elements_, true);
    if (fast_ && stats.blocksize != group_size_) {
      throw invalid(
          format("layer %s: the quant state says blocksize %lld, but weight.absmax has one value "
                 "per %lld weights",
                 layer().name.c_str(), static_cast<long long>(stats.blocksize),
                 static_cast<long long>(group_size_)));
    }
    for (size_t i = 0; i < 16; ++i) {
      if (fast_ && std::fabs(stats.map[i]) > 1) {
        throw invalid(format("layer %s: weight.quant_map[%zu] is %g, expected -1 to 1",
                             layer().name.c_str(), i, static_cast<double>(stats.map[i])));
      }
      rounded_[i] =
          static_cast<uint8_t>(std::lround(std::clamp(stats.map[i], -1.0F, 1.0F) * 127.0F) + 128);
    }
    stats_ = stats;
    settled_ = true;
  }
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const uint8_t* packed = tensors.at("weight").data();
    for (int64_t i = 0; i < layer().k(); ++i) out[i] = rounded_[code(packed, n * layer().k() + i)];
  }
  float scale(const Tensors&, int64_t n, int64_t g) const override {
    return stats_.scale(n * num_groups_ + g) / 127.0F;
  }
  int zero(const Tensors&, int64_t, int64_t) const override { return 128; }
  std::vector<int32_t> column_groups(const Tensors&) const override {
    return natural_groups(group_size_);
  }

 private:
  // The first element of a byte is its upper half.
  static size_t code(const uint8_t* packed, int64_t i) {
    return packed[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15U;
  }

  int64_t elements_ = 0, guess_ = 64;
  bool fast_ = false, settled_ = false;
  std::string state_;
  Statistics stats_;
  uint8_t rounded_[16] = {};
};

// Codes stay as they are in the file; scales are resolved while loading. `method` outlives it.
class Nf4OnDevice final : public cuda::BlockDevice {
 public:
  explicit Nf4OnDevice(Nf4Method* method) : method_(method) {}
  ProcessPlan plan(const Tensors& tensors) override {
    const LayerDesc& layer = method_->layer();
    Statistics stats = read_statistics(layer.name, tensors, method_->elements(), true);
    stats.bind(tensors);
    w_.format = cuda::BlockFormat::kNf4;
    w_.n = layer.n(), w_.k = layer.k(), w_.group = stats.blocksize;
    scales_.assign(stats.map.begin(), stats.map.end());  // the values of the codes lie before them
    for (int64_t b = 0; b * stats.blocksize < method_->elements(); ++b)
      scales_.push_back(stats.scale(b));
    ProcessPlan plan;
    plan.buffer_bytes = scales_.size() * sizeof(float);
    plan.cache_key = "cuda-nf4-scales-1";
    return plan;
  }
  void load(const pluq_exec& exec, const Tensors&, uint8_t* buffer) override {
    cuda::upload(exec, scales_, buffer);
    w_.table = reinterpret_cast<const float*>(buffer);
    w_.scales = w_.table + 16;
    scales_ = {};
  }

 protected:
  cuda::BlockWeights weights(const Tensors& kept) const override {
    cuda::BlockWeights w = w_;
    w.codes = kept.at("weight").data();
    return w;
  }

 private:
  Nf4Method* method_;
  cuda::BlockWeights w_;
  std::vector<float> scales_;
};

}  // namespace

bool has_tensors(const LayerDesc& layer) {
  const Tensor* w = layer.tensors.find("weight");
  return w != nullptr && w->dtype_id() == PLUQ_DTYPE_U8 && layer.tensors.has("weight.absmax");
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device) {
  auto method = std::make_unique<Nf4Method>(layer, device);
  if (!device.is_cuda() || !cuda::has_ops(device.kind)) return method;
  auto on_device = std::make_unique<Nf4OnDevice>(method.get());
  return std::make_unique<cuda::DeviceMethod>(std::move(method), std::move(on_device), device.kind);
}

}  // namespace nf4
