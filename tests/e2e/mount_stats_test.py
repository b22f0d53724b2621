#!/usr/bin/env python3
"""What a mount counts, in all the ways to ask for it."""
import json
import os
import re
import signal
import socket
import sys
import threading
import subprocess
import time
import urllib.error
import urllib.request

import oxmem_e2e
from mount_e2e import MountTest


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def part(process, kind, name):
    found = [p for p in process["parts"] if p["kind"] == kind and p["name"] == name]
    assert len(found) == 1, (kind, name, [(p["kind"], p["name"]) for p in process["parts"]])
    return found[0]


class MountStatistics(MountTest):
    def stats(self):
        (process,) = self.check("stats", "--json", self.dir).json
        return process

    def use(self):
        """Ten writes of 4096 bytes, seven reads of 512 and a flush on one file, a read on another."""
        fd = os.open(self.data, os.O_RDWR)
        for i in range(10):
            os.pwrite(fd, bytes(4096), i * 4096)
        for i in range(7):
            os.pread(fd, 512, i * 512)
        os.fsync(fd)
        os.close(fd)
        with open(os.path.join(self.dir, "data2"), "rb", buffering=0) as other:
            other.read(100)

    def test_every_file_and_the_whole_mount_are_counted(self):
        self.mount("mem:?size=1M", "mem:?size=2M", "-o", "dax=never,threads=2")
        self.use()
        process = self.stats()
        self.assertEqual((process["command"], process["name"]), ("mount", self.dir))
        first, second = part(process, "file", self.data), part(process, "file", self.data + "2")
        whole = part(process, "mount", self.dir)
        expected = {"writes": 10, "write_bytes": 40960, "reads": 7, "read_bytes": 3584,
                    "flushes": 1, "failures": 0, "in_flight": 0}
        self.assertEqual({k: first["counters"][k] for k in expected}, expected)
        self.assertEqual(second["counters"]["read_bytes"], 100)
        self.assertEqual((whole["counters"]["reads"], whole["counters"]["read_bytes"]), (8, 3684))
        self.assertGreaterEqual(whole["counters"]["requests"], 19)
        self.assertEqual(first["facts"]["dax"], "direct")
        self.assertEqual(first["facts"]["size_bytes"], str(1 << 20))
        self.assertEqual(whole["facts"], {"files": "2", "threads": "2", "read_only": "no",
                                          "keeper": "no"})
        for latency, count in (("read_latency", 7), ("write_latency", 10)):
            self.assertEqual(first[latency]["count"], count)
            self.assertEqual(sum(n for _, n in first[latency]["buckets_ns"]), count)
            self.assertLessEqual(first[latency]["p50_us"], first[latency]["p99_us"])
        self.assertEqual(whole["read_latency"]["count"], 8)
        text = self.check("stats", self.dir).out
        self.assertRegex(text, rf"(?m)^  file {self.data}$")
        self.assertRegex(text, r"(?m)^    write_latency +min .*p99 ")

    def test_the_effective_mode_and_why_are_there(self):
        self.mount("mem:?size=1M", "delay:(mem:?size=1M)")
        process = self.stats()
        self.assertEqual(part(process, "file", self.data)["facts"]["dax"], "passthrough")
        delayed = part(process, "file", self.data + "2")["facts"]
        self.assertEqual(delayed["dax"], "page-cache")
        self.assertIn("memory of this host", delayed["dax_reason"])

    def test_errors_and_time_that_was_over_are_counted(self):
        self.mount("delay:(mem:?size=1M)?latency=5s", "-o", "dax=never,timeout=100ms")
        fd = os.open(self.data, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        with self.assertRaises(OSError):
            os.pread(fd, 4096, 0)
        whole = part(self.stats(), "mount", self.dir)
        self.assertEqual(whole["counters"]["timeouts"], 1)

    def test_operations_under_way_show_as_a_level(self):
        self.mount("delay:(mem:?size=1M)?latency=700ms", "-o", "dax=never")
        readers = [threading.Thread(target=lambda: os.pread(fd, 512, 0)) for fd in
                   (os.open(self.data, os.O_RDONLY) for _ in range(3))]
        for reader in readers:
            reader.start()
        until = time.monotonic() + 20
        most = 0
        while most < 3 and any(reader.is_alive() for reader in readers):
            self.assertLess(time.monotonic(), until)
            most = max(most, part(self.stats(), "file", self.data)["counters"]["in_flight"])
        for reader in readers:
            reader.join()
        self.assertEqual(most, 3)
        self.assertEqual(part(self.stats(), "file", self.data)["counters"]["in_flight"], 0)

    def test_the_stats_file_follows_and_ends_with_the_last_word(self):
        path = self.path("stats.json")
        daemon = self.mount("mem:?size=1M", "mem:?size=1M", "-o",
                            f"dax=never,stats={path},stats_interval=20ms")
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["interval_seconds"], 0.02)
        seen = set()
        fd = os.open(self.data, os.O_RDONLY)
        until = time.monotonic() + 20
        while len(seen) < 4:
            self.assertLess(time.monotonic(), until, f"the file does not change: {seen}")
            os.pread(fd, 512, 0)
            with open(path, encoding="utf-8") as file:
                seen.add(json.load(file)["read"]["count"])
        os.close(fd)
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        with open(path, encoding="utf-8") as file:
            last = json.load(file)
        self.assertEqual(last["read"]["count"],
                         part(last["oxmem"], "file", self.data)["counters"]["reads"])
        self.assertEqual(sorted(os.listdir(self.directory)), ["mnt", "run", "stats.json"])

    def test_names_that_are_no_text(self):
        name = os.fsdecode(b"caf\xe9")
        place = os.path.join(self.dir, name)
        os.mkdir(place)
        self.addCleanup(lambda: subprocess.run(["umount", "-l", place], capture_output=True))
        path = self.path("stats.json")
        daemon = self.start("mount", "-f", "mem:?size=1M", place, "-o",
                            f"stats={path},stats_interval=20ms,name={name}")
        daemon.wait_for(r"(?m)^" + self.dir + "/")
        with open(path, encoding="utf-8") as file:
            written = json.load(file)
        self.assertEqual(written["oxmem"]["name"], f"{self.dir}/caf\ufffd")
        self.assertEqual(self.statistics()[0]["parts"][1]["name"], f"{self.dir}/caf\ufffd/caf\ufffd")
        self.assertIn("caf", self.check("stats").out)
        self.assertIn("caf\ufffd", self.check("top", "--json", "--count", "1").out)
        with open(os.path.join(place, name), "r+b", buffering=0) as file:
            file.write(b"here")
        self.check("umount", place)
        self.assertEqual(daemon.wait(), 0)

    def test_a_relative_path_is_the_mounting_users(self):
        mounted = self.run_oxmem("mount", "mem:?size=1M", self.dir, "-o",
                                 "stats=here.json,stats_interval=20ms",
                                 prefix=["env", "-C", self.directory])
        self.assertEqual(mounted.code, 0, mounted)
        path = self.path("here.json")
        first = os.stat(path).st_ino
        until = time.monotonic() + 20
        while os.stat(path).st_ino == first:
            self.assertLess(time.monotonic(), until, "it is not written again")
        self.check("umount", self.dir)

    def test_prometheus_gets_mount_and_files(self):
        port = free_port()
        self.mount("mem:?size=1M", "mem:?size=1M", "-o",
                   f"dax=never,prometheus=127.0.0.1:{port}")
        self.use()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        name = re.escape(self.dir)
        for pattern in (rf'oxmem_file_writes_total{{process="{name}",file="{name}/data"}} 10',
                        rf'oxmem_file_read_bytes_total{{process="{name}",file="{name}/data2"}} 100',
                        rf'oxmem_mount_reads_total{{process="{name}",mount="{name}"}} 8',
                        r"# TYPE oxmem_file_in_flight gauge",
                        r"# TYPE oxmem_file_channel_resends_total counter",
                        rf'oxmem_file_read_latency_seconds_count{{process="{name}",'
                        rf'file="{name}/data"}} 7'):
            self.assertRegex(text, rf"(?m)^{pattern}$")
        with self.assertRaises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/other")

    def test_what_cannot_be_written_or_listened_on_mounts_nothing(self):
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        port = taken.getsockname()[1]
        for code, pattern, options in (
                (1, "cannot write /no/such/place.json", "stats=/no/such/place.json"),
                (2, "stats: the path of a file is missing", "stats="),
                (2, "stats_interval: it must be 10ms", "stats_interval=1ms"),
                (2, "stats_interval: ", "stats_interval=often"),
                (2, "-o prometheus: ", "prometheus=here"),
                (1, f"bind to 127.0.0.1:{port}", f"prometheus=127.0.0.1:{port}")):
            for how in ([], ["-f"]):
                self.refused(code, pattern, "mount", *how, "mem:?size=1M", self.dir, "-o", options)
                self.assertEqual(os.listdir(self.dir), [])
        self.assertEqual(self.check("stats", "--json").json, [])


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("skipped: mounting needs root and /dev/fuse")
        sys.exit(oxmem_e2e.SKIPPED)
    oxmem_e2e.main()
