// SPDX-License-Identifier: Apache-2.0
#include "device/device.h"

#include "device/isa.h"

namespace pluq {

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
