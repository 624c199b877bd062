// SPDX-License-Identifier: Apache-2.0
// A LinearMethod whose weights are floats of 8 to 32 bits, on the CPU's float kernels: what dense
// and fp8 share.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "pluq/cpu/float_gemm.h"
#include "pluq/plugin.hpp"

namespace pluq {
namespace cpu {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  struct FloatTables {
    const FloatKernels *portable, *avx2, *avx512;
    const FloatKernels* choose(const Device& device) const {
      switch (device.isa()) {
        case Isa::kAvx512:
          return avx512;
        case Isa::kAvx2:
          return avx2;
        case Isa::kPortable:
          break;
      }
      return portable;
    }
  };

  class FloatLinear : public LinearMethod {
   public:
    FloatLinear(const LayerDesc& layer, const Device& device, const FloatTables& tables)
        : LinearMethod(layer), kernels_(tables.choose(device)) {}

    ProcessPlan process_plan(const Tensors& tensors) override {
      ProcessPlan plan;
      weights_.n = layer().n();
      weights_.k = layer().k();
      settle(tensors);
      // An embedding table is only read row by row: it stays where it is.
      plan.keep_tensors = layer().kind == "embedding";
      plan.buffer_bytes =
          plan.keep_tensors ? 0 : static_cast<uint64_t>(float_packed_bytes(weights_));
      plan.cache_key = "float-panels-1";
      return plan;
    }

    void process_weights_after_loading(const Exec& exec, const Tensors& tensors,
                                       uint8_t* buffer) override {
      if (layer().kind == "embedding") return;
      float_pack_init(&weights_, scales_.data(), buffer);
      const uint8_t* source = tensors.at("weight").data();
      exec.region([&](int worker, int workers) {
        const Share mine = share(weights_.num_panels, worker, workers);
        float_pack_panels(weights_, source, mine.begin, mine.end, buffer);
      });
    }

    uint64_t workspace(int64_t max_tokens, int n_workers) const override {
      return bounded_bytes(max_tokens) + static_cast<uint64_t>(float_workspace_bytes(
                                             weights_, max_tokens, input_.round, n_workers));
    }

    void apply(const Exec& exec, const Activation& x, const float* bias,
               const Output& y) const override {
      FloatInput in = input_;
      in.m = x.m;
      in.x = x.data;
      in.ldx = x.ld;
      FloatOutput out;
      out.y = y.data;
      out.ldy = y.ld;
      out.bias = bias;
      uint8_t* const space = exec.workspace() + bounded_bytes(x.m);
      auto* const bounded = reinterpret_cast<float*>(exec.workspace());
      if (input_bound_ > 0) {
        in.x = bounded;
        in.ldx = x.k;
      }
      exec.region([&](int worker, int workers) {
        if (input_bound_ > 0) {
          bound_rows(x, share(x.m, worker, workers), bounded);
          exec.barrier(worker, workers);
        }
        if (in.round != FloatRound::kNone) {
          kernels_->round(&weights_, &in, space, worker, workers);
          exec.barrier(worker, workers);
        }
        kernels_->gemm(&weights_, &in, &out, space, worker, workers);
      });
    }

    std::string kernel_name() const { return std::string("float_gemm_") + kernels_->isa; }

    // What kernels of another device need of the bound tensors; throws as process_plan does.
    struct Facts {
      FloatWeights weights;  // without panels
      std::vector<float> scales;
      FloatInput input;  // rounding only
      float input_bound;
    };
    Facts facts(const Tensors& tensors) {
      weights_.n = layer().n();
      weights_.k = layer().k();
      settle(tensors);
      return {weights_, scales_, input_, input_bound_};
    }

   protected:
    // Sets type, scale kind and scales_ of weights_, and how input_ is rounded, from the tensors'
    // values.
    virtual void settle(const Tensors& tensors) = 0;

    FloatWeights weights_;
    FloatInput input_;  // rounding only
    std::vector<float> scales_;
    // Before rounding, x is clamped to +-input_bound_; 0: it is not. A scale of min(max|x|, bound)
    // / 448 with saturating codes is the same thing.
    float input_bound_ = 0;

   private:
    uint64_t bounded_bytes(int64_t m) const {
      return input_bound_ > 0 ? static_cast<uint64_t>(float_align(m * weights_.k * 4)) : 0;
    }
    void bound_rows(const Activation& x, Share rows, float* out) const {
      for (int64_t m = rows.begin; m < rows.end; ++m) {
        for (int64_t k = 0; k < x.k; ++k) {
          const float v = x.data[m * x.ld + k];
          out[m * x.k + k] = v > input_bound_    ? input_bound_
                             : v < -input_bound_ ? -input_bound_
                                                 : v;
        }
      }
    }
    const FloatKernels* kernels_;
  };

}  // namespace )
}  // namespace cpu
}  // namespace pluq
