// SPDX-License-Identifier: Apache-2.0
// Which table of operators serves an instruction set.
#include "model/cpu/ops.h"

#include "device/isa.h"

namespace pluq {
namespace ops_portable {
extern const CpuOps table;
}
namespace ops_avx2 {
extern const CpuOps table;
}
namespace ops_avx512 {
extern const CpuOps table;
}

const CpuOps& cpu_ops(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return ops_avx512::table;
    case Isa::kAvx2:
      return ops_avx2::table;
    case Isa::kPortable:
      break;
  }
  return ops_portable::table;
}

}  // namespace pluq
