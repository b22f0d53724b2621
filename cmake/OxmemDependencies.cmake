# Everything oxmem takes from the system, found in one place. A required package that is missing
# stops the configuration with the package to install; an optional one switches off a whole target,
# and the report at the end of the configuration says which and why.

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)

if(BUILD_TESTING OR NOT DEFINED BUILD_TESTING)
  find_package(GTest 1.12 REQUIRED)
endif()
find_package(benchmark 1.7 QUIET)

find_package(PkgConfig REQUIRED)
pkg_check_modules(FUSE3 IMPORTED_TARGET fuse3>=3.14)
