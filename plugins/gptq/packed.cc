// SPDX-License-Identifier: Apache-2.0
// The compressed-tensors layout, pack-quantized (method.h has the drawing).
#include "gptq/grouped_int.h"
#include "pluq/cuda/quantized/weight_only.hpp"
#include "pluq/pack.hpp"

namespace gptq {
namespace {

using namespace pluq;

class PackedMethod final : public GroupedInt {
 public:
  PackedMethod(const LayerDesc& layer, const Device& device, const Settings& settings)
      : GroupedInt(layer, device, settings, "weight_g_idx"),
        scales_(layer.tensors.at("weight_scale")) {
    const int64_t k = layer.in_features, words = layer.tensors.at("weight_packed").dim(1);
    // Widths that do not divide 32 were packed floor(32 / b) to a word by older versions.
    sparse_ = words != pack::stream_words(k, bits_) && words == sparse_words(k);
    if (!settings.sym && !layer.tensors.has("weight_zero_point")) {
      throw invalid("layer " + layer.name +
                    ": symmetric is false, but tensor 'weight_zero_point' is missing");
    }
    per_tensor_ = scales_.elements() == 1 && layer.out_features * file_groups() != 1;
    flat_ = scales_.rank() == 1 && !per_tensor_ && file_groups() == 1;
    shard::need_multiple(layer, shard::inputs(layer), k, unit(), "columns");
    if (!settings.sym)
      shard::need_multiple(layer, shard::outputs(layer), layer.out_features, unit(), "rows");
  }

  std::vector<WeightSpec> create_weights() const override {
    const int64_t k = layer().in_features, n = layer().out_features;
    const shard::Range rows = shard::outputs(layer());
    std::vector<WeightSpec> out(1, shard::spec("weight_packed", PLUQ_DTYPE_I32, {n, words(k)},
                                               {rows, word_range(shard::inputs(layer()))}));
    out[0].input_dim = out[0].packed_dim = 1;
    out[0].output_dim = 0;
    if (per_tensor_) {
      out.push_back(shard::spec("weight_scale", scales_.dtype_id(), scales_.shape(), {}));
    } else if (flat_) {
      out.push_back(shard::spec("weight_scale", scales_.dtype_id(), {n}, {rows}));
    } else {
      out.push_back(shard::spec("weight_scale", scales_.dtype_id(), {n, file_groups()},
                                {rows, group_range()}));
      out[1].input_dim = 1;
    }
    out[1].output_dim = per_tensor_ ? -1 : 0;
    out[1].sample = Sample::real(1e-3, 1e-2);
    out.push_back(shard::spec("weight_shape", PLUQ_DTYPE_I64, {2}, {}));
    out[2].sample = Sample::shape();
    out[2].optional = true;
    if (layer().tensors.has("weight_zero_point")) {
      const shard::Range zero_words = settings_.sym ? shard::Range{0, words(n)} : word_range(rows);
      WeightSpec z = shard::spec("weight_zero_point", PLUQ_DTYPE_I32, {words(n), file_groups()},
                                 {zero_words, group_range()});
      z.output_dim = z.packed_dim = 0;
      out.push_back(z);
    }
    for (WeightSpec& s : out) {
      if (s.packed_dim >= 0) {
        s.pack_elements = sparse_ ? 32 / bits_ : 32;
        s.pack_words = sparse_ ? 1 : bits_;
      }
      s.group_size = settings_.group_size;
    }
    if (has_order_tensor()) out.push_back(order_spec());
    out.insert(out.end(), input_specs().begin(), input_specs().end());
    return out;
  }

  cpu::StoredLayer stored(const Tensors& tensors) const override {
    cpu::StoredLayer s;
    const IntOrder order = sparse_ ? IntOrder::kSparse : IntOrder::kStream;
    s.codes = "weight_packed";
    s.code_layout = {order, false, bits_, tensors.at("weight_packed").dim(1)};
    s.scales = "weight_scale";
    if (!per_tensor_) s.scale_layout = {num_groups_, 1};
    s.order = "weight_g_idx";
    if (settings_.sym) return s;
    s.zeros = "weight_zero_point";
    s.zero_layout = {order, true, bits_, 1, num_groups_};
    return s;
  }

 protected:
  void settle(const Tensors& tensors) override {
    settle_order(tensors, false);  // actorder "weight" stores no order
    check_scales(tensors.at("weight_scale"));
    scale_type_ = narrow(scales_.dtype_id());
    settle_inputs(tensors);
    if (const Tensor* shape = tensors.find("weight_shape");
        shape != nullptr && !shard::splits_outputs(layer()) && !shard::splits_inputs(layer())) {
      if (shape->load<int64_t>(0) != layer().out_features ||
          shape->load<int64_t>(1) != layer().in_features) {
        log(PLUQ_LOG_WARNING,
            format("layer %s: weight_shape says [%lld, %lld], the model [%lld, %lld]",
                   layer().name.c_str(), static_cast<long long>(shape->load<int64_t>(0)),
                   static_cast<long long>(shape->load<int64_t>(1)),
                   static_cast<long long>(layer().out_features),
                   static_cast<long long>(layer().in_features)));
      }
    }
  }
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const Tensor& q = tensors.at("weight_packed");
    const uint8_t* row = q.data() + n * q.dim(1) * 4;
    if (sparse_) {
      for (int64_t k = 0; k < layer().k(); ++k)
        out[k] = static_cast<uint8_t>(pack::sparse_code(row, 1, bits_, k));
    } else {
      for (int64_t k = 0; k < layer().k(); ++k)
        out[k] = static_cast<uint8_t>(pack::stream_code(row, 1, bits_, k));
    }
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    return tensors.at("weight_scale").real(per_tensor_ ? 0 : n * num_groups_ + g);
  }
  int zero(const Tensors& tensors, int64_t n, int64_t g) const override {
    if (settings_.sym) return zero_constant_;
    const Tensor& z = tensors.at("weight_zero_point");
    const uint8_t* column = z.data() + g * 4;
    return static_cast<int>(sparse_ ? pack::sparse_code(column, num_groups_, bits_, n)
                                    : pack::stream_code(column, num_groups_, bits_, n));
  }

 private:
  int64_t sparse_words(int64_t codes) const { return (codes + 32 / bits_ - 1) / (32 / bits_); }
  int64_t words(int64_t codes) const {
    return sparse_ ? sparse_words(codes) : pack::stream_words(codes, bits_);
  }
  int64_t unit() const { return sparse_ ? 32 / bits_ : shard::stream_unit(bits_); }
  shard::Range word_range(shard::Range r) const {
    return sparse_ ? shard::Range{r.begin / (32 / bits_), sparse_words(r.end)}
                   : shard::stream_words(r, bits_);
  }

  Tensor scales_;  // header
  bool per_tensor_ = false, flat_ = false, sparse_ = false;
};

}  // namespace

bool has_packed_tensors(const LayerDesc& layer) {
  const Tensor* q = layer.tensors.find("weight_packed");
  return q != nullptr && q->rank() == 2 && q->dtype_id() == PLUQ_DTYPE_I32 &&
         layer.tensors.has("weight_scale");
}

std::unique_ptr<LinearMethod> make_packed(const LayerDesc& layer, const Device& device,
                                          const Settings& settings) {
  auto method = std::make_unique<PackedMethod>(layer, device, settings);
  if (device.is_cuda() && cuda::has_ops(device.kind))
    return cuda::int_device_method(std::move(method), device);
  return method;
}

}  // namespace gptq
