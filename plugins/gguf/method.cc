// SPDX-License-Identifier: Apache-2.0
#include "gguf/method.h"

#include <cmath>

#include "gguf/blocks.h"
#include "pluq/cpu/tables.hpp"
#include "pluq/cuda/quantized/block_linear.hpp"
#include "pluq/gguf.hpp"

namespace gguf_format {
namespace {

using namespace pluq;

const BlockType* type_of(const Tensor& t) {
  return t.dtype_id() < PLUQ_DTYPE_GGML_BASE ? nullptr
                                             : find_block_type(t.dtype_id() - PLUQ_DTYPE_GGML_BASE);
}

class GgufMethod final : public cpu::IntLinear {
 public:
  GgufMethod(const LayerDesc& layer, const Device& device)
      : IntLinear(layer, device, cpu::int_tables()), type_(*type_of(layer.tensors.at("weight"))) {
    if (layer.in_features % type_.elements != 0) {
      throw invalid(format("layer %s: in_features is %lld, no multiple of %s's %d",
                           layer.name.c_str(), static_cast<long long>(layer.in_features),
                           type_.name, type_.elements));
    }
    shard::need_multiple(layer, shard::inputs(layer), layer.in_features, type_.elements, "columns");
    bits_ = type_.bits;
    group_size_ = type_.group;
    column_begin_ = layer.in_begin;
    group_begin_ = layer.in_begin / type_.group;
    num_groups_ = layer.k() / type_.group;
    zero_kind_ = type_.zero < 0 ? cpu::IntZeroKind::kOffset : cpu::IntZeroKind::kConstant;
    zero_constant_ = type_.zero < 0 ? 0 : type_.zero;
    scale_type_ = type_.half_scale ? cpu::IntScaleType::kF16 : cpu::IntScaleType::kF32;
    choose_activation(cpu::IntInputs::kFloat);
  }

  MethodInfo describe() const override {
    MethodInfo info;
    info.scheme = type_.name;
    if (table()) {
      info.kernel = "dequantize_f32";
    } else {
      describe_arithmetic(&info);
    }
    info.bits_per_weight = 8.0 * type_.bytes / type_.elements;
    return info;
  }

  bool table() const { return layer().kind == "embedding"; }
  uint32_t ggml_type() const { return type_.type; }
  // Refuses scales that are no finite numbers.
  void check_blocks(const Tensors& tensors) { settle(tensors); }

  std::vector<WeightSpec> create_weights() const override {
    WeightSpec w = shard::spec("weight", PLUQ_DTYPE_GGML_BASE + type_.type,
                               {layer().out_features, layer().in_features},
                               {shard::outputs(layer()), shard::inputs(layer())});
    w.output_dim = 0;
    w.input_dim = 1;
    w.block_elements = static_cast<uint32_t>(type_.elements);
    w.block_bytes = static_cast<uint32_t>(type_.bytes);
    w.group_size = type_.group;
    w.sample = Sample::bytes();
    return {w};
  }
  void fill(std::string_view, uint64_t seed, uint8_t* data, uint64_t bytes) override {
    random_blocks(type_, seed, data, bytes);
  }

  // An embedding table is only read row by row: it stays where it is.
  ProcessPlan process_plan(const Tensors& tensors) override {
    if (!table()) return IntLinear::process_plan(tensors);
    settle(tensors);
    return {};
  }
  void process_weights_after_loading(const Exec& exec, const Tensors& tensors,
                                     uint8_t* buffer) override {
    if (!table()) IntLinear::process_weights_after_loading(exec, tensors, buffer);
  }
  uint64_t workspace(int64_t max_tokens, int n_workers) const override {
    return table() ? LinearMethod::workspace(max_tokens, n_workers)
                   : IntLinear::workspace(max_tokens, n_workers);
  }
  void apply(const Exec& exec, const Activation& x, const float* bias,
             const Output& y) const override {
    if (table()) {
      fallback_apply(exec, x, bias, y);
    } else {
      IntLinear::apply(exec, x, bias, y);
    }
  }

  void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    for (int64_t n = n_begin; n < n_end; ++n)
      gguf::dequantize_row(type_.type, row(tensors, n), out + (n - n_begin) * ld, layer().k());
  }

 protected:
  void settle(const Tensors& tensors) override {
    for (int64_t n = 0; n < layer().n(); ++n) {
      for (int64_t g = 0; g < num_groups_; ++g) {
        if (std::isfinite(scale(tensors, n, g)) && std::isfinite(offset(tensors, n, g))) continue;
        throw invalid(
            format("layer %s: the %s block of row %lld, column %lld has a scale that is not finite",
                   layer().name.c_str(), type_.name, static_cast<long long>(n),
                   static_cast<long long>(g * type_.group)));
      }
    }
  }
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const uint8_t* block = row(tensors, n);
    for (int64_t k = 0; k < layer().k(); k += type_.elements, block += type_.bytes)
      block_codes(type_, block, out + k);
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    return block_scale(type_, block_of(tensors, n, g), g % per_block());
  }
  int zero(const Tensors&, int64_t, int64_t) const override { return zero_constant_; }
  float offset(const Tensors& tensors, int64_t n, int64_t g) const override {
    return block_offset(type_, block_of(tensors, n, g), g % per_block());
  }
  std::vector<int32_t> column_groups(const Tensors&) const override {
    return natural_groups(group_size_);
  }

 private:
  int64_t per_block() const { return type_.elements / type_.group; }
  const uint8_t* row(const Tensors& tensors, int64_t n) const {
    return tensors.at("weight").data() + n * (layer().k() / type_.elements) * type_.bytes;
  }
  const uint8_t* block_of(const Tensors& tensors, int64_t n, int64_t g) const {
    return row(tensors, n) + g / per_block() * type_.bytes;
  }

  const BlockType& type_;
};

// Blocks stay as they are in the file; `method` outlives it.
class GgufOnDevice final : public cuda::BlockDevice {
 public:
  explicit GgufOnDevice(GgufMethod* method) : method_(method) {}
  ProcessPlan plan(const Tensors& tensors) override {
    method_->check_blocks(tensors);
    return {};
  }
  void load(const pluq_exec&, const Tensors&, uint8_t*) override {}

 protected:
  cuda::BlockWeights weights(const Tensors& kept) const override {
    cuda::BlockWeights w;
    w.format = cuda::BlockFormat::kGguf;
    w.n = method_->layer().n(), w.k = method_->layer().k();
    w.type = static_cast<int32_t>(method_->ggml_type());
    w.codes = kept.at("weight").data();
    return w;
  }

 private:
  GgufMethod* method_;
};

}  // namespace

bool has_tensors(const LayerDesc& layer) {
  const Tensor* w = layer.tensors.find("weight");
  return w != nullptr && w->rank() == 2 && type_of(*w) != nullptr;
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device) {
  auto method = std::make_unique<GgufMethod>(layer, device);
  if (!device.is_cuda() || !cuda::has_ops(device.kind) || method->table()) return method;
  auto on_device = std::make_unique<GgufOnDevice>(method.get());
  return std::make_unique<cuda::DeviceMethod>(std::move(method), std::move(on_device), device.kind);
}

}  // namespace gguf_format
