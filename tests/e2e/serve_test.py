"""The memory node as an operator sees it: ready lines, several regions and endpoints, counters."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import unittest

import oxmem_e2e
from oxmem_e2e import CLIENT_MAC, E2eTest, NODE_MAC, Process

OTHER_MAC = "02:00:00:00:00:05"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


class Serve(E2eTest):
    def setUp(self):
        super().setUp()
        self.net = self.net()
        self.client = self.net.client
        self.source = f"{self.net.source}?size=64M"

    def stats(self, *words):
        return self.check("stats", "--json", *words).json

    def node_part(self, process, index=0):
        return self.stats(str(process.pid))[0]["parts"][index]

    def test_says_when_and_where_it_is_ready(self):
        node = self.serve(self.net.node, "--region", "data=64M", "--region",
                          "more=1M,base=0x10000000,ro", "--listen", "tloe://v0", "--listen",
                          f"tloe://v0/{OTHER_MAC}", "--listen", self.net.udp, listens=3)
        regions = "regions data 64M at 0x0, more 1M at 0x10000000 read-only"
        self.assertEqual(node.out, f"listening on tloe://v0/{NODE_MAC}: {regions}\n"
                                   f"listening on tloe://v0/{OTHER_MAC}: {regions}\n"
                                   f"listening on {self.net.udp}: {regions}\n")

    def test_more_memory_than_there_is_is_served_with_a_warning(self):
        if oxmem_e2e.SANITIZED == "thread":
            self.skipTest("the thread sanitizer leaves no room for such a mapping")
        node = self.serve(self.net.node, "--region", "data=32T", "--listen", "tloe://v0")
        self.assertRegex(node.err, r"warning: the regions have 32 TiB, this host [\d.]+ .iB: ")
        self.assertEqual(node.err.count("\n"), 1)
        self.check("bench", f"{self.net.source}?size=32T", "--offset", "31T", "--range", "1M",
                   "--verify", "-c", "300", space=self.client)

    def test_every_endpoint_leads_to_the_same_memory(self):
        self.serve(self.net.node, "--region", "data=1M", "--listen", "tloe://v0", "--listen",
                   f"tloe://v0/{OTHER_MAC}", "--listen", self.net.udp, listens=3)
        # What is filled through one way is found by the checks of another with the same seed.
        for first, second in ((self.net.source, f"tloe://v0/{OTHER_MAC}"),
                              (f"tloe://v0/{OTHER_MAC}", self.net.udp),
                              (self.net.udp, self.net.source)):
            writer = self.start("bench", f"{first}?size=1M", "--op", "read", "--verify", "-t", "60",
                                "--range", "64K", space=self.client)
            while not self.benches_reading():
                pass
            # A disturbance through the second way is noticed through the first.
            self.check("bench", f"{second}?size=1M", "--op", "write", "-c", "64", "--range", "64K",
                       "--seed", "2", space=self.client)
            self.assertEqual(writer.wait(), 1)
            self.assertIn("wrong data", writer.err)

    def benches_reading(self):
        return [p for p in self.stats() if p["command"] == "bench"
                and any(part["counters"]["reads"] for part in p["parts"])]

    def test_a_read_only_region_takes_no_writes(self):
        self.serve(self.net.node, "--region", "data=1M,ro", "--listen", "tloe://v0")
        source = f"{self.net.source}?size=1M"
        self.check("bench", source, "-c", "100", space=self.client)
        result = self.run_oxmem("bench", source, "--op", "write", "-c", "1", space=self.client)
        self.assertEqual(result.code, 1, result)
        self.assertRegex(result.err, "write of 4K at offset 0x[0-9a-f]+ of tloe.*failed: denied")

    def test_a_source_larger_than_the_region_is_denied_behind_its_end(self):
        node = self.serve(self.net.node, "--region", "data=1M", "--listen", "tloe://v0")
        result = self.run_oxmem("bench", f"{self.net.source}?size=2M", "--offset", "1M", "-c", "1",
                                space=self.client)
        self.assertEqual(result.code, 1, result)
        self.assertRegex(result.err, "denied")
        self.assertGreater(self.node_part(node)["counters"]["denied_range"], 0)

    def test_a_region_at_a_base_is_reached_at_that_base(self):
        self.serve(self.net.node, "--region", "data=1M,base=0x200000000", "--listen", "tloe://v0")
        self.check("bench", f"{self.net.source}?size=1M&base=0x200000000", "--verify", "-c", "100",
                   space=self.client)
        result = self.run_oxmem("bench", f"{self.net.source}?size=1M", "-c", "1", space=self.client)
        self.assertEqual(result.code, 1, result)

    def test_a_file_keeps_what_was_written(self):
        path = self.path("region")
        words = ["--region", f"data=1M,backing=file:{path}", "--listen", "tloe://v0"]
        node = self.serve(self.net.node, *words)
        self.check("bench", f"{self.net.source}?size=1M", "--op", "write", "-c", "256", "--pattern",
                   "sequential", space=self.client)
        node.signal(signal.SIGTERM)
        self.assertEqual(node.wait(), 0)
        with open(path, "rb") as file:
            before = file.read()
        self.assertEqual(len(before), 1 << 20)
        self.assertGreater(len(set(before[:4096])), 100)
        self.serve(self.net.node, *words)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_only_allowed_peers_are_served(self):
        node = self.node(self.net, "--allow", OTHER_MAC)
        self.refused(1, f"no answer.*{NODE_MAC}", "info", f"{self.source}&connect_timeout=300ms",
                     space=self.client)
        self.check("info", f"{self.source}&mac={OTHER_MAC}", space=self.client)
        self.assertGreater(self.node_part(node)["counters"]["refused_address"], 0)
        node.wait_for(f"{CLIENT_MAC} is refused: it is not on the list of allowed addresses")

    def test_two_requesters_at_once(self):
        node = self.node(self.net)
        benches = [self.start("bench", f"{self.net.source}?size=8M&base={base}", "--verify", "--op",
                              "mixed", "-t", "2", "--range", "8M", "--json", space=self.client)
                   for base in ("0x0", "0x1000000")]
        for bench in benches:
            self.assertEqual(bench.wait(60), 0, bench.err)
            self.assertGreater(json.loads(bench.out)["operations"], 0)
        self.assertGreaterEqual(self.node_part(node)["counters"]["connections_opened"], 2)

    def test_no_more_connections_than_allowed(self):
        node = self.node(self.net, "--max-connections", "1")
        holder = self.start("ping", self.source, space=self.client)
        holder.wait_for("seq=1 ")
        self.refused(1, "no answer|refused", "info", f"{self.source}&connect_timeout=300ms",
                     space=self.client)
        self.assertGreater(self.node_part(node)["counters"]["refused_full"], 0)
        node.wait_for(f"{CLIENT_MAC} is refused: it finds all 1 connections in use")
        holder.signal(signal.SIGINT)
        self.assertEqual(holder.wait(), 0)

    def test_sigterm_under_load_ends_it_within_two_seconds(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            node = self.node(self.net)
            bench = self.start("bench", f"{self.source}&timeout=500ms", "-t", "60",
                               space=self.client)
            while not self.benches_reading():
                pass
            begin = time.monotonic()
            node.signal(number)
            self.assertEqual(node.wait(5), 0)
            self.assertLess(time.monotonic() - begin, 2.0)
            self.assertEqual(bench.wait(), 1)
            self.assertIn(NODE_MAC, bench.err)
        self.assertEqual(self.stats(), [])

    def test_the_stats_file_is_whole_at_any_time(self):
        path = self.path("stats.json")
        node = self.node(self.net, "--stats-file", path, "--stat-interval", "0.05")
        bench = self.start("bench", self.source, "--op", "mixed", "-t", "1.5", space=self.client)
        seen = set()
        while bench._process.poll() is None:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
            seen.add(document["read"]["count"])
        self.assertEqual(bench.wait(), 0)
        self.assertGreater(len(seen), 3)
        node.signal(signal.SIGTERM)
        self.assertEqual(node.wait(), 0)
        with open(path, encoding="utf-8") as file:
            last = json.load(file)
        self.assertEqual(set(last), {"timestamp", "interval_seconds", "read", "write", "oxmem"})
        self.assertEqual(set(last["read"]),
                         {"count", "bytes", "count_per_period", "bytes_per_period"})
        self.assertEqual(last["interval_seconds"], 0.05)
        counters = last["oxmem"]["parts"][0]["counters"]
        self.assertEqual(last["read"]["count"], counters["reads"])
        self.assertEqual(last["write"]["bytes"], counters["write_bytes"])
        self.assertEqual(sorted(os.listdir(self.directory)), ["run", "stats.json"])

    def scrape(self):
        text = subprocess.run(
            [*self.net.node.prefix(), "python3", "-c",
             "import urllib.request as u; r = u.urlopen('http://127.0.0.1:9100/metrics');"
             "print(r.headers['Content-Type']); print(r.read().decode(), end='')"],
            check=True, capture_output=True, text=True).stdout
        kind, body = text.split("\n", 1)
        self.assertTrue(kind.startswith("text/plain; version=0.0.4"))
        return body

    def test_prometheus_gets_every_counter(self):
        self.node(self.net, "--prometheus", "127.0.0.1:9100")
        before = self.scrape()
        self.check("bench", self.source, "-c", "1000", space=self.client)
        samples, types, helps = {}, {}, set()
        for line in self.scrape().splitlines():
            if match := re.fullmatch(r"# TYPE (oxmem_\w+) (counter|gauge|histogram)", line):
                types[match[1]] = match[2]
            elif match := re.fullmatch(r"# HELP (oxmem_\w+) \S.*", line):
                helps.add(match[1])
            else:
                match = re.fullmatch(r"(oxmem_\w+)\{([^}]*)\} ([-+.e\d]+)", line)
                self.assertIsNotNone(match, line)
                samples[match[1] + "{" + match[2] + "}"] = float(match[3])
        self.assertEqual(set(types), helps)
        label = f'process="data",node="tloe://v0/{NODE_MAC}"'
        self.assertEqual(samples[f"oxmem_node_reads_total{{{label}}}"], 1000)
        self.assertIn(f"oxmem_node_reads_total{{{label}}} 0", before)
        self.assertEqual(types["oxmem_node_service_time_seconds"], "histogram")
        buckets = [value for name, value in samples.items() if "_bucket" in name]
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual(buckets[-1], samples[f"oxmem_node_service_time_seconds_count{{{label}}}"])
        self.assertEqual(samples['oxmem_region_size_bytes{process="data",region="data"}'], 64 << 20)

    def test_stats_lists_what_runs_and_finds_it_by_name_and_number(self):
        self.assertIn("no oxmem process is running", self.check("stats").out)
        self.assertEqual(self.stats(), [])
        first = self.node(self.net, "--name", "first")
        second = self.serve(self.net.node, "--region", "spare=1M", "--listen", self.net.udp)
        self.assertEqual({p["pid"] for p in self.stats()}, {first.pid, second.pid})
        self.assertEqual([p["pid"] for p in self.stats("first")], [first.pid])
        self.assertEqual([p["name"] for p in self.stats(str(second.pid))], ["spare"])
        text = self.check("stats", "first").out
        self.assertRegex(text, rf'^serve "first", process {first.pid}, up \d+ s, .*resident\n')
        self.assertIn(f"  node tloe://v0/{NODE_MAC}\n", text)
        self.refused(1, "no running process.*\"third\"", "stats", "third")

    def test_the_sockets_of_killed_processes_are_cleaned_up(self):
        node = self.node(self.net)
        run = self.env["OXMEM_RUNTIME_DIR"]
        self.assertEqual(len(os.listdir(run)), 1)
        node.signal(signal.SIGKILL)
        node.wait()
        self.assertEqual(len(os.listdir(run)), 1)
        self.assertEqual(self.stats(), [])
        self.assertEqual(os.listdir(run), [])

    def test_another_user_is_told_that_it_may_not_ask(self):
        self.node(self.net)
        # Where that user can run it.
        os.chmod(self.directory, 0o755)
        copy = shutil.copy(oxmem_e2e.OXMEM, self.path("oxmem"))
        os.chmod(copy, 0o755)
        process = Process([*NOBODY, copy, "stats"], env=self.env)
        self.addCleanup(process.close)
        self.assertEqual(process.wait(), 1)
        self.assertRegex(process.err, "no permission .*another user; try as root")

    def test_a_user_without_a_place_for_the_socket_can_still_serve(self):
        os.chmod(self.directory, 0o755)
        copy = shutil.copy(oxmem_e2e.OXMEM, self.path("oxmem"))
        os.chmod(copy, 0o755)
        env = {k: v for k, v in os.environ.items() if k not in ("XDG_RUNTIME_DIR",)}
        process = Process([*NOBODY, copy, "serve", "--region", "data=1M", "--listen", self.net.udp],
                          self.net.node, env)
        self.addCleanup(process.close)
        process.wait_for(r"(?m)^listening on ")
        self.assertRegex(process.err, "oxmem stats will not see this node.*XDG_RUNTIME_DIR")
        self.check("info", f"{self.net.udp}?size=1M", space=self.client)
        process.signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 0)

    def test_the_service_manager_learns_when_it_is_ready_and_when_it_stops(self):
        path = self.path("notify")
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(path)
        manager.settimeout(20)
        self.env["NOTIFY_SOCKET"] = path
        node = self.node(self.net)
        self.assertEqual(manager.recv(4096),
                         b"READY=1\nSTATUS=serving region data 64M at 0x0")
        node.signal(signal.SIGTERM)
        self.assertEqual(manager.recv(4096), b"STOPPING=1")
        self.assertEqual(node.wait(), 0)


if __name__ == "__main__":
    oxmem_e2e.main()
