// SPDX-License-Identifier: Apache-2.0
#include "awq/method.h"

#include "pluq/cpu/tables.hpp"
#include "pluq/cuda/quantized/weight_only.hpp"
#include "pluq/pack.hpp"
#include "pluq/shard.hpp"

namespace awq {
namespace {

using namespace pluq;

// What the layouts share; one class each says where codes, scales and zeros lie.
class AwqMethod : public cpu::IntLinear {
 public:
  AwqMethod(const LayerDesc& layer, const Device& device, Layout layout, int64_t group_size)
      : IntLinear(layer, device, cpu::int_tables()),
        layout_(layout),
        scales_(layer.tensors.at("scales")) {
    bits_ = 4;
    group_size_ = group_size < 0 ? layer.in_features : group_size;
    const shard::Range groups = shard::runs(shard::inputs(layer), group_size_);
    column_begin_ = layer.in_begin;
    group_begin_ = groups.begin;
    num_groups_ = groups.size();
    zero_kind_ = cpu::IntZeroKind::kInteger;
    choose_activation(cpu::IntInputs::kFloat);
  }

  MethodInfo describe() const override {
    MethodInfo info;
    info.scheme = "int4 g" + std::to_string(group_size_) + " asym";
    if (layout_ != Layout::kGemm) info.scheme += std::string(" ") + layout_name(layout_);
    describe_arithmetic(&info);
    info.bits_per_weight =
        4 + (layout_ == Layout::kTiles ? 32.0 : 20.0) / static_cast<double>(group_size_);
    return info;
  }

 protected:
  void settle(const Tensors& tensors) override {
    check_scales(tensors.at("scales"));
    scale_type_ = narrow(scales_.dtype_id());
  }
  std::vector<int32_t> column_groups(const Tensors&) const override {
    return natural_groups(group_size_);
  }

  shard::Range groups() const { return {group_begin_, group_begin_ + num_groups_}; }
  // Rows or columns of a padded table of groups: all of them, padding too, unless the shard needs a
  // part.
  shard::Range padded_groups(int64_t stored) const {
    return shard::splits_inputs(layer()) ? groups() : shard::Range{0, stored};
  }
  WeightSpec scale_spec(std::vector<int64_t> shape, const std::vector<shard::Range>& box) const {
    WeightSpec s = shard::spec("scales", scales_.dtype_id(), std::move(shape), box);
    s.sample = Sample::real(1e-3, 1e-2);
    return s;
  }
  void finish(WeightSpec* s, int input_dim, int output_dim, int packed_dim) const {
    s->input_dim = input_dim;
    s->output_dim = output_dim;
    s->packed_dim = packed_dim;
    s->group_size = group_size_;
    s->pack_elements = packed_dim < 0 ? 1 : s->dtype_id == PLUQ_DTYPE_I16 ? 4 : 8;
  }

  const Layout layout_;
  const Tensor scales_;  // header
};

class GemmMethod final : public AwqMethod {
 public:
  GemmMethod(const LayerDesc& layer, const Device& device, int64_t group_size)
      : AwqMethod(layer, device, Layout::kGemm, group_size) {
    if (layer.out_features % 8 != 0) {
      throw invalid(format("layer %s: N = %lld is not a multiple of 8, as AWQ's gemm layout needs",
                           layer.name.c_str(), static_cast<long long>(layer.out_features)));
    }
    shard::need_multiple(layer, shard::outputs(layer), layer.out_features, 8, "rows");
  }
  std::vector<WeightSpec> create_weights() const override {
    const int64_t k = layer().in_features, n = layer().out_features,
                  all = shard::runs({0, k}, group_size_).end;
    const shard::Range rows = shard::outputs(layer()), words{rows.begin / 8, rows.end / 8};
    std::vector<WeightSpec> out{
        shard::spec("qweight", PLUQ_DTYPE_I32, {k, n / 8}, {shard::inputs(layer()), words}),
        shard::spec("qzeros", PLUQ_DTYPE_I32, {all, n / 8}, {groups(), words}),
        scale_spec({all, n}, {groups(), rows})};
    finish(&out[0], 0, 1, 1);
    finish(&out[1], 0, 1, 1);
    finish(&out[2], 0, 1, -1);
    return out;
  }
  cpu::StoredLayer stored(const Tensors& tensors) const override {
    cpu::StoredLayer s;
    s.codes = "qweight", s.zeros = "qzeros", s.scales = "scales";
    s.code_layout = {IntOrder::kAwq, true, 4, tensors.at("qweight").dim(1)};
    s.zero_layout = {IntOrder::kAwq, true, 4, tensors.at("qzeros").dim(1)};
    s.scale_layout = {1, tensors.at("scales").dim(1)};
    return s;
  }

 protected:
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const Tensor& q = tensors.at("qweight");
    for (int64_t k = 0; k < layer().k(); ++k)
      out[k] = static_cast<uint8_t>(pack::awq_code(q.data(), q.dim(1), k, n));
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    const Tensor& s = tensors.at("scales");
    return s.real(g * s.dim(1) + n);
  }
  int zero(const Tensors& tensors, int64_t n, int64_t g) const override {
    const Tensor& z = tensors.at("qzeros");
    return static_cast<int>(pack::awq_code(z.data(), z.dim(1), g, n));
  }
};

class GemvMethod final : public AwqMethod {
 public:
  GemvMethod(const LayerDesc& layer, const Device& device, int64_t group_size)
      : AwqMethod(layer, device, Layout::kGemv, group_size) {
    shard::need_multiple(layer, shard::inputs(layer), layer.in_features, 8, "columns");
  }
  std::vector<WeightSpec> create_weights() const override {
    const int64_t k = layer().in_features, n = layer().out_features, stored = scales_.dim(1);
    const shard::Range rows = shard::outputs(layer()), in = shard::inputs(layer()),
                       part = padded_groups(stored);
    std::vector<WeightSpec> out{
        shard::spec("qweight", PLUQ_DTYPE_I32, {n, k / 8}, {rows, shard::stream_words(in, 4)}),
        shard::spec("qzeros", PLUQ_DTYPE_I32, {n, stored / 8},
                    {rows, shard::stream_words(part, 4)}),
        scale_spec({n, stored}, {rows, part})};
    finish(&out[0], 1, 0, 1);
    finish(&out[1], 1, 0, 1);
    finish(&out[2], 1, 0, -1);
    return out;
  }
  cpu::StoredLayer stored(const Tensors& tensors) const override {
    cpu::StoredLayer s;
    s.codes = "qweight", s.zeros = "qzeros", s.scales = "scales";
    s.code_layout = {IntOrder::kStream, false, 4, tensors.at("qweight").dim(1)};
    s.zero_layout = {IntOrder::kStream, false, 4, tensors.at("qzeros").dim(1)};
    s.zero_layout.first = first_zero();
    s.scale_layout = {tensors.at("scales").dim(1), 1};
    return s;
  }

 protected:
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const Tensor& q = tensors.at("qweight");
    const uint8_t* row = q.data() + n * q.dim(1) * 4;
    for (int64_t k = 0; k < layer().k(); ++k)
      out[k] = static_cast<uint8_t>(pack::stream_code(row, 1, 4, k));
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    const Tensor& s = tensors.at("scales");
    return s.real(n * s.dim(1) + g);
  }
  int zero(const Tensors& tensors, int64_t n, int64_t g) const override {
    const Tensor& z = tensors.at("qzeros");
    return static_cast<int>(pack::stream_code(z.data() + n * z.dim(1) * 4, 1, 4, first_zero() + g));
  }

 private:
  // The shard's words begin at a multiple of eight groups, its scales at its first group.
  int64_t first_zero() const { return group_begin_ % 8; }
};

class TilesMethod final : public AwqMethod {
 public:
  TilesMethod(const LayerDesc& layer, const Device& device, int64_t group_size)
      : AwqMethod(layer, device, Layout::kTiles, group_size),
        zeros_name_(layer.tensors.has("scaled_zeros") ? "scaled_zeros" : "qzeros"),
        zeros_(layer.tensors.at(zeros_name_)) {
    if (!is_float_weight(zeros_.dtype_id())) {
      throw unsupported("layer " + layer.name + ": " + zeros_name_ + " is " + zeros_.text() +
                        "; beside int16 tiles it must hold -scale * zero as F16, BF16 or F32");
    }
    if (layer.in_features % 64 != 0 || layer.out_features % 4 != 0) {
      throw invalid(
          format("layer %s: K = %lld and N = %lld; AWQ's int16 tiles need multiples of 64 and 4",
                 layer.name.c_str(), static_cast<long long>(layer.in_features),
                 static_cast<long long>(layer.out_features)));
    }
    shard::need_multiple(layer, shard::inputs(layer), layer.in_features, 64, "columns");
    shard::need_multiple(layer, shard::outputs(layer), layer.out_features, 4, "rows");
    zero_kind_ = cpu::IntZeroKind::kOffset;
  }
  std::vector<WeightSpec> create_weights() const override {
    const int64_t k = layer().in_features, n = layer().out_features, stored = scales_.dim(0);
    const shard::Range rows = shard::outputs(layer()), part = padded_groups(stored);
    std::vector<WeightSpec> out{
        shard::spec("qweight", PLUQ_DTYPE_I16, {n / 4, k},
                    {{rows.begin / 4, rows.end / 4}, shard::inputs(layer())}),
        shard::spec(zeros_name_, zeros_.dtype_id(), {stored, n}, {part, rows}),
        scale_spec({stored, n}, {part, rows})};
    out[1].sample = Sample::real(-0.08, 0);
    finish(&out[0], 1, 0, 0);
    finish(&out[1], 0, 1, -1);
    finish(&out[2], 0, 1, -1);
    return out;
  }

  cpu::StoredLayer stored(const Tensors& tensors) const override {
    cpu::StoredLayer s;
    s.codes = "qweight", s.zeros = zeros_name_, s.scales = "scales";
    s.code_layout = {IntOrder::kAwqTiles, false, 4, tensors.at("qweight").dim(1)};
    s.scale_layout = {1, tensors.at("scales").dim(1)};
    s.offset_layout = {1, tensors.at(zeros_name_).dim(1)};
    return s;
  }

 protected:
  void settle(const Tensors& tensors) override {
    AwqMethod::settle(tensors);
    const Tensor& z = tensors.at(zeros_name_);
    for (int64_t i = 0; i < z.elements(); ++i) {
      if (!std::isfinite(z.real(i))) {
        throw invalid(format("layer %s: %s holds %g at %lld; it must be finite",
                             layer().name.c_str(), zeros_name_, static_cast<double>(z.real(i)),
                             static_cast<long long>(i)));
      }
    }
  }
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const Tensor& q = tensors.at("qweight");
    for (int64_t k = 0; k < layer().k(); ++k)
      out[k] = static_cast<uint8_t>(pack::awq_tile_code(q.data(), q.dim(1), n, k));
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    const Tensor& s = tensors.at("scales");
    return s.real(g * s.dim(1) + n);
  }
  int zero(const Tensors&, int64_t, int64_t) const override { return 0; }
  float offset(const Tensors& tensors, int64_t n, int64_t g) const override {
    const Tensor& z = tensors.at(zeros_name_);
    return z.real(g * z.dim(1) + n);
  }

 private:
  const char* zeros_name_;
  const Tensor zeros_;  // header
};

}  // namespace

const char* layout_name(Layout layout) {
  return layout == Layout::kGemm ? "gemm" : layout == Layout::kGemv ? "gemv" : "gemv_fast";
}

int64_t zero_words(int64_t k, int64_t group_size) {
  const int64_t size = group_size < 0 ? k : group_size;
  const int64_t unit = size >= 128 ? 1 : size >= 64 ? 2 : 4;  // words
  const int64_t words = (shard::runs({0, k}, size).end + 7) / 8;
  return (words + unit - 1) / unit * unit;
}

bool has_tensors(const LayerDesc& layer, Layout layout, int64_t group_size) {
  const Tensor *q = layer.tensors.find("qweight"), *s = layer.tensors.find("scales");
  if (q == nullptr || s == nullptr || q->rank() != 2 || s->rank() != 2) return false;
  const int64_t k = layer.in_features, n = layer.out_features,
                all = shard::runs({0, k}, group_size).end;
  const uint32_t words = layout == Layout::kTiles ? PLUQ_DTYPE_I16 : PLUQ_DTYPE_I32;
  if (q->dtype_id() != words) return false;
  switch (layout) {
    case Layout::kGemm:
      return q->dim(0) == k && q->dim(1) == n / 8 && s->dim(1) == n;
    case Layout::kGemv:
      return q->dim(0) == n && q->dim(1) * 8 == k && s->dim(0) == n && s->dim(1) % 8 == 0 &&
             s->dim(1) >= all;
    case Layout::kTiles:
      return q->dim(0) == n / 4 && q->dim(1) == k && s->dim(1) == n && s->dim(0) >= all;
  }
  return false;
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device,
                                          Layout layout, int64_t group_size) {
  std::unique_ptr<AwqMethod> method;
  switch (layout) {
    case Layout::kGemv:
      method = std::make_unique<GemvMethod>(layer, device, group_size);
      break;
    case Layout::kTiles:
      method = std::make_unique<TilesMethod>(layer, device, group_size);
      break;
    case Layout::kGemm:
      method = std::make_unique<GemmMethod>(layer, device, group_size);
      break;
  }
  if (device.is_cuda() && cuda::has_ops(device.kind))
    return cuda::int_device_method(std::move(method), device);
  return method;
}

}  // namespace awq
