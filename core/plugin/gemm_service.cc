// SPDX-License-Identifier: Apache-2.0
#include "plugin/gemm_service.h"

#include <fmt/format.h>

#include <cstring>
#include <string>

#include "checkpoint/dtype.h"
#include "device/runtime.h"
#include "plugin/host_table.h"

namespace pluq {
namespace {

pluq_status* refuse(int32_t code, const std::string& text) noexcept {
  return host_table().status_new(&host_table(), code, text.data(), text.size());
}

pluq_status* multiply(const pluq_exec* exec, const pluq_gemm_args* from) noexcept {
  try {
    if (exec == nullptr || from == nullptr || from->struct_size < sizeof(pluq_gemm_args)) {
      return refuse(PLUQ_STATUS_INVALID, "pluq.gemm: the arguments are of an older version");
    }
    const pluq_gemm_args& a = *from;
    DeviceRuntime* runtime = find_runtime(exec->device_kind, exec->stream);
    if (runtime == nullptr) {
      return refuse(PLUQ_STATUS_UNSUPPORTED, "pluq.gemm: there is no library for this device");
    }
    if (a.m < 0 || a.n < 0 || a.k < 1 || a.ldx < a.k || a.ldw < a.k || a.ldy < a.n) {
      return refuse(
          PLUQ_STATUS_INVALID,
          fmt::format("pluq.gemm: x [{}, {}] by {}, w [{}, {}] by {}, y by {}: sizes must "
                      "be positive, and rows at least as far apart as they are long",
                      a.m, a.k, a.ldx, a.n, a.k, a.ldw, a.ldy));
    }
    const uint32_t ops = a.x_type == PLUQ_DTYPE_BF16 || a.y_type == PLUQ_DTYPE_BF16
                             ? PLUQ_DTYPE_BF16
                             : PLUQ_DTYPE_F16;
    if (runtime->ops(ops).gemm(a)) return nullptr;
    return refuse(
        PLUQ_STATUS_UNSUPPORTED,
        fmt::format("pluq.gemm: no product of {} by {} into {} on {}", dtype_name(a.x_type),
                    dtype_name(a.w_type), dtype_name(a.y_type), runtime->name()));
  } catch (const std::exception& error) {
    return host_table().status_new(&host_table(), PLUQ_STATUS_INTERNAL, error.what(),
                                   std::strlen(error.what()));
  }
}

const pluq_gemm service{sizeof(pluq_gemm), 0, &multiply};

}  // namespace

const pluq_gemm* gemm_service() { return &service; }

}  // namespace pluq
