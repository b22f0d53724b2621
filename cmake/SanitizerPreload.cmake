# Programs that are not sanitized, as those of the distribution, run with a sanitized libnex.so when the
# runtime of the sanitizer is preloaded beside it. It reports what the library does, and what it does
# with their memory.

# oxmem_sanitizer_preload(VAR): what LD_PRELOAD must have for it; empty without sanitizers, and
# NOTFOUND where there is no such runtime.
function(oxmem_sanitizer_preload variable)
  set(${variable} "" PARENT_SCOPE)
  if(NOT OXMEM_SANITIZE)
    return()
  endif()
  set(${variable} NOTFOUND PARENT_SCOPE)
  if(OXMEM_SANITIZE MATCHES "address")
    set(name asan)
  elseif(OXMEM_SANITIZE STREQUAL "thread")
    set(name tsan)
  endif()
  if(NOT DEFINED name OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    return()
  endif()
  execute_process(
    COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libclang_rt.${name}-${CMAKE_SYSTEM_PROCESSOR}.so
    OUTPUT_VARIABLE preload OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  if(NOT TARGET sanitizer_first)
    add_library(sanitizer_first SHARED ${CMAKE_SOURCE_DIR}/tests/support/sanitizer_first.c)
    set_target_properties(sanitizer_first PROPERTIES
      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/support)
    target_compile_definitions(sanitizer_first PRIVATE START=__${name}_init)
    target_link_options(sanitizer_first PRIVATE -nostdlib -Wl,-z,initfirst)
  endif()
  string(PREPEND preload ${CMAKE_BINARY_DIR}/tests/support/libsanitizer_first.so:)
  set(${variable} ${preload} PARENT_SCOPE)
endfunction()

# oxmem_foreign_program(NAME SOURCES … DEPS …): a test's program that is to libnex.so as one of the
# distribution, and never sanitized.
function(oxmem_foreign_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  if(OXMEM_SANITIZE)
    target_compile_features(${name} PRIVATE cxx_std_20)
  else()
    target_link_libraries(${name} PRIVATE oxmem_flags)
  endif()
endfunction()

# oxmem_nexrun_test(NAME PROGRAM … [LABELS …] [TIMEOUT seconds] [ENVIRONMENT …]): a foreign program
# with its arguments, under nexrun.
function(oxmem_nexrun_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "PROGRAM;LABELS;ENVIRONMENT" ${ARGN})
  oxmem_sanitizer_preload(preload)
  if("${preload}" STREQUAL "NOTFOUND")
    return()
  endif()
  if(preload)
    # What the programs lose themselves is not our business.
    list(APPEND ARG_ENVIRONMENT LD_PRELOAD=${preload} ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0)
  endif()
  add_test(NAME ${name} COMMAND ${CMAKE_BINARY_DIR}/apps/nexrun/nexrun ${ARG_PROGRAM})
  set_tests_properties(${name} PROPERTIES
    LABELS "${ARG_LABELS}" ENVIRONMENT "${ARG_ENVIRONMENT}")
  oxmem_set_test_timeout(${name} ${ARG_TIMEOUT})
endfunction()
