// SPDX-License-Identifier: Apache-2.0
// DeviceLinear of weights with one byte per value, fp8 or int8, whose activations are rounded as
// the checkpoint says or stay 16-bit floats (fp8 only): formats fp8 and w8a8. Where the device has
// no fp8 units, rounded activations are multiplied as f16, which holds every e4m3 value.
#pragma once

#include <algorithm>
#include <numeric>

#include "pluq/cuda/quantized/device_linear.hpp"

namespace pluq {
namespace cuda {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  enum class ByteType { kInt8, kE4m3, kE5m2 };

  // What the tensors' values say; made by the format while it plans.
  struct ByteFacts {
    ByteType type = ByteType::kE4m3;
    std::vector<float> scales;  // [ceil(N / scale_rows), groups]
    int64_t scale_rows = 1;
    int64_t group = 0;           // columns per scale from the shard's first one on; 0: all
    std::vector<int32_t> zeros;  // int8: [N, groups] or empty
    bool rounds = false;
    RoundMode mode = RoundMode::kFp8Token;
    int64_t round_group = 0;  // kFp8Group
    float static_scale = 1, bound = 0;
    int32_t static_zero = 0;
  };

  // Whether the 8-bit kernels can serve scales that change every `group` and `round_group` columns
  // (0: never) of K.
  inline bool byte_groups_fit(int64_t k, int64_t group, int64_t round_group) {
    const int64_t period = std::gcd(group >= k ? 0 : group, round_group >= k ? 0 : round_group);
    return period % kBytePeriod == 0;
  }

  class ByteLinear : public DeviceLinear {
   public:
    ByteLinear(const LayerDesc& layer, const Device& device)
        : n_(layer.n()),
          k_(layer.k()),
          sm_(device.compute_capability),
          sm_count_(device.sm_count) {
      for (int64_t m = 1; m <= 64; ++m) {
        splits_.push_back(byte_splits(m, n_, k_, device.sm_count));
        const int64_t bytes = splits_.back() > 1 ? splits_.back() * m * n_ * 4 : 0;
        partial_bytes_.push_back(std::max(bytes, m > 1 ? partial_bytes_.back() : 0));
      }
    }

    ProcessPlan plan(const Tensors& tensors) override {
      facts_ = facts(tensors);
      groups_ =
          facts_.group == 0 || facts_.group >= k_ ? 1 : (k_ + facts_.group - 1) / facts_.group;
      round_groups_ = facts_.mode == RoundMode::kFp8Group && facts_.round_group < k_
                          ? (k_ + facts_.round_group - 1) / facts_.round_group
                          : 1;
      Arena arena;
      weights_at_ = arena.add(n_ * byte_pitch(k_));
      // One scale for all rows is written out, as the host's library wants it.
      if (library_fits() && facts_.scales.size() == 1 && n_ > 1) {
        facts_.scales.assign(static_cast<size_t>(n_), facts_.scales[0]);
        facts_.scale_rows = 1;
      }
      scales_at_ = arena.add(static_cast<int64_t>(facts_.scales.size()) * 4);
      zeros_at_ = arena.add(static_cast<int64_t>(facts_.zeros.size()) * 4);
      sums_at_ = arena.add(input_zeros() ? n_ * groups_ * 4 : 0);
      ProcessPlan plan;
      plan.keep_tensors = false;
      plan.buffer_bytes = arena.bytes();
      plan.cache_key = wide() ? "cuda-bytes-wide-1" : "cuda-bytes-1";
      return plan;
    }

    void load(const pluq_exec& exec, const Tensors& tensors, uint8_t* buffer) override {
      buffer_ = buffer;
      const Tensor& w = tensors.at("weight");
      check(ops_for(exec).pack_bytes(
          &exec, {w.data(), n_, k_, buffer + weights_at_, byte_pitch(k_), wide()}));
      upload(exec, facts_.scales, buffer + scales_at_);
      upload(exec, facts_.zeros, buffer + zeros_at_);
      if (input_zeros()) {
        check(ops_for(exec).sum_bytes(
            &exec, {buffer + weights_at_, n_, k_, byte_pitch(k_), facts_.group, zeros(),
                    reinterpret_cast<int32_t*>(buffer + sums_at_)}));
      }
      facts_.scales = {};  // on the device now; plan makes them again
    }

    uint64_t workspace(int64_t m) const override { return parts(m).bytes; }

    // Not where e4m3 codes are held as f16, where weights have zero points (their sums of codes
    // may be of shorter runs than the scheme's), or where the scheme cannot say the bound or the
    // static zero point.
    bool takes_quantized() const override {
      return facts_.rounds && !wide() && facts_.zeros.empty() && facts_.bound == 0 &&
             (facts_.mode != RoundMode::kInt8Static || facts_.static_zero == 0);
    }

    void apply(const pluq_exec& exec, const Tensors&, const pluq_activation& x, const float* bias,
               const pluq_output& y) const override {
      const Parts at = parts(x.m);
      ByteGemm g;
      g.m = x.m, g.n = n_, g.k = k_;
      g.b = buffer_ + weights_at_;
      g.b_scale = reinterpret_cast<const float*>(buffer_ + scales_at_);
      g.b_group = facts_.group, g.b_rows = facts_.scale_rows;
      g.kind = kind(real_type(x.dtype, "x")), g.sm = sm_, g.sm_count = sm_count_;
      if (x.quantized != nullptr) {
        take(*x.quantized, &g);
      } else {
        make_input(exec, x, at, &g);
      }
      g.b_zero = facts_.zeros.empty() ? nullptr : zeros();
      g.b_sum = input_zeros() ? reinterpret_cast<const int32_t*>(buffer_ + sums_at_) : nullptr;
      g.bias = bias;
      g.y = y.data, g.ldy = y.ld, g.y_type = real_type(y.dtype, "y");
      if (x.m >= kLibraryRows && library_fits() && by_library(exec, g, y)) return;
      g.splits = x.m <= 64 ? splits_[static_cast<size_t>(x.m - 1)] : 1;
      if (g.splits > 1)
        g.partial = reinterpret_cast<float*>(static_cast<uint8_t*>(exec.workspace) + at.partial);
      check(ops_for(exec).byte_gemm(&exec, g));
    }

    void describe(MethodInfo* info) const override {
      info->kernel = kernel_;
      info->error_bound = 1.0 / 128;  // y is stored in 16 bits
      if (info->arithmetic != PLUQ_ARITHMETIC_CHECKPOINT) info->arithmetic = PLUQ_ARITHMETIC_BF16;
    }

   protected:
    virtual ByteFacts facts(const Tensors& tensors) = 0;
    // The kernel's name for a type of weights, known before the values are.
    void name_kernel(ByteType type, bool rounds) {
      kernel_ = type == ByteType::kInt8                          ? "cuda_int8_w8a8"
                : rounds && type == ByteType::kE4m3 && sm_ >= 89 ? "cuda_fp8_w8a8"
                                                                 : "cuda_fp8_w8a16";
    }

   private:
    // From here on products of e4m3 codes with a scale per row are the library's, where the host
    // has it: its blocks may share what they read from L2, those of byte_wgmma.cuh do not. Counted,
    // not measured.
    static constexpr int64_t kLibraryRows = 128;
    bool library_fits() const {
      return sm_ >= 90 && facts_.rounds && facts_.type == ByteType::kE4m3 && groups_ == 1 &&
             round_groups_ == 1 && facts_.zeros.empty() &&
             (facts_.scale_rows == 1 || facts_.scales.size() == 1);
    }
    // False when the host has no such product.
    bool by_library(const pluq_exec& exec, const ByteGemm& from, const pluq_output& y) const {
      pluq_gemm_args g{};
      g.struct_size = sizeof g;
      g.x_type = g.w_type = PLUQ_DTYPE_F8_E4M3;
      g.y_type = y.dtype.id;
      g.m = from.m, g.n = from.n, g.k = byte_pitch(k_);  // zeros beyond K
      g.x = from.a, g.ldx = from.lda;
      g.w = from.b, g.ldw = byte_pitch(k_);
      g.bias = from.bias;
      g.y = from.y, g.ldy = from.ldy;
      g.x_scale_kind = g.w_scale_kind = PLUQ_GEMM_SCALE_PER_ROW;
      g.x_scale = from.a_scale, g.w_scale = from.b_scale;
      return host_gemm(exec, g);
    }
    int64_t round_group() const {
      return facts_.mode == RoundMode::kFp8Group ? facts_.round_group : 0;
    }
    struct Parts {
      uint64_t codes, scales, zeros, sums, partial, bytes;
    };
    Parts parts(int64_t m) const {
      Arena arena;
      Parts p{};
      p.codes = arena.add(m * byte_pitch(k_) * (wide() ? 2 : 1));
      p.scales = arena.add(m * round_groups_ * 4);
      p.zeros = arena.add(m * 4);
      p.sums = arena.add(m * groups_ * 4);
      p.partial =
          arena.add(m < 1 ? 0 : partial_bytes_[static_cast<size_t>(std::min<int64_t>(m, 64)) - 1]);
      p.bytes = arena.bytes();
      return p;
    }
    // A of the product from rows rounded by the host.
    void take(const pluq_quantized& q, ByteGemm* g) const {
      if (q.codes_ld < byte_pitch(k_) || q.codes_ld % kByteDepth != 0 ||
          reinterpret_cast<uintptr_t>(q.codes) % 16 != 0) {
        throw invalid("rounded activations: rows of " + std::to_string(k_) + " codes lie " +
                      std::to_string(q.codes_ld) + " apart; expected are a multiple of 64 that " +
                      "holds them, and a first row at a multiple of 16 bytes");
      }
      g->a = q.codes, g->lda = q.codes_ld;
      g->a_scale = q.scales, g->a_zero = q.zeros, g->a_group = round_group();
    }
    // A of the product from x: rounded or copied into the workspace, or x as it is.
    void make_input(const pluq_exec& exec, const pluq_activation& x, const Parts& at,
                    ByteGemm* g) const {
      auto* space = static_cast<uint8_t*>(exec.workspace);
      g->a = space + at.codes, g->lda = byte_pitch(k_);
      RoundActivations r;
      r.m = x.m, r.k = k_, r.x = x.data, r.ldx = x.ld, r.x_type = real_type(x.dtype, "x");
      r.codes = space + at.codes;
      if (facts_.rounds) {
        r.mode = facts_.mode, r.group = facts_.round_group;
        r.static_scale = facts_.static_scale, r.static_zero = facts_.static_zero;
        r.bound = facts_.bound, r.as_f16 = wide();
        r.scales = reinterpret_cast<float*>(space + at.scales);
        if (input_zeros()) r.zeros = reinterpret_cast<int32_t*>(space + at.zeros);
        if (!facts_.zeros.empty()) {
          r.sums = reinterpret_cast<int32_t*>(space + at.sums);
          r.sum_group = facts_.group;
        }
        check(ops_for(exec).round(&exec, r));
        g->a_scale = r.scales, g->a_zero = r.zeros, g->a_sum = r.sums;
        g->a_group = round_group();
      } else if (k_ % 8 == 0 && x.ld % 8 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0) {
        g->a = x.data, g->lda = x.ld;
      } else {
        check(ops_for(exec).cast(&exec, r, r.x_type));
      }
    }
    // Products of 16-bit activations: without rounding, and where fp8 units are missing.
    bool wide() const {
      return facts_.type != ByteType::kInt8 &&
             (!facts_.rounds || facts_.type == ByteType::kE5m2 || sm_ < 89);
    }
    ByteKind kind(Real x_type) const {
      if (facts_.type == ByteType::kInt8) return ByteKind::kS8;
      if (!wide()) return ByteKind::kE4m3;
      const bool e5m2 = facts_.type == ByteType::kE5m2;
      if (facts_.rounds || x_type == Real::kF16)
        return e5m2 ? ByteKind::kF16E5m2 : ByteKind::kF16E4m3;
      if (x_type == Real::kF32) throw unsupported("x is F32; F16 and BF16 are built");
      return e5m2 ? ByteKind::kBf16E5m2 : ByteKind::kBf16E4m3;
    }
    bool input_zeros() const {
      return facts_.rounds && (facts_.mode == RoundMode::kInt8TokenAsym ||
                               (facts_.mode == RoundMode::kInt8Static && facts_.static_zero != 0));
    }
    const int32_t* zeros() const {
      return facts_.zeros.empty() ? nullptr : reinterpret_cast<const int32_t*>(buffer_ + zeros_at_);
    }

    int64_t n_, k_;
    uint32_t sm_, sm_count_;
    std::vector<int32_t> splits_;         // [m - 1]
    std::vector<int64_t> partial_bytes_;  // [m - 1], largest up to m
    std::string kernel_;
    ByteFacts facts_;
    int64_t groups_ = 1, round_groups_ = 1;
    uint64_t weights_at_ = 0, scales_at_ = 0, zeros_at_ = 0, sums_at_ = 0;
    uint8_t* buffer_ = nullptr;
  };

}  // namespace )
}  // namespace cuda
}  // namespace pluq
