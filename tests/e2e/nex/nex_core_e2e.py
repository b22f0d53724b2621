#!/usr/bin/env python3
"""Runs more RDMA programs of the distribution under nexrun: qperf, servers that never end, IPv6,
secrets, many processes.

usage: nex_core_e2e.py NEXRUN CASE

Exits as nex_e2e.py does.
"""
import collections
import errno
import functools
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

import nex_e2e
from nex_e2e import TIMEOUT_S, manager

CASES = {}


def add(name, function, *arguments):
    CASES[name] = lambda pair: function(pair, *arguments)


def endless(pair, server_command, client_command, kind="tcp"):
    """A server that serves until it is stopped: it must still be there when the client is done."""
    server = pair.start(pair.fill(server_command))
    try:
        assert pair.wait_for_listener(server, pair.port, kind), "the server does not listen"
        client = pair.start(pair.fill(client_command), "client")
        text = client.communicate(timeout=TIMEOUT_S)[0]
        assert client.returncode == 0, f"client: {client.returncode}\n{text}"
        assert server.poll() is None, "the server ended: " + server.communicate()[0]
    finally:
        server.send_signal(signal.SIGTERM)
        server_text = server.communicate(timeout=TIMEOUT_S)[0]
    return text, server_text


def udpong(pair, address):
    """All datagrams come, and no run loses one in nex0.

    The count that the client prints may be less than it sent: until librdmacm's own thread has made
    an address handle, rsockets send through a UDP socket and that thread of the server. Where the
    thread is late, all 200 go that way and the question how many came goes the shorter one. One run
    of 100 is so, so one of three has to be whole.
    """
    pair.env["NEX_DEBUG"] = "1"
    counts = []
    while 200 not in counts:
        assert len(counts) < 3, counts
        text, server = endless(pair, ["udpong", "-b", address, "-p", "{port}"],
                               ["udpong", "-s", address, "-p", "{port}", "-S", "256", "-C", "200"], "udp")
        came = re.search(r"^custom +256 +(\d+) ", text, re.M)
        assert came and 0 < int(came[1]) <= 200, text
        for said in text, server:
            assert "listening" in said, said
            # What comes for a queue pair that its program has destroyed is nobody's loss.
            for lost in re.findall(r"datagrams lost so far: (.*)", said):
                assert re.fullmatch(r"0 without.*, 0 with .*, \d+ to no queue pair, 0 malformed, 0 in .*", lost), said
        counts.append(int(came[1]))
        pair.new_ports()


def cmtime(pair, count):
    """The server of rdma-core 44 ends with a signal only. That of rdma-core 56 listens on its number with the
    connection manager and then with TCP, and ends with its client."""
    common = ["cmtime", "-p", "{port}", "-c", count]
    commands = [common + ["-b", "127.0.0.1"], common + ["-s", "127.0.0.1"]]
    usage = subprocess.run(["cmtime", "-?"], capture_output=True, text=True) if shutil.which("cmtime") else None
    if usage is not None and "socket baseline" in usage.stdout + usage.stderr:
        pair.run(*map(pair.fill, commands), kind="tcp")
    else:
        endless(pair, *commands, "udp")


def shared_number(pair):
    """One program listens on a number with TCP and another with the connection manager, whoever comes first."""
    for first in "tcp", "manager":
        with socket.socket() as plain:
            if first == "tcp":
                plain.bind(("127.0.0.1", pair.port))
                plain.listen()
            common = ["rping", "-a", "127.0.0.1", "-p", str(pair.port), "-C", "5"]
            server = pair.start([*common, "-s"])
            assert pair.wait_for_listener(server, pair.port, "udp"), "the server does not listen"
            if first == "manager":
                plain.bind(("127.0.0.1", pair.port))
                plain.listen()
            client = pair.start([*common, "-c"])
            for process in client, server:
                text = process.communicate(timeout=TIMEOUT_S)[0]
                assert process.returncode == 0 or nex_e2e.rping_ended_well(process.returncode, text), text
            with socket.create_connection(("127.0.0.1", pair.port)):
                plain.accept()[0].close()
        pair.new_ports()


def several_addresses(pair):
    """A listener at every address is found at each, and needs its number at each."""
    for addresses, every in (("127.0.0.1", "127.0.0.3"), "0.0.0.0"), (("127.0.0.1", "::1"), "::"):
        pair.env["NEX_ADDR"] = ",".join(addresses)
        for address in addresses:
            server = pair.start(["rping", "-s", "-a", every, "-p", str(pair.port), "-C", "3"])
            assert pair.wait_for_listener(server, pair.port, "udp"), "the server does not listen"
            client = pair.start(["rping", "-c", "-a", address, "-p", str(pair.port), "-C", "3"])
            for process in client, server:
                text = process.communicate(timeout=TIMEOUT_S)[0]
                assert process.returncode == 0 or nex_e2e.rping_ended_well(process.returncode, text), text
        with socket.socket(socket.AF_INET6 if ":" in every else socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind((addresses[1], pair.port))
            server = pair.start(["rping", "-s", "-a", every, "-p", str(pair.port), "-C", "3"])
            text = server.communicate(timeout=TIMEOUT_S)[0]
            assert server.returncode != 0 and "Address already in use" in text, text


def nobody_listens(pair):
    """A request to a host where nobody has the number is rejected, whatever the host says and how often; one to
    an address that no host has cannot get there."""
    nobody = pair.address.rpartition(".")[0] + ".77" if "." in pair.address else pair.address + "77"
    family = ["-f", "ip6"] if ":" in pair.address else []
    for address, event in (pair.address, "RDMA_CM_EVENT_REJECTED, error: 8"), \
                          (nobody, f"RDMA_CM_EVENT_UNREACHABLE, error: -{errno.EHOSTUNREACH}"):
        client = pair.start(["ucmatose", *family, "-s", address, "-p", str(pair.port), "-c", "1"], "client")
        text = client.communicate(timeout=TIMEOUT_S)[0]
        assert event in text, text


QPERF = {
    "rc": ("rc_bi_bw", "rc_bw", "rc_lat", "rc_rdma_read_bw", "rc_rdma_read_lat", "rc_rdma_write_bw",
           "rc_rdma_write_lat", "rc_rdma_write_poll_lat"),
    "uc": ("uc_bi_bw", "uc_bw", "uc_lat", "uc_rdma_write_bw", "uc_rdma_write_lat", "uc_rdma_write_poll_lat"),
    "ud": ("ud_bi_bw", "ud_bw", "ud_lat"),
    "atomic": ("rc_compare_swap_mr", "rc_fetch_add_mr", "ver_rc_compare_swap", "ver_rc_fetch_add"),
}


def qperf(pair, tests):
    server = pair.start(["qperf", "-lp", str(pair.port)])
    try:
        assert pair.wait_for_listener(server, pair.port), "the server does not listen"
        for test in tests:
            if "tsan" in os.environ.get("LD_PRELOAD", "") and test.endswith("_poll_lat"):
                print(f"left out: {test}: it spins until a signal, which the thread sanitizer keeps until a call")
                continue
            client = pair.start(["qperf", "-lp", str(pair.port), "-t", "1", pair.exchange, test], "client")
            text = client.communicate(timeout=TIMEOUT_S)[0]
            assert client.returncode == 0, f"{test}: {client.returncode}\n{text}"
            # Every figure is above 0: something arrived.
            figures = re.findall(r"= +([\d.,]+)", text)
            assert figures and all(float(f.replace(",", "")) > 0 for f in figures), f"{test}:\n{text}"
        quit_client = pair.start(["qperf", "-lp", str(pair.port), pair.exchange, "quit"], "client")
        quit_client.communicate(timeout=TIMEOUT_S)
        text = server.communicate(timeout=TIMEOUT_S)[0]
        assert server.returncode == 0, text
    finally:
        server.kill()


def over_ipv6(pair, function, *arguments):
    pair.env["NEX_ADDR"] = "::1"
    function(pair, *arguments)


def secret(pair):
    """Peers with the same secret connect, others do not: their requests run out of retries."""
    command = ["ibv_rc_pingpong", "-g", "0", "-n", "50", "-p", str(pair.port)]
    for client_secret, good in (("one", True), ("other", False), ("", False)):
        pair.env["NEX_SECRET"] = "one"
        server = pair.start(command)
        assert pair.wait_for_listener(server, pair.port), "the server does not listen"
        pair.env["NEX_SECRET"] = client_secret
        client = pair.start(command + ["127.0.0.1"])
        text = client.communicate(timeout=TIMEOUT_S)[0]
        if good:
            assert client.returncode == 0, text
        else:
            assert client.returncode != 0 and "(12)" in text, text
            server.kill()
        server.communicate(timeout=TIMEOUT_S)
        pair.new_ports()
        command[-1] = str(pair.port)


def secret_of_the_manager(pair):
    """Who does not have the secret reaches no program by the connection manager, in its UDP port space neither."""
    for program in (["rping", "-C", "3", "-a", "127.0.0.1"], ["udaddy", "-c", "1"]):
        rping = program[0] == "rping"
        for client_secret, good in (("other", False), ("", False), ("one", True)):
            port, kind = (pair.port, "udp") if rping else (nex_e2e.UDADDY_PORT, "tcp")
            common = program + (["-p", str(port)] if rping else [])
            pair.env["NEX_SECRET"] = "one"
            server = pair.start(common + (["-s"] if rping else ["-b", "127.0.0.1"]))
            assert pair.wait_for_listener(server, port, kind), "the server does not listen"
            pair.env["NEX_SECRET"] = client_secret
            client = pair.start(common + (["-c"] if rping else ["-s", "127.0.0.1"]))
            text = client.communicate(timeout=TIMEOUT_S)[0]
            if good:
                heard = server.communicate(timeout=TIMEOUT_S)[0]
                for code, said in ((client.returncode, text), (server.returncode, heard)):
                    assert code == 0 or nex_e2e.rping_ended_well(code, said), f"{program}: {code}\n{said}"
            else:
                assert client.returncode != 0 and "UNREACHABLE" in text, f"{program}: {client.returncode}\n{text}"
                assert server.poll() is None, "the server ended: " + server.communicate()[0]
                server.kill()
                server.communicate(timeout=TIMEOUT_S)
            pair.new_ports()


def setuid_program(pair):
    """A program that gains rights by running does not get the library."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        print("skipped: needs root and setpriv")
        sys.exit(77)
    other = ["setpriv", "--reuid=65534", "--clear-groups"]
    if subprocess.run(other + ["test", "-x", pair.nexrun], check=False).returncode != 0:
        print("skipped: another user cannot run the library from here")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = os.path.join(folder, "cat")
        shutil.copy(shutil.which("cat"), program)
        for mode, has_it in ((0o755, True), (0o4755, False)):
            os.chmod(program, mode)
            run = subprocess.run(other + [pair.nexrun, program, "/proc/self/maps"], env=pair.env, text=True,
                                 capture_output=True, check=True)
            assert ("libnex" in run.stdout) == has_it, f"mode {mode:o}: {run.stdout}"


def odd_folders(pair):
    """Where the loader could not find the library, the program does not run without it."""
    build = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(pair.nexrun))))
    for name, good in (("plain", True), ("with space", False), ("with:colon", False), ("with$LIB", False)):
        with tempfile.TemporaryDirectory() as folder:
            there = os.path.join(folder, name, "apps", "nexrun")
            os.makedirs(there)
            os.symlink(os.path.join(build, "rdma"), os.path.join(folder, name, "rdma"))
            shutil.copy(pair.nexrun, there)
            run = subprocess.run([os.path.join(there, "nexrun"), "ibv_devices"], env=pair.env, text=True,
                                 capture_output=True, check=False)
            assert (run.returncode == 0 and "nex0" in run.stdout) == good, f"{name}: {run}"
            assert good or run.returncode == 1 and "cannot be preloaded" in run.stderr, f"{name}: {run}"


def many_processes(pair):
    """Several hundred processes of one host, each with a queue pair; the last one is connected to."""
    command = ["ibv_rc_pingpong", "-g", "0", "-n", "50", "-r", "16", "-p"]
    servers = []
    try:
        for _ in range(300):
            servers.append(pair.start(command + [str(pair.port)]))
            last = pair.port
            pair.port += 1
        assert pair.wait_for_listener(servers[-1], last), "the last server does not listen"
        client = pair.start(command + [str(last), "127.0.0.1"])
        text = client.communicate(timeout=TIMEOUT_S)[0]
        assert client.returncode == 0, text
        numbers = [int(number, 16) >> 14 for number in re.findall(r"QPN 0x([0-9a-f]+)", text)]
        assert max(numbers) >= 299, text
        assert all(server.poll() is None for server in servers[:-1])
    finally:
        for server in servers:
            server.kill()
        for server in servers:
            server.communicate(timeout=TIMEOUT_S)


def taken_range(pair):
    """Every port is someone else's: one clear line."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    first = int(pair.env["NEX_PORT"])
    taken = []
    for port in range(first, first + 1024):
        taken.append(socket.socket())
        # As nex does: else a port with an old connection is free for nex and not for us.
        taken[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken[-1].bind(("127.0.0.1", port))
            taken[-1].listen()
        except OSError:
            pass  # somebody else has it
    run = pair.start(["ibv_devinfo", "-d", "nex0"])
    text = run.communicate(timeout=TIMEOUT_S)[0]
    assert run.returncode > 0, text
    assert text.count("nex: ") == 1 and f"all ports from {first} to {first + 1023}" in text, text


def ipv6_namespaces(pair):
    """Two namespaces joined by a veth pair that has IPv6 addresses only."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        print("skipped: needs root and ip")
        sys.exit(77)
    spaces = [f"nex-v6-{os.getpid()}-{end}" for end in (0, 1)]
    addresses = [f"fd00:6e78::{end + 1}" for end in (0, 1)]
    run = lambda *command: subprocess.run(command, check=True)
    inside = lambda end: ["ip", "netns", "exec", spaces[end]]
    try:
        for space in spaces:
            run("ip", "netns", "add", space)
        run("ip", "-n", spaces[0], "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", spaces[1])
        for space, address in zip(spaces, addresses):
            run("ip", "-n", space, "address", "add", address + "/64", "dev", "v0", "nodad")
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "link", "set", "v0", "up")
        start = lambda end, command: subprocess.Popen(
            inside(end) + [pair.nexrun, "--addr", addresses[end], *command], env=pair.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for program in (["rping", "-C", "20"], ["ucmatose", "-f", "ip6", "-c", "10"]):
            if shutil.which(program[0]) is None:
                print(f"skipped: {program[0]} is not installed")
                sys.exit(77)
            rping = program[0] == "rping"
            common = [*program, "-p", str(pair.port)]
            server = start(0, common + (["-s", "-a"] if rping else ["-b"]) + [addresses[0]])
            listening = lambda: f":{pair.port:04X} " in subprocess.run(
                inside(0) + ["cat", "/proc/net/udp6"], text=True, capture_output=True, check=True).stdout
            while server.poll() is None and not listening():
                pass
            client = start(1, common + (["-c", "-a"] if rping else ["-s"]) + [addresses[0]])
            for end in (client, server):
                text = end.communicate(timeout=TIMEOUT_S)[0]
                assert end.returncode == 0 or rping and nex_e2e.rping_ended_well(end.returncode, text), \
                    f"{program}: {text}"
            pair.new_ports()
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], check=False)


class HostileCrowd:
    """Peers that say to a port of the connection manager what they want, for as long as they may."""

    def __init__(self, address, port, seed):
        self.target = (address, port)
        self.random = random.Random(seed)
        self.kept = collections.deque(maxlen=400)  # they stay, silent or half-way

    def message(self, connection):
        """A request that is right but for one bit of what is checked. (One that is right makes rping's
        server exit, on every device, when its maker goes.)"""
        own, peer = connection.getsockname(), connection.getpeername()
        gid = lambda address: bytes(10) + b"\xff\xff" + socket.inet_aton(address)
        text = bytearray(b"nexc\0\3\1\0" + struct.pack(">II", 0x123, 0) + bytes(8) + gid(own[0]) + gid(peer[0]) +
                         struct.pack(">HHIQ", self.number, self.target[1], 0, self.ticket) + bytes(256))
        text[self.random.choice((*range(8), *range(23, 72)))] ^= 1 << self.random.randrange(8)
        return bytes(text)

    def ask(self):
        """Where the number is served, which its listener may leave unsaid in a crowd; and something else."""
        with socket.socket(type=socket.SOCK_DGRAM) as asker:
            asker.settimeout(0.3)
            asker.connect(self.target)
            self.number = asker.getsockname()[1]
            asker.send(self.random.randbytes(self.random.randrange(100)))
            asker.send(b"nexl\0\3\1\0" + bytes(24))
            self.port, self.ticket = struct.unpack(">16xH6xQ", asker.recv(100))

    def act(self):
        connection = socket.socket()
        connection.settimeout(0.3)
        try:
            self.ask()
            connection.connect((self.target[0], self.port))
            text = self.random.choice((self.message(connection), self.random.randbytes(self.random.randrange(700))))
            connection.sendall(text[:self.random.choice((1, 7, 327, 328, 700))])
        except OSError:
            pass  # there is no room just now, or it was closed: as it should be
        if self.random.random() < 0.3:
            self.kept.append(connection)
        else:
            connection.close()

    def close(self):
        for connection in self.kept:
            connection.close()


def resources(process):
    """Open descriptors and resident KiB of a process."""
    with open(f"/proc/{process.pid}/status") as status:
        resident = re.search(r"^VmRSS:\s+(\d+)", status.read(), re.M)
    return len(os.listdir(f"/proc/{process.pid}/fd")), int(resident[1])


def hostile_crowd(pair):
    """A server of librdmacm that anybody may talk to goes on, and so do its clients."""
    server = pair.start(["rping", "-s", "-P", "-a", "127.0.0.1", "-p", str(pair.port)])
    crowd = HostileCrowd("127.0.0.1", pair.port, seed=7)
    try:
        assert pair.wait_for_listener(server, pair.port, "udp"), "the server does not listen"
        used = []
        for _ in range(8):
            for _ in range(60):  # each may wait 0.3 s at a full port
                crowd.act()
            assert server.poll() is None, "the server ended: " + server.communicate()[0]
            client = pair.start(["rping", "-c", "-v", "-V", "-a", "127.0.0.1", "-p", str(pair.port), "-C", "3"])
            text = client.communicate(timeout=TIMEOUT_S)[0]
            assert nex_e2e.rping_ended_well(client.returncode, text), f"{client.returncode}: {text}"
            assert text.count("ping data: rdma-ping") == 3, text
            assert server.poll() is None, "the server ended: " + server.communicate()[0]
            used.append(resources(server))
        crowd.close()
        descriptors, resident = zip(*used)
        # 128 may be silent; the program itself keeps some for each good client for a while.
        assert max(descriptors) < 128 + 100, used
        assert resident[-1] < resident[2] + 4096 * pair.patience, used  # a sanitizer keeps freed memory
    finally:
        server.kill()
        server.communicate(timeout=TIMEOUT_S)


for kind, tests in QPERF.items():
    add(f"qperf_{kind}", qperf, tests)
    nex_e2e.GROUPS.setdefault("qperf", {})[kind] = CASES[f"qperf_{kind}"]
for function in (hostile_crowd, ipv6_namespaces, many_processes, odd_folders, secret, secret_of_the_manager, setuid_program,
                 several_addresses, shared_number, taken_range):
    add(function.__name__, function)
add("udpong", udpong, "{address}")
nex_e2e.GROUPS["udpong"] = {"udpong": CASES["udpong"]}
nex_e2e.GROUPS["nobody_listens"] = {"nobody_listens": nobody_listens}
for group, where in (("qperf", "wire4"), ("udpong", "wire4"), ("udpong", "wire6"), ("nobody_listens", "wire4"),
                     ("nobody_listens", "wire6")):
    CASES[f"{group}.{where}"] = functools.partial(nex_e2e.over_the_wire, group, where)
for count in ("20", "100", "1000"):
    add(f"cmtime_{count}", cmtime, count)
add("rdma_xclient_xrc", manager, ["rdma_xserver", "-p", "{port}", "-c", "x"],
    ["rdma_xclient", "-s", "127.0.0.1", "-p", "{port}", "-c", "x"])
for program in ("rstream", "riostream"):
    add(f"{program}_all_sizes", manager, [program, "-p", "{port}"],
        [program, "-p", "{port}", "-s", "127.0.0.1"])

def long_events(pair):
    """Many waits over TCP: none of them may miss what it waits for."""
    pair.env["NEX_DIRECT"] = "0"
    nex_e2e.perftest(pair, "ib_send_lat", "-e", "-n", "50000")


add("ib_send_lat_events_long", long_events)

for kind in ("rc", "uc", "ud", "srq"):
    add(f"ipv6_{kind}_pingpong", over_ipv6, nex_e2e.pingpong, f"ibv_{kind}_pingpong", "-g", "0", "-n", "200")
for program in ("ib_write_bw", "ib_send_lat"):
    add(f"ipv6_{program}", over_ipv6, nex_e2e.perftest, program, "-n", "300")
add("ipv6_rping", over_ipv6, nex_e2e.rping, "::1")
add("ipv6_ucmatose", over_ipv6, manager, ["ucmatose", "-b", "::1", "-f", "ip6", "-p", "{port}", "-c", "20"],
    ["ucmatose", "-s", "::1", "-f", "ip6", "-p", "{port}", "-c", "20"])
add("ipv6_rstream", over_ipv6, manager,
    ["rstream", "-b", "::1", "-f", "ip6", "-p", "{port}", "-S", "4096", "-C", "20"],
    ["rstream", "-s", "::1", "-f", "ip6", "-p", "{port}", "-S", "4096", "-C", "20"])
add("ipv6_udpong", over_ipv6, udpong, "::1")


if __name__ == "__main__":
    sys.exit(nex_e2e.run_cases(CASES))
