#!/usr/bin/env python3
"""bench/e2e/run works from end to end; its figures decide nothing here."""
import json
import os
import shutil
import subprocess
import sys
import unittest
import xml.etree.ElementTree

import oxmem_e2e
from oxmem_e2e import E2eTest, SOURCE_ROOT

RUN = os.path.join(SOURCE_ROOT, "bench", "e2e", "run")


class Bench(E2eTest):
    def bench(self, *words):
        build = os.path.dirname(os.path.dirname(os.path.dirname(oxmem_e2e.OXMEM)))
        return subprocess.run([sys.executable, RUN, "--build", build, *words], capture_output=True, text=True,
                              timeout=170, check=False)

    def test_every_line_has_its_job_file(self):
        names = self.bench("--list").stdout.splitlines()
        self.assertGreater(len(names), 15)
        sys.path.insert(0, os.path.dirname(RUN))
        import lines
        for line in lines.LINES:
            for _, job in line.measured():
                if job is not lines.MEMORY:
                    self.assertTrue(os.path.exists(os.path.join(os.path.dirname(RUN), "jobs", job.name + ".fio")))

    @unittest.skipUnless(shutil.which("fio"), "there is no fio")
    def test_it_measures_writes_a_report_and_a_plot_and_leaves_nothing(self):
        spaces, mounts = os.listdir("/run/netns") if os.path.isdir("/run/netns") else [], self.mounts()
        report, plot = self.path("report.json"), self.path("plot.svg")
        words = ["--rounds", "1", "--seconds", "1", "--size", "16", "--json", report, "--svg", plot, "--add"]
        # The thread sanitizer leaves no room for the mapping of 1 TiB.
        idle = [] if oxmem_e2e.SANITIZED == "thread" else ["idle daemon, 1 TiB mounted: memory"]
        only = "^(mem|tloe): 4 KiB random read, depth 1$"
        done = self.bench("--only", f"{only}|^idle" if idle else only, *words)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        done = self.bench("--only", "^dax: 1 MiB read", *words)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        with open(report, encoding="utf-8") as file:
            document = json.load(file)
        found = {line["name"]: line for line in document["lines"]}
        self.assertEqual(list(found), ["tloe: 4 KiB random read, depth 1", "mem: 4 KiB random read, depth 1",
                                       "dax: 1 MiB read beside tmpfs", *idle])
        for line in found.values():
            self.assertGreater(line["value"], 0, line)
        mem = found["mem: 4 KiB random read, depth 1"]
        self.assertEqual(set(mem["peers"]), {"null single", "null multi"})
        self.assertAlmostEqual(mem["ratio"], mem["value"] / max(mem["peers"].values()))
        self.assertIn(mem["reached"], (True, False))
        if not shutil.which("nbdkit") or not shutil.which("nbdfuse"):
            self.assertIn("is missing (Debian package", found["tloe: 4 KiB random read, depth 1"]["missing"])
        for name in found:
            self.assertIn(name, done.stdout)
        drawn = xml.etree.ElementTree.parse(plot).getroot()
        texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
        self.assertEqual({name for name in found if name in texts}, set(found))
        self.assertEqual(self.mounts(), mounts)
        self.assertEqual([space for space in os.listdir("/run/netns") if space not in spaces
                          and space.startswith("oxmem-bench-")], [])

    @staticmethod
    def mounts():
        with open("/proc/self/mounts", encoding="utf-8") as file:
            return [line for line in file if "oxmem-bench-" in line]

    def test_wrong_words_are_one_line(self):
        for words, why in ((["--only", "nothing of that name"], "no line matches"),
                           (["--build", self.directory], "there is no build in")):
            done = self.bench(*words)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done)
            self.assertIn(why, done.stderr)


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("skipped: mounting needs root and /dev/fuse")
        sys.exit(oxmem_e2e.SKIPPED)
    oxmem_e2e.main()
