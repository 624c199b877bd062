// SPDX-License-Identifier: Apache-2.0
// A LinearMethod whose weights are integer codes, on the CPU's integer kernels: what the formats
// gptq, awq and w8a8 share. A format derives from it, says what its tensors mean (settle, codes,
// scales, zeros), and gets packing, workspace and apply for every instruction set.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "pluq/cpu/int_gemm.h"
#include "pluq/plugin.hpp"
#include "pluq/shard.hpp"
#include "pluq/stored.hpp"

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
        case Isa::kAvx512:
          return device.has(PLUQ_CPU_AVX512VNNI) ? avx512 : avx2;
        case Isa::kAvx2:
          return avx2;
        case Isa::kPortable:
          break;
      }
      return portable;
    }
  };

  // The longest run of columns that shares an activation scale when the engine chooses the
  // rounding. Longer weight groups are split, with their scales repeated: int8 per 128 columns
  // keeps the loss small, per row it does not.
  constexpr int32_t kIntActivationGroup = 128;

  // How the checkpoint rounds activations to int8, if it does.
  enum class IntInputs { kFloat, kToken, kTokenAsym, kStatic };

  // Which tensors hold a layer, and how, for kernels that repack it on a device. Scales and zero
  // points without a name lie in no simple way, and the host makes a table of them.
  struct StoredLayer {
    const char* codes = nullptr;  // [N, K]
    StoredInts code_layout;
    const char* scales = nullptr;  // [N, G]
    StoredReals scale_layout;
    const char* zeros = nullptr;  // [N, G]; with IntZeroKind::kOffset reals, else integers
    StoredInts zero_layout;
    StoredReals offset_layout;
    const char* order = nullptr;  // I32 [K], the group of each column; used when g_idx_ is set
  };

  class IntLinear : public LinearMethod {
   public:
    IntLinear(const LayerDesc& layer, const Device& device, const IntTables& tables)
        : LinearMethod(layer),
          kernels_(tables.choose(device)),
          n_workers_(std::max(device.n_workers, 1)) {}

    ProcessPlan process_plan(const Tensors& tensors) override {
      settle(tensors);
      split_groups();
      const IntSpec spec = make_spec();
      if (const char* why = int_check(spec))
        throw unsupported("layer " + layer().name + ": " + why);
      ProcessPlan plan;
      plan.keep_tensors = false;
      plan.buffer_bytes = static_cast<uint64_t>(int_packed_bytes(spec));
      plan.scratch_bytes =
          static_cast<uint64_t>(int_pack_scratch_bytes(spec)) * static_cast<uint64_t>(n_workers_);
      plan.cache_key = "int-panels-1";
      return plan;
    }

    void process_weights_after_loading(const Exec& exec, const Tensors& tensors,
                                       uint8_t* buffer) override {
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
        for (int32_t g = 0; g < s->self->num_runs(); ++g)
          out[g] = s->self->scale(*s->tensors, n, s->self->run_group_[static_cast<size_t>(g)]);
      };
      pack.zeros = [](void* user, int64_t n, float* out) {
        const auto* s = static_cast<const Source*>(user);
        const bool floating = s->self->zero_kind_ == IntZeroKind::kOffset;
        for (int32_t g = 0; g < s->self->num_runs(); ++g) {
          const int64_t group = s->self->run_group_[static_cast<size_t>(g)];
          out[g] = floating ? s->self->offset(*s->tensors, n, group)
                            : static_cast<float>(s->self->zero(*s->tensors, n, group));
        }
      };
      const int64_t each = int_pack_scratch_bytes(spec);
      exec.region([&](int worker, int workers) {
        const Share mine = share(weights_.num_panels, worker, std::min(workers, n_workers_));
        if (worker >= n_workers_) return;
        int_pack_panels(weights_, pack, mine.begin, mine.end, buffer,
                        exec.workspace() + worker * each);
      });
    }

    uint64_t workspace(int64_t max_tokens, int n_workers) const override {
      return static_cast<uint64_t>(
          int_workspace_bytes(weights_, max_tokens, activation_, n_workers));
    }

    void apply(const Exec& exec, const Activation& x, const float* bias,
               const Output& y) const override {
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

    void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                    int64_t ld) const override {
      const int64_t k = layer().k();
      std::vector<uint8_t> code(static_cast<size_t>(k));
      const std::vector<int32_t> group = column_groups(tensors);
      const bool floating = zero_kind_ == IntZeroKind::kOffset;
      for (int64_t n = n_begin; n < n_end; ++n) {
        codes(tensors, n, code.data());
        int64_t last = -1;
        float s = 0, o = 0;
        int z = 0;
        for (int64_t i = 0; i < k; ++i) {
          const int64_t g = group[static_cast<size_t>(i)];
          if (g != last) {
            s = scale(tensors, n, g);
            z = floating ? 0 : zero(tensors, n, g);
            o = floating ? offset(tensors, n, g) : 0;
            last = g;
          }
          const float product =
              s * static_cast<float>(static_cast<int>(code[static_cast<size_t>(i)]) - z);
          out[(n - n_begin) * ld + i] = floating ? product + o : product;
        }
      }
    }

    std::string kernel_name() const {
      return std::string(activation_ == IntActivation::kExact ? "int_gemm_exact_" : "int_gemm_") +
             kernels_->isa;
    }

    // What kernels of another device need of the bound tensors; throws as process_plan does.
    struct Facts {
      int32_t bits;
      IntZeroKind zero_kind;
      int32_t zero_constant;
      int64_t group_size, num_groups;     // group_size -1: one group
      int64_t column_begin, group_begin;  // of a shard
      const std::vector<int32_t>* g_idx;  // [K], empty: columns lie in order
      IntInputs inputs;                   // how the checkpoint rounds, kFloat when it is not to
      float divisor, static_scale;
      int32_t static_zero;
    };
    Facts facts(const Tensors& tensors) {
      settle(tensors);
      const bool rounds = activation_ == IntActivation::kToken ||
                          activation_ == IntActivation::kTokenAsym ||
                          activation_ == IntActivation::kStatic;
      return {bits_,        zero_kind_,    zero_constant_,
              group_size_,  num_groups_,   column_begin_,
              group_begin_, &g_idx_,       rounds ? inputs_ : IntInputs::kFloat,
              divisor_,     static_scale_, static_zero_};
    }
    float scale_of(const Tensors& tensors, int64_t n, int64_t g) const {
      return scale(tensors, n, g);
    }
    int zero_of(const Tensors& tensors, int64_t n, int64_t g) const {
      return zero_kind_ == IntZeroKind::kConstant ? zero_constant_ : zero(tensors, n, g);
    }
    float offset_of(const Tensors& tensors, int64_t n, int64_t g) const {
      return offset(tensors, n, g);
    }
    // For formats that run on a device's integer kernels; called after facts. Without it a layer is
    // none of theirs.
    virtual StoredLayer stored(const Tensors& tensors) const {
      (void)tensors;
      throw unsupported("layer " + layer().name + ": no kernel of a device reads its codes");
    }
    int bits() const { return bits_; }
    // Whether activations are rounded; known before the values are.
    bool rounds_inputs() const {
      return inputs_ != IntInputs::kFloat && !layer().float_activations;
    }
    int64_t group_columns() const { return group_size_; }

   protected:
    // Looks at the values and fills the members below. Throws for what is wrong or not supported.
    virtual void settle(const Tensors& tensors) = 0;
    // The K unsigned codes of row n in the checkpoint's column order; scale and integer zero of row
    // n in group g; the group of each column, [K]. Reentrant.
    virtual void codes(const Tensors& tensors, int64_t n, uint8_t* out) const = 0;
    virtual float scale(const Tensors& tensors, int64_t n, int64_t g) const = 0;
    virtual int zero(const Tensors& tensors, int64_t n, int64_t g) const = 0;
    // With IntZeroKind::kOffset, instead of zero: W = scale * code + offset.
    virtual float offset(const Tensors& tensors, int64_t n, int64_t g) const {
      return -scale(tensors, n, g) * static_cast<float>(zero(tensors, n, g));
    }
    virtual std::vector<int32_t> column_groups(const Tensors& tensors) const = 0;

    // Set by settle:
    int32_t bits_ = 4;
    int64_t num_groups_ = 1;
    int64_t group_size_ = -1;  // columns per group in order; ignored with g_idx_
    // A shard that begins inside the layer: its first column, and the first group that its tensors
    // hold. num_groups_ counts the groups of the tensors at hand.
    int64_t column_begin_ = 0, group_begin_ = 0;
    std::vector<int32_t> g_idx_;  // [K] group of each column, when it is not in order
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
      for (size_t i = 0; i < out.size(); ++i) {
        out[i] = size < 0 ? 0
                          : static_cast<int32_t>((column_begin_ + static_cast<int64_t>(i)) / size -
                                                 group_begin_);
      }
      return out;
    }

    // The relative error (row-wise L2) of the arithmetic. Rounding a run of g values to amax / 127
    // moves each by at most amax / 254, so the run by at most sqrt(g) / 254 of its length. Twice
    // that: weights that share an offset can stretch the error more than the sum (measured on small
    // layers: 1.3).
    double arithmetic_error() const {
      if (activation_ != IntActivation::kGroup) return 1e-5;
      const int64_t size = group_size_ < 0 ? layer().k() : group_size_;
      return 2 * std::sqrt(static_cast<double>(std::min<int64_t>(size, kIntActivationGroup))) / 254;
    }

    // Chooses the arithmetic: the checkpoint's rounding; where there is none, or float activations
    // are asked for, exact digits, or int8 per run of columns when speed is asked for. Finds the
    // tensors of static activations.
    void choose_activation(IntInputs inputs) {
      inputs_ = inputs;
      if (const Tensor* s = layer().tensors.find("input_scale")) {
        if (s->elements() != 1 &&
            s->elements() != static_cast<int64_t>(layer().output_parts.size())) {
          throw invalid("layer " + layer().name + ": input_scale is " + s->text() +
                        ", expected one scale, or one for each part of a fused weight");
        }
        input_specs_.push_back(shard::spec("input_scale", s->dtype_id(), s->shape(), {}));
        input_specs_.back().sample = Sample::real(0.01, 0.02);
      } else if (inputs == IntInputs::kStatic && layer().tensors_known) {
        throw invalid("layer " + layer().name +
                      ": activations are static, but tensor 'input_scale' is missing");
      }
      const Tensor* zero = layer().tensors.find("input_zero_point");
      if (zero != nullptr) {
        if (zero->elements() != 1)
          throw unsupported("layer " + layer().name + ": input_zero_point holds " + zero->text() +
                            "; one is built");
        input_specs_.push_back(
            shard::spec("input_zero_point", zero->dtype_id(), zero->shape(), {}));
      }
      if (layer().float_activations || inputs == IntInputs::kFloat) {
        const bool fast = !layer().exact && !layer().float_activations;
        activation_ = fast ? IntActivation::kGroup : IntActivation::kExact;
        return;
      }
      if (inputs != IntInputs::kStatic && shard::splits_inputs(layer())) {
        throw unsupported(
            "layer " + layer().name +
            ": activations are rounded per token over all of K, so K cannot be split");
      }
      activation_ = inputs == IntInputs::kToken       ? IntActivation::kToken
                    : inputs == IntInputs::kTokenAsym ? IntActivation::kTokenAsym
                                                      : IntActivation::kStatic;
      sums_ = inputs == IntInputs::kTokenAsym || (inputs == IntInputs::kStatic && zero != nullptr);
    }
    const std::vector<WeightSpec>& input_specs() const { return input_specs_; }

    // Reads the values of static activations.
    void settle_inputs(const Tensors& tensors) {
      if (activation_ != IntActivation::kStatic) return;
      const Tensor& scales = tensors.at("input_scale");
      static_scale_ = 0;
      for (int64_t i = 0; i < scales.elements();
           ++i) {  // parts of a fused weight read one input: the largest holds for all
        const float s = scales.real(i);
        if (!(s > 0) || !std::isfinite(s)) {
          throw invalid(format("layer %s: input_scale is %g, expected a number above 0",
                               layer().name.c_str(), static_cast<double>(s)));
        }
        static_scale_ = std::max(static_scale_, s);
      }
      if (!sums_) return;
      const Tensor& z = tensors.at("input_zero_point");
      if (z.dtype_id() != PLUQ_DTYPE_I8 && z.dtype_id() != PLUQ_DTYPE_I32) {
        throw unsupported("layer " + layer().name + ": input_zero_point is " + z.text() +
                          "; I8 and I32 are built");
      }
      static_zero_ = z.dtype_id() == PLUQ_DTYPE_I8 ? z.load<int8_t>(0) : z.load<int32_t>(0);
      if (static_zero_ < -128 || static_zero_ > 127) {
        throw invalid(format("layer %s: input_zero_point is %d, expected -128 to 127",
                             layer().name.c_str(), static_zero_));
      }
    }

    // Kernel, arithmetic, error and activation scheme of `info`, and what the scheme's text says of
    // activations.
    void describe_arithmetic(MethodInfo* info) const {
      static const char* const names[] = {"", " a8 token", " a8 token asym", " a8 static"};
      info->scheme += names[static_cast<int>(inputs_)];
      info->kernel = kernel_name();
      info->error_bound = arithmetic_error();
      info->arithmetic = activation_ == IntActivation::kExact   ? PLUQ_ARITHMETIC_F32
                         : activation_ == IntActivation::kGroup ? PLUQ_ARITHMETIC_INT8
                                                                : PLUQ_ARITHMETIC_CHECKPOINT;
      if (info->arithmetic != PLUQ_ARITHMETIC_CHECKPOINT) return;
      ActivationScheme& a = info->activations;
      a.strategy = inputs_ == IntInputs::kStatic ? PLUQ_STRATEGY_TENSOR : PLUQ_STRATEGY_TOKEN;
      a.dtype_id = PLUQ_DTYPE_I8;
      a.dynamic = inputs_ != IntInputs::kStatic;
      a.symmetric = !sums_;
      a.divisor = inputs_ == IntInputs::kTokenAsym ? 255 : static_cast<double>(divisor_);
      if (inputs_ == IntInputs::kStatic) a.static_scale_suffix = "input_scale";
    }

    // Scales must be finite; negative ones occur nowhere and are said.
    void check_scales(const Tensor& scales) const {
      int64_t negative = 0;
      for (int64_t i = 0; i < scales.elements(); ++i) {
        const float s = scales.real(i);
        if (!std::isfinite(s)) {
          throw invalid(format("layer %s: %s holds %g at %lld; scales must be finite",
                               layer().name.c_str(), scales.name().c_str(), static_cast<double>(s),
                               static_cast<long long>(i)));
        }
        negative += s < 0;
      }
      if (negative > 0) {
        log(PLUQ_LOG_WARNING,
            format("layer %s: %lld of %lld values of %s are negative", layer().name.c_str(),
                   static_cast<long long>(negative), static_cast<long long>(scales.elements()),
                   scales.name().c_str()));
      }
    }

    static IntScaleType narrow(uint32_t dtype_id) {
      return dtype_id == PLUQ_DTYPE_F16    ? IntScaleType::kF16
             : dtype_id == PLUQ_DTYPE_BF16 ? IntScaleType::kBf16
                                           : IntScaleType::kF32;
    }

   private:
    int32_t num_runs() const { return static_cast<int32_t>(run_group_.size()); }

    // Runs of columns with one scale each: whole groups, or pieces of them no longer than the
    // activation's group.
    void split_groups() {
      const auto k = static_cast<int32_t>(layer().k());
      const bool per_row =
          activation_ != IntActivation::kGroup && activation_ != IntActivation::kExact;
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
        const auto bound = [&](int64_t group) {
          if (group_size_ < 0) return group > 0 ? k : 0;
          return static_cast<int32_t>(
              std::clamp<int64_t>((group_begin_ + group) * group_size_ - column_begin_, 0, k));
        };
        for (int64_t g = 0; g < num_groups_; ++g)
          add(bound(g), bound(g + 1), static_cast<int32_t>(g));
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
        while (end < k && g_idx_[static_cast<size_t>(perm_[static_cast<size_t>(end)])] == group)
          ++end;
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

    IntInputs inputs_ = IntInputs::kFloat;
    std::vector<WeightSpec> input_specs_;
    const IntKernels* kernels_;
    int n_workers_;
    IntWeights weights_;
    std::vector<int32_t> run_begin_, run_group_, perm_;
  };

}  // namespace )
}  // namespace cpu
}  // namespace pluq
