# The Debian packages oxmem needs, and how the scripts install them. Sourced by ./check and ./quickstart.

build_packages=(g++ cmake ninja-build pkg-config libabsl-dev libcli11-dev libspdlog-dev libfmt-dev
  nlohmann-json3-dev libfuse3-dev libibverbs-dev librdmacm-dev)
test_packages=(python3 libgtest-dev libgmock-dev libbenchmark-dev iproute2 fuse3 fio rsync e2fsprogs sqlite3
  attr ibverbs-utils rdmacm-utils perftest qperf ucx-utils openmpi-bin
  libopenmpi-dev libfabric-bin python3-pyverbs systemd)
# For the presets with sanitizers.
sanitizer_packages=(clang libclang-rt-dev llvm)
# For the tests in a virtual machine, which are skipped without.
vm_packages=(qemu-system-x86 busybox-static cpio kmod xz-utils zstd)
cmake_arguments=()
if command -v ccache >/dev/null; then
  cmake_arguments+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_C_COMPILER_LAUNCHER=ccache)
fi

say() { printf '== %s\n' "$*"; }

# Installs those of the packages that are not there; nothing to do needs no root and no network.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    say "these packages are missing and installing them needs root: ${missing[*]}" >&2
    return 1
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
