// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of the format "@ID@". One source, compiled twice: by the host compiler for --device
// cuda-emulated, and by nvcc where it is there.
#include "@ID@.h"
#include "pluq/cuda/linear.cuh"

namespace kernels {
inline namespace PLUQ_CUDA_SIDE {

using namespace pluq::cuda;

// The shared GEMV and GEMM ask it for W[row, k0 .. k0 + 15]. K is a multiple of 32, so these share
// a scale, and their 8 bytes are aligned.
struct Decoder {
  gmem<const uint8_t> codes;    // [N, K/2]
  gmem<const uint16_t> scales;  // f16 [N, K/32]
  int64_t k;

  PLUQ_DEVICE void run(int64_t row, int64_t k0, float* w) const {
    const int64_t first = row * k + k0;
    const float scale = f16_to_f32(scales.load(first / 32));
    const u32x2 packed = codes.load_as<u32x2>(first / 2);
    PLUQ_UNROLL
    for (int j = 0; j < kRun; ++j) {
      const uint32_t code = packed.v[j / 8] >> (j % 8 * 4) & 15U;
      w[j] = scale * (static_cast<float>(code) - 8.0F);
    }
  }
};

}  // namespace PLUQ_CUDA_SIDE

pluq::cuda::OpError PLUQ_CUDA_TWIN_NAME(linear)(const pluq_exec* exec, const Linear& l) {
  // The sizes are what the emulated device checks accesses against.
  const Decoder decoder{gmem<const uint8_t>(l.codes, l.n * l.k / 2),
                        gmem<const uint16_t>(l.scales, l.n * l.k / 32), l.k};
  return launch_decoded(exec, decoder, l.n, l.k, l.io);
}

}  // namespace kernels
