// SPDX-License-Identifier: Apache-2.0
// DeviceLinear of formats of integer codes: layers that the tensor core kernels of weight_only.h
// fit take them, any other runs on IntBlocks. Needs CUDA_KERNELS quantized/int
// quantized/weight_only.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "pluq/cuda/quantized/block_linear.hpp"

namespace pluq {
namespace cuda {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  // From how many rows of x on W is widened once and multiplied by the host's library. From
  // counting bytes and operations, not measured: widening costs about 300 (9.0) or 200 rows' worth
  // of multiplying. Before 9.0 the mma kernel reaches about 80 % of the library's rate. The wgmma
  // kernel has 512 cycles of products per stage and about 150 of widening and folding, so 77 % if
  // nothing overlaps.
  inline int64_t wo_dequantize_from(uint32_t sm) { return sm >= 90 ? 1024 : 2048; }

  // 4- and 8-bit codes in the tensor core layout, repacked on the device.
  class WeightOnlyLinear final : public DeviceLinear {
   public:
    WeightOnlyLinear(cpu::IntLinear* source, const Device& device)
        : source_(source), sm_(device.compute_capability), sm_count_(device.sm_count) {}

    // What can be said without values.
    static bool may_fit(const cpu::IntLinear& source) {
      const LayerDesc& l = source.layer();
      return !source.rounds_inputs() &&
             wo_fits(l.n(), l.k(), source.bits(), source.group_columns()) &&
             (l.activation_dtype_id == PLUQ_DTYPE_F16 || l.activation_dtype_id == PLUQ_DTYPE_BF16);
    }

    // False: this layer is for another kernel.
    bool settle(const Tensors& tensors) {
      if (!may_fit(*source_)) return false;
      const cpu::IntLinear::Facts f = source_->facts(tensors);
      const int64_t n = source_->layer().n(), k = source_->layer().k();
      const int64_t group = f.group_size < 1 || f.group_size >= k ? k : f.group_size;
      if (f.zero_kind == cpu::IntZeroKind::kOffset) return false;
      stored_ = source_->stored(tensors);
      if (stored_.scales == nullptr) return false;
      if (!set_order(f, k, group)) return false;
      w_ = {};
      w_.n = n, w_.k = k, w_.bits = f.bits, w_.group = group;
      w_.zeros = f.zero_kind == cpu::IntZeroKind::kInteger;
      w_.sm_count = sm_count_, w_.sm = sm_;
      if (groups() > f.num_groups) return false;
      if (w_.zeros ? stored_.zeros == nullptr : f.zero_constant != middle()) return false;
      const Tensor& scales = tensors.at(stored_.scales);
      w_.scales_bf16 = !held_by(scales, Real::kF16);
      return !w_.scales_bf16 || held_by(scales, Real::kBf16);
    }

    ProcessPlan plan(const Tensors&) override {
      Arena arena;
      codes_at_ = arena.add(w_.n * w_.k * w_.bits / 8);
      table_at_ = arena.add(groups() * kinds() * w_.n * 2);
      order_at_ = arena.add(ordered_ ? w_.k * 4 : 0);
      counters_at_ = arena.add(wo_counters(kMostRows, w_.n) * 4);
      ProcessPlan plan;
      plan.keep_tensors = false;
      plan.buffer_bytes = arena.bytes();
      plan.cache_key = "cuda-weight-only-1";
      return plan;
    }

    void load(const pluq_exec& exec, const Tensors& tensors, uint8_t* buffer) override {
      const QuantizedOps& ops = ops_for(exec);
      device_order_ = nullptr;
      if (ordered_) {
        auto* order = reinterpret_cast<int32_t*>(buffer + order_at_);
        const auto* of = reinterpret_cast<const int32_t*>(tensors.at(stored_.order).data());
        check(ops.sort_columns(&exec, {of, w_.k, w_.group, order}));
        device_order_ = order;
      }
      const Tensor& codes = tensors.at(stored_.codes);
      check(ops.weight_only_repack(
          &exec, {stored_.code_layout, codes.data(), static_cast<int64_t>(codes.bytes()), w_.n,
                  w_.k, device_order_, reinterpret_cast<uint32_t*>(buffer + codes_at_)}));
      load_tables(exec, tensors, buffer + table_at_);
      w_.codes = buffer + codes_at_;
      w_.scales = reinterpret_cast<const uint16_t*>(buffer + table_at_);
      w_.counters = reinterpret_cast<int32_t*>(buffer + counters_at_);
    }

    uint64_t workspace(int64_t m) const override { return parts(m).bytes; }

    void describe(MethodInfo* info) const override {
      info->kernel = source_->bits() == 4 ? "cuda_int4_mma" : "cuda_int8_mma";
      info->arithmetic = PLUQ_ARITHMETIC_BF16;
      info->activations = {};
      info->error_bound = 1.0 / 128;  // y is stored in 16 bits
    }

    void apply(const pluq_exec& exec, const Tensors&, const pluq_activation& x, const float* bias,
               const pluq_output& y) const override {
      const Real type = real_type(x.dtype, "x"), y_type = real_type(y.dtype, "y");
      if (type == Real::kF32) throw unsupported("x is F32; F16 and BF16 are built");
      const int64_t step = y_type == Real::kF32 ? 4 : 2;
      for (int64_t first = 0; first < x.m; first += kMostRows) {
        WeightOnly w = w_;
        w.m = std::min(kMostRows, x.m - first);
        w.x = static_cast<const uint16_t*>(x.data) + first * x.ld, w.ldx = x.ld;
        w.bf16 = type == Real::kBf16;
        w.bias = bias;
        w.y = static_cast<uint8_t*>(y.data) + first * y.ld * step, w.ldy = y.ld;
        w.y_type = static_cast<int32_t>(y_type);
        run(exec, &w, y.dtype.id);
      }
    }

   private:
    static constexpr int64_t kMostRows = 4096;       // of one launch
    static constexpr int64_t kWideBytes = 64 << 20;  // of W widened at a time

    struct Parts {
      uint64_t partial, x, wide, bytes;
    };
    Parts parts(int64_t m) const {
      m = std::min(m, kMostRows);
      Arena arena;
      Parts p{};
      int64_t partial = 0;
      for (const int64_t rows : {int64_t{8}, int64_t{16}, int64_t{32}, int64_t{64}, m}) {
        partial = std::max(partial, wo_partial_bytes(std::min(rows, m), source_->layer().n(),
                                                     source_->layer().k(), sm_count_));
      }
      p.partial = arena.add(partial);
      p.x = arena.add(m * source_->layer().k() * 2);
      p.wide = arena.add(m < wo_dequantize_from(sm_) ? 0 : wide_rows() * source_->layer().k() * 2);
      p.bytes = arena.bytes();
      return p;
    }
    int64_t wide_rows() const {
      const int64_t n = source_->layer().n(), k = source_->layer().k();
      return std::min(n, std::max<int64_t>(64, kWideBytes / (2 * k) / 64 * 64));
    }

    int64_t groups() const { return (w_.k + w_.group - 1) / w_.group; }  // that have columns
    int64_t kinds() const { return w_.zeros ? 2 : 1; }                   // of tables
    int32_t middle() const { return 1 << (w_.bits - 1); }

    // Whether the kernels can put the columns in order: each group must be whole.
    bool set_order(const cpu::IntLinear::Facts& f, int64_t k, int64_t group) {
      ordered_ = !f.g_idx->empty();
      if (!ordered_) {
        const int64_t skipped = f.column_begin - f.group_begin * group;
        // A shard may begin inside a group.
        return group == k ? f.num_groups == 1 : skipped == 0;
      }
      std::vector<int64_t> columns(static_cast<size_t>(f.num_groups), 0);
      for (const int32_t g : *f.g_idx) ++columns[static_cast<size_t>(g)];
      for (int64_t g = 0; g < f.num_groups; ++g) {
        const int64_t whole = std::clamp<int64_t>(k - g * group, 0, group);
        if (columns[static_cast<size_t>(g)] != whole) return false;
      }
      return true;
    }

    // Whether every value is a number of this 16-bit type.
    static bool held_by(const Tensor& t, Real type) {
      if (t.dtype_id() == (type == Real::kF16 ? PLUQ_DTYPE_F16 : PLUQ_DTYPE_BF16)) return true;
      for (int64_t i = 0; i < t.elements(); ++i) {
        const float v = t.real(i);
        const float back = type == Real::kF16 ? Tensor::half(float_to_half(v)) : bfloat(v);
        if (back != v) return false;
      }
      return true;
    }
    // v rounded to BF16.
    static float bfloat(float v) {
      const uint32_t bits = static_cast<uint32_t>(float_to_bfloat(v)) << 16;
      float out;
      std::memcpy(&out, &bits, sizeof out);
      return out;
    }

    // Scales, and with zero points those less the middle code: [groups, kinds, N].
    void load_tables(const pluq_exec& exec, const Tensors& tensors, uint8_t* out) const {
      const Real type = w_.scales_bf16 ? Real::kBf16 : Real::kF16;
      const Tensor& scales = tensors.at(stored_.scales);
      LoadTable table = load_table(scales, w_.n, groups(), type, out);
      table.out_pitch = kinds() * w_.n;
      check(ops_for(exec).load_reals(&exec, load_reals(table, scales, stored_.scale_layout)));
      if (!w_.zeros) return;
      table = load_table(tensors.at(stored_.zeros), w_.n, groups(), type, out + w_.n * 2);
      table.out_pitch = kinds() * w_.n;
      check(ops_for(exec).load_ints(&exec, load_ints(table, stored_.zero_layout, middle())));
    }

    void run(const pluq_exec& exec, WeightOnly* w, uint32_t y_dtype) const {
      const QuantizedOps& ops = ops_for(exec);
      auto* space = static_cast<uint8_t*>(exec.workspace);
      const Parts at = parts(w->m);
      auto* own = reinterpret_cast<uint16_t*>(space + at.x);
      if (device_order_ != nullptr) {
        check(ops.gather_columns(
            &exec, {static_cast<const uint16_t*>(w->x), w->m, w->k, w->ldx, device_order_, own}));
      } else if (w->ldx % 8 != 0 || reinterpret_cast<uintptr_t>(w->x) % 16 != 0) {
        RoundActivations r;
        r.m = w->m, r.k = w->k, r.x = w->x, r.ldx = w->ldx;
        r.x_type = w->bf16 ? Real::kBf16 : Real::kF16;
        r.codes = own;
        check(ops.cast(&exec, r, r.x_type));
      } else {
        own = nullptr;
      }
      if (own != nullptr) w->x = own, w->ldx = w->k;
      if (w->m >= wo_dequantize_from(sm_) &&
          widened(exec, *w, y_dtype, reinterpret_cast<uint16_t*>(space + at.wide))) {
        return;
      }
      w->partial = reinterpret_cast<float*>(space + at.partial);
      check(ops.weight_only(&exec, *w));
    }

    // False when the host has no such product, and nothing was written that the caller does not
    // write again.
    bool widened(const pluq_exec& exec, const WeightOnly& w, uint32_t y_dtype,
                 uint16_t* wide) const {
      const int64_t step = y_dtype == PLUQ_DTYPE_F32 ? 4 : 2;
      for (int64_t first = 0; first < w.n; first += wide_rows()) {
        const int64_t count = std::min(wide_rows(), w.n - first);
        check(ops_for(exec).weight_only_dequantize(&exec, {w, first, count, wide}));
        pluq_gemm_args g{};
        g.struct_size = sizeof g;
        g.x_type = g.w_type = w.bf16 ? PLUQ_DTYPE_BF16 : PLUQ_DTYPE_F16;
        g.y_type = y_dtype;
        g.m = w.m, g.n = count, g.k = w.k;
        g.x = w.x, g.ldx = w.ldx;
        g.w = wide, g.ldw = w.k;
        g.bias = w.bias == nullptr ? nullptr : w.bias + first;
        g.y = static_cast<uint8_t*>(w.y) + first * step, g.ldy = w.ldy;
        if (!host_gemm(exec, g)) return false;
      }
      return true;
    }

    cpu::IntLinear* source_;
    uint32_t sm_, sm_count_;
    WeightOnly w_;
    cpu::StoredLayer stored_;
    bool ordered_ = false;
    const int32_t* device_order_ = nullptr;
    uint64_t codes_at_ = 0, table_at_ = 0, order_at_ = 0, counters_at_ = 0;
  };

  // The kernel is settled when the tensors' values are known.
  class IntDevice final : public DeviceLinear {
   public:
    // source must outlive this.
    IntDevice(cpu::IntLinear* source, const Device& device)
        : fast_(source, device), blocks_(source), is_fast_(WeightOnlyLinear::may_fit(*source)) {}

    void describe(MethodInfo* info) const override { now().describe(info); }
    ProcessPlan plan(const Tensors& tensors) override {
      is_fast_ = fast_.settle(tensors);
      return now().plan(tensors);
    }
    void load(const pluq_exec& exec, const Tensors& tensors, uint8_t* buffer) override {
      now().load(exec, tensors, buffer);
    }
    uint64_t workspace(int64_t m) const override { return now().workspace(m); }
    void apply(const pluq_exec& exec, const Tensors& kept, const pluq_activation& x,
               const float* bias, const pluq_output& y) const override {
      now().apply(exec, kept, x, bias, y);
    }

   private:
    DeviceLinear& now() { return is_fast_ ? static_cast<DeviceLinear&>(fast_) : blocks_; }
    const DeviceLinear& now() const {
      return is_fast_ ? static_cast<const DeviceLinear&>(fast_) : blocks_;
    }
    WeightOnlyLinear fast_;
    IntBlocks blocks_;
    bool is_fast_;
  };

  // The device method of a format of integer codes.
  template <class Method>
  std::unique_ptr<LinearMethod> int_device_method(std::unique_ptr<Method> cpu,
                                                  const Device& device) {
    auto linear = std::make_unique<IntDevice>(cpu.get(), device);
    return std::make_unique<DeviceMethod>(std::move(cpu), std::move(linear), device.kind);
  }

}  // namespace )
}  // namespace cuda
}  // namespace pluq
