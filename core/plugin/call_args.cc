// SPDX-License-Identifier: Apache-2.0
#include "plugin/call_args.h"

#include "checkpoint/dtype.h"
#include "plugin/host_table.h"

namespace pluq {

pluq_activation f32_rows(const float* x, int64_t m, int64_t k, int64_t ld) {
  pluq_activation in{};
  in.struct_size = sizeof in;
  in.device_kind = PLUQ_DEVICE_CPU;
  in.data = x;
  in.dtype = dtype_by_id(PLUQ_DTYPE_F32);
  in.m = m;
  in.k = k;
  in.ld = ld;
  return in;
}

pluq_output f32_output(float* y, int64_t m, int64_t n, int64_t ld) {
  pluq_output out{};
  out.struct_size = sizeof out;
  out.device_kind = PLUQ_DEVICE_CPU;
  out.data = y;
  out.dtype = dtype_by_id(PLUQ_DTYPE_F32);
  out.m = m;
  out.n = n;
  out.ld = ld;
  return out;
}

pluq_layer_desc whole_layer(std::string_view name, std::string_view kind, int64_t in_features,
                            int64_t out_features, std::span<const pluq_tensor> tensors) {
  pluq_layer_desc d{};
  d.struct_size = sizeof d;
  d.name = str_of(name);
  d.kind = str_of(kind);
  d.module_class = str_of("Linear");
  d.in_features = d.in_end = in_features;
  d.out_features = d.out_end = out_features;
  d.activation_dtype = dtype_by_id(PLUQ_DTYPE_F32);
  d.tensors_known = 1;
  d.tensors = tensors.data();
  d.tensor_stride = sizeof(pluq_tensor);
  d.tensor_count = tensors.size();
  return d;
}

}  // namespace pluq
