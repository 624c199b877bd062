// SPDX-License-Identifier: Apache-2.0
// libpluq_cuda.so: a GPU as the engine uses it. Memory by a caching allocator, one stream, the
// engine's kernels, and cuBLASLt for products of 16-bit matrices.
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "device/cuda/cuda_entry.h"
#include "device/cuda/engine_kernels.cuh"
#include "device/cuda/products.h"

namespace pluq {
namespace {

constexpr int64_t kMaxBias = int64_t{1} << 20;  // longest that is narrowed for cuBLASLt
constexpr uint64_t kGranule = 512;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error));
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

// Why there is no GPU, from the answer of cudaGetDeviceCount; what was looked for comes first.
std::string no_gpu(cudaError_t answer) {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return "no GPU: NVIDIA's driver (libcuda.so.1) is not installed";
  dlclose(driver);
  if (answer == cudaErrorInsufficientDriver) {
    int has = 0, needs = 0;
    cudaDriverGetVersion(&has);
    cudaRuntimeGetVersion(&needs);
    const auto version = [](int v) {
      return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
    };
    return "no GPU: NVIDIA's driver serves CUDA " + version(has) + ", this build needs " +
           version(needs);
  }
  return std::string("no GPU: NVIDIA's driver (libcuda.so.1) answers '") +
         (answer == cudaSuccess ? "0 devices" : cudaGetErrorString(answer)) + "'";
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

template <bool B>
class GpuOps final : public cuda::engine::Ops<B> {
 public:
  // bias: room for kMaxBias words
  GpuOps(cudaStream_t stream, uint32_t sm_count, Products& products, void* bias)
      : cuda::engine::Ops<B>(cuda::Stream(stream), sm_count),
        stream_(stream),
        products_(products),
        bias_(static_cast<uint16_t*>(bias)) {}

  bool gemm(const pluq_gemm_args& args) override {
    if (args.m == 0 || args.n == 0) return true;
    const void* bias = args.bias;
    bool ready = true;
    if (bias != nullptr && args.y_type != PLUQ_DTYPE_F32) {
      ready = args.n <= kMaxBias && args.y_type == (B ? PLUQ_DTYPE_BF16 : PLUQ_DTYPE_F16);
      if (ready) this->narrowed(args.bias, bias_, args.n);
      bias = bias_;
    }
    return (ready && products_.run(stream_, args, bias)) || cuda::engine::Ops<B>::gemm(args);
  }

 private:
  cudaStream_t stream_;
  Products& products_;
  uint16_t* bias_;
};

class Graph final : public RecordedWork {
 public:
  Graph(cudaStream_t stream, cudaGraph_t graph) : stream_(stream) {
    const cudaError_t error = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "making a graph");
  }
  ~Graph() override {
    cudaStreamSynchronize(stream_);  // it may be running
    cudaGraphExecDestroy(executable_);
  }
  void run() override { check(cudaGraphLaunch(executable_, stream_), "starting a graph"); }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
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
    products_.set_workspace(memory_.allocate(Products::kWorkspace, "the workspace of cuBLASLt"));
    void* bias = memory_.allocate(2 * kMaxBias, "a bias for cuBLASLt");
    f16_ = std::make_unique<GpuOps<false>>(stream_, description_.sm_count, products_, bias);
    bf16_ = std::make_unique<GpuOps<true>>(stream_, description_.sm_count, products_, bias);
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
  std::unique_ptr<RecordedWork> record(std::function<void()> queue) override {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording");
    cudaGraph_t graph = nullptr;
    try {
      queue();
    } catch (...) {
      cudaStreamEndCapture(stream_, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      (void)cudaGetLastError();
      throw;
    }
    check(cudaStreamEndCapture(stream_, &graph), "recording");
    return std::make_unique<Graph>(stream_, graph);
  }
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
      *error = pluq::no_gpu(answer);
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
    *text = pluq::no_gpu(answer);
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
