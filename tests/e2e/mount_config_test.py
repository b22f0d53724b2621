#!/usr/bin/env python3
"""Mounts described by configuration files."""
import os
import re
import signal
import subprocess
import sys

import oxmem_e2e
from mount_e2e import MountTest
from oxmem_e2e import SOURCE_ROOT


class MountConfig(MountTest):
    def setUp(self):
        super().setUp()
        self.config = self.path("etc")
        os.mkdir(self.config)
        self.env["OXMEM_CONFIG_DIR"] = self.config
        self.other = self.path("other")
        os.mkdir(self.other)
        self.addCleanup(lambda: subprocess.run(["umount", "-l", self.other], capture_output=True))

    def write(self, name, *lines):
        path = os.path.join(self.config, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return path

    def test_a_mount_is_called_by_the_name_of_its_file(self):
        path = self.write("a.conf", "# one", "source = mem:?size=1M", f"directory = {self.dir}",
                          "umask = 077")
        for name in ("a", path):
            self.check("mount", "--config", name, "-o", "name=first")
            status = os.stat(os.path.join(self.dir, "first"))
            self.assertEqual((status.st_size, status.st_mode & 0o777), (1 << 20, 0o600))
            self.check("umount", "--config", name)
            self.assertEqual(os.listdir(self.dir), [])

    def test_all_are_mounted_once(self):
        self.write("a.conf", "source = mem:?size=1M", f"directory = {self.dir}")
        self.write("b.conf", "source = mem:?size=2M", f"directory = {self.other}")
        self.write("serve-c.conf", "OPTIONS=--region data=1M")
        self.check("mount", "--all")
        self.assertEqual(os.stat(self.data).st_size, 1 << 20)
        self.assertEqual(os.stat(os.path.join(self.other, "data")).st_size, 2 << 20)
        again = self.check("mount", "--all").out
        self.assertEqual(again, f"{self.dir}: mounted already\n{self.other}: mounted already\n")
        for directory in (self.dir, self.other):
            self.check("umount", directory)

    def test_one_wrong_file_does_not_keep_the_others_from_being_mounted(self):
        wrong = self.write("a.conf", "source = mem:?size=1M", "", "dax = perhaps",
                           f"directory = {self.dir}")
        self.write("b.conf", "source = mem:?size=2M", f"directory = {self.other}")
        self.refused(2, f"{re.escape(wrong)}:3: dax: ", "mount", "--all")
        self.assertEqual(os.listdir(self.dir), [])
        self.check("umount", self.other)

    def test_bad_input_is_one_line(self):
        wrong = self.write("a.conf", "source = mem:?size=1M", "directory")
        for code, pattern, words in (
                (2, f"{re.escape(wrong)}:2: the directory must begin", ["mount", "-c", "a"]),
                (2, f"{re.escape(wrong)}:2: ", ["umount", "-c", "a"]),
                (1, "cannot open .*/none.conf: No such file", ["mount", "-c", "none"]),
                (1, "is not a regular file", ["mount", "-c", self.config]),
                (2, "excludes", ["mount", "-c", "a", self.dir]),
                (2, "excludes", ["mount", "-a", "-f"]),
                (2, "SOURCE-and-DIR excludes --all", ["mount", "-a", self.dir]),
                (2, "directory to unmount is missing", ["umount"])):
            self.refused(code, pattern, *words)
            self.assertEqual(os.listdir(self.dir), [])
        os.remove(wrong)
        # What only shows when the source is opened is said with the file's name too.
        bad = self.write("b.conf", "source = mem:?siz=1M", f"directory = {self.dir}")
        for words in (["-c", "b"], ["-a"]):
            self.refused(2, f"^oxmem mount: {re.escape(bad)}: .*siz", "mount", *words)
        os.remove(bad)
        self.assertIn("no mounts are described in", self.check("mount", "-a").out)

    def test_the_unit_for_systemd_calls_it_so(self):
        unit = os.path.join(SOURCE_ROOT, "packaging", "oxmem-mount@.service.in")
        with open(unit, encoding="utf-8") as file:
            text = file.read()
        example = "\n".join(re.findall(r"(?m)^#   (.*)$", text))
        self.write("unit.conf", example.replace("/mnt/oxmem", self.dir)
                   .replace("tloe://eth1/04:3f:72:dd:0b:05?size=8G", "mem:?size=1M"))
        words = re.search(r"(?m)^ExecStart=\S+/oxmem (.*)$", text)[1].replace("%i", "unit").split()
        daemon = self.start(*words)
        daemon.wait_for(f"(?m)^{self.dir}/data: ")
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.assertEqual(os.listdir(self.dir), [])


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("skipped: mounting needs root and /dev/fuse")
        sys.exit(oxmem_e2e.SKIPPED)
    oxmem_e2e.main()
