# The integer GEMM beside the probes; see the head of int_gemm_bench.cc. Not a test.
set_source_files_properties(int_bench_portable.cc PROPERTIES COMPILE_OPTIONS "-O3;-march=x86-64-v2;-ffp-contract=off")
set_source_files_properties(int_bench_avx2.cc PROPERTIES
  COMPILE_OPTIONS "-O3;-march=haswell;-mtune=znver3;-ffp-contract=off")
set_source_files_properties(int_bench_avx512.cc PROPERTIES
  COMPILE_OPTIONS "-O3;-march=haswell;-mtune=znver3;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-ffp-contract=off")
add_executable(int_gemm_bench EXCLUDE_FROM_ALL
  int_gemm_bench.cc int_bench_portable.cc int_bench_avx2.cc int_bench_avx512.cc)
target_link_libraries(int_gemm_bench PRIVATE pluq_sdk pluq_flags)
