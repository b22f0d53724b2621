"""What users get wrong: one line that says what, on what and what to try, and nothing left running."""
import os
import unittest

import oxmem_e2e
from oxmem_e2e import CLIENT_MAC, E2eTest, NODE_MAC

ABSENT_MAC = "02:00:00:00:00:99"
WITHOUT_NET_RAW = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]


class BadInput(E2eTest):
    def setUp(self):
        super().setUp()
        self.net = self.net()

    def tearDown(self):
        # No process, so no control socket either; refused() has waited for the end of each.
        run = self.env["OXMEM_RUNTIME_DIR"]
        self.assertEqual([n for n in (os.listdir(run) if os.path.isdir(run) else [])], [])

    def serve_refused(self, code, pattern, *words, **more):
        return self.refused(code, pattern, "serve", *words, space=self.net.node, **more)

    def listen_refused(self, code, pattern, uri, **more):
        return self.serve_refused(code, pattern, "--region", "data=1M", "--listen", uri, **more)

    def region_refused(self, code, pattern, *regions):
        words = [word for region in regions for word in ("--region", region)]
        return self.serve_refused(code, pattern, *words, "--listen", "tloe://v0")

    def source_refused(self, code, pattern, source, **more):
        return self.refused(code, pattern, "info", source, space=self.net.client, **more)

    def test_unknown_interface(self):
        self.listen_refused(1, "nosuch", "tloe://nosuch")
        self.source_refused(1, "nosuch.*v0", f"tloe://nosuch/{NODE_MAC}?size=1M")

    def test_interface_down(self):
        self.net.client.run("ip", "link", "set", "v0", "down")
        self.source_refused(1, "v0.*down.*ip link set", f"{self.net.source}?size=1M")
        self.net.node.run("ip", "link", "set", "v0", "down")
        self.listen_refused(1, "v0.*down.*ip link set", "tloe://v0")

    def test_malformed_mac(self):
        for mac in ("02:00:00:00:00", "02:00:00:00:00:zz", "hello", "ff:ff:ff:ff:ff:ff"):
            self.source_refused(2, f"{mac}", f"tloe://v0/{mac}?size=1M")
            self.listen_refused(2, f"{mac}", f"tloe://v0/{mac}")
            self.serve_refused(2, f"--allow.*{mac}", "--region", "data=1M", "--listen",
                               "tloe://v0", "--allow", mac)

    def test_mac_that_never_answers(self):
        source = f"tloe://v0/{ABSENT_MAC}?size=1M&connect_timeout=300ms"
        result = self.source_refused(1, f"no answer.*{ABSENT_MAC} on v0", source)
        self.assertLess(result.seconds, 5.0)
        self.refused(1, f"no answer.*{ABSENT_MAC} on v0", "ping", source, "-c", "1",
                     space=self.net.client)
        self.refused(1, f"no answer.*{ABSENT_MAC} on v0", "bench", source, space=self.net.client)

    def test_own_mac_as_the_peer(self):
        self.source_refused(2, f"{CLIENT_MAC} is this end's own", f"tloe://v0/{CLIENT_MAC}?size=1M&connect_timeout=300ms")

    def test_zero_or_unparsable_size(self):
        for size in ("0", "zero", "1X", "-1", "1.5G", ""):
            self.region_refused(2, "data=", f"data={size}")
            self.source_refused(2, "size", f"{self.net.source}?size={size}")
        self.source_refused(2, "size", self.net.source)
        self.source_refused(2, "size", "mem:?size=0")

    def test_base_not_aligned(self):
        self.region_refused(2, "base 0x10 is not a multiple", "data=1M,base=0x10")
        self.source_refused(2, "base 0x3 is not a multiple", f"{self.net.source}?size=1M&base=0x3")

    def test_size_past_the_end_of_all_addresses(self):
        self.region_refused(2, r"past 2\^64", "data=16777216T")
        self.region_refused(2, r"past 2\^64", "data=1M,base=0xfffffffffffff000")
        self.source_refused(2, r"past 2\^64", f"{self.net.source}?size=99999999T")
        self.source_refused(2, r"past 2\^64",
                            f"{self.net.source}?size=1M&base=0xfffffffffffff000")

    def test_without_the_right_to_raw_sockets(self):
        self.source_refused(1, "setcap cap_net_raw", f"{self.net.source}?size=1M",
                            prefix=WITHOUT_NET_RAW)
        self.listen_refused(1, "setcap cap_net_raw", "tloe://v0", prefix=WITHOUT_NET_RAW)

    def test_mtu_too_small_for_the_message(self):
        self.net.client.run("ip", "link", "set", "v0", "mtu", "1500")
        self.source_refused(2, "a message of 32K does not fit a frame on v0.*max_message or raise the MTU",
                            f"{self.net.source}?size=1M&max_message=32K")
        self.source_refused(2, "MTU of v0.*ip link set v0 mtu 9000", f"{self.net.source}?size=1M&mtu=9000")

    def test_two_nodes_on_one_mac(self):
        first = self.node(self.net)
        self.listen_refused(1, f"process {first.pid} ", "tloe://v0")
        self.listen_refused(1, f"process {first.pid} .*another address, as in tloe://v0/",
                            f"tloe://v0/{NODE_MAC}")
        self.serve_refused(1, "v0", "--region", "data=1M", "--listen", "tloe://v0/02:00:00:00:00:77",
                           "--listen", "tloe://v0/02:00:00:00:00:77")
        first.signal(15)
        self.assertEqual(first.wait(), 0)

    def test_unknown_key(self):
        self.source_refused(2, "unknown option \"colour\".*known: size",
                            f"{self.net.source}?size=1M&colour=red")
        self.listen_refused(2, "unknown option \"colour\".*known: ", "tloe://v0?colour=red")
        self.source_refused(2, "unknown option \"colour\"", "mem:?colour=red")
        self.region_refused(2, "unknown key \"colour\".*known: base", "data=1M,colour=red")

    def test_a_key_twice(self):
        self.region_refused(2, "key \"base\" is there twice", "data=1M,base=0,base=0x1000")
        self.region_refused(2, "key \"ro\" is there twice", "data=1M,ro,ro")
        self.source_refused(2, "\"base\" is there twice",
                            f"{self.net.source}?size=1M&base=0&base=0x1000")

    def test_unknown_scheme(self):
        self.source_refused(2, "unknown scheme \"ftp\".*known: mem", "ftp://x")
        self.listen_refused(2, "unknown scheme \"ftp\".*known: tloe", "ftp://x")

    def test_a_region_twice(self):
        self.region_refused(1, "region \"data\" is given twice", "data=1M", "data=2M")
        self.region_refused(1, "overlaps", "data=1M,base=0x0", "more=1M,base=0x1000")

    def test_nothing_to_serve_or_nowhere(self):
        self.serve_refused(2, "--region data=1G", "--listen", "tloe://v0")
        self.serve_refused(2, "--listen tloe://IFACE", "--region", "data=1M")

    def test_backing_that_is_not_there(self):
        self.region_refused(1, "/nonexistent/region", "data=1M,backing=file:/nonexistent/region")
        small = self.path("small")
        with open(small, "wb") as file:
            file.truncate(4096)
        self.region_refused(2, "less than the region's 1M", f"data=1M,backing=file:{small}")
        self.region_refused(1, "data\": mapping 1T of huge pages.*nr_hugepages",
                            "data=1024G,backing=huge")

    def test_a_file_that_the_file_system_has_no_room_for(self):
        # Found out at the beginning, not when a peer writes to the part that is not there.
        disk = self.path("disk")
        os.mkdir(disk)
        on_a_small_disk = ["unshare", "--mount", "sh", "-c",
                           f"mount -t tmpfs -o size=1M none {disk} && \"$@\"; code=$?;"
                           f"test -e {disk}/region && echo it is still there >&2; exit $code", "sh"]
        self.serve_refused(1, "taking 8M for .*/region: No space left", "--region",
                           f"data=8M,backing=file:{disk}/region", "--listen", "tloe://v0",
                           prefix=on_a_small_disk)

    def test_places_that_cannot_be_used(self):
        self.serve_refused(1, "/nonexistent/stats.json", "--region", "data=1M", "--listen",
                           "tloe://v0", "--stats-file", "/nonexistent/stats.json")
        self.serve_refused(1, "192.0.2.1:9100", "--region", "data=1M", "--listen", "tloe://v0",
                           "--prometheus", "192.0.2.1:9100")
        self.serve_refused(2, "no port", "--region", "data=1M", "--listen", "tloe://v0",
                           "--prometheus", "localhost")
        self.listen_refused(1, "192.0.2.1:4000", "tloe+udp://192.0.2.1:4000")

    def test_words_the_command_does_not_have(self):
        for command in ("bdev", "mont", "Serve", "unmount"):
            self.refused(2, f"no command \"{command}\".*serve", command)
        self.refused(2, "a command is missing")
        self.refused(2, "SOURCE is required.*oxmem info --help", "info")
        self.refused(2, "--frobnicate", "info", "mem:", "--frobnicate")
        for command in ("ping", "bench"):
            for count in ("many", "0", "-1"):
                self.refused(2, "--count", command, "mem:?size=1M", "-c", count)
        self.refused(2, "--read-percent.*--op mixed", "bench", "mem:?size=1M", "--read-percent", "9")
        self.refused(2, "--op.*read", "bench", "mem:", "--op", "erase")
        self.refused(2, "--depth", "bench", "mem:", "--depth", "0")
        self.refused(2, "--time", "bench", "mem:", "-c", "1", "-t", "1")
        self.serve_refused(2, "--stats-file", "--stat-interval", "1")
        self.refused(2, "log level", "serve", "--log-level", "loud")

    def test_numbers_that_are_none(self):
        whole = ("-1", "-0", "99999999999999999999999", "1x", "", " 1", "+1", "1e3", "1.5", "nan")
        decimal = ("-1", "99999999999999999999999", "1x", "", " 1", "+1", "nan", "inf", "0x1p3", "1,5")
        size = ("-1", "99999999999999999999999", "1x", "", " 1", "+1", "1e3", "1.5", "nan", "16777216T")
        options = (("bench", ("--seed", "--depth", "--threads", "--count", "--spin"), whole),
                   ("bench", ("--time", "--read-percent"), decimal),
                   ("bench", ("--size", "--offset", "--range"), size),
                   ("bench", ("--cpu",), ("", "-1", "1x", "0-", "99999999999999999999999")),
                   ("ping", ("--count", "--spin"), whole),
                   ("ping", ("--interval",), decimal),
                   ("ping", ("--size", "--offset"), size),
                   ("top", ("--count",), whole),
                   ("top", ("--interval",), decimal),
                   ("serve", ("--max-connections", "--spin"), whole),
                   ("serve", ("--stats-file=x --stat-interval",), decimal),
                   ("serve", ("--cpu",), ("", "-1", "1x", "99999999999999999999999")),
                   ("serve", ("--stats-file", "--prometheus", "--name"), ("",)))
        rest = {"bench": ["mem:?size=1M"], "ping": ["mem:?size=1M"], "top": [],
                "serve": ["--region", "data=1M", "--listen", "tloe://v0"]}
        for command, names, values in options:
            for name in names:
                for value in values:
                    with self.subTest(command=command, name=name, value=value):
                        words = f"{name}=".split(" ")
                        words[-1] += value
                        self.refused(2, words[-1].split("=")[0], command, *rest[command], *words,
                                     space=self.net.node)

    def test_numbers_of_sources_that_are_none(self):
        for key in ("vc", "depth", "mtu", "ethertype"):
            for value in ("-1", "99999999999999999999999", "1x", "", "+1", "1e3", "1.5"):
                self.source_refused(2, key, f"{self.net.source}?size=1M&{key}={value}")
        for key in ("timeout", "connect_timeout"):
            for value in ("-1", "-1s", "0", "1", "1x", "", "nan", "99999999999999999999999s"):
                self.source_refused(2, key, f"{self.net.source}?size=1M&{key}={value}")
        for key in ("size", "base", "max_message"):
            for value in ("-1", "99999999999999999999999", "1x", "", "+1", "1e3"):
                source = self.net.source + (f"?{key}={value}" if key == "size" else
                                            f"?size=1M&{key}={value}")
                self.source_refused(2, key, source)

    def test_requests_the_source_cannot_take(self):
        self.refused(2, "takes reads of 1 to", "ping", "mem:?size=1M", "-s", "2M")
        self.refused(2, "behind the end", "bench", "mem:?size=1M", "--offset", "1M")
        self.refused(2, "does not lie within", "bench", "mem:?size=1M", "--range", "2M")
        self.refused(2, "depth 500 is more", "bench", "mem:?size=1M", "--depth", "500")
        self.serve_refused(2, "cannot use CPU 1023", "--region", "data=1M", "--listen", "tloe://v0",
                           "--cpu", "0,1023")
        self.refused(2, "cannot use CPU 1023", "bench", "mem:?size=1M", "--cpu", "1023")


if __name__ == "__main__":
    oxmem_e2e.main()
