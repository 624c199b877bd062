// SPDX-License-Identifier: Apache-2.0
// The dequantizing GEMV and GEMM of one format: PLUQ_INSTANCE is the name of its decoder. Compiled
// by the host compiler for the emulated device, and by nvcc.
#include "pluq/cuda/quantized/block_linear.cuh"
#include "pluq/cuda/quantized/registry.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace {
template <class Decoder>
struct Slot;
template <>
struct Slot<IntDecoder> {
  static auto &of(Registry &r) { return r.block_linear[static_cast<int>(BlockFormat::kInt)]; }
};
template <>
struct Slot<ByteDecoder> {
  static auto &of(Registry &r) { return r.block_linear[static_cast<int>(BlockFormat::kByte)]; }
};
template <>
struct Slot<Nf4Decoder> {
  static auto &of(Registry &r) { return r.block_linear[static_cast<int>(BlockFormat::kNf4)]; }
};
template <>
struct Slot<Float4Decoder<true>> {
  static auto &of(Registry &r) { return r.block_linear[static_cast<int>(BlockFormat::kMxfp4)]; }
};
template <>
struct Slot<Float4Decoder<false>> {
  static auto &of(Registry &r) { return r.block_linear[static_cast<int>(BlockFormat::kNvfp4)]; }
};
template <int Type>
struct Slot<GgufDecoder<Type>> {
  static auto &of(Registry &r) { return r.gguf[Type]; }
};
const bool registered = [] {
  Slot<PLUQ_INSTANCE>::of(registry) = &launch_block_linear<PLUQ_INSTANCE>;
  return true;
}();
}  // namespace
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
