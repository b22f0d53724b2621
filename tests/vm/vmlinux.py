#!/usr/bin/env python3
"""Takes the ELF kernel out of a bzImage, so that a virtual machine can start it without unpacking it
there, which takes half a minute without hardware support.

usage: vmlinux.py BZIMAGE VMLINUX
"""
import lzma
import struct
import subprocess
import sys
import zlib


def payload(image):
    """The compressed kernel, by the fields of the boot protocol (Documentation/arch/x86/boot.rst)."""
    if image[0x202:0x206] != b"HdrS":
        raise ValueError("not a bzImage")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    return image[start:start + length]


def unpack(data):
    if data[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(data)
    if data[:2] == b"\x1f\x8b":
        return zlib.decompressobj(wbits=31).decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        # Four bytes of the length follow the stream, which the tool takes for trailing garbage.
        return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=False).stdout
    raise ValueError("unknown compression " + data[:4].hex())


def main():
    with open(sys.argv[1], "rb") as file:
        image = file.read()
    kernel = unpack(payload(image))
    if kernel[:4] != b"\x7fELF":
        raise ValueError("the kernel inside is not an ELF file")
    with open(sys.argv[2], "wb") as file:
        file.write(kernel)


if __name__ == "__main__":
    main()
