// SPDX-License-Identifier: Apache-2.0
#include "w8a8/method.h"

#include <numeric>

#include "pluq/cpu/int_inputs.hpp"
#include "pluq/cpu/tables.hpp"
#include "pluq/cuda/quantized/block_linear.hpp"
#include "pluq/cuda/quantized/byte_linear.hpp"
#include "pluq/scale_table.hpp"

namespace w8a8 {
namespace {

using namespace pluq;

class Int8Method final : public cpu::IntLinear {
 public:
  // group_size: columns that share a scale, -1: all.
  Int8Method(const LayerDesc& layer, const Device& device, int64_t group_size,
             cpu::IntInputs inputs)
      : IntLinear(layer, device, cpu::int_tables()),
        table_(layer, layer.tensors.at("weight_scale"), group_size > 0 ? 1 : 0, group_size),
        scale_dtype_(layer.tensors.at("weight_scale").dtype_id()),
        has_zeros_(layer.tensors.has("weight_zero_point")) {
    bits_ = 8;
    zero_constant_ = 128;
    zero_kind_ = has_zeros_ ? cpu::IntZeroKind::kInteger : cpu::IntZeroKind::kConstant;
    column_begin_ = layer.in_begin;
    if (table_.kind() == ScaleTable::Kind::kBlock) {
      const shard::Range groups = shard::runs(shard::inputs(layer), group_size);
      group_size_ = group_size;
      group_begin_ = groups.begin;
      num_groups_ = groups.size();
    }
    if (has_zeros_) {
      const Tensor& z = layer.tensors.at("weight_zero_point");
      if (z.dtype_id() != PLUQ_DTYPE_I8 || z.shape() != layer.tensors.at("weight_scale").shape()) {
        throw unsupported("layer " + layer.name + ": weight_zero_point is " + z.text() +
                          "; I8 in the shape of weight_scale is built");
      }
    }
    choose_activation(inputs);
  }

  MethodInfo describe() const override {
    MethodInfo info;
    info.scheme = "int8 " + table_.text() + (has_zeros_ ? " asym" : "");
    describe_arithmetic(&info);
    info.bits_per_weight = 8 + 16.0 * static_cast<double>(table_.count()) /
                                   static_cast<double>(layer().in_features * layer().out_features);
    return info;
  }

  bool has_zeros() const { return has_zeros_; }
  // Columns per scale, counted from the shard's first one on; 0: all.
  int64_t shard_group() const { return group_size_ < 0 ? 0 : std::gcd(group_size_, column_begin_); }
  // The tensors' group that holds the shard's column k.
  int64_t group_of(int64_t k) const {
    return group_size_ < 0 ? 0 : (column_begin_ + k) / group_size_ - group_begin_;
  }

  std::vector<WeightSpec> create_weights() const override {
    std::vector<WeightSpec> out{
        shard::spec("weight", PLUQ_DTYPE_I8, {layer().out_features, layer().in_features},
                    {shard::outputs(layer()), shard::inputs(layer())}),
        table_.spec(layer())};
    out[0].input_dim = 1;
    out[0].output_dim = 0;
    out[1].sample = Sample::real(1e-3, 1e-2);
    if (has_zeros_) {
      out.push_back(out[1]);
      out.back().suffix = "weight_zero_point";
      out.back().dtype_id = PLUQ_DTYPE_I8;
      out.back().sample = Sample::bits();
    }
    out.insert(out.end(), input_specs().begin(), input_specs().end());
    return out;
  }

  cpu::StoredLayer stored(const Tensors& tensors) const override {
    cpu::StoredLayer s;
    s.codes = "weight";
    s.code_layout = {IntOrder::kBytes, false, 8, tensors.at("weight").dim(1)};
    s.code_layout.add = 128;  // bytes are signed
    if (table_.kind() == ScaleTable::Kind::kPart) return s;
    s.scales = "weight_scale";
    if (table_.kind() == ScaleTable::Kind::kRow) s.scale_layout = {1, 0};
    if (table_.kind() == ScaleTable::Kind::kBlock) s.scale_layout = {num_groups_, 1};
    if (!has_zeros_) return s;
    s.zeros = "weight_zero_point";
    s.zero_layout = {IntOrder::kBytes, false, 8, s.scale_layout.row_stride,
                     s.scale_layout.group_stride};
    s.zero_layout.add = 128;
    return s;
  }

 protected:
  void settle(const Tensors& tensors) override {
    check_scales(tensors.at("weight_scale"));
    scale_type_ = narrow(scale_dtype_);
    settle_inputs(tensors);
  }
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const int64_t k = layer().k();
    const uint8_t* row = tensors.at("weight").data() + n * k;
    for (int64_t i = 0; i < k; ++i) out[i] = static_cast<uint8_t>(row[i] ^ 0x80);
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    const Tensor& s = tensors.at("weight_scale");
    return s.real(table_.index(layer(), s, n, first_column(g)));
  }
  int zero(const Tensors& tensors, int64_t n, int64_t g) const override {
    if (!has_zeros_) return zero_constant_;
    const Tensor& z = tensors.at("weight_zero_point");
    return z.load<int8_t>(table_.index(layer(), z, n, first_column(g))) + 128;
  }
  std::vector<int32_t> column_groups(const Tensors&) const override {
    return natural_groups(group_size_);
  }

 private:
  // The first of the shard's columns that lies in its group g.
  int64_t first_column(int64_t g) const {
    return group_size_ < 0 ? 0
                           : std::max<int64_t>((group_begin_ + g) * group_size_ - column_begin_, 0);
  }

  ScaleTable table_;
  uint32_t scale_dtype_;
  bool has_zeros_;
};

// Rounded activations on a CUDA device; `method` outlives it.
class Int8OnDevice final : public cuda::ByteLinear {
 public:
  Int8OnDevice(Int8Method* method, const Device& device)
      : ByteLinear(method->layer(), device), method_(method) {
    name_kernel(cuda::ByteType::kInt8, true);
  }

 protected:
  cuda::ByteFacts facts(const Tensors& tensors) override {
    const cpu::IntLinear::Facts f = method_->facts(tensors);
    const int64_t n_end = method_->layer().n(), k_end = method_->layer().k();
    cuda::ByteFacts out;
    out.type = cuda::ByteType::kInt8;
    out.group = method_->shard_group();
    const int64_t step = out.group == 0 ? k_end : out.group;
    for (int64_t n = 0; n < n_end; ++n) {
      for (int64_t k = 0; k < k_end; k += step) {
        const int64_t g = method_->group_of(k);
        out.scales.push_back(method_->scale_of(tensors, n, g));
        if (method_->has_zeros()) out.zeros.push_back(method_->zero_of(tensors, n, g) - 128);
      }
    }
    out.rounds = true;
    out.mode = f.inputs == cpu::IntInputs::kToken       ? cuda::RoundMode::kInt8Token
               : f.inputs == cpu::IntInputs::kTokenAsym ? cuda::RoundMode::kInt8TokenAsym
                                                        : cuda::RoundMode::kInt8Static;
    out.static_scale = f.static_scale;
    out.static_zero = f.static_zero;
    return out;
  }

 private:
  Int8Method* method_;
};

std::unique_ptr<LinearMethod> on_device(std::unique_ptr<Int8Method> method, const Device& device) {
  const LayerDesc& layer = method->layer();
  if (!method->rounds_inputs() || layer.k() > cuda::kMaxInt8Depth ||
      !cuda::byte_groups_fit(layer.k(), method->shard_group(), 0)) {
    return cuda::int_blocks_method(std::move(method), device);
  }
  auto linear = std::make_unique<Int8OnDevice>(method.get(), device);
  return std::make_unique<cuda::DeviceMethod>(std::move(method), std::move(linear), device.kind);
}

}  // namespace

bool has_tensors(const LayerDesc& layer) {
  const Tensor* w = layer.tensors.find("weight");
  return w != nullptr && w->dtype_id() == PLUQ_DTYPE_I8 && layer.tensors.has("weight_scale");
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device,
                                          const ct::QuantArgs& weights,
                                          const ct::QuantArgs* inputs) {
  if (weights.bits != 8 || weights.is_float)
    throw unsupported("weights of " + std::to_string(weights.bits) + " bits are not w8a8's");
  if (!weights.symmetric && !layer.tensors.has("weight_zero_point")) {
    throw invalid("layer " + layer.name +
                  ": symmetric is false, but tensor 'weight_zero_point' is missing");
  }
  int64_t group_size = -1;
  if (weights.strategy == ct::Strategy::kGroup) {
    group_size = weights.group_size;
    if (group_size < 1)
      throw invalid(format("group_size is %lld; accepted are -1 and whole numbers from 1",
                           static_cast<long long>(group_size)));
  } else if (weights.strategy != ct::Strategy::kTensor &&
             weights.strategy != ct::Strategy::kChannel) {
    throw unsupported("strategy '" + weights.strategy_text +
                      "' of int8 weights is not built; tensor, channel and group are");
  }
  cpu::IntInputs in = cpu::IntInputs::kFloat;
  if (inputs != nullptr) {
    std::string why;
    in = cpu::int8_inputs(*inputs, &why);
    if (!why.empty()) throw unsupported("int8 weights: " + why);
  }
  auto method = std::make_unique<Int8Method>(layer, device, group_size, in);
  if (device.is_cuda() && cuda::has_ops(device.kind)) return on_device(std::move(method), device);
  return method;
}

}  // namespace w8a8
