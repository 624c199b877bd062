// SPDX-License-Identifier: Apache-2.0
// DeviceLinear of weights that are dequantized inside the kernel: any format with a decoder. Also
// IntBlocks, which serves every format of integer codes (pluq/cpu/int_linear.hpp).
#pragma once

#include "pluq/cpu/int_linear.hpp"
#include "pluq/cuda/quantized/device_linear.hpp"
#include "pluq/pack.hpp"

namespace pluq {
namespace cuda {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  class BlockDevice : public DeviceLinear {
   public:
    void describe(MethodInfo* info) const override {
      info->kernel = "cuda_dequantize";
      info->arithmetic = PLUQ_ARITHMETIC_BF16;
      info->activations = {};
      info->error_bound = 1.0 / 64;  // weights and y are rounded to 16 bits
    }
    void apply(const pluq_exec& exec, const Tensors& kept, const pluq_activation& x,
               const float* bias, const pluq_output& y) const override {
      BlockLinear l;
      static_cast<LinearIo&>(l) = linear_io(x, bias, y);
      l.w = weights(kept);
      check(ops_for(exec).block_linear(&exec, l));
    }

   protected:
    // Pointers of the device; kept as in DeviceLinear::apply.
    virtual BlockWeights weights(const Tensors& kept) const = 0;
  };

  // Codes of 2 to 8 bits in any layout, any groups and order of columns: rows are packed into
  // streams by the host and carried over.
  class IntBlocks final : public BlockDevice {
   public:
    // source must outlive this.
    explicit IntBlocks(cpu::IntLinear* source) : source_(source) {}

    ProcessPlan plan(const Tensors& tensors) override {
      const cpu::IntLinear::Facts f = source_->facts(tensors);
      const int64_t n = source_->layer().n(), k = source_->layer().k();
      w_ = {};
      w_.format = BlockFormat::kInt;
      w_.n = n, w_.k = k, w_.bits = f.bits;
      w_.code_pitch = code_pitch(k, f.bits);
      w_.groups = f.num_groups;
      w_.group = f.group_size < 1 ? 0 : f.group_size;
      w_.k_begin = f.group_size < 1 ? 0 : f.column_begin - f.group_begin * f.group_size;
      w_.zero = static_cast<float>(f.zero_constant);
      w_.offsets = f.zero_kind == cpu::IntZeroKind::kOffset;
      order_ = *f.g_idx;
      facts_ = f;
      codes_.assign(static_cast<size_t>(n * w_.code_pitch), 0);
      scales_.resize(static_cast<size_t>(f.num_groups * n));
      const bool has_zeros = f.zero_kind != cpu::IntZeroKind::kConstant;
      zeros_.resize(has_zeros ? scales_.size() : 0);
      std::vector<uint8_t> row(static_cast<size_t>(k));
      for (int64_t i = 0; i < n; ++i) {
        source_->row_codes(tensors, i, row.data());
        uint32_t* out = codes_.data() + i * w_.code_pitch;
        for (int64_t j = 0; j < k; ++j)
          pack::put_stream_code(out, 1, f.bits, j, row[static_cast<size_t>(j)]);
        for (int64_t g = 0; g < f.num_groups; ++g) {
          scales_[static_cast<size_t>(g * n + i)] = source_->scale_of(tensors, i, g);
          if (has_zeros) {
            zeros_[static_cast<size_t>(g * n + i)] =
                w_.offsets ? source_->offset_of(tensors, i, g)
                           : static_cast<float>(source_->zero_of(tensors, i, g));
          }
        }
      }
      w_.codes_bytes = static_cast<int64_t>(codes_.size() * 4);
      Arena arena;
      codes_at_ = arena.add(w_.codes_bytes);
      scales_at_ = arena.add(static_cast<int64_t>(scales_.size() * 4));
      zeros_at_ = arena.add(static_cast<int64_t>(zeros_.size() * 4));
      order_at_ = arena.add(static_cast<int64_t>(order_.size() * 4));
      ProcessPlan plan;
      plan.keep_tensors = false;
      plan.buffer_bytes = arena.bytes();
      plan.cache_key = "cuda-int-streams-1";
      return plan;
    }

    void load(const pluq_exec& exec, const Tensors&, uint8_t* buffer) override {
      upload(exec, codes_, buffer + codes_at_);
      upload(exec, scales_, buffer + scales_at_);
      upload(exec, zeros_, buffer + zeros_at_);
      upload(exec, order_, buffer + order_at_);
      w_.codes = buffer + codes_at_;
      w_.scales = reinterpret_cast<const float*>(buffer + scales_at_);
      if (!zeros_.empty()) w_.zeros = reinterpret_cast<const float*>(buffer + zeros_at_);
      if (!order_.empty()) w_.order = reinterpret_cast<const int32_t*>(buffer + order_at_);
      codes_ = {}, scales_ = {}, zeros_ = {}, order_ = {};
    }

    void describe(MethodInfo* info) const override {
      const uint32_t arithmetic = info->arithmetic;
      const ActivationScheme scheme = info->activations;
      BlockDevice::describe(info);
      if (arithmetic != PLUQ_ARITHMETIC_CHECKPOINT) return;
      info->arithmetic = arithmetic;
      info->activations = scheme;
    }

    uint64_t workspace(int64_t m) const override {
      return source_->rounds_inputs() ? rounded(m).bytes : 0;
    }

    // Rounded activations: codes less their zero point are whole numbers below 256, exact in f16.
    void apply(const pluq_exec& exec, const Tensors& kept, const pluq_activation& x,
               const float* bias, const pluq_output& y) const override {
      if (!source_->rounds_inputs()) {
        BlockDevice::apply(exec, kept, x, bias, y);
        return;
      }
      auto* space = static_cast<uint8_t*>(exec.workspace);
      const Rounded at = rounded(x.m);
      RoundActivations r;
      r.mode = facts_.inputs == cpu::IntInputs::kToken       ? RoundMode::kInt8Token
               : facts_.inputs == cpu::IntInputs::kTokenAsym ? RoundMode::kInt8TokenAsym
                                                             : RoundMode::kInt8Static;
      r.m = x.m, r.k = w_.k, r.x = x.data, r.ldx = x.ld, r.x_type = real_type(x.dtype, "x");
      r.static_scale = facts_.static_scale, r.static_zero = facts_.static_zero;
      r.as_f16 = true;
      r.codes = space + at.codes;
      r.scales = reinterpret_cast<float*>(space + at.scales);
      check(ops_for(exec).round(&exec, r));
      BlockLinear l;
      l.w = w_;
      l.m = x.m, l.x = r.codes, l.ldx = byte_pitch(w_.k), l.x_type = Real::kF16;
      l.row_scale = r.scales;
      l.bias = bias;
      l.y = y.data, l.ldy = y.ld, l.y_type = real_type(y.dtype, "y");
      check(ops_for(exec).block_linear(&exec, l));
    }

   protected:
    BlockWeights weights(const Tensors&) const override { return w_; }

   private:
    struct Rounded {
      uint64_t codes, scales, bytes;
    };
    Rounded rounded(int64_t m) const {
      Arena arena;
      Rounded r{};
      r.codes = arena.add(m * byte_pitch(source_->layer().k()) * 2);
      r.scales = arena.add(m * 4);
      r.bytes = arena.bytes();
      return r;
    }

    cpu::IntLinear* source_;
    cpu::IntLinear::Facts facts_{};
    BlockWeights w_;
    std::vector<uint32_t> codes_;
    std::vector<float> scales_, zeros_;
    std::vector<int32_t> order_;
    uint64_t codes_at_ = 0, scales_at_ = 0, zeros_at_ = 0, order_at_ = 0;
  };

  // 4-bit floats: codes and scales stay as they are in the file.
  class Float4Blocks : public BlockDevice {
   public:
    // packed, scales: names of the tensors; group_size: columns per scale.
    Float4Blocks(const LayerDesc& layer, const char* packed, const char* scales, int64_t group_size)
        : packed_(packed), scales_(scales) {
      w_.format = group_size == 32 ? BlockFormat::kMxfp4 : BlockFormat::kNvfp4;
      w_.n = layer.n(), w_.k = layer.k();
      w_.group = group_size;
      w_.groups = (layer.k() + group_size - 1) / group_size;
    }
    void load(const pluq_exec&, const Tensors&, uint8_t*) override {}

   protected:
    BlockWeights weights(const Tensors& kept) const override {
      BlockWeights w = w_;
      w.codes = kept.at(packed_).data();
      w.scale_bytes = kept.at(scales_).data();
      return w;
    }
    BlockWeights w_;

   private:
    const char *packed_, *scales_;
  };

  // The device method of a format of integer codes (weight_only.hpp has a faster one).
  template <class Method>
  std::unique_ptr<LinearMethod> int_blocks_method(std::unique_ptr<Method> cpu,
                                                  const Device& device) {
    auto blocks = std::make_unique<IntBlocks>(cpu.get());
    return std::make_unique<DeviceMethod>(std::move(cpu), std::move(blocks), device.kind);
  }

}  // namespace )
}  // namespace cuda
}  // namespace pluq
