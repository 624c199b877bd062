// SPDX-License-Identifier: Apache-2.0
// GPTQ's own layouts: version 1, version 2 and planar (method.h has the drawing).
#include "gptq/method.h"

#include "gptq/grouped_int.h"
#include "pluq/cuda/quantized/weight_only.hpp"
#include "pluq/pack.hpp"

namespace gptq {
namespace {

using namespace pluq;

class GptqMethod final : public GroupedInt {
 public:
  GptqMethod(const LayerDesc& layer, const Device& device, const Settings& settings)
      : GroupedInt(layer, device, settings, "g_idx"),
        scales_dtype_(layer.tensors.at("scales").dtype_id()),
        has_zeros_(layer.tensors.has("qzeros")) {
    if (!has_zeros_ && !settings.sym)
      throw invalid("layer " + layer.name + ": sym is false, but tensor 'qzeros' is missing");
    const int64_t unit = settings.planar ? 32 : shard::stream_unit(bits_);
    shard::need_multiple(layer, shard::inputs(layer), layer.in_features, unit, "columns");
    if (has_zeros_)
      shard::need_multiple(layer, shard::outputs(layer), layer.out_features, unit, "rows");
  }

  std::vector<WeightSpec> create_weights() const override {
    const int64_t k = layer().in_features, n = layer().out_features;
    const shard::Range rows = shard::outputs(layer()), groups = group_range();
    std::vector<WeightSpec> out{
        shard::spec("qweight", PLUQ_DTYPE_I32, {pack::stream_words(k, bits_), n},
                    {shard::stream_words(shard::inputs(layer()), bits_), rows}),
        shard::spec("scales", scales_dtype_, {file_groups(), n}, {groups, rows})};
    out[0].input_dim = out[1].input_dim = 0;
    out[0].output_dim = out[1].output_dim = 1;
    out[0].packed_dim = 0;
    out[1].sample = Sample::real(1e-3, 1e-2);
    if (has_zeros_) {
      WeightSpec z =
          shard::spec("qzeros", PLUQ_DTYPE_I32, {file_groups(), pack::stream_words(n, bits_)},
                      {groups, shard::stream_words(rows, bits_)});
      z.input_dim = 0;
      z.output_dim = z.packed_dim = 1;
      out.push_back(z);
    }
    for (WeightSpec& s : out) {
      s.group_size = settings_.group_size;
      if (s.packed_dim < 0) continue;
      s.pack_elements = 32;
      s.pack_words = bits_;
    }
    if (has_order_tensor()) out.push_back(order_spec());
    return out;
  }

  cpu::StoredLayer stored(const Tensors& tensors) const override {
    cpu::StoredLayer s;
    const IntOrder order = settings_.planar ? IntOrder::kPlanar : IntOrder::kStream;
    s.codes = "qweight";
    s.code_layout = {order, false, bits_, 1, tensors.at("qweight").dim(1)};
    s.scales = "scales";
    s.scale_layout = {1, tensors.at("scales").dim(1)};
    s.order = "g_idx";
    if (settings_.sym) return s;
    s.zeros = "qzeros";
    s.zero_layout = {order, true, bits_, tensors.at("qzeros").dim(1)};
    if (settings_.v1 && !settings_.planar) s.zero_layout = add_one(s.zero_layout);
    return s;
  }

 protected:
  void settle(const Tensors& tensors) override {
    settle_order(tensors, true);
    check_scales(tensors.at("scales"));
    scale_type_ = narrow(scales_dtype_);
    if (has_zeros_ && settings_.sym) check_symmetric_zeros(tensors.at("qzeros"));
  }

  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const Tensor& q = tensors.at("qweight");
    const int64_t stride = q.dim(1), k_end = layer().k();
    const uint8_t* column = q.data() + n * 4;
    if (settings_.planar) {
      for (int64_t k = 0; k < k_end; ++k)
        out[k] = static_cast<uint8_t>(pack::planar_code(column, stride, bits_, k));
    } else {
      for (int64_t k = 0; k < k_end; ++k)
        out[k] = static_cast<uint8_t>(pack::stream_code(column, stride, bits_, k));
    }
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    const Tensor& s = tensors.at("scales");
    return s.real(g * s.dim(1) + n);
  }
  int zero(const Tensors& tensors, int64_t n, int64_t g) const override {
    if (settings_.sym) return zero_constant_;
    return stored_zero(tensors.at("qzeros"), n, g, settings_.v1);
  }

 private:
  int stored_zero(const Tensor& z, int64_t n, int64_t g, bool v1) const {
    return pack::gptq_zero(z.data(), z.dim(1), g, n, bits_, v1, settings_.planar);
  }

  // With sym the zero points say nothing that is not known, so they are not used; but words of the
  // other version mean that the label lies, and words of neither that the file is damaged or not
  // symmetric.
  void check_symmetric_zeros(const Tensor& z) const {
    const int64_t n_end = layer().n(), total = z.dim(0) * n_end;
    int64_t as_labelled = 0, as_other = 0;
    for (int64_t g = 0; g < z.dim(0); ++g) {
      for (int64_t n = 0; n < n_end; ++n) {
        as_labelled += stored_zero(z, n, g, settings_.v1) == zero_constant_;
        as_other += stored_zero(z, n, g, !settings_.v1) == zero_constant_;
      }
    }
    if (as_labelled == total) return;
    const char* name = layer().name.c_str();
    if (as_other == total && !settings_.planar) {
      log(PLUQ_LOG_WARNING, format("layer %s: the config says GPTQ version %d, the zero points are "
                                   "in version %d; the layer is symmetric, so "
                                   "they are not used",
                                   name, settings_.v1 ? 1 : 2, settings_.v1 ? 2 : 1));
    } else {
      log(PLUQ_LOG_WARNING, format("layer %s: the config says sym, but %lld of %lld zero points "
                                   "are not %d; they are not used",
                                   name, static_cast<long long>(total - as_labelled),
                                   static_cast<long long>(total), zero_constant_));
    }
  }

  uint32_t scales_dtype_;
  bool has_zeros_;
};

}  // namespace

bool has_gptq_tensors(const LayerDesc& layer) {
  const Tensor *q = layer.tensors.find("qweight"), *s = layer.tensors.find("scales");
  // AWQ's qweight has K rows, or N rows of K / 8 words; GPTQ's is packed along K, a column per
  // output.
  return q != nullptr && s != nullptr && q->rank() == 2 && s->rank() == 2 &&
         q->dtype_id() == PLUQ_DTYPE_I32 && q->dim(0) < layer.in_features &&
         q->dim(1) == layer.out_features && s->dim(1) == layer.out_features;
}

std::unique_ptr<LinearMethod> make_gptq(const LayerDesc& layer, const Device& device,
                                        const Settings& settings) {
  auto method = std::make_unique<GptqMethod>(layer, device, settings);
  if (device.is_cuda() && cuda::has_ops(device.kind))
    return cuda::int_device_method(std::move(method), device);
  return method;
}

}  // namespace gptq
