# The few helpers every folder's CMakeLists.txt is written with.

option(OXMEM_WARNINGS_AS_ERRORS "Treat compiler warnings as errors" OFF)
option(OXMEM_PRECOMPILE_TEST_HEADERS
       "Compile what tests include once (GCC only; clang's tools then cannot read the tests)" OFF)
set(OXMEM_SANITIZE "" CACHE STRING "Sanitizers for every target, as for -fsanitize=")

# Flags every target of ours is compiled with; never global, so that a consumer is not touched.
add_library(oxmem_flags INTERFACE)
target_compile_features(oxmem_flags INTERFACE cxx_std_20)
set(oxmem_warnings -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers)
# With sanitizers GCC 12 sees overlapping copies in inlined string assignments (its bug 105651).
if(OXMEM_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU"
   AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND oxmem_warnings -Wno-restrict)
endif()
if(OXMEM_WARNINGS_AS_ERRORS)
  list(APPEND oxmem_warnings -Werror)
endif()
target_compile_options(oxmem_flags INTERFACE "$<BUILD_INTERFACE:${oxmem_warnings}>")
if(OXMEM_SANITIZE)
  target_compile_options(oxmem_flags INTERFACE
    -fsanitize=${OXMEM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(oxmem_flags INTERFACE -fsanitize=${OXMEM_SANITIZE})
endif()
# Sanitized programs take several times as long, so every test's TIMEOUT is multiplied.
set(oxmem_test_patience 1)
if(OXMEM_SANITIZE)
  set(oxmem_test_patience 4)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(oxmem_flags INTERFACE "$<BUILD_INTERFACE:-Wthread-safety>")
endif()
install(TARGETS oxmem_flags EXPORT oxmem)

# oxmem_set_test_timeout(TEST seconds): of a build without sanitizers.
function(oxmem_set_test_timeout test seconds)
  math(EXPR seconds "${seconds} * ${oxmem_test_patience}")
  set_tests_properties(${test} PROPERTIES TIMEOUT ${seconds})
endfunction()

# oxmem_library(NAME [HEADER_ONLY] [SOURCES …] [DEPS …] [PRIVATE_DEPS …])
# One library a folder, with the alias oxmem::NAME. Includes are relative to the root.
function(oxmem_library name)
  cmake_parse_arguments(ARG "HEADER_ONLY" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_HEADER_ONLY)
    add_library(oxmem_${name} INTERFACE)
    set(scope INTERFACE)
  else()
    add_library(oxmem_${name} STATIC ${ARG_SOURCES})
    set_target_properties(oxmem_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    set(scope PUBLIC)
    target_link_libraries(oxmem_${name} PRIVATE ${ARG_PRIVATE_DEPS})
  endif()
  add_library(oxmem::${name} ALIAS oxmem_${name})
  set_target_properties(oxmem_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(oxmem_${name} ${scope}
    $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/oxmem>)
  target_link_libraries(oxmem_${name} ${scope} oxmem_flags ${ARG_DEPS})
  set_property(GLOBAL APPEND PROPERTY OXMEM_LIBRARIES oxmem_${name})
  install(TARGETS oxmem_${name} EXPORT oxmem ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}/oxmem)
endfunction()

# oxmem_program(NAME SOURCES … DEPS … [INSTALL]): an executable called NAME.
function(oxmem_program name)
  cmake_parse_arguments(ARG "INSTALL" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE oxmem_flags ${ARG_DEPS})
  if(ARG_INSTALL)
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endfunction()

# What nearly every test includes is compiled once for all of them, if that was asked for.
function(oxmem_precompile_test_headers name)
  if(NOT OXMEM_PRECOMPILE_TEST_HEADERS OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    return()
  endif()
  if(NOT TARGET oxmem_test_headers)
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/test_headers.cc CONTENT "")
    add_library(oxmem_test_headers OBJECT ${CMAKE_BINARY_DIR}/test_headers.cc)
    target_link_libraries(oxmem_test_headers PRIVATE oxmem_flags absl::statusor GTest::gmock)
    target_compile_options(oxmem_test_headers PRIVATE -O0)
    target_precompile_headers(oxmem_test_headers PRIVATE
      <absl/status/statusor.h> <absl/strings/str_cat.h> <array> <chrono> <cstring> <fstream>
      <functional> <gmock/gmock.h> <gtest/gtest.h> <map> <memory> <optional> <random> <span> <string>
      <thread> <vector>)
  endif()
  target_precompile_headers(${name} REUSE_FROM oxmem_test_headers)
endfunction()

# oxmem_test(NAME SOURCES … DEPS … [LABELS …] [TIMEOUT seconds]): a GoogleTest program, every test
# of which ctest knows by its own name. tests/support/data.h finds its data files.
function(oxmem_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * ${oxmem_test_patience}")
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE oxmem_flags ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  if(NOT "sim" IN_LIST ARG_LABELS AND NOT CMAKE_BUILD_TYPE STREQUAL "Release")
    # Assertions take most of the time of the build when they are optimised. Simulations need the time
    # when they run.
    target_compile_options(${name} PRIVATE -O0)
    oxmem_precompile_test_headers(${name})
  endif()
  gtest_discover_tests(${name} TEST_PREFIX "" DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()

# oxmem_fuzzer(NAME SOURCES … DEPS … CORPUS dir): with the fuzz preset a libFuzzer program, and in
# every other build a program that replays the corpus, run as a test.
function(oxmem_fuzzer name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;DEPS" ${ARGN})
  if(OXMEM_FUZZ)
    add_executable(${name} ${ARG_SOURCES})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.cc)
    add_test(NAME fuzz.${name} COMMAND ${name} ${ARG_CORPUS})
    set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz)
    oxmem_set_test_timeout(fuzz.${name} 120)
  endif()
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE oxmem_flags ${ARG_DEPS})
endfunction()

# oxmem_part(NAME BUILT|reason): one line of the report.
function(oxmem_part name state)
  set_property(GLOBAL APPEND PROPERTY OXMEM_PARTS "${name}|${state}")
endfunction()

function(oxmem_report_parts)
  get_property(parts GLOBAL PROPERTY OXMEM_PARTS)
  message(STATUS "oxmem ${PROJECT_VERSION}, ${CMAKE_BUILD_TYPE}: parts of this build")
  foreach(part IN LISTS parts)
    string(REPLACE "|" ";" pair "${part}")
    list(GET pair 0 name)
    list(GET pair 1 state)
    message(STATUS "  ${name}: ${state}")
  endforeach()
endfunction()
