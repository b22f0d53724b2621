"""What the tests of mounts share."""
import os
import signal
import subprocess
import sys
import time

import oxmem_e2e
from oxmem_e2e import E2eTest


def build_path(*parts):
    # OXMEM is BUILD/apps/oxmem/oxmem.
    build = os.path.dirname(os.path.dirname(os.path.dirname(oxmem_e2e.OXMEM)))
    return os.path.join(build, *parts)


class MountTest(E2eTest):
    def setUp(self):
        super().setUp()
        self.dir = self.path("mnt")
        os.mkdir(self.dir)
        self.data = os.path.join(self.dir, "data")
        self.addCleanup(self.kill_all)
        # Runs before the directory is removed, whatever state the mount is in.
        self.addCleanup(lambda: subprocess.run(["umount", "-l", self.dir], capture_output=True))

    def kill_all(self):
        # A keeper may be starting the next daemon.
        while left := self.processes():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def mount(self, *words, **more):
        """In the foreground, so that the daemon ends with the test."""
        process = self.start("mount", "-f", *words, self.dir, **more)
        process.wait_for(r"(?m)^" + self.dir + "/")
        return process

    def run_tool(self, *command, seconds=120, **more):
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, **more)
        self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def check_file(self, *words):
        return self.run_tool(build_path("tests", "e2e", "mount", "file_checker"), self.data, *words)

    def daemons(self):
        """The numbers of the processes that serve this test's mounts, as they say themselves."""
        return [process["pid"] for process in self.statistics() if process["command"] == "mount"]

    def statistics(self, seconds=20.0):
        """Of all processes. One that is just being killed may break off its answer."""
        until = time.monotonic() + seconds
        while (result := self.run_oxmem("stats", "--json")).code != 0:
            self.assertLess(time.monotonic(), until, result)
        return result.json

    def daemon(self, other_than=(), seconds=20.0):
        """The process that serves the mount, once it does."""
        until = time.monotonic() + seconds
        while True:
            found = [pid for pid in self.daemons() if pid not in other_than]
            if found:
                return found[0]
            self.assertLess(time.monotonic(), until, "nobody serves the mount")

    def processes(self):
        """Every process that was started with the mount's directory or its m.conf, keepers too."""
        return self.processes_of(oxmem_e2e.OXMEM.encode())

    def processes_of(self, program):
        marks = {self.dir.encode(), b"directory=" + self.dir.encode(), self.path("m.conf").encode()}
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if words[0] == program and marks.intersection(words):
                found.append(int(name))
        return found

    def wait_for_no_process(self, seconds=120.0):
        """Also until other tests' mount namespaces have gone, which keep a copy of the mount."""
        until = time.monotonic() + seconds
        while left := self.processes():
            self.assertLess(time.monotonic(), until, f"still there: {left}")

    def fio(self, *words):
        """A fio that verifies what it wrote, on its way; all of its output in one pipe."""
        process = subprocess.Popen(
            ["fio", "--name=job", f"--filename={self.data}", "--size=8m", "--rw=randwrite",
             "--verify=crc32c", "--verify_fatal=1", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.directory)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def check_fio_goes_on(self, disturb, times=3):
        """fio's data stay right, and no request fails, whatever is done to the mount meanwhile."""
        # Slow enough that it does not end first, where a sanitizer makes everything else slow.
        fio = self.fio("--ioengine=libaio", "--direct=1", "--iodepth=16", "--bs=4k", "--loops=4",
                       "--rate_iops=3000")
        for _ in range(times):
            self.wait_until_counted("writes", 100)
            disturb()
        self.assertEqual(fio.wait(120), 0, fio.stdout.read())

    def wait_until_counted(self, name, least, seconds=20.0):
        """Until the mount's processes that live now have counted that much."""
        until = time.monotonic() + seconds
        while self.counted(name) < least:
            self.assertLess(time.monotonic(), until, f"{name} did not reach {least}")

    def counted(self, name):
        return sum(part["counters"].get(name, 0)
                   for process in self.statistics()
                   if process["command"] == "mount" for part in process["parts"])


def main():
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("skipped: mounting needs root and /dev/fuse")
        sys.exit(oxmem_e2e.SKIPPED)
    oxmem_e2e.main()
