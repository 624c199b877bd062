# pluq_add_plugin(NAME SOURCES a.cc kernels_portable.cc kernels_avx2.cc kernels_avx512.cc [CUDA_SOURCES x.cu.inl y.cu]
#                 [KERNELS int float] [CUDA_KERNELS quantized/int] [LIBS target...])
#
# A format plugin: lib/pluq/plugins/NAME.so in the build directory, exporting nothing but the entry symbol and needing nothing but the C library. Flags follow
# the file's name:
#   *_portable.cc    x86-64-v2              *_avx2.cc      AVX2, FMA, F16C
#   *_avx512.cc      AVX-512 F BW VL DQ     *_avx512vnni.cc  + VNNI     *_avx512bf16.cc  + BF16
#   any other        plain x86-64: everything that runs before the host has told the CPU's features
# Without CMAKE_BUILD_TYPE plugins are compiled with -O2. Kernel files are compiled with -O3 and without contraction of a*b+c, so that bits do not depend on the compiler's mood.
# KERNELS links the SDK's own kernel families for every instruction set (pluq/cpu/tables.hpp gives their tables); each
# family is compiled once per build.
# CUDA_KERNELS links families of CUDA kernels or parts of them (kernels/cuda_*/sources.cmake): always their twins for the emulated device,
# and the device's own where nvcc is there (PluqCudaKernels.cmake).
# CUDA_SOURCES: a kernel source X.cu.inl is compiled twice, always by the host compiler for the emulated device, and by nvcc
# when it is there and PLUQ_CUDA allows it; X.cu.inl|INSTANCE sets PLUQ_INSTANCE, so that one source gives several translation
# units. Other sources (X.cu) are for nvcc alone. PLUQ_HAS_CUDA is 1 or 0 in all sources: whether nvcc was there.
include_guard(GLOBAL)
include(${CMAKE_CURRENT_LIST_DIR}/PluqCudaKernels.cmake)

# Sets the flags that a kernel file's name asks for.
function(pluq_kernel_flags)
  set(avx2 -march=haswell -mtune=znver3)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq)
  foreach(source IN LISTS ARGN)
    set(flags "")
    if(source MATCHES "_portable\\.cc$")
      set(flags -march=x86-64-v2)
    elseif(source MATCHES "_avx2\\.cc$")
      set(flags ${avx2})
    elseif(source MATCHES "_avx512\\.cc$")
      set(flags ${avx512})
    elseif(source MATCHES "_avx512vnni\\.cc$")
      set(flags ${avx512} -mavx512vnni)
    elseif(source MATCHES "_avx512bf16\\.cc$")
      set(flags ${avx512} -mavx512bf16)
    endif()
    if(flags)
      if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
        list(APPEND flags -O3)
      endif()
      if(source MATCHES "_avx512" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        list(APPEND flags -Wno-maybe-uninitialized)  # gcc 12 warns of its own avx512fintrin.h
      endif()
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${flags};-ffp-contract=off")
    endif()
  endforeach()
endfunction()

# pluq_kernels(OUT FAMILY): OUT = the object library with the kernels of a family, made where it is first asked for.
function(pluq_kernels out family)
  set(${out} pluq_${family}_kernels PARENT_SCOPE)
  if(TARGET pluq_${family}_kernels)
    return()
  endif()
  set(sources "")
  foreach(isa IN ITEMS portable avx2 avx512)
    set(source ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kernels/${family}_gemm_${isa}.cc)
    if(NOT EXISTS ${source})
      message(FATAL_ERROR "KERNELS ${family}: there is no ${source}; the families are int and float")
    endif()
    list(APPEND sources ${source})
  endforeach()
  pluq_kernel_flags(${sources})
  add_library(pluq_${family}_kernels OBJECT ${sources})
  target_link_libraries(pluq_${family}_kernels PRIVATE pluq::sdk)
  target_compile_features(pluq_${family}_kernels PRIVATE cxx_std_17)
  set_target_properties(pluq_${family}_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON INTERPROCEDURAL_OPTIMIZATION OFF)
endfunction()

function(pluq_add_plugin name)
  cmake_parse_arguments(ARG "" "" "SOURCES;CUDA_SOURCES;KERNELS;CUDA_KERNELS;LIBS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "pluq_add_plugin(${name}): '${ARG_UNPARSED_ARGUMENTS}' is not expected; files follow SOURCES or CUDA_SOURCES")
  endif()
  if(NOT ARG_SOURCES)
    message(FATAL_ERROR "pluq_add_plugin(${name}): no SOURCES")
  endif()
  if(PLUQ_WITHOUT_CUDA AND (ARG_CUDA_SOURCES OR ARG_CUDA_KERNELS))
    message(FATAL_ERROR "pluq_add_plugin(${name}): kernels for CUDA need find_package(pluq REQUIRED COMPONENTS CUDA)")
  endif()
  add_library(${name} MODULE ${ARG_SOURCES})
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:C,CXX>:-O2>)  # else it would not be optimized at all
  endif()
  target_link_libraries(${name} PRIVATE pluq::sdk ${ARG_LIBS})
  target_compile_features(${name} PRIVATE cxx_std_17)
  set_target_properties(${name} PROPERTIES
    PREFIX "" SUFFIX ".so" OUTPUT_NAME ${name}
    CXX_VISIBILITY_PRESET hidden C_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    INTERPROCEDURAL_OPTIMIZATION OFF SKIP_BUILD_RPATH ON SKIP_INSTALL_RPATH ON
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib/pluq/plugins)
  target_link_options(${name} PRIVATE
    -Wl,--version-script=${CMAKE_CURRENT_FUNCTION_LIST_DIR}/pluq_plugin.map -Wl,--exclude-libs,ALL -Wl,-z,noexecstack
    -Wl,-z,relro -Wl,-z,now)
  set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/pluq_plugin.map)
  if(NOT PLUQ_SANITIZE)
    target_link_options(${name} PRIVATE $<$<LINK_LANGUAGE:CXX>:-static-libstdc++> -static-libgcc -Wl,-z,defs)
  endif()

  pluq_kernel_flags(${ARG_SOURCES})
  foreach(family IN LISTS ARG_KERNELS)
    pluq_kernels(objects ${family})
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:${objects}>)
  endforeach()

  set(has_cuda 0)
  if(ARG_CUDA_SOURCES OR ARG_CUDA_KERNELS)
    get_property(has_cuda GLOBAL PROPERTY PLUQ_CUDA_FOUND)
  endif()
  set(twins ${ARG_CUDA_SOURCES})
  list(FILTER twins INCLUDE REGEX "\\.cu\\.inl(\\|.*)?$")
  set(device_only ${ARG_CUDA_SOURCES})
  if(twins)
    list(REMOVE_ITEM device_only ${twins})
    pluq_cuda_twins(${name} ${twins})
  endif()
  if(device_only AND has_cuda)
    target_sources(${name} PRIVATE ${device_only})
    set_target_properties(${name} PROPERTIES CUDA_RUNTIME_LIBRARY Static CUDA_ARCHITECTURES "${PLUQ_CUDA_SM}")
  endif()
  if(ARG_CUDA_KERNELS)
    pluq_cuda_kernels(${name} ${ARG_CUDA_KERNELS})
  endif()
  target_compile_definitions(${name} PRIVATE PLUQ_HAS_CUDA=${has_cuda})
endfunction()
