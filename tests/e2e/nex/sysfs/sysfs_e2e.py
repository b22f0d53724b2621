#!/usr/bin/env python3
"""What programs find of nex0 in /sys/class/infiniband.

usage: sysfs_e2e.py NEXRUN SYSFS_WALKER

Exits with 1 and a message at the first that is wrong.
"""
import os
import shutil
import subprocess
import sys

NEXRUN, WALKER = sys.argv[1:]
FOLDER = "/sys/class/infiniband"
# The shell of a private mount namespace that has a device of the kernel, or what looks like one.
WITH_DEVICE = ["unshare", "--mount", "sh", "-c",
               "mount -t tmpfs none /sys/class && mkdir -p /sys/class/infiniband/real0 && "
               "echo real > /sys/class/infiniband/real0/node_type && exec \"$@\"", "sh"]


def run(*command, prefix=(), name="nex0"):
    env = dict(os.environ, NEX_DEVICE=name, LC_ALL="C")
    done = subprocess.run([*prefix, NEXRUN, *command], env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def walk(prefix=(), others=()):
    found = dict(line.split(":", 1) for line in run(WALKER, "nexa", prefix=prefix, name="nexa").splitlines())
    found = {way: words.split() for way, words in found.items()}
    devices = sorted(["nexa", *others])
    expected = {
        "opendir": devices,
        "openat": ["1:_CA"],
        "openat twice": ["4:_ACTIVE"],
        "fstatat": ["same"],
        "faccessat": ["no", "no", "yes"],
        "fdopendir": ["device", "fw_ver", "hca_type", "node_desc", "node_guid", "node_type", "ports",
                      "sys_image_guid"],
        "closed": ["yes"],
        "scandir": devices,
        "glob": [f"{FOLDER}/nexa/ports/1/gid_attrs/types/0"],
        "realpath": [f"{FOLDER}/nexa/ports/1"],
        "readlink": ["no"],
        "ifstream": ["Ethernet"],
        "recursive_directory_iterator": ["ports/1/gid_attrs/ndevs/0", "ports/1/gid_attrs/types/0",
                                         "ports/1/gids/0", "ports/1/pkeys/0"],
    }
    assert found == expected, "\n".join(f"{way}: {found.get(way)}, not {words}" for way, words in expected.items()
                                        if found.get(way) != words)


def tools():
    files = run("find", f"{FOLDER}/nex0", "-type", "f").split()
    assert f"{FOLDER}/nex0/ports/1/gids/0" in files and len(files) == 19, files
    matches = run("grep", "-r", "RoCE", f"{FOLDER}/nex0").split("\n")
    assert matches == [f"{FOLDER}/nex0/ports/1/gid_attrs/types/0:RoCE v2", ""], matches
    listed = run("ls", "-R", FOLDER)
    assert f"{FOLDER}/nex0/ports/1/gid_attrs/types:\n0\n" in listed, listed
    assert run("cat", f"{FOLDER}/nex0/ports/1/state") == "4: ACTIVE\n"
    shell = run("sh", "-c", f"echo {FOLDER}/*/ports/*; cat < {FOLDER}/nex0/node_type")
    assert shell == f"{FOLDER}/nex0/ports/1\n1: CA\n", shell
    # The descriptor of a file elsewhere is what it was.
    assert run("sh", "-c", "exec 9< /etc/passwd; head -c 4 <&9") == "root"


def real_devices():
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        print("without a device of the kernel: needs root and unshare")
        return
    if subprocess.run([*WITH_DEVICE, "true"], check=False, capture_output=True).returncode != 0:
        print("without a device of the kernel: no mount namespace can be made")
        return
    walk(WITH_DEVICE, ["real0"])
    assert run("cat", f"{FOLDER}/real0/node_type", prefix=WITH_DEVICE) == "real\n"
    listed = run("ls", "-R", FOLDER, prefix=WITH_DEVICE)
    assert f"{FOLDER}/real0:\nnode_type\n" in listed and f"{FOLDER}/nex0/ports:\n1\n" in listed, listed
    texts = run("grep", "-rh", "real", FOLDER, prefix=WITH_DEVICE)
    assert texts == "real\n", texts


if __name__ == "__main__":
    walk()
    tools()
    real_devices()
