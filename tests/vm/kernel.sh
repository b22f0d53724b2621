# The kernel of the test machine: Debian's own, unpacked into a cache. Sourced by ./run.
#
# The cache is $OXMEM_VM_CACHE, or build/vm of the source tree; one folder for each version of the
# package, with vmlinux, the modules a test may want, and their index.

vm_cache=${OXMEM_VM_CACHE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/vm}
vm_kernel_parts=(arch crypto drivers/block drivers/char drivers/dax drivers/infiniband
  drivers/net/veth.ko drivers/net/dummy.ko drivers/nvdimm drivers/virtio fs lib mm net)

# Prints the folder of the newest kernel that is in the cache; fails if there is none.
kernel_in_cache() {
  local folder
  folder=$(find "$vm_cache" -mindepth 2 -maxdepth 2 -name complete -printf '%h\n' 2>/dev/null |
    sort -V | tail -n 1)
  [ -n "$folder" ] && echo "$folder"
}

# Prints the folder of Debian's current kernel, fetching it if it is not there.
fetch_kernel() {
  local package version folder
  package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends:/ {print $2; exit}')
  version=$(apt-cache policy "$package" 2>/dev/null | awk '/Candidate:/ {print $2}')
  if [ -z "$package" ] || [ -z "$version" ]; then
    echo "apt knows no linux-image-amd64 (try: apt-get update)" >&2
    return 1
  fi
  folder=$vm_cache/${package}_$version
  mkdir -p "$vm_cache"
  (
    flock 9
    [ -e "$folder/complete" ] || unpack_kernel "$package=$version" "$folder"
  ) 9>"$vm_cache/lock" || return 1
  echo "$folder"
}

unpack_kernel() {
  local package=$1 folder=$2 work part parts=() release
  work=$(mktemp -d "$vm_cache/unpacking.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  echo "fetching the kernel package $package (70 MB)" >&2
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package") || return 1
  for part in "${vm_kernel_parts[@]}"; do parts+=("*/kernel/$part"); done
  dpkg-deb --fsys-tarfile "$work"/*.deb |
    tar -x -C "$work" --wildcards --no-anchored 'vmlinuz*' 'modules.*' "${parts[@]}" || return 1
  # Newer packages have everything below usr/.
  [ -d "$work/usr/lib" ] && ln -s usr/lib "$work/lib"
  release=$(ls "$work/lib/modules")
  depmod -b "$work" "$release" || return 1
  python3 "$(dirname "${BASH_SOURCE[0]}")/vmlinux.py" \
    "$(find "$work" -name 'vmlinuz*' -type f | head -n 1)" "$work/vmlinux" || return 1
  echo "$release" >"$work/complete"
  chmod 755 "$work"
  rm "$work"/*.deb
  rm -rf "$folder"
  mv "$work" "$folder"
}
