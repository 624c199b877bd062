// SPDX-License-Identifier: Apache-2.0
#include "device/device.h"

#include "base/error.h"
#include "device/isa.h"

namespace pluq {

void check_device(std::string_view text) {
  if (text.empty() || text == "cpu") return;
  const std::string_view kind = text.substr(0, text.find(':'));
  if (kind == "cuda" || kind == "cuda-emulated") {
    fail_usage("--device {}: not built yet; this build has no CUDA kernels, use --device cpu",
               printable(text));
  }
  fail_usage("--device {}: unknown; accepted are cpu, cuda[:N], cuda-emulated[:SM]",
             printable(text));
}

pluq_device describe_cpu(int workers) {
  const CpuInfo& cpu = cpu_info();
  pluq_device device{};
  device.struct_size = sizeof device;
  device.kind = PLUQ_DEVICE_CPU;
  device.n_workers = workers;
  device.cpu_features = allowed_features();
  device.l1d_bytes = cpu.l1d_bytes;
  device.l2_bytes = cpu.l2_bytes;
  device.l3_bytes = cpu.l3_bytes;
  return device;
}

}  // namespace pluq
