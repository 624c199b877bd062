# What PLUQ_CUDA says where there is no nvcc: a project that includes PluqCudaKernels.cmake is configured with each value.
#   cmake -DSDK=sdk/cmake -DWORK=DIR -P configure.cmake
file(REMOVE_RECURSE ${WORK})
file(WRITE ${WORK}/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)\nproject(t LANGUAGES NONE)\ninclude(${SDK}/PluqCudaKernels.cmake)\n")
set(ENV{CUDACXX} ${WORK}/no/nvcc)  # goes before PATH
foreach(case IN ITEMS
    "ON|1|PLUQ_CUDA=ON, but no CUDA compiler was found: install nvcc, put it on PATH, or use AUTO or OFF"
    "AUTO|0|CUDA kernels: for the emulated device only"
    "off|0|CUDA kernels: for the emulated device only"
    "MAYBE|1|PLUQ_CUDA=MAYBE is unknown: accepted are AUTO, ON and OFF")
  string(REPLACE "|" ";" case "${case}")
  list(GET case 0 value)
  list(GET case 1 fails)
  list(GET case 2 said)
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${WORK} -B ${WORK}/${value} -DPLUQ_CUDA=${value}
    RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
  string(REGEX REPLACE "[ \n]+" " " out "${out}")
  string(FIND "${out}" "${said}" at)
  if(at EQUAL -1 OR (fails AND code EQUAL 0) OR (NOT fails AND NOT code EQUAL 0))
    message(FATAL_ERROR "PLUQ_CUDA=${value}: exit ${code}, expected '${said}' in: ${out}")
  endif()
  message(STATUS "PLUQ_CUDA=${value}: exit ${code}, '${said}'")
endforeach()
file(REMOVE_RECURSE ${WORK})
