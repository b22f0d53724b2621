"""What the commands print and return when all is well, and what they do on a terminal."""
import os
import pty
import select
import signal
import subprocess
import unittest

import oxmem_e2e
from oxmem_e2e import E2eTest, NODE_MAC


class Commands(E2eTest):
    def setUp(self):
        super().setUp()
        self.net = self.net()
        self.client = self.net.client
        self.source = f"{self.net.source}?size=64M"

    def test_help_and_version(self):
        version = self.check("--version")
        self.assertRegex(version.out, r"^oxmem \d+\.\d+\.\d+\n$")
        overview = self.check("--help")
        for command in ("serve", "info", "ping", "bench", "stats"):
            self.assertIn(f"  {command} ", overview.out)
            self.assertIn("--help", self.check(command, "--help").out)

    def test_info_says_what_was_agreed(self):
        self.node(self.net)
        text = self.check("info", self.source, space=self.client).out
        for pattern in (r"size +64M \(67108864 bytes\)", r"protocol +OmniXtend 1\.1",
                        r"data order +(spec|memory)", r"largest message +8K",
                        r"frame +9000 bytes", r"round trip +[\d.]+ .s median", r"health +ok",
                        r"atomics +.*add", f"name +tloe {NODE_MAC} on v0"):
            self.assertRegex(text, pattern)
        json = self.check("info", self.source, "--json", space=self.client).json
        self.assertEqual(json["size_bytes"], 64 << 20)
        self.assertEqual(json["transport"]["protocol"], "OmniXtend 1.1")
        self.assertIn("add", json["atomics"])
        self.assertTrue(json["healthy"])
        self.assertEqual(json["round_trip"]["count"], 16)

    def test_info_of_every_protocol_and_order(self):
        for listen, source, expected in (
                ("?protocol=1.0.3", "&protocol=1.0.3", "OmniXtend 1.0.3"),
                ("?data_order=memory", "&data_order=memory", "memory"),
                ("?data_order=spec", "&data_order=spec", "spec")):
            node = self.serve(self.net.node, "--region", "data=64M", "--listen",
                              f"tloe://v0{listen}")
            self.assertIn(expected, self.check("info", self.source + source, space=self.client).out)
            self.check("bench", self.source + source, "--verify", "--op", "mixed", "-c", "500",
                       "--range", "1M", space=self.client)
            node.signal(signal.SIGTERM)
            self.assertEqual(node.wait(), 0)

    def test_ping_prints_a_line_each_and_a_summary(self):
        self.node(self.net)
        result = self.check("ping", self.source, "-c", "3", "-i", "0.01", "-s", "100",
                            space=self.client)
        self.assertRegex(result.out, f"PING tloe {NODE_MAC} on v0: 100 bytes at 0x0")
        self.assertRegex(result.out, r"(?m)^100 bytes from .*: seq=3 time=[\d.]+ .s$")
        self.assertIn("3 sent, 3 answered, 0 % lost", result.out)
        self.assertRegex(result.out, r"latency: min .*avg .*p50 .*p99 .*p99\.9 .*max ")
        quiet = self.check("ping", self.source, "-c", "500", "-i", "0", space=self.client)
        self.assertNotIn("seq=", quiet.out)
        self.assertIn("500 sent, 500 answered", quiet.out)
        json = self.check("ping", self.source, "-c", "5", "-i", "0", "--json",
                          space=self.client).json
        self.assertEqual((json["sent"], json["answered"], json["latency"]["count"]), (5, 5, 5))

    def test_ping_sums_up_at_ctrl_c(self):
        self.node(self.net)
        ping = self.start("ping", self.source, "-i", "0.1", space=self.client)
        ping.wait_for("seq=2 ")
        ping.signal(signal.SIGINT)
        self.assertEqual(ping.wait(), 0)
        self.assertRegex(ping.out, r"(\d+) sent, \1 answered")

    def test_ping_shows_what_is_lost_and_why(self):
        node = self.node(self.net)
        source = self.source + "&timeout=200ms"
        ping = self.start("ping", source, "-c", "2", "-i", "1", space=self.client)
        ping.wait_for("seq=1 time")
        node.signal(signal.SIGKILL)
        node.wait()
        self.assertEqual(ping.wait(), 0)
        self.assertRegex(ping.out, f"seq=2 .*{NODE_MAC}")
        self.assertIn("2 sent, 1 answered, 50 % lost", ping.out)

    def test_bench_measures_every_load(self):
        self.node(self.net)
        for words in (["--op", "read"], ["--op", "write"], ["--op", "mixed", "--read-percent", "70"],
                      ["--op", "atomic"], ["--pattern", "sequential", "-s", "64K"],
                      ["--threads", "2"], ["--spin", "0"], ["--cpu", "0"]):
            result = self.check("bench", self.source, "-c", "200", "--json", *words,
                                space=self.client).json
            threads = 2 if "--threads" in words else 1
            self.assertEqual(result["operations"], 200 * threads, words)
            self.assertEqual(len(result["channels"]), threads)
            self.assertEqual(result["failures"], 0)
            self.assertGreater(result["operations_per_second"], 0)
            self.assertGreater(result["latency"]["p99_us"], 0)

    def test_bench_verifies(self):
        self.node(self.net)
        for words in (["--op", "mixed"], ["--op", "atomic"], ["--op", "write", "-s", "1000"],
                      ["--op", "mixed", "-j", "3", "-s", "33K", "--depth", "4"]):
            result = self.check("bench", self.source, "--verify", "-c", "300", "--range", "2M",
                                *words, space=self.client)
            self.assertIn("verified: every byte as it was written", result.out)

    def test_bench_finds_data_that_somebody_else_changes(self):
        self.node(self.net)
        watching = self.start("bench", self.source, "--verify", "--op", "read", "-t", "30",
                              "--range", "256K", space=self.client)
        stats = None
        while not stats or not stats[0]["parts"][0]["counters"]["reads"]:
            stats = [p for p in self.check("stats", "--json").json if p["command"] == "bench"]
        self.check("bench", self.source, "--op", "write", "-c", "500", "--range", "256K",
                   space=self.client)
        self.assertEqual(watching.wait(), 1)
        self.assertRegex(watching.err, r"oxmem bench: wrong data at offset 0x[0-9a-f]+ of tloe")

    def test_bench_names_the_first_wrong_byte(self):
        source = "fault:(mem:?size=1M)?corrupt=0.01&skip=300"
        result = self.refused(1, r"wrong data at offset 0x[0-9a-f]+ of .*0x.. where 0x.. was written",
                              "bench", source, "--verify", "-t", "30")
        self.assertNotIn("verified", result.out)

    def test_bench_stops_at_a_failure_or_counts_and_goes_on(self):
        source = "fault:(mem:?size=1M)?fail=10%25&code=timed_out"
        self.refused(1, "read of 4K at offset .* failed: timed out", "bench", source, "-t", "30")
        result = self.run_oxmem("bench", source, "-c", "5000", "--keep-going", "--json")
        self.assertEqual(result.code, 1)
        self.assertAlmostEqual(result.json["failures"], 500, delta=100)
        self.assertEqual(result.json["operations"], 5000 - result.json["failures"])

    def test_sources_made_of_others(self):
        self.node(self.net)
        for source in (f"stripe:({self.net.source}?size=32M,{self.net.source}?size=32M&base=32M)",
                       f"mirror:({self.net.source}?size=32M,mem:?size=32M)",
                       f"delay:({self.source})?latency=20us"):
            self.check("bench", source, "--verify", "--op", "mixed", "-c", "500", "--range", "4M",
                       space=self.client)

    def test_bench_ends_at_ctrl_c_with_what_it_has(self):
        self.node(self.net)
        bench = self.start("bench", self.source, "-t", "1000", "--json", space=self.client)
        while not [p for p in self.check("stats", "--json").json if p["command"] == "bench"]:
            pass
        bench.signal(signal.SIGINT)
        self.assertEqual(bench.wait(5), 0)
        self.assertIn('"interrupted": true', bench.out)

    def test_a_terminal_gets_a_progress_bar_and_a_pipe_does_not(self):
        piped = self.check("bench", "mem:?size=1M", "-t", "0.6")
        self.assertNotIn("\x1b", piped.out + piped.err)
        main, terminal = pty.openpty()
        self.addCleanup(os.close, main)
        pid = os.fork()
        if pid == 0:
            os.dup2(terminal, 1)
            os.dup2(terminal, 2)
            os.environ["TERM"] = "xterm"
            os.environ["OXMEM_RUNTIME_DIR"] = self.env["OXMEM_RUNTIME_DIR"]
            os.execv(oxmem_e2e.OXMEM, [oxmem_e2e.OXMEM, "bench", "mem:?size=1M", "-t", "1"])
        os.close(terminal)
        text = b""
        while select.select([main], [], [], 20)[0]:
            try:
                text += os.read(main, 4096)
            except OSError:  # the other end is closed
                break
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        self.assertIn(b"%", text)
        self.assertRegex(text, rb"\[=+ *\] +\d+%.*/s")
        self.assertIn(b"\r\x1b[Kmem 1M: random read", text)

    def test_over_udp(self):
        self.serve(self.net.node, "--region", "data=64M", "--listen", self.net.udp)
        source = f"{self.net.udp}?size=64M"
        self.assertIn("health           ok", self.check("info", source, space=self.client).out)
        self.check("bench", source, "--verify", "--op", "mixed", "-j", "2", "-c", "300", "--range",
                   "2M", space=self.client)


class FullOutput(E2eTest):
    """What could not be written is not done."""

    def test_it_is_an_error_in_one_line(self):
        full = ("sh", "-c", 'exec "$@" >/dev/full', "sh")
        source = "mem:?size=1M"
        self.start("bench", source, "-t", "1000")  # so that there is something to show
        while not self.check("stats", "--json").json:
            pass
        for words in (("--help",), ("--version",), ("stats",), ("stats", "--json"), ("info", source),
                      ("info", "--json", source), ("top", "--once"), ("top", "-b", "-i", "0.1"),
                      ("ping", "-i", "0.01", source), ("ping", "-c", "1", "--json", source),
                      ("bench", "-c", "10", source), ("bench", "-c", "10", "--json", source)):
            with self.subTest(words):
                self.refused(1, "standard output could not be written(: No space| .is there room)",
                             *words, prefix=full, seconds=20)


class DeadSockets(E2eTest):
    def test_only_those_in_the_own_place_are_taken_away(self):
        elsewhere = self.path("elsewhere")
        script = f"""
            mount -t tmpfs tmpfs /run && mkdir -p /run/oxmem /run/user/1000 {elsewhere}
            ln -s {elsewhere} /run/user/1000/oxmem
            for place in /run/oxmem {elsewhere}; do
              python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $place/x.sock
            done
            unset OXMEM_RUNTIME_DIR
            {oxmem_e2e.OXMEM} stats || true
            ls /run/oxmem {elsewhere}"""
        done = subprocess.run(["unshare", "--mount", "bash", "-euc", script], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        own, others = done.stdout.split("/run/oxmem:")[1].split(f"{elsewhere}:")
        self.assertEqual((own.split(), others.split()), ([], ["x.sock"]))


if __name__ == "__main__":
    oxmem_e2e.main()
