"""Where the two ends of a run are: on this host, or in two network namespaces over a veth pair."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
import oxmem_e2e  # noqa: E402  (what makes namespaces for all end-to-end tests)

ENDS = ("server", "client")


class Host:
    """Both ends on this host, over loopback."""
    addresses = dict.fromkeys(ENDS, "127.0.0.1")
    exchange = "127.0.0.1"

    def prefix(self, _end):
        return []

    def close(self):
        pass


class Wire:
    """Two namespaces that have nothing but the ends of a veth pair.

    nex0 has addresses of one family only. Programs that exchange what they need to know about each
    other over a TCP connection of their own make that over IPv4, always.
    """
    nets = {4: ("10.45.0.1", "10.45.0.2", "/24"), 6: ("fd45::1", "fd45::2", "/64")}
    exchange = nets[4][0]

    def __init__(self, family):
        self.addresses = dict(zip(ENDS, self.nets[family]))
        self.spaces = {end: oxmem_e2e.Namespace() for end in ENDS}
        self.spaces["server"].run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v0",
                                  "netns", str(self.spaces["client"].pid))
        for end in ENDS:
            # Without the detection of duplicates, addresses can be used at once.
            for *addresses, length in self.nets.values():
                self.spaces[end].run("ip", "address", "add", addresses[ENDS.index(end)] + length, "dev", "v0",
                                     *(["nodad"] if ":" in addresses[0] else []))
            self.spaces[end].run("ip", "link", "set", "v0", "up")

    def prefix(self, end):
        return self.spaces[end].prefix()

    def close(self):
        for space in self.spaces.values():
            space.close()


def make(name):
    """The place of a name: host, wire4 or wire6. Exits 77 when it cannot be made here."""
    if name == "host":
        return Host()
    reason = oxmem_e2e.why_no_namespaces()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(77)
    return Wire(int(name[-1]))
