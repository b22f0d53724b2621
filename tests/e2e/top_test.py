#!/usr/bin/env python3
"""oxmem top: as plain text, and on a terminal, which it gives back whatever ends it."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import oxmem_e2e
from oxmem_e2e import _die_with_parent
from mount_e2e import MountTest

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """A pseudo terminal with a process in it; what it draws is read as screens."""

    def __init__(self, command, env, columns=80, rows=24):
        self.main, self.other = pty.openpty()
        self.resize(columns, rows)
        self.modes = termios.tcgetattr(self.other)

        def own_terminal():
            _die_with_parent()
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(command, stdin=self.other, stdout=self.other,
                                        stderr=self.other, env=env, preexec_fn=own_terminal)
        self.text = ""

    def resize(self, columns, rows):
        fcntl.ioctl(self.other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_some(self, until):
        ready, _, _ = select.select([self.main], [], [], max(0.0, until - time.monotonic()))
        if ready:
            self.text += os.read(self.main, 65536).decode(errors="replace")

    def screens(self):
        """Whole screens as lists of lines, in the order they were drawn."""
        parts = self.text.split("\x1b[H")[1:]
        whole = [part.split("\x1b[J")[0] for part in parts if "\x1b[J" in part]
        return [re.sub(r"\x1b\[[?\d]*[a-zA-Z]", "", part).split("\r\n") for part in whole]

    def wait_for(self, what, condition, seconds=30):
        """The first screen from now on for which it holds."""
        self.text = ""
        until = time.monotonic() + seconds
        while True:
            for screen in self.screens():
                if condition(screen):
                    return screen
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(f"{what} did not come: {self.text[-3000:]!r}")
            self.read_some(until)

    def keys(self, text):
        os.write(self.main, text.encode())

    def wait(self, seconds=20):
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > until:
                raise AssertionError(f"does not end: {self.text[-3000:]!r}")
            self.read_some(min(until, time.monotonic() + 0.05))
        self.read_some(time.monotonic() + 0.05)
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.main)
        os.close(self.other)


class TopTest(MountTest):
    def top(self, *words, **more):
        terminal = Terminal([oxmem_e2e.OXMEM, "top", *words], self.env, **more)
        self.addCleanup(terminal.close)
        return terminal

    def load(self, size=4096):
        """A process that reads the file again and again until the test ends."""
        reader = subprocess.Popen(
            [sys.executable, "-c",
             "import os, sys, time\nfd = os.open(sys.argv[1], os.O_RDONLY)\n"
             f"os.pread(fd, {size}, 0); print('reading', flush=True)\n"
             f"while True: os.pread(fd, {size}, 0); time.sleep(0.001)", self.data],
            stdout=subprocess.PIPE, preexec_fn=_die_with_parent)
        self.addCleanup(reader.stdout.close)
        self.addCleanup(reader.wait)
        self.addCleanup(reader.kill)
        self.assertEqual(reader.stdout.readline(), b"reading\n")


class Plain(TopTest):
    def test_without_a_terminal_it_prints_one_report_after_the_other(self):
        self.mount("mem:?size=1M", "-o", "dax=never")
        self.load()
        out = self.check("top", "--count", "3", "--interval", "0.2").out
        reports = out.split("\n\n")
        self.assertEqual(len(reports), 3)
        for report in reports:
            heading, process, file = report.strip("\n").split("\n")
            self.assertRegex(heading, r"^NAME +MODE READ/s .*P50 +P99 ")
            self.assertRegex(file, r"^  data +dir +\d")
            self.assertTrue(process.startswith("mount ~"), process)
            self.assertEqual({len(line) for line in (heading, process, file)}, {80})
            for line in (process, file):
                self.assertRegex(line, r" [\d.]+[num]s +[\d.]+[num]s ")

    def test_once_is_one_report_and_json_has_the_figures(self):
        self.mount("delay:(mem:?size=1M)?latency=2ms", "-o", "dax=never")
        self.load()
        report = json.loads(self.check("top", "--once", "--json", "-i", "0.5").out)
        process, file = report["rows"]
        self.assertEqual(process["name"], f"mount {self.dir}")
        self.assertEqual((file["name"], file["mode"], file["indent"]), ("data", "direct", 1))
        self.assertGreater(file["reads_per_second"], 5)
        self.assertAlmostEqual(file["read_bytes_per_second"], file["reads_per_second"] * 4096)
        self.assertGreaterEqual(file["p50_us"], 2000)
        self.assertEqual((file["writes_per_second"], file["failures_per_second"]), (0, 0))
        self.assertEqual(report["notes"], [])

    def test_nodes_benchmarks_and_resends_are_seen(self):
        net = self.net()
        self.node(net, "--name", "far")
        bench = self.start("bench", f"fault:({net.source}?size=64M)?fail=0.01", "--keep-going",
                           "-t", "30", space=net.client)
        until = time.monotonic() + 30
        while True:
            rows = {row["name"]: row for row in
                    json.loads(self.check("top", "--once", "--json", "-i", "0.3").out)["rows"]}
            bench_rows = [row for name, row in rows.items() if name.startswith("bench ")]
            if bench_rows and bench_rows[0].get("reads_per_second", 0) > 0 and \
                    rows["serve far"]["reads_per_second"] > 0:
                break
            self.assertLess(time.monotonic(), until, rows)
        self.assertGreater(bench_rows[0]["failures_per_second"], 0)
        self.assertIn("resends_per_second", bench_rows[0])
        self.assertIn("p99_us", rows["serve far"])
        one = json.loads(self.check("top", "--once", "--json", "-i", "0.1", "far").out)["rows"]
        self.assertEqual(one[0]["name"], "serve far")
        self.assertEqual([row["indent"] for row in one], [0, 1])
        bench.signal(signal.SIGKILL)
        bench.wait()

    def test_one_that_does_not_answer_runs_all_the_same(self):
        daemon = self.mount("mem:?size=1M", "-o", "dax=never")
        daemon.stop()
        report = self.check("top", "--once", "-i", "0.1").out
        self.assertEqual(report.split("\n", 1)[1].count("\n"), 1, report)
        self.assertIn("no answer in time", report)
        result = self.run_oxmem("top", "--once", "-i", "0.1", str(daemon.pid))
        self.assertEqual(result.code, 1)
        self.assertIn("none that answers has the number or the name", result.err)
        daemon.signal(signal.SIGCONT)

    def test_nothing_runs_and_nobody_is_called_so(self):
        self.assertIn("no oxmem process is running",
                      self.check("top", "--once", "-i", "0.1").out)
        result = self.run_oxmem("top", "--once", "-i", "0.1", "nobody")
        self.assertEqual(result.code, 1)
        self.assertRegex(result.err, "^oxmem top: no running process.*\"nobody\"")

    def test_a_mount_nobody_serves_is_named(self):
        daemon = self.mount("mem:?size=1M")
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        self.env.pop("OXMEM_RUNTIME_DIR")  # where all processes of the host are looked for
        self.assertRegex(self.check("top", "--once", "-i", "0.1").out,
                         rf"(?m)^{self.dir}: mounted, but no process")

    def test_wrong_words(self):
        for words in (["--interval", "0"], ["--interval", "x"], ["--count", "0"],
                      ["--once", "--count", "2"], ["a", "b"], ["--none"]):
            self.refused(2, "see oxmem top --help", "top", *words)


class OnATerminal(TopTest):
    def test_it_shows_rates_within_the_screen_and_follows_its_size(self):
        self.mount("mem:?size=1M", "mem:?size=1M", "-o", "dax=never")
        self.load()
        top = self.top("-i", "0.2")
        busy = top.wait_for("a rate", lambda s: any(
            re.match(r"  data +dir +[1-9]", line) for line in s))
        self.assertEqual({len(line) for line in busy}, {80})
        self.assertRegex(busy[0], r"^oxmem top +\d\d:\d\d:\d\d  1 process, every 0.2 s")
        self.assertRegex(busy[1], "^NAME ")
        self.assertIn("q quit", busy[0])
        top.resize(120, 3)
        small = top.wait_for("the new size", lambda s: len(s[0]) == 120)
        self.assertEqual(len(small), 3)
        self.assertIn(" P99.9 ", small[1])
        self.assertIn("mount ", small[2])
        top.keys("j")
        top.wait_for("the next line", lambda s: s[2].startswith("  data "))
        top.keys("\x1b[B")
        top.wait_for("the last line", lambda s: s[2].startswith("  data2"))
        top.keys("k\x1b[A")
        top.wait_for("the first line", lambda s: s[2].startswith("mount "))
        top.resize(30, 10)
        narrow = top.wait_for("a narrow screen", lambda s: len(s) == 5)
        self.assertEqual({len(line) for line in narrow}, {30})
        top.resize(1, 1)
        top.wait_for("the smallest screen", lambda s: s == ["o"])
        top.keys("q")
        self.assertEqual(top.wait(), 0)

    def test_keys_change_what_it_does(self):
        self.mount("mem:?size=1M")
        top = self.top("-i", "0.4")
        top.wait_for("a screen", lambda s: "every 0.4 s" in s[0])
        top.keys("+")
        top.wait_for("a longer interval", lambda s: "every 0.8 s" in s[0])
        top.keys("---")
        top.wait_for("the shortest interval", lambda s: "every 0.1 s" in s[0])
        top.keys("p")
        top.wait_for("a pause", lambda s: s[0].find("paused") > 0)
        top.keys(" ")
        top.wait_for("its end", lambda s: "paused" not in s[0])
        top.keys("x\x1b[5~")  # keys that mean nothing
        top.wait_for("another screen", lambda s: "every 0.1 s" in s[0])
        top.keys("\x03")
        self.assertEqual(top.wait(), 0)

    def restored(self, top):
        self.assertEqual(termios.tcgetattr(top.other), top.modes)
        self.assertGreater(top.text.rfind(LEAVE), top.text.rfind(ENTER), repr(top.text[-200:]))
        self.assertGreater(top.text.rfind("\x1b[?25h"), top.text.rfind("\x1b[?25l"))

    def test_the_terminal_is_given_back_whatever_ends_it(self):
        self.mount("mem:?size=1M")
        for how, code in (("q", 0), ("\x1b", 0), ("\x04", 0), (signal.SIGTERM, 0),
                          (signal.SIGINT, 0), (signal.SIGHUP, 0), (signal.SIGQUIT, 0),
                          (signal.SIGSEGV, -signal.SIGSEGV), (signal.SIGABRT, -signal.SIGABRT)):
            if oxmem_e2e.SANITIZED and code != 0:
                continue  # the sanitizers handle these themselves
            with self.subTest(how=how):
                top = self.top("-i", "0.1")
                top.wait_for("a screen", lambda s: "mount " in s[2])
                self.assertFalse(termios.tcgetattr(top.other)[3] & termios.ECHO)
                if isinstance(how, str):
                    top.keys(how)
                else:
                    top.process.send_signal(how)
                self.assertEqual(top.wait(), code)
                self.restored(top)

    def test_a_stopped_one_leaves_the_terminal_to_others(self):
        self.mount("mem:?size=1M")
        top = self.top("-i", "0.1")
        top.wait_for("a screen", lambda s: "mount " in s[2])
        top.keys("\x1a")
        until = time.monotonic() + 20
        while self.state(top.process.pid) != "T":
            self.assertLess(time.monotonic(), until)
            top.read_some(time.monotonic() + 0.05)
        top.read_some(time.monotonic() + 0.1)
        self.restored(top)
        top.process.send_signal(signal.SIGCONT)
        top.wait_for("a screen again", lambda s: "mount " in s[2])
        top.keys("q")
        self.assertEqual(top.wait(), 0)
        self.restored(top)

    @staticmethod
    def state(pid):
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def test_it_ends_with_its_terminal(self):
        top = self.top("-i", "0.1")
        top.wait_for("a screen", lambda s: "no oxmem process" in s[2])
        process = top.process
        os.close(top.main)
        top.main = os.open("/dev/null", os.O_RDWR)
        os.close(top.other)
        top.other = os.open("/dev/null", os.O_RDWR)
        process.wait(timeout=20)

    def test_a_count_ends_it(self):
        top = self.top("-i", "0.1", "-c", "2")
        self.assertEqual(top.wait(), 0)
        self.restored(top)


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("skipped: mounting needs root and /dev/fuse")
        sys.exit(oxmem_e2e.SKIPPED)
    oxmem_e2e.main()
