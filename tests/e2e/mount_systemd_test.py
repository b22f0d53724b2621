#!/usr/bin/env python3
"""The units and fstab, under a real systemd."""
import os
import re
import sys
import time
import unittest

import mount_e2e
import oxmem_e2e
import systemd_e2e
from oxmem_e2e import E2eTest

BOOTED = {"running", "degraded"}


def kernel_gives_requests_again():
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 9)


class SystemdTest(E2eTest):
    def boot(self, files):
        self.machine = systemd_e2e.Systemd(self.directory, files)
        self.addCleanup(self.machine.close)
        self.addCleanup(self.check_reports_there)
        until = time.monotonic() + 60
        while (state := self.machine.run("systemctl", "is-system-running", "--wait").stdout.strip()) \
                not in BOOTED:
            self.assertLess(time.monotonic(), until, f"it does not start: {state}")
        return state

    def check_reports_there(self):
        texts = oxmem_e2e.read_reports(self.machine.path(systemd_e2e.SANITIZER_REPORT))
        self.assertEqual(texts, [], "\n".join(texts))

    def config(self, source, name="a", *lines):
        return {f"etc/oxmem/{name}.conf":
                "\n".join([f"source = {source}", f"directory = /srv/{name}", *lines]) + "\n"}

    def run_there(self, *command, code=0, **more):
        done = self.machine.run(*command, **more)
        self.assertEqual(done.returncode, code,
                         f"{command}: {done.stdout}{done.stderr}{self.logs()}")
        return done.stdout

    def logs(self):
        texts = []
        for name in os.listdir(self.machine.path("/run")):
            if name.endswith(".log"):
                with open(self.machine.path(f"/run/{name}"), encoding="utf-8") as file:
                    texts.append(f"\n{name}: {file.read()}")
        return "".join(texts)

    def show(self, unit, key):
        return self.run_there("systemctl", "show", "--property", key, "--value", unit).strip()

    def wait_for(self, unit, key, wanted, seconds=30.0):
        until = time.monotonic() + seconds
        while (value := self.show(unit, key)) not in wanted:
            self.assertLess(time.monotonic(), until,
                            f"{unit}: {key} is {value}, not {wanted}{self.logs()}")
        return value

    def open_there(self, name):
        fd = os.open(self.machine.path(name), os.O_RDWR)
        self.addCleanup(os.close, fd)
        return fd

    def wait_for_no_process(self):
        until = time.monotonic() + 20
        while left := [words for words in self.machine.processes()
                       if os.path.basename(words[0]) in ("oxmem", "mount.oxmem")]:
            self.assertLess(time.monotonic(), until, left)

    def kill_there(self, *words):
        self.run_there("sh", "-c", f"kill {' '.join(words)}")


class MountUnit(SystemdTest):
    def start(self, source="mem:?size=8M", *lines):
        self.boot(self.config(source, "a", *lines))
        self.run_there("mkdir", "-p", "/srv/a")
        self.run_there("systemctl", "start", "oxmem-mount@a")

    def test_it_is_active_when_the_mount_is_there_and_stops_without_a_trace(self):
        self.start()
        self.assertEqual(os.stat(self.machine.path("/srv/a/data")).st_size, 8 << 20)
        self.assertRegex(self.show("oxmem-mount@a", "StatusText"), "^/srv/a/data: .*8M")
        self.run_there("systemctl", "stop", "oxmem-mount@a")
        self.assertEqual(os.listdir(self.machine.path("/srv/a")), [])
        self.assertEqual(self.show("oxmem-mount@a", "Result"), "success", self.logs())
        self.wait_for_no_process()
        self.assertEqual(os.listdir(self.machine.path("/run/oxmem")), [])

    def test_stopped_in_use_it_detaches_and_says_by_whom(self):
        self.start()
        holder = self.run_there("sh", "-c", "sleep 1000 </srv/a/data >/dev/null 2>&1 & echo $!").strip()
        self.run_there("systemctl", "stop", "oxmem-mount@a")
        self.assertEqual(os.listdir(self.machine.path("/srv/a")), [])
        self.assertRegex(self.logs(), rf"was in use and is detached: sleep \(pid {holder}\) has .* open")
        self.kill_there(holder)
        self.wait_for_no_process()

    @unittest.skipUnless(kernel_gives_requests_again(), "needs Linux 6.9")
    def test_killed_it_is_started_again_and_open_files_go_on(self):
        self.start("mem:?size=8M", "options = dax=never")
        fd = self.open_there("/srv/a/data")
        os.pwrite(fd, b"before", 5)
        for _ in range(2):
            first = self.show("oxmem-mount@a", "MainPID")
            self.kill_there("-9", first)
            os.pwrite(fd, b"meanwhile", 100)
            self.assertEqual(os.pread(fd, 6, 5), b"before")
            self.wait_for("oxmem-mount@a", "ActiveState", {"active"})
            self.assertNotIn(self.show("oxmem-mount@a", "MainPID"), (first, "0"))
        self.assertEqual(os.pread(self.open_there("/srv/a/data"), 9, 100), b"meanwhile")
        self.assertEqual(self.show("oxmem-mount@a", "NRestarts"), "2")
        self.assertIn("taken over", self.logs())

    def test_what_is_wrong_in_the_file_is_said_once(self):
        self.boot(self.config("mem:?size=nothing"))
        self.run_there("mkdir", "-p", "/srv/a")
        self.run_there("systemctl", "start", "oxmem-mount@a", code=1)
        self.wait_for("oxmem-mount@a", "ActiveState", {"failed"})
        self.assertEqual(self.show("oxmem-mount@a", "NRestarts"), "0")
        self.assertEqual(self.logs().count('source "mem:": size: "nothing" is not'), 1, self.logs())

    def test_a_node_that_starts_late_is_waited_for(self):
        self.boot(self.config("shm://n?timeout=500ms") |
                  {"etc/oxmem/serve-n.conf": "OPTIONS=--region data=8M --listen shm://n\n"})
        self.run_there("mkdir", "-p", "/srv/a")
        self.run_there("systemctl", "start", "--no-block", "oxmem-mount@a")
        # More often than systemd's own limit, which would give it up.
        until = time.monotonic() + 60
        while int(self.show("oxmem-mount@a", "NRestarts")) < 7:
            self.assertLess(time.monotonic(), until, self.logs())
        self.run_there("systemctl", "start", "oxmem-serve@n")
        self.wait_for("oxmem-mount@a", "ActiveState", {"active"})
        self.assertEqual(os.stat(self.machine.path("/srv/a/data")).st_size, 8 << 20)


class ServeUnit(SystemdTest):
    def test_a_killed_node_is_started_again_and_the_mount_finds_it(self):
        self.boot(self.config("shm://n?timeout=10s") |
                  {"etc/oxmem/serve-n.conf": "OPTIONS=--region data=8M --listen shm://n\n"})
        self.run_there("mkdir", "-p", "/srv/a")
        self.run_there("systemctl", "start", "oxmem-serve@n")
        self.run_there("systemctl", "start", "oxmem-mount@a")
        self.open_there_and_write(b"first")
        first = self.show("oxmem-serve@n", "MainPID")
        self.kill_there("-9", first)
        until = time.monotonic() + 20
        while self.show("oxmem-serve@n", "MainPID") == first:
            self.assertLess(time.monotonic(), until)
        # Waits for the node that systemd starts.
        self.assertEqual(self.open_there_and_write(b"second"), b"\0" * 6)
        self.run_there("systemctl", "stop", "oxmem-mount@a", "oxmem-serve@n")
        self.assertEqual(self.show("oxmem-serve@n", "Result"), "success")
        self.run_there("oxmem", "stats")  # clears away the socket of the one that was killed
        self.assertEqual(os.listdir(self.machine.path("/run/oxmem")), [])

    def open_there_and_write(self, text):
        with open(self.machine.path("/srv/a/data"), "r+b", buffering=0) as file:
            before = file.read(len(text))
            file.seek(0)
            file.write(text)
        return before


class Fstab(SystemdTest):
    NODE = {"etc/oxmem/serve-n.conf": "OPTIONS=--region data=8M --listen shm://n\n"}

    def test_lines_with_the_words_of_systemd_at_boot(self):
        state = self.boot(self.NODE | {
            "etc/fstab":
                "mem:?size=2M /srv/mem oxmem _netdev,nofail,umask=077,name=inside 0 0\n"
                "shm://n /srv/node oxmem _netdev,nofail,x-systemd.automount,"
                "x-systemd.requires=oxmem-serve@n.service,x-systemd.mount-timeout=30s 0 0\n"
                "shm://none /srv/none oxmem _netdev,nofail 0 0\n"
                "mem:?size=3M /srv/later oxmem noauto 0 0\n"})
        # The source that is not there does not keep the machine from starting.
        self.assertEqual(state, "degraded")
        self.assertEqual(self.show("test.target", "ActiveState"), "active")
        self.assertEqual(self.show("srv-none.mount", "ActiveState"), "failed")
        status = os.stat(self.machine.path("/srv/mem/inside"))
        self.assertEqual((status.st_size, status.st_mode & 0o777), (2 << 20, 0o600))
        # Not before somebody looks.
        self.assertEqual(self.show("srv-node.automount", "ActiveState"), "active")
        self.assertEqual(self.show("srv-node.mount", "ActiveState"), "inactive")
        self.assertEqual(self.run_there("stat", "-c", "%s", "/srv/node/data"), "8388608\n")
        self.assertEqual(self.show("srv-node.mount", "ActiveState"), "active")
        self.assertEqual(self.show("oxmem-serve@n", "ActiveState"), "active")
        self.run_there("mkdir", "/srv/later")
        self.run_there("mount", "/srv/later")
        self.assertEqual(os.stat(self.machine.path("/srv/later/data")).st_size, 3 << 20)
        self.run_there("umount", "/srv/later")
        self.run_there("systemctl", "stop", "srv-node.automount", "srv-node.mount", "srv-mem.mount",
                       "oxmem-serve@n")
        self.assertEqual(os.listdir(self.machine.path("/srv/mem")), [])
        self.wait_for_no_process()

    @unittest.skipUnless(kernel_gives_requests_again(), "needs Linux 6.9")
    def test_a_daemon_of_fstab_that_is_killed_is_followed_by_another_one(self):
        self.boot({"etc/fstab": "mem:?size=2M /srv/mem oxmem dax=never 0 0\n"})
        fd = self.open_there("/srv/mem/data")
        os.pwrite(fd, b"kept", 9)
        first = self.run_there("sh", "-c", "oxmem stats --json | grep -o '\"pid\": *[0-9]*' | "
                               "grep -o '[0-9]*$'").strip()
        self.kill_there("-9", first)
        self.assertEqual(os.pread(fd, 4, 9), b"kept")
        self.assertEqual(self.show("srv-mem.mount", "ActiveState"), "active")


if __name__ == "__main__":
    if reason := systemd_e2e.why_no_systemd():
        print(f"skipped: {reason}")
        sys.exit(oxmem_e2e.SKIPPED)
    mount_e2e.main()
