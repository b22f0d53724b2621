"""Two ends that do not fit each other: MTUs, protocols, two nodes with one address; and a region's file
that is cut short while it is served."""
import json
import os
import re
import time
import unittest

import oxmem_e2e
from oxmem_e2e import CLIENT_MAC, E2eTest, NODE_MAC, Namespace


class Mtu(E2eTest):
    """Frames too long for the other end, or for the way, are shorter soon; one line says so."""

    def connect(self, client=9000, node=9000):
        self.net = self.net()
        self.net.client.run("ip", "link", "set", "v0", "mtu", str(client))
        self.net.node.run("ip", "link", "set", "v0", "mtu", str(node))
        self.process = self.node(self.net)
        self.source = f"{self.net.source}?size=64M"

    def bench(self, *words):
        process = self.start("bench", self.source, "-t", "1", "--json", *words, space=self.net.client)
        self.assertEqual(process.wait(), 0, process.err)
        result = json.loads(process.out)
        self.assertEqual((result["failures"], result["mismatches"]), (0, 0))
        self.assertLess(result["latency"]["max_us"] if "max_us" in result["latency"]
                        else result["latency"]["max"] / 1000, 1e6)
        return process, result

    def test_a_node_with_a_smaller_one_is_written_to_and_read_from(self):
        self.connect(node=1500)
        process, _ = self.bench("--op", "mixed", "--verify", "-s", "32K", "-d", "8")
        self.assertRegex(process.err, "1500( bytes)? at most.*mtu=1500")
        self.assertLessEqual(process.err.count("\n"), 2, process.err)

    def test_a_node_with_a_smaller_one_is_read_from_at_once(self):
        self.connect(node=1500)
        process, result = self.bench("-s", "32K", "-d", "8")
        self.assertRegex(process.err, "refuses to answer 8K in one frame, and answers 1K.*mtu=1500")
        self.assertEqual(result["channels"][0]["counters"]["reconnects"], 0)

    def test_a_requester_with_a_smaller_one_reads_from_a_node_that_fills_its_frames(self):
        self.connect(client=1500)
        self.bench("-s", "64", "-d", "200")
        self.bench("--op", "mixed", "--verify", "-s", "32K", "-d", "8")
        self.process.signal(15)
        self.assertEqual(self.process.wait(), 0)
        self.assertEqual(len(re.findall(f"do not reach {CLIENT_MAC}, shorter ones do", self.process.err)),
                         1, self.process.err)

    def test_info_says_what_the_way_takes(self):
        self.connect(node=1500)
        result = self.run_oxmem("info", self.source, "--json", space=self.net.client)
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.err, "refuses to answer 8K in one frame.*mtu=1500")
        facts = result.json["transport"]
        self.assertEqual((facts["frame"], facts["largest message"]), ("1500 bytes at most", "1K"))

    def test_one_that_was_smaller_for_a_moment_does_not_stay_so(self):
        self.connect()
        load = self.start("bench", self.source, "-t", "4", "--op", "mixed", "--verify", "--json",
                          space=self.net.client)
        time.sleep(1)
        self.net.node.run("ip", "link", "set", "v0", "mtu", "1500")
        time.sleep(1.5)
        self.net.node.run("ip", "link", "set", "v0", "mtu", "9000")
        self.assertEqual(load.wait(), 0, load.err)
        result = self.check("info", self.source, "--json", space=self.net.client)
        facts = result.json["transport"]
        self.assertEqual((facts["frame"], facts["largest message"]), ("9000 bytes at most", "8K"), self.process.err)
        self.assertEqual(result.err, "")

    def test_a_switch_with_a_smaller_one_between_them(self):
        switch = Namespace()
        self.addCleanup(switch.close)
        client, node = Namespace(), Namespace()
        self.addCleanup(client.close)
        self.addCleanup(node.close)
        switch.run("ip", "link", "add", "br0", "type", "bridge")
        switch.run("ip", "link", "set", "br0", "up")
        for number, (space, mac) in enumerate(((client, CLIENT_MAC), (node, NODE_MAC))):
            space.run("ip", "link", "add", "v0", "mtu", "9000", "address", mac, "type", "veth", "peer",
                      "name", f"p{number}", "mtu", "9000", "netns", str(switch.pid))
            space.run("ip", "link", "set", "v0", "up")
            switch.run("ip", "link", "set", f"p{number}", "master", "br0", "up")
        switch.run("ip", "link", "set", "p1", "mtu", "1500")
        process = self.serve(node, "--region", "data=64M", "--listen", "tloe://v0")
        source = f"tloe://v0/{NODE_MAC}?size=64M"
        for words in ([], ["--op", "mixed", "--verify"], []):
            result = self.run_oxmem("bench", source, "-t", "1", "-s", "32K", "-d", "8", "--json", *words,
                                    space=client)
            self.assertEqual(result.code, 0, result)
            self.assertEqual(result.json["failures"], 0)
        process.signal(15)
        self.assertEqual(process.wait(), 0)


class Protocols(E2eTest):
    def test_the_reason_is_named_and_not_waited_for(self):
        net = self.net()
        for listens, asks, says in (("1.1", "1.0.3", "speaks OmniXtend 1.1 only .leave protocol=1.0.3 out."),
                                    ("1.0.3", "1.1", "speaks OmniXtend 1.0.3 only .add protocol=1.0.3.")):
            node = self.serve(net.node, "--region", "data=1M", "--listen",
                              f"tloe://v0?protocol={listens}")
            result = self.refused(1, f"{NODE_MAC} on v0 {says}", "info",
                                  f"{net.source}?size=1M&protocol={asks}&connect_timeout=20s",
                                  space=net.client)
            self.assertLess(result.seconds, 5.0)
            self.check("info", f"{net.source}?size=1M&protocol={listens}", space=net.client)
            node.signal(15)
            self.assertEqual(node.wait(), 0)


class TwoNodes(E2eTest):
    """One address in two network namespaces on one bridge."""

    def setUp(self):
        super().setUp()
        self.switch, self.one, self.two = Namespace(), Namespace(), Namespace()
        for space in (self.switch, self.one, self.two):
            self.addCleanup(space.close)
        self.switch.run("ip", "link", "add", "br0", "type", "bridge")
        self.switch.run("ip", "link", "set", "br0", "up")
        for number, space in enumerate((self.one, self.two)):
            space.run("ip", "link", "add", "v0", "address", NODE_MAC, "type", "veth", "peer", "name",
                      f"p{number}", "netns", str(self.switch.pid))
            space.run("ip", "link", "set", "v0", "up")
            self.switch.run("ip", "link", "set", f"p{number}", "up")
        self.switch.run("ip", "link", "set", "p0", "master", "br0")

    def join(self):
        self.switch.run("ip", "link", "set", "p1", "master", "br0")

    def test_the_second_is_refused(self):
        self.join()
        self.serve(self.one, "--region", "data=1M", "--listen", "tloe://v0")
        result = self.refused(1, f"{NODE_MAC} on v0 is already served by a node of another host or namespace",
                              "serve", "--region", "data=1M", "--listen", "tloe://v0", space=self.two)
        self.assertLess(result.seconds, 5.0)
        # Another address, or another EtherType, is another endpoint.
        self.serve(self.two, "--region", "data=1M", "--listen", "tloe://v0/02:00:00:00:00:07",
                   "--listen", "tloe://v0?ethertype=0xabcd", listens=2)

    def test_the_address_is_free_when_the_first_is_gone(self):
        self.join()
        first = self.serve(self.one, "--region", "data=1M", "--listen", "tloe://v0")
        first.signal(9)
        first.wait()
        self.serve(self.two, "--region", "data=1M", "--listen", "tloe://v0")

    def test_two_that_meet_later_say_so_once(self):
        nodes = [self.serve(space, "--region", "data=1M", "--listen", "tloe://v0")
                 for space in (self.one, self.two)]
        self.join()
        for node in nodes:
            node.wait_for("another node on this network has the same address", seconds=30)
        for node in nodes:
            node.signal(15)
            self.assertEqual(node.wait(), 0)
            self.assertEqual(node.err.count("another node on this network"), 1, node.err)


class CutFile(E2eTest):
    def setUp(self):
        super().setUp()
        self.net = self.net()
        self.file = self.path("region")
        socket = self.path("socket")
        self.process = self.serve(self.net.node, "--region", f"data=64M,backing=file:{self.file}",
                                  "--region", "other=1M,base=0x10000000", "--listen", "tloe://v0",
                                  "--listen", f"unix:{socket}", listens=2)
        self.tloe = f"{self.net.source}?size=64M"
        self.unix = f"unix:{socket}?region=data"

    def check_the_node(self):
        """It lives, has said it once, and serves what is left and the other region."""
        self.process.wait_for("region \"data\": .*/region was changed under the running node, it was cut "
                              "to 1048676 of 67108864 bytes: requests for what is lost are denied")
        for source in (f"{self.net.source}?size=1M", f"{self.net.source}?size=1M&base=0x10000000"):
            self.check("ping", source, "-c", "3", "-i", "0.01", space=self.net.client)
        self.process.signal(15)
        self.assertEqual(self.process.wait(), 0)
        self.assertEqual(self.process.err.count("was changed under"), 1, self.process.err)

    def test_under_load_over_the_network(self):
        bench = self.start("bench", self.tloe, "-t", "60", "--op", "mixed", "--keep-going", "--json",
                           space=self.net.client)
        until = time.monotonic() + 20
        while not self.reads():
            self.assertLess(time.monotonic(), until)
        os.truncate(self.file, (1 << 20) + 100)
        self.process.wait_for("was changed under")
        bench.signal(2)
        self.assertEqual(bench.wait(), 1)
        self.assertRegex(json.loads(bench.out)["first_failure"], "denied|refused")
        self.check_the_node()

    def reads(self):
        return any(part["counters"].get("reads", 0) > 1000
                   for process in self.check("stats", "--json").json if process["command"] == "serve"
                   for part in process["parts"])

    def test_a_process_that_maps_it_lives_too(self):
        bench = self.start("bench", self.unix, "-t", "60", "--op", "mixed", "--keep-going", "--json")
        until = time.monotonic() + 20
        while not any(process["command"] == "bench" for process in self.check("stats", "--json").json):
            self.assertLess(time.monotonic(), until)
        os.truncate(self.file, (1 << 20) + 100)
        self.process.wait_for("was changed under")
        bench.signal(2)
        self.assertEqual(bench.wait(), 1, bench.err)
        self.assertRegex(json.loads(bench.out)["first_failure"], "damaged|corrupt")
        self.check_the_node()


if __name__ == "__main__":
    oxmem_e2e.main()
