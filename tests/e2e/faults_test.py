"""A node that goes away under load, and comes back; what the processes cost in memory."""
import json
import os
import re
import signal
import time
import unittest

import oxmem_e2e
from oxmem_e2e import E2eTest, NODE_MAC

MIB = 1 << 20


class Faults(E2eTest):
    def setUp(self):
        super().setUp()
        self.net = self.net()
        self.client = self.net.client
        self.source = f"{self.net.source}?size=64M"

    def bench_counters(self):
        """Of the running bench, summed over its channels; empty while there is none."""
        counters = {}
        for process in self.check("stats", "--json").json:
            if process["command"] == "bench":
                for part in process["parts"]:
                    for name, value in part["counters"].items():
                        counters[name] = counters.get(name, 0) + value
        return counters

    def wait_until_counted(self, name, least, seconds=20.0):
        until = time.monotonic() + seconds
        while self.bench_counters().get(name, 0) < least:
            self.assertLess(time.monotonic(), until, f"{name} did not reach {least} in time")

    def test_kill_9_of_the_node_ends_requests_within_the_default_deadline(self):
        node = self.node(self.net)
        bench = self.start("bench", self.source, "-t", "60", space=self.client)
        self.wait_until_counted("reads", 1000)
        begin = time.monotonic()
        node.signal(signal.SIGKILL)
        self.assertEqual(bench.wait(20), 1)
        taken = time.monotonic() - begin
        self.assertGreater(taken, 3.0)  # it was given the chance to come back
        self.assertLess(taken, 7.0)
        self.assertRegex(bench.err, f"(?m)^oxmem bench: read of 4K at .* of tloe {NODE_MAC} on v0 "
                                    "failed: timed out")
        self.assertEqual(bench.err.count("\n"), 1, bench.err)

    def test_the_deadline_is_the_sources(self):
        node = self.node(self.net)
        bench = self.start("bench", f"{self.source}&timeout=500ms", "-t", "60", space=self.client)
        self.wait_until_counted("reads", 1000)
        begin = time.monotonic()
        node.signal(signal.SIGKILL)
        self.assertEqual(bench.wait(20), 1)
        self.assertLess(time.monotonic() - begin, 2.0)

    def test_a_node_that_comes_back_is_found_again_before_anything_fails(self):
        node = self.node(self.net)
        bench = self.start("bench", self.source, "-t", "4", "--json", space=self.client)
        self.wait_until_counted("reads", 1000)
        node.signal(signal.SIGKILL)
        node.wait()
        self.node(self.net)
        self.assertEqual(bench.wait(30), 0, bench.err)
        result = json.loads(bench.out)
        self.assertEqual(result["failures"], 0)
        self.assertEqual(result["channels"][0]["counters"]["reconnects"], 1)

    def test_a_node_that_comes_back_late_is_found_again_after_failures(self):
        node = self.node(self.net)
        bench = self.start("bench", f"{self.source}&timeout=300ms", "-t", "60", "--keep-going",
                           "--json", space=self.client)
        self.wait_until_counted("reads", 1000)
        node.signal(signal.SIGKILL)
        node.wait()
        self.wait_until_counted("timeouts", 32)
        before = self.bench_counters()["reads"]
        self.node(self.net)
        self.wait_until_counted("reads", before + 1000)
        bench.signal(signal.SIGINT)
        self.assertEqual(bench.wait(), 1)  # something had failed
        result = json.loads(bench.out)
        self.assertGreaterEqual(result["failures"], 32)
        self.assertIn("timed out", result["first_failure"])

    def test_data_in_a_file_is_right_through_restarts_of_the_node(self):
        path = self.path("region")
        words = ["--region", f"data=64M,backing=file:{path}", "--listen", "tloe://v0"]
        node = self.serve(self.net.node, *words)
        bench = self.start("bench", self.source, "--verify", "--op", "mixed", "-t", "4", "--range",
                           "4M", "--json", space=self.client)
        for restart in range(3):
            self.wait_until_counted("reads", 1000 * (restart + 1))
            node.signal(signal.SIGKILL)
            node.wait()
            node = self.serve(self.net.node, *words)
            self.wait_until_counted("reconnects", restart + 1)
        self.assertEqual(bench.wait(60), 0, bench.err)
        result = json.loads(bench.out)
        self.assertEqual((result["failures"], result["mismatches"]), (0, 0))

    def test_a_link_that_goes_down_and_up_again(self):
        self.node(self.net)
        bench = self.start("bench", self.source, "--verify", "--op", "mixed", "-t", "3", "--json",
                           "--range", "4M", space=self.client)
        self.wait_until_counted("reads", 1000)
        self.net.client.run("ip", "link", "set", "v0", "down")
        time.sleep(0.3)  # the fault itself: how long the cable is out
        self.net.client.run("ip", "link", "set", "v0", "up")
        self.assertEqual(bench.wait(60), 0, bench.err)
        self.assertEqual(json.loads(bench.out)["mismatches"], 0)

    def test_ping_finds_the_node_again(self):
        node = self.node(self.net)
        ping = self.start("ping", f"{self.source}&timeout=200ms", "-i", "0.1", space=self.client)
        ping.wait_for("seq=2 time")
        node.signal(signal.SIGKILL)
        node.wait()
        ping.wait_for(f"seq=.*{NODE_MAC} on v0.*timed out")
        self.node(self.net)
        said = len(ping.out)
        ping.wait_for(r"timed out[\s\S]*seq=\d+ time")
        self.assertGreater(len(ping.out), said)
        ping.signal(signal.SIGINT)
        self.assertEqual(ping.wait(), 0)


class Memory(E2eTest):
    def setUp(self):
        super().setUp()
        if oxmem_e2e.SANITIZED:
            self.skipTest("a sanitizer's own memory is in the figures")

    def peak_resident(self, pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) * 1024

    def resident_private(self, pid):
        """Without the pages of the regions, which are memory files."""
        total = mapping = 0
        is_region = False
        with open(f"/proc/{pid}/smaps", encoding="ascii") as file:
            for line in file:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    is_region = "memfd:oxmem" in line
                elif line.startswith("Rss:") and not is_region:
                    total += int(line.split()[1]) * 1024
        return total

    def test_a_node_and_its_requesters_need_little(self):
        net = self.net()
        node = self.serve(net.node, "--region", "data=256M", "--listen", "tloe://v0", "--listen",
                          net.udp, listens=2)
        source = f"{net.source}?size=256M"
        benches = [self.start("bench", source, "--op", "mixed", "-t", "3", *words, space=net.client)
                   for words in (["-s", "4K"], ["-s", "4K", "--depth", "256"],
                                 ["-s", "1M", "--depth", "8"])]
        peaks = [0] * len(benches)
        while any(bench._process.poll() is None for bench in benches):
            for i, bench in enumerate(benches):
                try:
                    peaks[i] = max(peaks[i], self.peak_resident(bench.pid))
                except (FileNotFoundError, ProcessLookupError, TypeError):
                    pass  # it has ended
            time.sleep(0.05)  # sampling
        for bench in benches:
            self.assertEqual(bench.wait(), 0, bench.err)
        beyond = self.resident_private(node.pid)
        print(f"node beyond its regions {beyond / MIB:.1f} MiB, requesters "
              f"{', '.join(f'{peak / MIB:.1f}' for peak in peaks)} MiB")
        self.assertLessEqual(beyond, 32 * MIB)
        for peak in peaks:
            self.assertGreater(peak, 0)
            self.assertLessEqual(peak, 32 * MIB)


if __name__ == "__main__":
    oxmem_e2e.main()
