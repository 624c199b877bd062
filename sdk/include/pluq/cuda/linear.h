// SPDX-License-Identifier: Apache-2.0
// What a plugin's C++ and its CUDA kernels share: errors by value, the operands of a linear layer,
// and functions that exist twice, for the emulated device and for a GPU. No kernel code and nothing
// of plugin.hpp, so both sides include it.
#pragma once

#include <cstdint>
#include <string>

#include "pluq/abi.h"

namespace pluq {
namespace cuda {

// What a launcher answers; nothing is thrown out of kernel sources.
struct OpError {
  int32_t status = 0;  // PLUQ_STATUS_*, 0: launched
  std::string text;    // one sentence
  explicit operator bool() const { return status != 0; }  // whether it is an error
};

// Type of a 16- or 32-bit value of x and y.
enum class Real : int32_t { kF16 = 0, kBf16 = 1, kF32 = 2 };

constexpr int64_t kGemvRows = 8;  // up to here the shared kernels read W once, by a GEMV in f32

// y[M, N] = row_scale[M] * (x[M, K] W[N, K]^T) + bias[N]; pointers are device memory, ldx and ldy
// are elements between rows.
struct LinearIo {
  int64_t m = 0;                     // rows of x and y
  const void *x = nullptr;           // [M, K]
  int64_t ldx = 0;                   // elements between rows of x
  Real x_type = Real::kF16;          // kF16 or kBf16: W is rounded to it for m > kGemvRows
  const float *row_scale = nullptr;  // or NULL: ones
  const float *bias = nullptr;       // or NULL
  void *y = nullptr;                 // [M, N]
  int64_t ldy = 0;                   // elements between rows of y
  Real y_type = Real::kF16;          // the type of x, or kF32
};

}  // namespace cuda
}  // namespace pluq

// PLUQ_CUDA_TWIN(name, Args) in a header of the plugin declares
//   name(const pluq_exec *, const Args &)   for the plugin's C++: calls the one for exec's device
// and the two that it calls. The kernel source defines them both at once, since it is compiled for
// both devices:
//   pluq::cuda::OpError PLUQ_CUDA_TWIN_NAME(name)(const pluq_exec *exec, const Args &args) { ... }
// Args is the author's: a struct of numbers and device pointers.
#if defined(__CUDACC__)
#define PLUQ_CUDA_TWIN_NAME(name) name##_on_gpu
#define PLUQ_CUDA_TWIN_CALL(name, Args)
#elif defined(PLUQ_CUDA_EMULATE) && PLUQ_CUDA_EMULATE
#define PLUQ_CUDA_TWIN_NAME(name) name##_emulated
#define PLUQ_CUDA_TWIN_CALL(name, Args)
#elif defined(PLUQ_HAS_CUDA) && PLUQ_HAS_CUDA
#define PLUQ_CUDA_TWIN_CALL(name, Args)                                         \
  inline ::pluq::cuda::OpError name(const pluq_exec *exec, const Args &args) {  \
    return exec->device_kind == PLUQ_DEVICE_CUDA ? name##_on_gpu(exec, args)    \
                                                 : name##_emulated(exec, args); \
  }
#else
#define PLUQ_CUDA_TWIN_CALL(name, Args)                                                     \
  inline ::pluq::cuda::OpError name(const pluq_exec *exec, const Args &args) {              \
    if (exec->device_kind == PLUQ_DEVICE_CUDA_EMULATED) return name##_emulated(exec, args); \
    return {PLUQ_STATUS_UNSUPPORTED,                                                        \
            "this plugin was built without nvcc, so it has no kernels for a GPU"};          \
  }
#endif
#define PLUQ_CUDA_TWIN(name, Args)                                                \
  ::pluq::cuda::OpError name##_emulated(const pluq_exec *exec, const Args &args); \
  ::pluq::cuda::OpError name##_on_gpu(const pluq_exec *exec, const Args &args);   \
  PLUQ_CUDA_TWIN_CALL(name, Args) /* a launcher for both devices, see above */
