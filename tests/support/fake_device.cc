// SPDX-License-Identifier: Apache-2.0
// One layer's method on an emulated CUDA device with all detectors on.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "device/cuda/emulated_runtime.h"
#include "support/fake_parts.h"

namespace pluq::test {

// Memory of the device, filled with 0xff where nobody wrote.
struct FakeDevice {
  explicit FakeDevice(uint32_t sm) : emulator(sm, PLUQ_EMU_CHECK_ALL) {}
  ~FakeDevice() {
    for (void* p : owned) std::free(p);
  }
  uint8_t* allocate(uint64_t bytes) {
    void* p = std::aligned_alloc(256, (std::max<uint64_t>(bytes, 1) + 255) / 256 * 256);
    std::memset(p, 0xff, (std::max<uint64_t>(bytes, 1) + 255) / 256 * 256);
    owned.push_back(p);
    emulator.register_memory(p, std::max<uint64_t>(bytes, 1));
    return static_cast<uint8_t*>(p);
  }
  void release(void* p) {
    emulator.forget_memory(p);
    owned.erase(std::find(owned.begin(), owned.end(), p));
    std::free(p);
  }
  uint8_t* upload(const void* data, uint64_t bytes) {
    uint8_t* p = allocate(bytes);
    if (bytes > 0) std::memcpy(p, data, bytes);
    emulator.note_written(p, bytes);
    return p;
  }
  void prepare(pluq_exec* exec, void* workspace, uint64_t bytes) {
    exec->struct_size = sizeof *exec;
    exec->device_kind = PLUQ_DEVICE_CUDA_EMULATED;
    exec->host = &fake_table();
    exec->stream = emulator.stream();
    exec->workspace = workspace;
    exec->workspace_bytes = bytes;
    exec->worker = -1;
    exec->n_workers = 1;
  }
  cuda_emulator::Emulator emulator;
  std::vector<void*> owned;
};

const void* cuda_emulator_table() { return cuda_emulator::table(); }

// The host's matrix products, as the engine makes them on this device.
const void* gemm_table() {
  static const pluq_gemm service{
      sizeof(pluq_gemm), 0,
      [](const pluq_exec* exec, const pluq_gemm_args* args) -> pluq_status* {
        constexpr uint32_t kMultiprocessors = 4;
        const uint32_t dtype = args->x_type == PLUQ_DTYPE_BF16 ? PLUQ_DTYPE_BF16 : PLUQ_DTYPE_F16;
        const auto ops = make_emulated_ops(exec->stream, cuda_emulator::table(), dtype,
                                           kMultiprocessors);
        if (ops->gemm(*args)) return nullptr;
        return exec->host->status_new(exec->host, PLUQ_STATUS_UNSUPPORTED, "no", 2);
      }};
  return &service;
}

void FakeMethod::load_on_device(std::vector<FileTensor> shard, uint32_t sm) {
  tensors_ = std::move(shard);
  std::vector<pluq_tensor> tensors = views();
  char key[128];
  pluq_process_plan plan{sizeof plan, 0, 0, 0, {key, sizeof key, 0}};
  check(method_.api->process_plan(method_.self, tensors.data(), sizeof(pluq_tensor), tensors.size(),
                                  &plan));
  device_ = std::make_shared<FakeDevice>(sm);
  uint8_t* buffer = device_->allocate(plan.buffer_bytes);
  std::memset(buffer, 0, plan.buffer_bytes);
  device_->emulator.note_written(buffer, plan.buffer_bytes);
  for (pluq_tensor& t : tensors) {
    t.data = device_->upload(t.data, t.data_bytes);
    t.device_kind = PLUQ_DEVICE_CUDA_EMULATED;
  }
  pluq_exec exec{};
  device_->prepare(&exec, device_->allocate(plan.scratch_bytes), plan.scratch_bytes);
  check(method_.api->process_weights_after_loading(method_.self, &exec, tensors.data(),
                                                   sizeof(pluq_tensor), tensors.size(), buffer));
  load_launches_ = device_->emulator.launches();
  if (plan.keep_tensors != 0) return;
  for (const pluq_tensor& t : tensors) device_->release(const_cast<void*>(t.data));
}

std::vector<uint8_t> FakeMethod::apply_on_device(const std::vector<uint16_t>& x, uint32_t x_dtype,
                                                 int64_t m, int64_t ldx, uint32_t y_dtype,
                                                 int64_t ldy, const float* bias) const {
  const uint64_t space_bytes = method_.api->workspace(method_.self, m, 1);
  uint8_t* space = device_->allocate(space_bytes);
  uint8_t* in = device_->upload(x.data(), x.size() * 2);
  const uint64_t y_bytes = static_cast<uint64_t>((m - 1) * ldy + n()) * element_bytes(y_dtype);
  uint8_t* result = device_->allocate(y_bytes);
  uint8_t* b =
      bias == nullptr ? nullptr : device_->upload(bias, static_cast<uint64_t>(n()) * sizeof(float));
  pluq_exec exec{};
  device_->prepare(&exec, space, space_bytes);
  pluq_activation a{};
  a.struct_size = sizeof a;
  a.device_kind = PLUQ_DEVICE_CUDA_EMULATED;
  a.data = in;
  a.dtype = scalar_dtype(x_dtype);
  a.m = m, a.k = k(), a.ld = ldx;
  pluq_output out{};
  out.struct_size = sizeof out;
  out.device_kind = PLUQ_DEVICE_CUDA_EMULATED;
  out.data = result;
  out.dtype = scalar_dtype(y_dtype);
  out.m = m, out.n = n(), out.ld = ldy;
  check(method_.api->apply(method_.self, &exec, &a, reinterpret_cast<const float*>(b), &out));
  std::vector<uint8_t> y(result, result + y_bytes);
  for (uint8_t* p : {space, in, result}) device_->release(p);
  if (b != nullptr) device_->release(b);
  return y;
}

}  // namespace pluq::test
