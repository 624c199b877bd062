# Translation units of the family `quantized`: pluq/cuda/quantized/ops.h.
set(sources
  cuda_quantized/ops.cu.inl
  "cuda_quantized/byte_gemm.cu.inl|0"
  "cuda_quantized/byte_gemm.cu.inl|1"
  "cuda_quantized/byte_gemm.cu.inl|2"
  "cuda_quantized/byte_gemm.cu.inl|3"
  "cuda_quantized/byte_gemm.cu.inl|4"
  "cuda_quantized/byte_gemm.cu.inl|5"
  "cuda_quantized/block_linear.cu.inl|IntDecoder"
  "cuda_quantized/block_linear.cu.inl|ByteDecoder"
  "cuda_quantized/block_linear.cu.inl|Nf4Decoder"
  "cuda_quantized/block_linear.cu.inl|Float4Decoder<true>"
  "cuda_quantized/block_linear.cu.inl|Float4Decoder<false>")
foreach(type IN ITEMS Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K)
  list(APPEND sources "cuda_quantized/block_linear.cu.inl|GgufDecoder<gguf::k${type}>")
endforeach()
