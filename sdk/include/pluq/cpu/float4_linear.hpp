// SPDX-License-Identifier: Apache-2.0
// A LinearMethod whose weights are e2m1 codes with a scale per group of columns, on the CPU's
// integer kernels: what the formats mxfp4 and nvfp4 share. Twice an e2m1 value is an integer from
// -12 to 12, so that
//   W = e2m1 * scale = (code - 12) * (scale / 2),   code = 2 * e2m1 + 12
// loses nothing: halving a float is exact.
#pragma once

#include <string>
#include <vector>

#include "pluq/cpu/int_linear.hpp"
#include "pluq/float4.hpp"

namespace pluq {
namespace cpu {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  class Float4Linear : public IntLinear {
   public:
    // packed: the tensor of codes, U8 [N, K/2], low nibble = even column; scales: [N, ceil(K /
    // group_size)].
    Float4Linear(const LayerDesc& layer, const Device& device, const IntTables& tables,
                 const char* packed, const char* scales, int64_t group_size)
        : IntLinear(layer, device, tables), packed_(packed), scales_(scales) {
      bits_ = 5;
      zero_constant_ = 12;
      zero_kind_ = IntZeroKind::kConstant;
      group_size_ = group_size;
      if (layer.in_features % 2 != 0) {
        throw unsupported(format(
            "layer %s: in_features is %lld; two 4-bit codes share a byte, so it must be even",
            layer.name.c_str(), static_cast<long long>(layer.in_features)));
      }
      shard::need_multiple(layer, shard::inputs(layer), layer.in_features, group_size, "columns");
      const shard::Range groups = group_range();
      column_begin_ = layer.in_begin;
      group_begin_ = groups.begin;
      num_groups_ = groups.size();
      choose_activation(IntInputs::kFloat);
    }

   protected:
    shard::Range group_range() const { return shard::runs(shard::inputs(layer()), group_size_); }

    // The specs of codes and scales, boxes of this shard included.
    std::vector<WeightSpec> packed_specs(uint32_t scale_dtype) const {
      const int64_t n = layer().out_features, k = layer().in_features;
      const shard::Range rows = shard::outputs(layer()),
                         bytes{layer().in_begin / 2, layer().in_end / 2};
      WeightSpec w = shard::spec(packed_, PLUQ_DTYPE_U8, {n, k / 2}, {rows, bytes});
      w.output_dim = 0;
      w.input_dim = w.packed_dim = 1;
      w.pack_elements = 2;
      w.group_size = group_size_;
      WeightSpec s = shard::spec(scales_, scale_dtype, {n, shard::runs({0, k}, group_size_).end},
                                 {rows, group_range()});
      s.output_dim = 0;
      s.input_dim = 1;
      s.group_size = group_size_;
      s.sample = Sample::bytes();
      return {w, s};
    }

    void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
      const uint8_t* row = tensors.at(packed_).data() + n * (layer().k() / 2);
      for (int64_t k = 0; k < layer().k(); k += 2) {
        const unsigned byte = row[k / 2];
        out[k] = static_cast<uint8_t>(float4::doubled(byte) + 12);
        out[k + 1] = static_cast<uint8_t>(float4::doubled(byte >> 4) + 12);
      }
    }
    int zero(const Tensors&, int64_t, int64_t) const override { return 12; }
    std::vector<int32_t> column_groups(const Tensors&) const override {
      return natural_groups(group_size_);
    }

    // The stored scale of row n in group g of the tensors at hand, as one byte.
    uint8_t scale_byte(const Tensors& tensors, int64_t n, int64_t g) const {
      return tensors.at(scales_).data()[n * num_groups_ + g];
    }

   private:
    const char *packed_, *scales_;
  };

}  // namespace )
}  // namespace cpu
}  // namespace pluq
