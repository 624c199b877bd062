// SPDX-License-Identifier: Apache-2.0
// libpluq_cuda.so: a GPU as the engine uses it. Memory by a caching allocator, one stream, the
// engine's kernels, and cuBLASLt for products of 16-bit matrices.
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "device/cuda/cuda_entry.h"
#include "device/cuda/engine_kernels.cuh"

namespace pluq {
namespace {

constexpr size_t kCublasWorkspace = size_t{32} << 20;
constexpr uint64_t kGranule = 512;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error));
}

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string("cuBLASLt: ") + what + ": " +
                           cublasLtGetStatusString(status));
}

// The family of kernels for a GPU: code for 9.0 runs on 9.0 alone, the others on newer ones, too.
uint32_t kernel_family(const cudaDeviceProp& p) {
  const int capability = p.major * 10 + p.minor;
  uint32_t family = capability == 90 ? 90 : capability >= 89 ? 89 : capability >= 80 ? 80 : 0;
  if (const char* lowered = std::getenv("PLUQ_CUDA_SM")) {
    const auto wanted = static_cast<uint32_t>(std::atoi(lowered));
    if ((wanted == 80 || wanted == 89 || wanted == 90) && wanted < family) family = wanted;
  }
  return family;
}

// Freed memory waits for the next request of its size.
class Allocator {
 public:
  ~Allocator() {
    for (const auto& [data, bytes] : live_) cudaFree(data);
    give_back();
  }
  void* allocate(uint64_t bytes, std::string_view what) {
    bytes = (bytes + kGranule - 1) / kGranule * kGranule;
    auto& kept = free_[bytes];
    void* data = nullptr;
    if (!kept.empty()) {
      data = kept.back();
      kept.pop_back();
    } else if (cudaMalloc(&data, bytes) != cudaSuccess) {
      (void)cudaGetLastError();
      give_back();
      if (cudaMalloc(&data, bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        size_t left = 0, total = 0;
        cudaMemGetInfo(&left, &total);
        throw std::runtime_error(std::string(what) + ": " + std::to_string(bytes >> 20) +
                                 " MiB asked for on the GPU, " + std::to_string(left >> 20) +
                                 " of " + std::to_string(total >> 20) + " MiB are free");
      }
    }
    live_[data] = bytes;
    return data;
  }
  void release(void* data) {
    const auto it = live_.find(data);
    if (it == live_.end()) return;
    free_[it->second].push_back(data);
    live_.erase(it);
  }

 private:
  void give_back() {
    for (auto& [bytes, list] : free_) {
      for (void* data : list) cudaFree(data);
      list.clear();
    }
  }
  std::map<void*, uint64_t> live_;
  std::map<uint64_t, std::vector<void*>> free_;
};

// y [m, n] = x [m, k] w [n, k]^T. cuBLASLt counts in columns: y^T [n, m] = (w^T)^T x^T.
class Products {
 public:
  Products() { check(cublasLtCreate(&handle_), "starting"); }
  ~Products() {
    for (auto& [shape, plan] : plans_) plan.destroy();
    cublasLtDestroy(handle_);
  }
  void set_workspace(void* data) { workspace_ = data; }

  // False when the library has no algorithm for this shape.
  bool run(cudaStream_t stream, cudaDataType_t type, cudaDataType_t out, const void* x, int64_t ldx,
           const void* w, int64_t m, int64_t n, int64_t k, void* y, int64_t ldy) {
    Plan& plan = plan_for({m, n, k, ldx, ldy, type, out});
    if (!plan.usable) return false;
    const float one = 1, zero = 0;
    check(cublasLtMatmul(handle_, plan.operation, &one, w, plan.w, x, plan.x, &zero, y, plan.y, y,
                         plan.y, &plan.algorithm, workspace_, kCublasWorkspace, stream),
          "multiplying");
    return true;
  }

 private:
  using Shape = std::array<int64_t, 7>;
  struct Plan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    bool usable = false;
    void destroy() {
      if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
      for (cublasLtMatrixLayout_t layout : {w, x, y}) {
        if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
      }
    }
  };

  Plan& plan_for(const Shape& s) {
    const auto [it, fresh] = plans_.try_emplace(s);
    Plan& p = it->second;
    if (!fresh) return p;
    const auto [m, n, k, ldx, ldy, type, out] = s;
    const auto t = static_cast<cudaDataType_t>(type), o = static_cast<cudaDataType_t>(out);
    check(cublasLtMatmulDescCreate(&p.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a plan");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescSetAttribute(p.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof transposed),
          "a plan");
    const auto u = [](int64_t v) { return static_cast<uint64_t>(v); };
    check(cublasLtMatrixLayoutCreate(&p.w, t, u(k), u(n), k), "a plan");
    check(cublasLtMatrixLayoutCreate(&p.x, t, u(k), u(m), ldx), "a plan");
    check(cublasLtMatrixLayoutCreate(&p.y, o, u(n), u(m), ldy), "a plan");
    cublasLtMatmulPreference_t preference = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preference), "a plan");
    const uint64_t bytes = kCublasWorkspace;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &bytes, sizeof bytes);
    // Rows of a fused tensor begin anywhere that is a multiple of 2 bytes.
    const uint32_t alignment = (ldx % 8 == 0 && ldy % 8 == 0 && k % 8 == 0) ? 16 : 2;
    for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &alignment, sizeof alignment);
    }
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, p.operation, p.w, p.x, p.y, p.y, preference, 1, &best, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    p.usable = status == CUBLAS_STATUS_SUCCESS && found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
    p.algorithm = best.algo;
    return p;
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Shape, Plan> plans_;
};

template <bool B>
class GpuOps final : public cuda::engine::Ops<B> {
 public:
  GpuOps(cudaStream_t stream, Products& products)
      : cuda::engine::Ops<B>(cuda::Stream(stream)), stream_(stream), products_(products) {}

  void multiply(const uint16_t* x, int64_t ldx, const uint16_t* w, const float* bias, int64_t m,
                int64_t n, int64_t k, void* y, int64_t ldy, bool y_is_f32) override {
    const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
    const bool misplaced = ldx % 8 == 0 && ldy % 8 == 0 && k % 8 == 0 &&
                           !(aligned(x) && aligned(w) && aligned(y));
    const cudaDataType_t type = B ? CUDA_R_16BF : CUDA_R_16F;
    // A bias is added before the only rounding by the engine's own kernel.
    if (bias != nullptr || misplaced ||
        !products_.run(stream_, type, y_is_f32 ? CUDA_R_32F : type, x, ldx, w, m, n, k, y, ldy)) {
      cuda::engine::Ops<B>::multiply(x, ldx, w, bias, m, n, k, y, ldy, y_is_f32);
    }
  }

 private:
  cudaStream_t stream_;
  Products& products_;
};

class CudaRuntime final : public DeviceRuntime {
 public:
  CudaRuntime(int index, const cudaDeviceProp& properties, uint32_t family)
      : name_(properties.name) {
    check(cudaSetDevice(index), "choosing the GPU");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    description_.struct_size = sizeof description_;
    description_.kind = PLUQ_DEVICE_CUDA;
    description_.index = index;
    description_.n_workers = 1;
    description_.compute_capability = family;
    description_.sm_count = static_cast<uint32_t>(properties.multiProcessorCount);
    description_.shared_optin_bytes = properties.sharedMemPerBlockOptin;
    description_.memory_bytes = properties.totalGlobalMem;
    products_.set_workspace(memory_.allocate(kCublasWorkspace, "the workspace of cuBLASLt"));
    f16_ = std::make_unique<GpuOps<false>>(stream_, products_);
    bf16_ = std::make_unique<GpuOps<true>>(stream_, products_);
  }
  ~CudaRuntime() override {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }

  const pluq_device& description() const override { return description_; }
  std::string name() const override { return name_; }
  void* stream() override { return stream_; }
  uint64_t free_bytes() const override {
    size_t left = 0, total = 0;
    check(cudaMemGetInfo(&left, &total), "asking for free memory");
    return left;
  }
  void* allocate(uint64_t bytes, std::string_view what) override {
    return memory_.allocate(bytes, what);
  }
  void release(void* data) override {
    cudaStreamSynchronize(stream_);  // queued work may still use it
    memory_.release(data);
  }
  void upload(void* to, const void* from, uint64_t bytes) override {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copying to the GPU");
    // The caller may reuse its memory at once.
    check(cudaStreamSynchronize(stream_), "copying to the GPU");
  }
  void download(void* to, const void* from, uint64_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_),
          "copying from the GPU");
    check(cudaStreamSynchronize(stream_), "copying from the GPU");
  }
  void zero(void* data, uint64_t bytes) override {
    if (bytes > 0) check(cudaMemsetAsync(data, 0, bytes, stream_), "clearing memory");
  }
  void synchronize() override { check(cudaStreamSynchronize(stream_), "waiting for the GPU"); }
  EngineOps& ops(uint32_t dtype) override { return dtype == PLUQ_DTYPE_BF16 ? *bf16_ : *f16_; }

 private:
  std::string name_;
  cudaStream_t stream_ = nullptr;
  pluq_device description_{};
  Allocator memory_;
  Products products_;
  std::unique_ptr<EngineOps> f16_, bf16_;
};

}  // namespace
}  // namespace pluq

extern "C" __attribute__((visibility("default"))) pluq::DeviceRuntime* pluq_cuda_open_1(
    int index, std::string* error) {
  try {
    int count = 0;
    const cudaError_t answer = cudaGetDeviceCount(&count);
    if (answer != cudaSuccess || count == 0) {
      *error = std::string("no GPU: the CUDA driver says '") +
               (answer == cudaSuccess ? "0 devices" : cudaGetErrorString(answer)) + "'";
      return nullptr;
    }
    if (index >= count) {
      *error = "there are GPUs 0 to " + std::to_string(count - 1);
      return nullptr;
    }
    cudaDeviceProp properties{};
    pluq::check(cudaGetDeviceProperties(&properties, index), "asking for the GPU's properties");
    const uint32_t family = pluq::kernel_family(properties);
    if (family == 0) {
      *error = std::string(properties.name) + " has compute capability " +
               std::to_string(properties.major) + "." + std::to_string(properties.minor) +
               ", at least 8.0 is needed";
      return nullptr;
    }
    return new pluq::CudaRuntime(index, properties, family);
  } catch (const std::exception& e) {
    *error = e.what();
    return nullptr;
  }
}

extern "C" __attribute__((visibility("default"))) void pluq_cuda_describe_1(std::string* text) {
  int count = 0;
  const cudaError_t answer = cudaGetDeviceCount(&count);
  if (answer != cudaSuccess || count == 0) {
    *text = std::string("no GPU: the CUDA driver says '") +
            (answer == cudaSuccess ? "0 devices" : cudaGetErrorString(answer)) + "'";
    return;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    *text += (text->empty() ? "" : "; ") + std::string("cuda:") + std::to_string(i) + " " + p.name +
             ", compute capability " + std::to_string(p.major) + "." + std::to_string(p.minor) +
             ", " + std::to_string(p.totalGlobalMem >> 20) + " MiB";
  }
}
