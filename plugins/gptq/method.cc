// SPDX-License-Identifier: Apache-2.0
#include "gptq/method.h"

#include <cmath>

#include "gptq/kernels.h"
#include "pluq/pack.hpp"

namespace gptq {
namespace {

using namespace pluq;
using cpu::IntLinear;

long long ll(int64_t v) { return static_cast<long long>(v); }

// What both layouts share: groups, activation arithmetic, description.
class PackedInt : public IntLinear {
 public:
  PackedInt(const LayerDesc& layer, const Device& device, const Settings& settings)
      : IntLinear(layer, device, kernel_tables()), settings_(settings) {
    if (!layer.whole()) throw unsupported("layer " + layer.name + ": split layers are not built yet");
    bits_ = settings.bits;
    group_size_ = settings.group_size;
    const int64_t size = group_size_ < 0 ? layer.k() : group_size_;
    num_groups_ = (layer.k() + size - 1) / size;
    zero_constant_ = 1 << (bits_ - 1);
    zero_kind_ = settings.sym ? cpu::IntZeroKind::kConstant : cpu::IntZeroKind::kInteger;
    const bool exact = layer.exact || layer.float_activations;
    activation_ = exact ? cpu::IntActivation::kExact : cpu::IntActivation::kGroup;
  }

  MethodInfo describe() const override {
    MethodInfo info;
    const std::string group = settings_.group_size < 0 ? "channel" : "g" + std::to_string(settings_.group_size);
    info.scheme = "int" + std::to_string(bits_) + " " + group + (settings_.sym ? " sym" : " asym") +
                  (settings_.desc_act ? " act-order" : "");
    info.kernel = kernel_name();
    const bool exact = activation_ == cpu::IntActivation::kExact;
    info.arithmetic = exact ? PLUQ_ARITHMETIC_F32 : PLUQ_ARITHMETIC_INT8;
    info.error_bound = exact ? 1e-5 : 1.5e-2;
    const double per_group = static_cast<double>(layer().k()) / static_cast<double>(num_groups_);
    info.bits_per_weight = bits_ + (16.0 + (settings_.sym ? 0 : bits_)) / per_group;
    return info;
  }

 protected:
  std::vector<int32_t> column_groups(const Tensors& tensors) const override {
    std::vector<int32_t> out = natural_groups(settings_.group_size);
    const Tensor* order = tensors.find(order_name());
    if (order == nullptr || !has_order(*order)) return out;
    for (size_t k = 0; k < out.size(); ++k) {
      out[k] = order->load<int32_t>(static_cast<int64_t>(k));
      if (out[k] < 0 || out[k] >= num_groups_) throw invalid(format("layer %s: %s[%zu] is %d, outside the %lld groups", layer().name.c_str(), order_name(), k, out[k], ll(num_groups_)));
    }
    return out;
  }
  virtual const char* order_name() const = 0;

  // A g_idx that says k / group_size, or only zeros or -1, orders nothing.
  bool has_order(const Tensor& t) const {
    if (t.data() == nullptr || t.elements() == 0) return false;
    bool natural = true, uniform = true;
    const int32_t first = t.load<int32_t>(0);
    for (int64_t k = 0; k < t.elements(); ++k) {
      const int32_t g = t.load<int32_t>(k);
      natural = natural && g == (settings_.group_size < 0 ? 0 : k / settings_.group_size);
      uniform = uniform && g == first;
    }
    return !natural && !(uniform && (first == 0 || first == -1));
  }

  void settle_order(const Tensors& tensors) {
    g_idx_.clear();
    const Tensor* t = tensors.find(order_name());
    if (t == nullptr || !has_order(*t)) {
      if (t == nullptr && settings_.desc_act && settings_.group_size > 0 && needs_order()) {
        throw invalid("layer " + layer().name + ": the config says desc_act, but tensor '" + order_name() + "' is missing");
      }
      return;
    }
    g_idx_ = column_groups(tensors);
  }
  virtual bool needs_order() const { return true; }

  void settle_scales(const Tensor& scales) {
    scale_type_ = narrow(scales.dtype_id());
    for (int64_t i = 0; i < scales.elements(); ++i) {
      const float s = scales.real(i);
      if (!std::isfinite(s)) {
        throw invalid(format("layer %s: %s holds %g at %lld; scales must be finite", layer().name.c_str(), scales.name().c_str(),
                             static_cast<double>(s), ll(i)));
      }
    }
  }

  const Settings settings_;
};

class GptqMethod final : public PackedInt {
 public:
  GptqMethod(const LayerDesc& layer, const Device& device, const Settings& settings) : PackedInt(layer, device, settings) {
    scales_dtype_ = layer.tensors.at("scales").dtype_id();
    bias_like_g_idx_ = layer.tensors.has("g_idx");
    has_zeros_ = layer.tensors.has("qzeros");
    if (!has_zeros_ && !settings.sym) throw invalid("layer " + layer.name + ": sym is false, but tensor 'qzeros' is missing");
  }

  std::vector<WeightSpec> create_weights() const override {
    const int64_t k = layer().in_features, n = layer().out_features;
    std::vector<WeightSpec> out(2);
    out[0].suffix = "qweight";
    out[0].dtype_id = PLUQ_DTYPE_I32;
    out[0].shape = {pack::stream_words(k, bits_), n};
    out[0].input_dim = 0;
    out[0].output_dim = 1;
    out[0].packed_dim = 0;
    out[0].pack_elements = 32;
    out[0].pack_words = bits_;
    out[1].suffix = "scales";
    out[1].dtype_id = scales_dtype_;
    out[1].shape = {num_groups_, n};
    out[1].sample = Sample::real(1e-3, 1e-2);
    out[1].input_dim = 0;
    out[1].output_dim = 1;
    if (has_zeros_) {
      WeightSpec z;
      z.suffix = "qzeros";
      z.dtype_id = PLUQ_DTYPE_I32;
      z.shape = {num_groups_, pack::stream_words(n, bits_)};
      z.output_dim = 1;
      z.packed_dim = 1;
      z.pack_elements = 32;
      z.pack_words = bits_;
      out.push_back(z);
    }
    if (bias_like_g_idx_) {
      WeightSpec g;
      g.suffix = "g_idx";
      g.dtype_id = PLUQ_DTYPE_I32;
      g.shape = {k};
      g.sample = Sample::index(num_groups_, settings_.group_size < 0 ? k : settings_.group_size);
      g.input_dim = 0;
      out.push_back(g);
    }
    for (WeightSpec& s : out) s.group_size = settings_.group_size;
    return out;
  }

 protected:
  const char* order_name() const override { return "g_idx"; }

  void settle(const Tensors& tensors) override {
    settle_order(tensors);
    settle_scales(tensors.at("scales"));
    if (has_zeros_ && settings_.sym) check_symmetric_zeros(tensors.at("qzeros"));
  }

  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const Tensor& q = tensors.at("qweight");
    const int64_t stride = layer().out_features, k_end = layer().in_features;
    const uint8_t* column = q.data() + n * 4;
    if (settings_.planar) {
      for (int64_t k = 0; k < k_end; ++k) out[k] = static_cast<uint8_t>(pack::planar_code(column, stride, bits_, k));
    } else {
      for (int64_t k = 0; k < k_end; ++k) out[k] = static_cast<uint8_t>(pack::stream_code(column, stride, bits_, k));
    }
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    return tensors.at("scales").real(g * layer().out_features + n);
  }
  int zero(const Tensors& tensors, int64_t n, int64_t g) const override {
    if (settings_.sym) return zero_constant_;
    const Tensor& z = tensors.at("qzeros");
    return pack::gptq_zero(z.data(), z.dim(1), g, n, bits_, settings_.v1, settings_.planar);
  }

 private:
  // With sym the zero points carry no information; a file whose words fit neither convention is damaged, and one whose
  // words are the other version's has a label that lies, which does no harm here.
  void check_symmetric_zeros(const Tensor& z) const {
    const bool planar = settings_.planar;
    const int as_v1 = pack::gptq_zero(z.data(), z.dim(1), 0, 0, bits_, true, planar);
    const int as_v2 = pack::gptq_zero(z.data(), z.dim(1), 0, 0, bits_, false, planar);
    if (settings_.v1 && as_v1 != zero_constant_ && as_v2 == zero_constant_) {
      log(PLUQ_LOG_WARNING, "layer " + layer().name + ": the config says GPTQ version 1, qzeros is in version 2; symmetric "
                            "zero points are used either way");
    } else if (as_v1 != zero_constant_ && as_v2 != zero_constant_) {
      log(PLUQ_LOG_WARNING, format("layer %s: the config says sym, but qzeros begins with %d (version 1) or %d (version 2), not %d",
                                   layer().name.c_str(), as_v1, as_v2, zero_constant_));
    }
  }

  uint32_t scales_dtype_;
  bool bias_like_g_idx_, has_zeros_;
};

class PackedMethod final : public PackedInt {
 public:
  PackedMethod(const LayerDesc& layer, const Device& device, const Settings& settings) : PackedInt(layer, device, settings) {
    const int64_t k = layer.in_features, words = layer.tensors.at("weight_packed").dim(1);
    scales_dtype_ = layer.tensors.at("weight_scale").dtype_id();
    scale_shape_ = layer.tensors.at("weight_scale").shape();
    // Widths that do not divide 32 were packed floor(32 / b) to a word by older versions.
    sparse_ = 32 % bits_ != 0 && words != pack::stream_words(k, bits_) && words == (k + 32 / bits_ - 1) / (32 / bits_);
    if (!settings.sym && !layer.tensors.has("weight_zero_point")) {
      throw invalid("layer " + layer.name + ": symmetric is false, but tensor 'weight_zero_point' is missing");
    }
  }

  std::vector<WeightSpec> create_weights() const override {
    const int64_t k = layer().in_features, n = layer().out_features;
    std::vector<WeightSpec> out(3);
    out[0].suffix = "weight_packed";
    out[0].dtype_id = PLUQ_DTYPE_I32;
    out[0].shape = {n, sparse_ ? (k + 32 / bits_ - 1) / (32 / bits_) : pack::stream_words(k, bits_)};
    out[0].input_dim = 1;
    out[0].output_dim = 0;
    out[0].packed_dim = 1;
    out[0].pack_elements = 32;
    out[0].pack_words = bits_;
    out[1].suffix = "weight_scale";
    out[1].dtype_id = scales_dtype_;
    out[1].shape = per_tensor() ? scale_shape_ : std::vector<int64_t>{n, num_groups_};
    out[1].sample = Sample::real(1e-3, 1e-2);
    out[1].input_dim = 1;
    out[1].output_dim = 0;
    out[2].suffix = "weight_shape";
    out[2].dtype_id = PLUQ_DTYPE_I64;
    out[2].shape = {2};
    out[2].sample = Sample::shape();
    out[2].optional = true;
    if (layer().tensors.has("weight_zero_point")) {
      WeightSpec z;
      z.suffix = "weight_zero_point";
      z.dtype_id = PLUQ_DTYPE_I32;
      z.shape = {sparse_ ? (n + 32 / bits_ - 1) / (32 / bits_) : pack::stream_words(n, bits_), num_groups_};
      z.output_dim = 0;
      z.packed_dim = 0;
      z.pack_elements = 32;
      z.pack_words = bits_;
      out.push_back(z);
    }
    if (layer().tensors.has("weight_g_idx")) {
      WeightSpec g;
      g.suffix = "weight_g_idx";
      g.dtype_id = PLUQ_DTYPE_I32;
      g.shape = {k};
      g.sample = Sample::index(num_groups_, settings_.group_size < 0 ? k : settings_.group_size);
      out.push_back(g);
    }
    return out;
  }

 protected:
  const char* order_name() const override { return "weight_g_idx"; }
  bool needs_order() const override { return false; }  // actorder "weight" stores no order

  void settle(const Tensors& tensors) override {
    settle_order(tensors);
    settle_scales(tensors.at("weight_scale"));
  }
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const Tensor& q = tensors.at("weight_packed");
    const uint8_t* row = q.data() + n * q.dim(1) * 4;
    for (int64_t k = 0; k < layer().in_features; ++k) {
      out[k] = static_cast<uint8_t>(sparse_ ? pack::sparse_code(row, bits_, k) : pack::stream_code(row, 1, bits_, k));
    }
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    return tensors.at("weight_scale").real(per_tensor() ? 0 : n * num_groups_ + g);
  }
  int zero(const Tensors& tensors, int64_t n, int64_t g) const override {
    if (settings_.sym) return zero_constant_;
    const Tensor& z = tensors.at("weight_zero_point");
    const uint8_t* column = z.data() + g * 4;
    if (!sparse_) return static_cast<int>(pack::stream_code(column, num_groups_, bits_, n));
    const int per_word = 32 / bits_;
    return static_cast<int>(pack::load_u32(column, n / per_word * num_groups_) >> (n % per_word * bits_) & ((1U << bits_) - 1));
  }

 private:
  bool per_tensor() const { return scale_shape_.size() < 2; }
  uint32_t scales_dtype_;
  std::vector<int64_t> scale_shape_;
  bool sparse_ = false;
};

}  // namespace

bool has_gptq_tensors(const LayerDesc& layer) {
  const Tensor *q = layer.tensors.find("qweight"), *s = layer.tensors.find("scales");
  // AWQ's qweight has K rows; GPTQ's are packed along K.
  return q != nullptr && s != nullptr && q->rank() == 2 && q->dtype_id() == PLUQ_DTYPE_I32 && q->dim(0) < layer.in_features &&
         q->dim(1) == layer.out_features;
}

bool has_packed_tensors(const LayerDesc& layer) {
  return layer.tensors.has("weight_packed") && layer.tensors.has("weight_scale") &&
         layer.tensors.at("weight_packed").dtype_id() == PLUQ_DTYPE_I32;
}

std::unique_ptr<LinearMethod> make_gptq(const LayerDesc& layer, const Device& device, const Settings& settings) {
  return std::make_unique<GptqMethod>(layer, device, settings);
}

std::unique_ptr<LinearMethod> make_packed(const LayerDesc& layer, const Device& device, const Settings& settings) {
  return std::make_unique<PackedMethod>(layer, device, settings);
}

}  // namespace gptq
