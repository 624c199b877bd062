// SPDX-License-Identifier: Apache-2.0
#include "kernel_device.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "emulated_device.h"

#if PLUQ_HAS_CUDA
#include <cuda_runtime.h>
#endif

namespace pluq {
namespace {

#if PLUQ_HAS_CUDA
void need(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}
cuda::OpError wait(cuda::OpError launched) {
  if (launched) return launched;
  const cudaError_t error = cudaDeviceSynchronize();
  if (error == cudaSuccess) return {};
  return {PLUQ_STATUS_INTERNAL, std::string("CUDA: ") + cudaGetErrorString(error)};
}
// A launcher of the device, waited for.
template <auto kMember>
struct Waiting;
template <class Args, cuda::OpError (*cuda::QuantizedOps::*kMember)(const pluq_exec*, const Args&)>
struct Waiting<kMember> {
  static cuda::OpError call(const pluq_exec* exec, const Args& args) {
    return wait((cuda::quantized_ops_device().*kMember)(exec, args));
  }
};
cuda::OpError upload(const pluq_exec* exec, const void* source, int64_t bytes, void* out) {
  return wait(cuda::quantized_ops_device().upload(exec, source, bytes, out));
}
cuda::OpError cast(const pluq_exec* exec, const cuda::RoundActivations& args, cuda::Real type) {
  return wait(cuda::quantized_ops_device().cast(exec, args, type));
}
const cuda::QuantizedOps& gpu_ops() {
  using Ops = cuda::QuantizedOps;
  static const Ops ops{&upload,
                       &Waiting<&Ops::pack_bytes>::call,
                       &Waiting<&Ops::sum_bytes>::call,
                       &Waiting<&Ops::pack_codes>::call,
                       &Waiting<&Ops::load_reals>::call,
                       &Waiting<&Ops::load_ints>::call,
                       &Waiting<&Ops::sort_columns>::call,
                       &Waiting<&Ops::round>::call,
                       &cast,
                       &Waiting<&Ops::byte_gemm>::call,
                       &Waiting<&Ops::block_linear>::call,
                       &Waiting<&Ops::weight_only>::call,
                       &Waiting<&Ops::weight_only_repack>::call,
                       &Waiting<&Ops::weight_only_dequantize>::call,
                       &Waiting<&Ops::gather_columns>::call};
  return ops;
}
#endif

}  // namespace

bool KernelDevice::on_gpu() {
  const char* wanted = std::getenv("PLUQ_TEST_DEVICE");
  if (wanted == nullptr || std::strcmp(wanted, "cuda") != 0) return false;
#if PLUQ_HAS_CUDA
  return true;
#else
  throw std::runtime_error("PLUQ_TEST_DEVICE=cuda, but this was built without nvcc");
#endif
}

struct KernelDevice::Impl {
  std::unique_ptr<EmulatedDevice> emulated;
  std::vector<void*> managed;
  pluq_host host{};
};

KernelDevice::KernelDevice(uint32_t sm) : impl_(std::make_unique<Impl>()) {
  if (!on_gpu()) {
    impl_->emulated = std::make_unique<EmulatedDevice>(sm);
    exec_ = *impl_->emulated->exec();
    return;
  }
  impl_->host.struct_size = sizeof impl_->host;
  impl_->host.get_extension = [](const pluq_host*, const char*) -> const void* { return nullptr; };
  exec_.struct_size = sizeof exec_;
  exec_.device_kind = PLUQ_DEVICE_CUDA;
  exec_.host = &impl_->host;
  exec_.worker = -1;
  exec_.n_workers = 1;
}

KernelDevice::~KernelDevice() {
#if PLUQ_HAS_CUDA
  for (void* p : impl_->managed) cudaFree(p);
#endif
}

void* KernelDevice::raw(size_t bytes) {
  if (impl_->emulated != nullptr) return impl_->emulated->raw(bytes);
  void* p = nullptr;
#if PLUQ_HAS_CUDA
  need(cudaMallocManaged(&p, std::max<size_t>(bytes, 1)));
  impl_->managed.push_back(p);
#endif
  return p;
}

void KernelDevice::note_written(const void* p, size_t bytes) {
  if (impl_->emulated != nullptr) impl_->emulated->note_written(p, bytes);
}

uint32_t KernelDevice::gpu_capability() {
  if (!on_gpu()) return 0;
#if PLUQ_HAS_CUDA
  cudaDeviceProp p{};
  need(cudaGetDeviceProperties(&p, 0));
  const int capability = p.major * 10 + p.minor;
  return capability >= 90 ? 90 : capability >= 89 ? 89 : 80;
#else
  return 0;
#endif
}

const cuda::QuantizedOps& kernel_ops() {
#if PLUQ_HAS_CUDA
  if (KernelDevice::on_gpu()) return gpu_ops();
#endif
  return cuda::quantized_ops_emulated();
}

}  // namespace pluq
