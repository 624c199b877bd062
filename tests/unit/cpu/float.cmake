# Tests of the float GEMM. ISA files get a plugin's flags (sdk/cmake/PluqPlugin.cmake).
set_source_files_properties(float_kernels_portable.cc PROPERTIES COMPILE_OPTIONS "-O3;-march=x86-64-v2;-ffp-contract=off")
set_source_files_properties(float_kernels_avx2.cc PROPERTIES COMPILE_OPTIONS "-O3;-march=haswell;-mtune=znver3;-ffp-contract=off")
set_source_files_properties(float_kernels_avx512.cc PROPERTIES
  COMPILE_OPTIONS "-O3;-march=haswell;-mtune=znver3;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-ffp-contract=off")
set_source_files_properties(float_kernels_emulated.cc PROPERTIES COMPILE_OPTIONS "-O3;-ffp-contract=off")

add_library(float_test_kernels OBJECT
  float_kernels_portable.cc float_kernels_avx2.cc float_kernels_avx512.cc float_kernels_emulated.cc)
target_link_libraries(float_test_kernels PRIVATE pluq_sdk pluq_flags)
pluq_add_test(float_gemm_test
  SOURCES float_gemm_test.cc $<TARGET_OBJECTS:float_test_kernels>
  LIBS pluq_sdk pluq_device LABELS unit)
