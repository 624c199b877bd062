# Tests of the integer GEMM. ISA files get a plugin's flags (sdk/cmake/PluqPlugin.cmake).
set(avx2 -O3 -march=haswell -mtune=znver3 -ffp-contract=off)
set(avx512 -O3 -march=haswell -mtune=znver3 -mavx512f -mavx512bw -mavx512vl -mavx512dq -ffp-contract=off)
set_source_files_properties(int_kernels_portable.cc PROPERTIES COMPILE_OPTIONS "-O3;-march=x86-64-v2;-ffp-contract=off")
set_source_files_properties(int_kernels_avx2.cc PROPERTIES COMPILE_OPTIONS "${avx2}")
set_source_files_properties(int_kernels_avx512.cc PROPERTIES COMPILE_OPTIONS "${avx512}")
set_source_files_properties(int_kernels_emulated.cc PROPERTIES COMPILE_OPTIONS "-O3;-ffp-contract=off")

add_library(int_test_kernels OBJECT
  int_kernels_portable.cc int_kernels_avx2.cc int_kernels_avx512.cc int_kernels_emulated.cc)
target_link_libraries(int_test_kernels PRIVATE pluq_sdk pluq_flags)
pluq_add_test(int_gemm_test SOURCES int_gemm_test.cc $<TARGET_OBJECTS:int_test_kernels> LIBS pluq_sdk LABELS unit)
