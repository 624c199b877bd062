// SPDX-License-Identifier: Apache-2.0
// A LinearMethod whose weights are integer codes, on the CPU's integer kernels: what the formats gptq, awq and w8a8
// share. A format derives from it, says what its tensors mean (settle, codes, scales, zeros), and gets packing,
// workspace and apply for every instruction set.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "pluq/cpu/int_gemm.h"
#include "pluq/plugin.hpp"

namespace pluq {
namespace cpu {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

// The tables that the plugin has instantiated (int_gemm_<isa>.inl).
struct IntTables {
  const IntKernels* portable;
  const IntKernels* avx2;
  const IntKernels* avx512;  // needs VNNI
  const IntKernels* choose(const Device& device) const {
    switch (device.isa()) {
      case Isa::kAvx512: return device.has(PLUQ_CPU_AVX512VNNI) ? avx512 : avx2;
      case Isa::kAvx2: return avx2;
      case Isa::kPortable: break;
    }
    return portable;
  }
};

// The longest run of columns that shares an activation scale when the engine chooses the rounding. Longer weight
// groups are split, with their scales repeated: int8 per 128 columns keeps the loss small, per row it does not.
constexpr int32_t kIntActivationGroup = 128;

class IntLinear : public LinearMethod {
 public:
  IntLinear(const LayerDesc& layer, const Device& device, const IntTables& tables)
      : LinearMethod(layer), kernels_(tables.choose(device)), n_workers_(std::max(device.n_workers, 1)) {}

  ProcessPlan process_plan(const Tensors& tensors) override {
    settle(tensors);
    split_groups();
    const IntSpec spec = make_spec();
    if (const char* why = int_check(spec)) throw unsupported("layer " + layer().name + ": " + why);
    ProcessPlan plan;
    plan.keep_tensors = false;
    plan.buffer_bytes = static_cast<uint64_t>(int_packed_bytes(spec));
    plan.scratch_bytes = static_cast<uint64_t>(int_pack_scratch_bytes(spec)) * static_cast<uint64_t>(n_workers_);
    plan.cache_key = "int-panels-1";
    return plan;
  }

  void process_weights_after_loading(const Exec& exec, const Tensors& tensors, uint8_t* buffer) override {
    const IntSpec spec = make_spec();
    weights_ = int_pack_init(spec, buffer);
    struct Source {
      const IntLinear* self;
      const Tensors* tensors;
    } source{this, &tensors};
    IntPackSource pack;
    pack.user = &source;
    pack.codes = [](void* user, int64_t n, uint8_t* out) {
      const auto* s = static_cast<const Source*>(user);
      s->self->codes(*s->tensors, n, out);
    };
    pack.scales = [](void* user, int64_t n, float* out) {
      const auto* s = static_cast<const Source*>(user);
      for (int32_t g = 0; g < s->self->num_runs(); ++g) out[g] = s->self->scale(*s->tensors, n, s->self->run_group_[static_cast<size_t>(g)]);
    };
    pack.zeros = [](void* user, int64_t n, float* out) {
      const auto* s = static_cast<const Source*>(user);
      for (int32_t g = 0; g < s->self->num_runs(); ++g) {
        out[g] = static_cast<float>(s->self->zero(*s->tensors, n, s->self->run_group_[static_cast<size_t>(g)]));
      }
    };
    const int64_t each = int_pack_scratch_bytes(spec);
    exec.region([&](int worker, int workers) {
      const Share mine = share(weights_.num_panels, worker, std::min(workers, n_workers_));
      if (worker >= n_workers_) return;
      int_pack_panels(weights_, pack, mine.begin, mine.end, buffer, exec.workspace() + worker * each);
    });
  }

  uint64_t workspace(int64_t max_tokens, int n_workers) const override {
    return static_cast<uint64_t>(int_workspace_bytes(weights_, max_tokens, activation_, n_workers));
  }

  void apply(const Exec& exec, const Activation& x, const float* bias, const Output& y) const override {
    IntInput in;
    in.mode = activation_;
    in.m = x.m;
    in.x = x.data;
    in.ldx = x.ld;
    in.divisor = divisor_;
    in.static_scale = static_scale_;
    in.static_zero = static_zero_;
    IntOutput out;
    out.y = y.data;
    out.ldy = y.ld;
    out.bias = bias;
    exec.region([&](int worker, int workers) {
      kernels_->quantize(&weights_, &in, exec.workspace(), worker, workers);
      exec.barrier(worker, workers);
      kernels_->gemm(&weights_, &in, &out, exec.workspace(), worker, workers);
    });
  }

  void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out, int64_t ld) const override {
    const int64_t k = layer().k();
    std::vector<uint8_t> code(static_cast<size_t>(k));
    const std::vector<int32_t> group = column_groups(tensors);
    for (int64_t n = n_begin; n < n_end; ++n) {
      codes(tensors, n, code.data());
      int64_t last = -1;
      float s = 0;
      int z = 0;
      for (int64_t i = 0; i < k; ++i) {
        const int64_t g = group[static_cast<size_t>(i)];
        if (g != last) {
          s = scale(tensors, n, g);
          z = zero(tensors, n, g);
          last = g;
        }
        out[(n - n_begin) * ld + i] = s * static_cast<float>(static_cast<int>(code[static_cast<size_t>(i)]) - z);
      }
    }
  }

  std::string kernel_name() const {
    return std::string(activation_ == IntActivation::kExact ? "int_gemm_exact_" : "int_gemm_") + kernels_->isa;
  }

 protected:
  // Looks at the values and fills the members below. Throws for what is wrong or not supported.
  virtual void settle(const Tensors& tensors) = 0;
  // The K unsigned codes of row n in the checkpoint's column order; scale and integer zero of row n in group g; the
  // group of each column, [K]. Reentrant.
  virtual void codes(const Tensors& tensors, int64_t n, uint8_t* out) const = 0;
  virtual float scale(const Tensors& tensors, int64_t n, int64_t g) const = 0;
  virtual int zero(const Tensors& tensors, int64_t n, int64_t g) const = 0;
  virtual std::vector<int32_t> column_groups(const Tensors& tensors) const = 0;

  // Set by settle:
  int32_t bits_ = 4;
  int64_t num_groups_ = 1;
  int64_t group_size_ = -1;                 // columns per group in order; ignored with g_idx_
  std::vector<int32_t> g_idx_;              // [K] group of each column, when it is not in order
  IntScaleType scale_type_ = IntScaleType::kF32;
  IntZeroKind zero_kind_ = IntZeroKind::kConstant;
  int32_t zero_constant_ = 8;
  bool sums_ = false;
  IntActivation activation_ = IntActivation::kExact;
  float divisor_ = 127.0F, static_scale_ = 1.0F;
  int32_t static_zero_ = 0;

  // column_groups of groups that lie in order.
  std::vector<int32_t> natural_groups(int64_t size) const {
    std::vector<int32_t> out(static_cast<size_t>(layer().k()));
    for (size_t i = 0; i < out.size(); ++i) out[i] = size < 0 ? 0 : static_cast<int32_t>(static_cast<int64_t>(i) / size);
    return out;
  }

  static IntScaleType narrow(uint32_t dtype_id) {
    return dtype_id == PLUQ_DTYPE_F16 ? IntScaleType::kF16 : dtype_id == PLUQ_DTYPE_BF16 ? IntScaleType::kBf16 : IntScaleType::kF32;
  }

 private:
  int32_t num_runs() const { return static_cast<int32_t>(run_group_.size()); }

  // Runs of columns with one scale each: whole groups, or pieces of them no longer than the activation's group.
  void split_groups() {
    const auto k = static_cast<int32_t>(layer().k());
    const bool per_row = activation_ != IntActivation::kGroup && activation_ != IntActivation::kExact;
    const int32_t longest = per_row ? kIntMaxGroup : kIntActivationGroup;
    run_begin_.assign(1, 0);
    run_group_.clear();
    perm_.clear();
    const auto add = [&](int32_t begin, int32_t end, int32_t group) {
      while (begin < end) {
        begin = std::min(begin + longest, end);
        run_begin_.push_back(begin);
        run_group_.push_back(group);
      }
    };
    if (g_idx_.empty()) {
      const int64_t size = group_size_ < 0 ? k : group_size_;
      for (int64_t g = 0; g < num_groups_; ++g) {
        add(static_cast<int32_t>(std::min<int64_t>(g * size, k)), static_cast<int32_t>(std::min<int64_t>((g + 1) * size, k)),
            static_cast<int32_t>(g));
      }
      return;
    }
    // Columns sorted by group, in order within one, so that each group is a run.
    perm_.resize(static_cast<size_t>(k));
    for (int32_t i = 0; i < k; ++i) perm_[static_cast<size_t>(i)] = i;
    std::sort(perm_.begin(), perm_.end(), [&](int32_t a, int32_t b) {
      const int32_t x = g_idx_[static_cast<size_t>(a)], y = g_idx_[static_cast<size_t>(b)];
      return x != y ? x < y : a < b;
    });
    for (int32_t begin = 0; begin < k;) {
      const int32_t group = g_idx_[static_cast<size_t>(perm_[static_cast<size_t>(begin)])];
      int32_t end = begin;
      while (end < k && g_idx_[static_cast<size_t>(perm_[static_cast<size_t>(end)])] == group) ++end;
      add(begin, end, group);
      begin = end;
    }
  }

  IntSpec make_spec() const {
    IntSpec s;
    s.n = layer().n();
    s.k = layer().k();
    s.bits = bits_;
    s.num_groups = num_runs();
    s.group_begin = run_begin_.data();
    s.perm = perm_.empty() ? nullptr : perm_.data();
    s.scale_type = scale_type_;
    s.zero_kind = zero_kind_;
    s.zero_constant = zero_constant_;
    s.sums = sums_;
    return s;
  }

  const IntKernels* kernels_;
  int n_workers_;
  IntWeights weights_;
  std::vector<int32_t> run_begin_, run_group_, perm_;
};

}  // namespace sdk_v0
}  // namespace cpu
}  // namespace pluq
