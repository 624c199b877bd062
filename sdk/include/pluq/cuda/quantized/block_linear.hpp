// SPDX-License-Identifier: Apache-2.0
// DeviceLinear of weights that are dequantized inside the kernel: any format with a decoder. Also
// IntBlocks, which serves every format of integer codes (pluq/cpu/int_linear.hpp).
#pragma once

#include "pluq/cpu/int_linear.hpp"
#include "pluq/cuda/quantized/device_linear.hpp"

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

  // A table of [groups, N] values from the tensor that holds them.
  inline LoadTable load_table(const Tensor& from, int64_t n, int64_t groups, Real type, void* out) {
    LoadTable t;
    t.source = from.data(), t.source_bytes = static_cast<int64_t>(from.bytes());
    t.n = n, t.groups = groups;
    t.out = out, t.out_pitch = n, t.out_type = type;
    return t;
  }
  inline LoadReals load_reals(const LoadTable& table, const Tensor& from, StoredReals stored) {
    LoadReals r;
    static_cast<LoadTable&>(r) = table;
    r.stored = stored;
    r.type = real_type(from.dtype(), from.name().c_str());
    return r;
  }
  inline LoadInts load_ints(const LoadTable& table, StoredInts stored, int32_t less) {
    LoadInts i;
    static_cast<LoadTable&>(i) = table;
    i.stored = stored;
    i.less = less;
    return i;
  }

  // Codes of 2 to 8 bits in any layout, any groups and order of columns, repacked on the device
  // into a stream per row and tables in f32.
  class IntBlocks final : public BlockDevice {
   public:
    // source must outlive this.
    explicit IntBlocks(cpu::IntLinear* source) : source_(source) {}

    ProcessPlan plan(const Tensors& tensors) override {
      const cpu::IntLinear::Facts f = source_->facts(tensors);
      const int64_t n = source_->layer().n(), k = source_->layer().k();
      facts_ = f;
      stored_ = source_->stored(tensors);
      w_ = {};
      w_.format = BlockFormat::kInt;
      w_.n = n, w_.k = k, w_.bits = f.bits;
      w_.code_pitch = code_pitch(k, f.bits);
      w_.codes_bytes = n * w_.code_pitch * 4;
      w_.groups = f.num_groups;
      w_.group = f.group_size < 1 ? 0 : f.group_size;
      w_.k_begin = f.group_size < 1 ? 0 : f.column_begin - f.group_begin * f.group_size;
      w_.zero = static_cast<float>(f.zero_constant);
      w_.offsets = f.zero_kind == cpu::IntZeroKind::kOffset;
      make_tables(tensors);
      const int64_t table = f.num_groups * n * 4;
      Arena arena;
      codes_at_ = arena.add(w_.codes_bytes);
      scales_at_ = arena.add(table);
      zeros_at_ = arena.add(has_zeros() ? table : 0);
      order_at_ = arena.add(f.g_idx->empty() ? 0 : k * 4);
      ProcessPlan plan;
      plan.keep_tensors = false;
      plan.buffer_bytes = arena.bytes();
      plan.cache_key = "cuda-int-streams-1";
      return plan;
    }

    void load(const pluq_exec& exec, const Tensors& tensors, uint8_t* buffer) override {
      const QuantizedOps& ops = ops_for(exec);
      const Tensor& codes = tensors.at(stored_.codes);
      check(ops.pack_codes(
          &exec, {stored_.code_layout, codes.data(), static_cast<int64_t>(codes.bytes()), w_.n,
                  w_.k, reinterpret_cast<uint32_t*>(buffer + codes_at_)}));
      load_scales(exec, tensors, buffer + scales_at_);
      if (has_zeros()) load_zeros(exec, tensors, buffer + zeros_at_);
      if (!facts_.g_idx->empty()) {  // as bytes
        const int64_t bytes = w_.k * 4;
        check(ops.pack_bytes(
            &exec, {tensors.at(stored_.order).data(), 1, bytes, buffer + order_at_, bytes, false}));
        w_.order = reinterpret_cast<const int32_t*>(buffer + order_at_);
      }
      w_.codes = buffer + codes_at_;
      w_.scales = reinterpret_cast<const float*>(buffer + scales_at_);
      if (has_zeros()) w_.zeros = reinterpret_cast<const float*>(buffer + zeros_at_);
      scales_ = {}, zeros_ = {};
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

    bool has_zeros() const { return facts_.zero_kind != cpu::IntZeroKind::kConstant; }
    // Those that no tensor holds in a simple way.
    void make_tables(const Tensors& tensors) {
      scales_.clear(), zeros_.clear();
      for (int64_t g = 0; g < w_.groups; ++g) {
        for (int64_t n = 0; stored_.scales == nullptr && n < w_.n; ++n)
          scales_.push_back(source_->scale_of(tensors, n, g));
        for (int64_t n = 0; stored_.zeros == nullptr && has_zeros() && n < w_.n; ++n) {
          zeros_.push_back(w_.offsets ? source_->offset_of(tensors, n, g)
                                      : static_cast<float>(source_->zero_of(tensors, n, g)));
        }
      }
    }
    void load_scales(const pluq_exec& exec, const Tensors& tensors, uint8_t* out) const {
      if (stored_.scales == nullptr) return upload(exec, scales_, out);
      const Tensor& from = tensors.at(stored_.scales);
      const LoadTable table = load_table(from, w_.n, w_.groups, Real::kF32, out);
      check(ops_for(exec).load_reals(&exec, load_reals(table, from, stored_.scale_layout)));
    }
    void load_zeros(const pluq_exec& exec, const Tensors& tensors, uint8_t* out) const {
      if (stored_.zeros == nullptr) return upload(exec, zeros_, out);
      const Tensor& from = tensors.at(stored_.zeros);
      const LoadTable table = load_table(from, w_.n, w_.groups, Real::kF32, out);
      if (w_.offsets) {
        check(ops_for(exec).load_reals(&exec, load_reals(table, from, stored_.offset_layout)));
      } else {
        check(ops_for(exec).load_ints(&exec, load_ints(table, stored_.zero_layout, 0)));
      }
    }

    cpu::IntLinear* source_;
    cpu::IntLinear::Facts facts_{};
    cpu::StoredLayer stored_;
    BlockWeights w_;
    std::vector<float> scales_, zeros_;  // of make_tables, until they are loaded
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
