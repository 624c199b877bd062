# The float GEMM beside the probes; see the head of float_gemm_bench.cc. Not a test.
set_source_files_properties(float_bench_portable.cc PROPERTIES COMPILE_OPTIONS "-O3;-march=x86-64-v2;-ffp-contract=off")
set_source_files_properties(float_bench_avx2.cc PROPERTIES
  COMPILE_OPTIONS "-O3;-march=haswell;-mtune=znver3;-ffp-contract=off")
set_source_files_properties(float_bench_avx512.cc PROPERTIES
  COMPILE_OPTIONS "-O3;-march=haswell;-mtune=znver3;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-ffp-contract=off")
add_executable(float_gemm_bench EXCLUDE_FROM_ALL
  float_gemm_bench.cc float_bench_portable.cc float_bench_avx2.cc float_bench_avx512.cc)
target_link_libraries(float_gemm_bench PRIVATE pluq_sdk pluq_flags)
