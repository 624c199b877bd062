// SPDX-License-Identifier: Apache-2.0
// Matrix products by cuBLASLt: one plan with the heuristic's algorithm per shape, kept.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <array>
#include <map>
#include <stdexcept>
#include <string>

#include "pluq/ext/gemm.h"

namespace pluq {

inline void check_cublas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string("cuBLASLt: ") + what + ": " +
                           cublasLtGetStatusString(status));
}

// One stream and one thread at a time.
class Products {
 public:
  static constexpr size_t kWorkspace = size_t{32} << 20;

  Products() { check_cublas(cublasLtCreate(&handle_), "starting"); }
  ~Products() {
    for (auto& [shape, plan] : plans_) plan.destroy();
    cublasLtDestroy(handle_);
  }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  // kWorkspace bytes of device memory.
  void set_workspace(void* data) { workspace_ = data; }

  // False when the library has no algorithm for this product; nothing is queued then. `bias` is
  // that of the arguments in the type of y, or null.
  bool run(cudaStream_t stream, const pluq_gemm_args& a, const void* bias) {
    if (type_of(a.x_type) < 0 || type_of(a.y_type) < 0 || a.x_type != a.w_type) return false;
    if (!(aligned(a.x) && aligned(a.w) && aligned(a.y) && aligned(bias))) return false;
    Plan& plan = plan_for(a, bias != nullptr);
    if (!plan.usable) return false;
    // The scales and the bias are attributes of the operation; a plan serves many layers.
    if (plan.scaled) {
      set(plan, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, a.w_scale);
      set(plan, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, a.x_scale);
    }
    if (bias != nullptr) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    const float one = 1, zero = 0;
    check_cublas(
        cublasLtMatmul(handle_, plan.operation, &one, a.w, plan.w, a.x, plan.x, &zero, a.y, plan.y,
                       a.y, plan.y, &plan.algorithm, workspace_, kWorkspace, stream),
        "multiplying");
    return true;
  }

 private:
  using Shape = std::array<int64_t, 11>;
  struct Plan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    bool usable = false, scaled = false;
    void destroy() {
      if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
      for (cublasLtMatrixLayout_t layout : {w, x, y}) {
        if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
      }
    }
  };

  static bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }
  static int type_of(uint32_t dtype) {
    switch (dtype) {
      case PLUQ_DTYPE_F16:
        return CUDA_R_16F;
      case PLUQ_DTYPE_BF16:
        return CUDA_R_16BF;
      case PLUQ_DTYPE_F32:
        return CUDA_R_32F;
      case PLUQ_DTYPE_F8_E4M3:
        return CUDA_R_8F_E4M3;
      default:
        return -1;
    }
  }
  template <class T>
  static bool set(Plan& p, cublasLtMatmulDescAttributes_t attribute, const T& value) {
    return cublasLtMatmulDescSetAttribute(p.operation, attribute, &value, sizeof value) ==
           CUBLAS_STATUS_SUCCESS;
  }

  // cuBLASLt counts in columns: y^T [n, m] = (w^T)^T [n, k] x^T [k, m].
  Plan& plan_for(const pluq_gemm_args& a, bool bias) {
    const Shape shape{a.m,      a.n,      a.k,  a.ldx,          a.ldw,         a.ldy,
                      a.x_type, a.y_type, bias, a.x_scale_kind, a.w_scale_kind};
    const auto [it, fresh] = plans_.try_emplace(shape);
    Plan& p = it->second;
    if (!fresh) return p;
    const auto in = static_cast<cudaDataType_t>(type_of(a.x_type)),
               out = static_cast<cudaDataType_t>(type_of(a.y_type));
    const auto u = [](int64_t v) { return static_cast<uint64_t>(v); };
    check_cublas(cublasLtMatmulDescCreate(&p.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a plan");
    check_cublas(cublasLtMatrixLayoutCreate(&p.w, in, u(a.k), u(a.n), a.ldw), "a plan");
    check_cublas(cublasLtMatrixLayoutCreate(&p.x, in, u(a.k), u(a.m), a.ldx), "a plan");
    check_cublas(cublasLtMatrixLayoutCreate(&p.y, out, u(a.n), u(a.m), a.ldy), "a plan");
    bool known = set(p, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (bias) {
      known = known && set(p, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS) &&
              set(p, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, out);
    }
    known = known && set_scales(p, a);
    if (known) find_algorithm(p, a);
    return p;
  }

  static bool set_scales(Plan& p, const pluq_gemm_args& a) {
    if (a.x_scale_kind != a.w_scale_kind) return false;
    if (a.x_scale_kind == PLUQ_GEMM_SCALE_NONE) return true;
    p.scaled = true;
    if (a.x_scale_kind == PLUQ_GEMM_SCALE_ONE) return true;
#if defined(CUBLAS_VERSION) && CUBLAS_VERSION >= 120900
    return set(p, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F) &&
           set(p, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
#else
    return false;
#endif
  }

  void find_algorithm(Plan& p, const pluq_gemm_args& a) {
    cublasLtMatmulPreference_t preference = nullptr;
    check_cublas(cublasLtMatmulPreferenceCreate(&preference), "a plan");
    const uint64_t bytes = kWorkspace;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &bytes, sizeof bytes);
    // Pointers are multiples of 16; rows are when their lengths are.
    const int64_t per16 = a.x_type == PLUQ_DTYPE_F8_E4M3 ? 16 : 8;
    const auto alignment = [](bool even) { return even ? 16U : 2U; };
    const uint32_t of_w = alignment(a.ldw % per16 == 0), of_x = alignment(a.ldx % per16 == 0),
                   of_y = alignment(a.ldy % (a.y_type == PLUQ_DTYPE_F32 ? 4 : 8) == 0);
    const std::pair<cublasLtMatmulPreferenceAttributes_t, uint32_t> all[] = {
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of_w},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of_x},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_y},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_y}};
    for (const auto& [attribute, value] : all) {
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
    }
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, p.operation, p.w, p.x, p.y, p.y, preference, 1, &best, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    p.usable = status == CUBLAS_STATUS_SUCCESS && found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
    p.algorithm = best.algo;
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Shape, Plan> plans_;
};

}  // namespace pluq
