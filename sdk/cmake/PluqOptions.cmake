# Build-wide flags of this repository (not installed; plugin authors get PluqPlugin.cmake).
include_guard(GLOBAL)
include(CheckIPOSupported)

add_library(pluq_flags INTERFACE)
target_compile_options(pluq_flags INTERFACE
  -Wall -Wextra -Wshadow -Wpedantic -Wno-missing-field-initializers
  # gcc 12 sees overlapping copies in plain std::string concatenation.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<BOOL:${PLUQ_WERROR}>:-Werror>)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(pluq_flags INTERFACE -fstack-protector-strong)
  target_compile_definitions(pluq_flags INTERFACE _GLIBCXX_ASSERTIONS)
endif()

if(PLUQ_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(PLUQ_SANITIZE STREQUAL "fuzzer")
  # What libFuzzer is guided by, in all code; tests/fuzz/run.sh.
  add_compile_options(-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(PLUQ_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
endif()

find_program(PLUQ_CCACHE ccache)
if(PLUQ_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${PLUQ_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PLUQ_CCACHE})
endif()

find_program(PLUQ_LLD NAMES ld.lld-19 ld.lld)
if(PLUQ_LLD AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  add_link_options(-fuse-ld=lld)
endif()

# pluq_room(NAME SOURCES ... DEPS ...): one room of core, a static library pluq_NAME. A room links, and so
# may include, only what it names; the order of rooms is in core/README.md and a test checks it.
function(pluq_room name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(pluq_${name} STATIC ${ARG_SOURCES})
  target_include_directories(pluq_${name} PUBLIC ${PROJECT_SOURCE_DIR}/core)
  target_link_libraries(pluq_${name} PUBLIC pluq_sdk ${ARG_LIBS} PRIVATE pluq_flags)
  foreach(dep IN LISTS ARG_DEPS)
    target_link_libraries(pluq_${name} PUBLIC pluq_${dep})
  endforeach()
  set_property(GLOBAL APPEND PROPERTY PLUQ_ROOMS pluq_${name})
endfunction()

# pluq_add_test(NAME SOURCES ... LIBS ... LABELS ...): one GoogleTest program.
function(pluq_add_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} GTest::gtest GTest::gtest_main pluq_flags)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE PLUQ_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                             PLUQ_BINARY_DIR="${PROJECT_BINARY_DIR}")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST
                       PROPERTIES LABELS "${ARG_LABELS}")
endfunction()
