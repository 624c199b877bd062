// SPDX-License-Identifier: Apache-2.0
// The table of launchers of one side (pluq/cuda/quantized/ops.h), with the kernels that have no
// instances. Compiled by the host compiler for the emulated device, and by nvcc.
#include "pluq/cuda/quantized/activations.cuh"
#include "pluq/cuda/quantized/block_linear.cuh"
#include "pluq/cuda/quantized/load.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

extern template OpError launch_byte_gemm<ByteKind::kS8>(const pluq_exec *, const ByteGemm &);
extern template OpError launch_byte_gemm<ByteKind::kE4m3>(const pluq_exec *, const ByteGemm &);
extern template OpError launch_byte_gemm<ByteKind::kF16E4m3>(const pluq_exec *, const ByteGemm &);
extern template OpError launch_byte_gemm<ByteKind::kF16E5m2>(const pluq_exec *, const ByteGemm &);
extern template OpError launch_byte_gemm<ByteKind::kBf16E4m3>(const pluq_exec *, const ByteGemm &);
extern template OpError launch_byte_gemm<ByteKind::kBf16E5m2>(const pluq_exec *, const ByteGemm &);
#define PLUQ_BLOCK(...) \
  extern template OpError launch_block_linear<__VA_ARGS__>(const pluq_exec *, const BlockLinear &)
PLUQ_BLOCK(IntDecoder);
PLUQ_BLOCK(ByteDecoder);
PLUQ_BLOCK(Nf4Decoder);
PLUQ_BLOCK(Float4Decoder<true>);
PLUQ_BLOCK(Float4Decoder<false>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ4_0>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ4_1>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ5_0>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ5_1>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ8_0>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ2_K>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ3_K>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ4_K>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ5_K>);
PLUQ_BLOCK(GgufDecoder<gguf::kQ6_K>);
#undef PLUQ_BLOCK

inline OpError byte_gemm(const pluq_exec *exec, const ByteGemm &g) {
  switch (g.kind) {
    case ByteKind::kS8:
      return launch_byte_gemm<ByteKind::kS8>(exec, g);
    case ByteKind::kE4m3:
      return launch_byte_gemm<ByteKind::kE4m3>(exec, g);
    case ByteKind::kF16E4m3:
      return launch_byte_gemm<ByteKind::kF16E4m3>(exec, g);
    case ByteKind::kF16E5m2:
      return launch_byte_gemm<ByteKind::kF16E5m2>(exec, g);
    case ByteKind::kBf16E4m3:
      return launch_byte_gemm<ByteKind::kBf16E4m3>(exec, g);
    case ByteKind::kBf16E5m2:
      break;
  }
  return launch_byte_gemm<ByteKind::kBf16E5m2>(exec, g);
}

inline OpError gguf_linear(const pluq_exec *exec, const BlockLinear &l) {
  switch (l.w.type) {
    case gguf::kQ4_0:
      return launch_block_linear<GgufDecoder<gguf::kQ4_0>>(exec, l);
    case gguf::kQ4_1:
      return launch_block_linear<GgufDecoder<gguf::kQ4_1>>(exec, l);
    case gguf::kQ5_0:
      return launch_block_linear<GgufDecoder<gguf::kQ5_0>>(exec, l);
    case gguf::kQ5_1:
      return launch_block_linear<GgufDecoder<gguf::kQ5_1>>(exec, l);
    case gguf::kQ8_0:
      return launch_block_linear<GgufDecoder<gguf::kQ8_0>>(exec, l);
    case gguf::kQ2_K:
      return launch_block_linear<GgufDecoder<gguf::kQ2_K>>(exec, l);
    case gguf::kQ3_K:
      return launch_block_linear<GgufDecoder<gguf::kQ3_K>>(exec, l);
    case gguf::kQ4_K:
      return launch_block_linear<GgufDecoder<gguf::kQ4_K>>(exec, l);
    case gguf::kQ5_K:
      return launch_block_linear<GgufDecoder<gguf::kQ5_K>>(exec, l);
    case gguf::kQ6_K:
      return launch_block_linear<GgufDecoder<gguf::kQ6_K>>(exec, l);
    default:
      return {PLUQ_STATUS_UNSUPPORTED,
              "block_linear: GGUF's block type " + std::to_string(l.w.type) + " is not built"};
  }
}

inline OpError block_linear(const pluq_exec *exec, const BlockLinear &l) {
  switch (l.w.format) {
    case BlockFormat::kInt:
      return launch_block_linear<IntDecoder>(exec, l);
    case BlockFormat::kNf4:
      return launch_block_linear<Nf4Decoder>(exec, l);
    case BlockFormat::kMxfp4:
      return launch_block_linear<Float4Decoder<true>>(exec, l);
    case BlockFormat::kNvfp4:
      return launch_block_linear<Float4Decoder<false>>(exec, l);
    case BlockFormat::kGguf:
      return gguf_linear(exec, l);
    case BlockFormat::kByte:
      break;
  }
  return launch_block_linear<ByteDecoder>(exec, l);
}

}  // namespace PLUQ_CUDA_SIDE

#if PLUQ_CUDA_EMULATE
const QuantizedOps &quantized_ops_emulated() {
#else
const QuantizedOps &quantized_ops_device() {
#endif
  static const QuantizedOps ops{&launch_upload,     &launch_pack_bytes, &launch_sum_bytes,
                                &launch_pack_codes, &launch_round,      &launch_cast,
                                &byte_gemm,         &block_linear};
  return ops;
}

}  // namespace cuda
}  // namespace pluq
