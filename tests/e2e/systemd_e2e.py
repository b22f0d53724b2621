"""A systemd of the test's own: the host's one, as the first process of namespaces, on the host's
files under a layer in memory. It sees nobody else's processes, mounts, network or control groups."""
import glob
import os
import shutil
import subprocess
import tempfile
import time

import oxmem_e2e
from oxmem_e2e import _die_with_parent

SYSTEMD = "/lib/systemd/systemd"
SANITIZER_REPORT = "/run/sanitizer"

# Arguments: a folder, and one whose files are copied over the root.
_ROOT = r"""
set -eu
mount -t tmpfs layer "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" root "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sys sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs run run
mount -t tmpfs tmp tmp
# Nothing but what the test asks for, and none of the host's mounts.
rm -rf etc/systemd/system etc/fstab etc/oxmem lib/systemd/system/*.wants
cp -a "$2/." .
pivot_root . mnt
umount -l mnt
exec env -i container=oxmem PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  chroot . /lib/systemd/systemd --system --unit=test.target --log-target=null --show-status=0
"""

_FILES = {
    "etc/systemd/system/test.target":
        "[Unit]\nWants=remote-fs.target local-fs.target\nAfter=remote-fs.target local-fs.target\n",
    "etc/systemd/system.conf.d/test.conf": "[Manager]\nDefaultStandardOutput=null\n{environment}",
    "etc/systemd/system/service.d/log.conf":
        "[Service]\nStandardOutput=append:/run/%n.log\nStandardError=append:/run/%n.log\n",
}


def _cgroups():
    """The folder of the host's unified control groups, if there is one."""
    with open("/proc/mounts", encoding="utf-8") as mounts:
        found = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    return found[0] if found else None


def why_no_systemd():
    """Empty if there can be one."""
    if not os.path.exists(SYSTEMD):
        return "there is no systemd (package systemd)"
    if _cgroups() is None or not os.access(_cgroups(), os.W_OK):
        return "there are no control groups (version 2) to be written to"
    probe = tempfile.mkdtemp()
    try:
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net", "--fork", "sh", "-c",
             f"mount -t tmpfs t {probe} && mkdir {probe}/u {probe}/w {probe}/r && mount -t overlay "
             f"-o lowerdir=/,upperdir={probe}/u,workdir={probe}/w o {probe}/r"],
            capture_output=True, text=True)
    finally:
        os.rmdir(probe)
    return "" if done.returncode == 0 else f"no namespaces or layers here: {done.stderr.strip()}"


class Systemd:
    """A machine that has started; `files` are texts by their paths without the first slash."""

    def __init__(self, directory, files):
        self._cgroup = os.path.join(_cgroups(), f"oxmem-test-{os.getpid()}")
        os.mkdir(self._cgroup)
        more = os.path.join(directory, "files")
        layer = os.path.join(directory, "layer")
        os.mkdir(layer)
        self._environment = oxmem_e2e.sanitizer_environment(SANITIZER_REPORT)
        environment = " ".join(f'"{word}"' for word in self._environment)
        base = {path: text.replace("{environment}", f"DefaultEnvironment={environment}\n")
                for path, text in _FILES.items()}
        for path, text in (base | files).items():
            os.makedirs(os.path.dirname(os.path.join(more, path)), exist_ok=True)
            with open(os.path.join(more, path), "w", encoding="utf-8") as file:
                file.write(text)
        self._install(more)

        def enter():
            _die_with_parent()
            with open(os.path.join(self._cgroup, "cgroup.procs"), "w", encoding="ascii") as procs:
                procs.write(str(os.getpid()))

        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--pid", "--cgroup", "--ipc", "--uts",
             "--net", "--fork", "--kill-child", "sh", "-c", _ROOT, "sh", layer, more],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=enter)
        self.pid = self._wait_for_first()

    @staticmethod
    def _install(root):
        build = os.path.dirname(os.path.dirname(os.path.dirname(oxmem_e2e.OXMEM)))
        for program, place in ((oxmem_e2e.OXMEM, "usr/local/bin/oxmem"),
                               (os.path.join(build, "apps/mount_helper/mount.oxmem"),
                                "usr/sbin/mount.oxmem")):
            target = os.path.join(root, place)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(program, target)
        units = os.path.join(root, "etc/systemd/system")
        for unit in glob.glob(os.path.join(build, "packaging/*.service")):
            with open(unit, encoding="utf-8") as file:
                text = file.read()
            name = os.path.join(units, os.path.basename(unit))
            with open(name, "w", encoding="utf-8") as file:
                # The place where this build would install itself may be any.
                file.write("".join(_with_program(line) for line in text.splitlines(True)))

    def _wait_for_first(self):
        until = time.monotonic() + 60
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"systemd did not start: {self._process.stdout.read()}")
            with open(f"/proc/{self._process.pid}/task/{self._process.pid}/children",
                      encoding="ascii") as children:
                first = children.read().split()
            if first:
                with open(f"/proc/{first[0]}/comm", encoding="ascii") as comm:
                    if comm.read() == "systemd\n":
                        return int(first[0])
            if time.monotonic() > until:
                raise RuntimeError("systemd did not start")
            time.sleep(0.01)

    def path(self, name):
        """Where the machine's file is for us; mounts in it are seen through it as well."""
        return f"/proc/{self.pid}/root{name}"

    def run(self, *command, seconds=60):
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-p", "-i", "-u", "-n", "-r", "-w", "env", "-i",
             "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *self._environment, *command],
            capture_output=True, text=True, timeout=seconds)

    def processes(self):
        """The words that its processes were started with."""
        found = []
        for folder, _, _ in os.walk(self._cgroup):
            with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as procs:
                pids = procs.read().split()
            for pid in pids:
                try:
                    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as cmdline:
                        found.append(cmdline.read().split("\0"))
                except OSError:
                    pass  # ended meanwhile
        return found

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        until = time.monotonic() + 20
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            # Those who were in it are ending.
            while True:
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.01)


def _with_program(line):
    if not line.startswith("ExecStart="):
        return line
    program, _, words = line.removeprefix("ExecStart=").partition(" ")
    assert os.path.basename(program) == "oxmem"
    return f"ExecStart=/usr/local/bin/oxmem {words}"
