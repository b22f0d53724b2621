#!/usr/bin/env python3
"""Runs RDMA programs of the distribution under nexrun, both ends on this host or over a wire.

usage: nex_e2e.py NEXRUN CASE

A case that ends in .wire4 or .wire6 is a whole group of cases, run with the two ends in network
namespaces of their own, over IPv4 or IPv6. Every run has its own ports: NEX_PORT for nex0 and one for the program. Exits 77 when the program is
not installed, 1 with the output of both ends when a case fails.

NEX_SANITIZER is the runtime of the sanitizer that the library was built with, to be preloaded beside it;
a report about the library fails the case.
"""
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import nex_programs
import places

PATIENCE = 4 if os.environ.get("NEX_SANITIZER") else 1  # as ctest has it
TIMEOUT_S = 240 * PATIENCE


def free_port(after):
    """A port that is free now, outside the kernel's ephemeral range, and not below `after`."""
    start = 20000 + (os.getpid() * 37) % 9000
    for port in range(max(start, after), 31000):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


class Pair:
    """A server and a client under nexrun, and the place where they are."""
    patience = PATIENCE

    def __init__(self, nexrun, place=places.Host()):
        self.nexrun = nexrun
        self.place = place
        self.address = place.addresses["server"]  # of nex0
        self.exchange = place.exchange  # where programs find each other without it
        self.env = dict(os.environ, NEX_PORT=str(34000 + (os.getpid() * 7) % 20000))
        self.new_ports()

    def new_ports(self):
        """For a program that cannot listen again at once where one has just ended."""
        self.port = free_port(getattr(self, "port", 0) + 1)

    def start(self, command, end="server"):
        if shutil.which(command[0]) is None:
            print(f"skipped: {command[0]} is not installed")
            sys.exit(77)
        env = {"NEX_ADDR": self.place.addresses[end], **self.env}
        return subprocess.Popen(self.place.prefix(end) + [self.nexrun] + command, env=env, text=True,
                                errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def fill(self, command):
        return [word.format(port=self.port, address=self.address) for word in command]

    def wait_for_listener(self, server, port, kind="tcp"):
        """Until someone listens on the port; connecting would disturb a one-shot server.

        Those of the connection manager have it with UDP, and those of its UDP port space with TCP.
        """
        deadline = time.monotonic() + 20
        wanted = f":{port:04X}"
        state = "0A" if kind == "tcp" else "07"
        while time.monotonic() < deadline and server.poll() is None:
            try:
                for name in (kind, f"{kind}6"):
                    # As the server sees it: it may be in another network namespace.
                    with open(f"/proc/{server.pid}/net/{name}") as table:
                        fields = [line.split() for line in table]
                    if any(line[1].endswith(wanted) and line[3] == state for line in fields):
                        return True
            except OSError:
                continue  # it has just ended
            time.sleep(0.01)
        return False

    def run(self, server_command, client_command, port=None, client_code=0, server_code=0, kind="tcp"):
        server = self.start(server_command)
        if not self.wait_for_listener(server, port or self.port, kind):
            server.kill()
            raise AssertionError("the server does not listen:\n" + server.communicate()[0])
        client = self.start(client_command, "client")
        out = {}
        try:
            out["client"] = client.communicate(timeout=TIMEOUT_S)[0]
            out["server"] = server.communicate(timeout=TIMEOUT_S)[0]
        except subprocess.TimeoutExpired:
            client.kill()
            server.kill()
            out["client"] = client.communicate()[0]
            out["server"] = server.communicate()[0]
            raise AssertionError(f"time is up\n{out}")
        if client.returncode != client_code or server.returncode != server_code:
            raise AssertionError(f"exit codes {client.returncode} (client), {server.returncode} (server)\n"
                                 f"client: {out['client']}\nserver: {out['server']}")
        return out


def pingpong(pair, program, *options):
    common = [program, "-p", str(pair.port), *options]
    out = pair.run(common, common + [pair.exchange])
    for end in ("client", "server"):
        assert re.search(r"iters in|^success", out[end], re.M), out[end]


def perftest(pair, program, *options, kind="tcp"):
    common = [program, "-p", str(pair.port), "-F", *options]
    out = pair.run(common, common + [pair.exchange], kind=kind)
    assert re.search(r"^ *\d+ +\d+ +[\d.]+", out["client"], re.M), out["client"]


def perftest_cm(pair, program, *options):
    perftest(pair, program, "-R", *options, kind="udp")


def devices(pair):
    out = pair.start(["ibv_devices"]).communicate(timeout=TIMEOUT_S)[0]
    assert "nex0" in out, out
    info = pair.start(["ibv_devinfo", "-v"])
    text = info.communicate(timeout=TIMEOUT_S)[0]
    assert info.returncode == 0 and "PORT_ACTIVE" in text and "::ffff:127.0.0.1" in text, text


def bad_environment(pair):
    for name, value in (("NEX_PORT", "70000"), ("NEX_PORT", "x"), ("NEX_ADDR", "192.0.2.1"),
                        ("NEX_ADDR", "nowhere"), ("NEX_ADDR", "::"), ("NEX_ADDR", "0.0.0.0"),
                        ("NEX_ADDR", "127.0.0.1,::ffff:127.0.0.1"), ("NEX_DIRECT", "2"), ("NEX_DEVICE", "a b"),
                        ("NEX_DEBUG", "3")):
        pair.env = dict(os.environ, **{name: value})
        run = pair.start(["ibv_devinfo", "-d", "nex0"])
        text = run.communicate(timeout=TIMEOUT_S)[0]
        assert run.returncode > 0, text
        assert text.count(f"nex: {name}") == 1, text


def killed_peer(pair):
    """kill -9 of one end of an endless run: the other end ends with an error, soon."""
    common = ["ib_write_bw", "-p", str(pair.port), "-F", "--run_infinitely", "-D", "1"]
    server = pair.start(common)
    assert pair.wait_for_listener(server, pair.port)
    client = pair.start(common + ["127.0.0.1"])
    # The first line of figures says that data flows.
    for line in client.stdout:
        if re.match(r"^ *65536 +\d+", line):
            break
    server.send_signal(signal.SIGKILL)
    server.communicate()
    text = client.communicate(timeout=TIMEOUT_S)[0]
    assert client.returncode != 0, text
    assert "status 12" in text or "transport retry" in text.lower() or "Failed" in text, text


ON_THIS_HOST = "is on this host"


def same_host(pair, program, *options):
    """Both ends find that they are on one host, unless NEX_DIRECT forbids it."""
    common = [program, "-p", str(pair.port), "-F", "-n", "500", *options]
    for direct in "1", "0":
        pair.env.update(NEX_DEBUG="1", NEX_DIRECT=direct)
        out = pair.run(common, common + ["127.0.0.1"])
        for end in ("client", "server"):
            assert (ON_THIS_HOST in out[end]) == (direct == "1"), out[end]
        assert re.search(r"^ *\d+ +\d+ +[\d.]+", out["client"], re.M), out["client"]


def other_user(pair):
    """Processes of two users may not copy from each other: everything goes over TCP, silently."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        print("skipped: needs root and setpriv")
        sys.exit(77)
    users = [["setpriv", f"--reuid={user}", "--clear-groups"] for user in (65534, 65533)]
    if subprocess.run(users[0] + ["test", "-x", pair.nexrun], check=False).returncode != 0:
        print("skipped: another user cannot run the library from here")
        sys.exit(77)
    pair.env.update(NEX_DEBUG="1")
    for program in ("ib_write_bw", "ib_read_bw"):
        common = [program, "-p", str(pair.port), "-F", "-n", "500"]
        out = pair.run(users[0] + common, users[1] + common + ["127.0.0.1"])
        for end in ("client", "server"):
            assert "connects to" in out["client"] + out["server"], out
            assert ON_THIS_HOST not in out[end], out[end]
            lines = [line for line in out[end].splitlines() if line.startswith("nex:")]
            assert not any("error" in line or "denied" in line for line in lines), out[end]


def many_qps(pair):
    """The interpreter of the distribution, because its packages install pyverbs for that one."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "many_qps.py")
    for direct in "1", "0":
        pair.env.update(NEX_DIRECT=direct)
        run = pair.start(["/usr/bin/python3", script])
        text = run.communicate(timeout=TIMEOUT_S)[0]
        if run.returncode == 77:
            print("skipped: pyverbs is not installed")
            sys.exit(77)
        assert run.returncode == 0, text


def manager(pair, server, client):
    """Programs of librdmacm; {port} in a command is the port of this case, {address} the server's."""
    pair.run(pair.fill(server), pair.fill(client), kind="udp")


def rping_ended_well(code, text):
    """A thread of rping waits for events in a loop, on a channel that the main thread destroys when
    it is done. Where the thread is late it finds the channel gone, and the program exits with that
    error after all that it was to do: rdma-core mended it in 2025 (f3ae6534a)."""
    return code == 0 or code == 255 and re.search(
        r"DISCONNECT EVENT\.\.\.\n.*^rdma_get_cm_event: Bad file descriptor$", text, re.M | re.S)


def rping(pair, address="{address}"):
    """Both ends see five pings come back right."""
    common = ["rping", "-v", "-V", "-a", address, "-p", "{port}", "-C", "5"]
    ends = {"server": pair.start(pair.fill([*common, "-s"]))}
    assert pair.wait_for_listener(ends["server"], pair.port, "udp"), "the server does not listen"
    ends["client"] = pair.start(pair.fill([*common, "-c"]), "client")
    for end, process in ends.items():
        text = process.communicate(timeout=TIMEOUT_S)[0]
        pings = re.findall(r"^(?:server )?ping data: rdma-ping-(\d+): ", text, re.M)
        assert pings == ["0", "1", "2", "3", "4"], f"{end}: {text}"
        assert rping_ended_well(process.returncode, text), f"{end}: {process.returncode}\n{text}"


UDADDY_PORT = 7174  # it knows no other


def udaddy(pair):
    """Every datagram comes, and every answer: the program waits for all of them."""
    common = ["udaddy", "-c", "3", "-C", "20"]
    out = pair.run(pair.fill(common + ["-b", "{address}"]), pair.fill(common + ["-s", "{address}"]), UDADDY_PORT)
    for text in out.values():
        assert "test complete" in text and "return status 0" in text, text


def mckey(pair):
    """What one end sends to a group the other receives, all of it."""
    group = "ff15::6e78" if ":" in pair.address else "239.7.8.9"
    common = ["mckey", "-m", group, "-C", "20", "-b"]
    server = pair.start(common + [pair.place.addresses["server"]])
    try:
        # The port of all groups, which is bound when it has joined.
        assert pair.wait_for_listener(server, int(pair.env["NEX_PORT"]) + 1024, "udp"), \
            "the receiver does not join: " + server.communicate()[0]
        client = pair.start(common + [pair.place.addresses["client"], "-s"], "client")
        for end in client, server:
            text = end.communicate(timeout=TIMEOUT_S)[0]
            assert end.returncode == 0 and "test complete" in text and "return status 0" in text, text
    finally:
        server.kill()


# The cases of each function, which run over the wire together.
GROUPS = {}
CASES = {
    "devices": devices,
    "bad_environment": bad_environment,
    "killed_peer": killed_peer,
    "many_qps": many_qps,
    "other_user": other_user,
}


def add(name, function, *arguments):
    CASES[name] = lambda pair: function(pair, *arguments)
    GROUPS.setdefault(function.__name__, {})[name] = CASES[name]


def over_the_wire(group, where, pair):
    """The cases of a group between two namespaces, all of them, and then what failed."""
    failed = []
    for name, case in GROUPS[group].items():
        place = places.make(where)
        try:
            case(Pair(pair.nexrun, place))
        except AssertionError as error:
            failed.append(f"{name}: {error}")
        finally:
            place.close()
    assert not failed, "\n".join(failed)


for kind in ("rc", "uc", "ud", "srq", "xsrq"):
    add(f"{kind}_pingpong", pingpong, f"ibv_{kind}_pingpong", "-g", "0")
    add(f"{kind}_pingpong_events", pingpong, f"ibv_{kind}_pingpong", "-g", "0", "-e")
add("rc_pingpong_lid", pingpong, "ibv_rc_pingpong")
add("rc_pingpong_new_send", pingpong, "ibv_rc_pingpong", "-N", "-g", "0")
add("rc_pingpong_check", pingpong, "ibv_rc_pingpong", "-c", "-g", "0")
add("rc_pingpong_large", pingpong, "ibv_rc_pingpong", "-g", "0", "-s", "3000000", "-n", "50")
for operation in ("write", "read", "send", "atomic"):
    add(f"ib_{operation}_lat", perftest, f"ib_{operation}_lat", "-n", "500")
    add(f"ib_{operation}_bw", perftest, f"ib_{operation}_bw", "-n", "500")
add("ib_write_bw_4qp", perftest, "ib_write_bw", "-q", "4", "-n", "500")
add("ib_send_bw_both", perftest, "ib_send_bw", "-b", "-n", "500")
add("ib_send_lat_events", perftest, "ib_send_lat", "-e", "-n", "500")
add("ib_send_bw_sizes", perftest, "ib_send_bw", "-a", "-n", "100")
add("ib_read_bw_sizes", perftest, "ib_read_bw", "-a", "-n", "100")
add("ib_send_lat_uc", perftest, "ib_send_lat", "-c", "UC", "-n", "500")
add("ib_write_bw_uc", perftest, "ib_write_bw", "-c", "UC", "-n", "500")
add("ib_send_lat_ud", perftest, "ib_send_lat", "-c", "UD", "-n", "500")

for operation in ("write", "read"):
    for kind in ("lat", "bw"):
        add(f"same_host_{operation}_{kind}", same_host, f"ib_{operation}_{kind}")
add("same_host_send_lat", same_host, "ib_send_lat")

add("rping", rping)
add("udaddy", udaddy)
add("mckey", mckey)
add("ucmatose", manager, ["ucmatose", "-p", "{port}", "-c", "20"],
    ["ucmatose", "-s", "{address}", "-p", "{port}", "-c", "20"])
add("rdma_client", manager, ["rdma_server", "-p", "{port}"],
    ["rdma_client", "-s", "{address}", "-p", "{port}"])
for program in ("rstream", "riostream"):
    for size in ("64", "65536"):
        custom = [program, "-p", "{port}", "-S", size, "-C", "10", "-I", "20"]
        add(f"{program}_{size}", manager, custom, custom + ["-s", "{address}"])
add("rdma_xclient", manager, ["rdma_xserver", "-p", "{port}", "-c", "r"],
    ["rdma_xclient", "-s", "{address}", "-p", "{port}", "-c", "r"])

add("ib_write_bw_cm", perftest_cm, "ib_write_bw", "-n", "300")
add("ib_send_lat_cm", perftest_cm, "ib_send_lat", "-n", "300")

CASES.update(nex_programs.CASES)
GROUPS.update(nex_programs.GROUPS)
for group in GROUPS.keys() - {"same_host"}:
    for where in ("wire4", "wire6"):
        # perftest of the distribution has no IPv6 with the connection manager.
        if (group, where) != ("perftest_cm", "wire6"):
            CASES[f"{group}.{where}"] = functools.partial(over_the_wire, group, where)


def prepare_sanitizer(runtime, log_path):
    """For every program that is started from now on."""
    tests = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    more = {
        # What the programs lose themselves is not our business.
        "ASAN_OPTIONS": ["detect_leaks=0", "verify_asan_link_order=0"],
        # They are to go on after a report about themselves, and to end as they would.
        "TSAN_OPTIONS": ["halt_on_error=0", "exitcode=0", "handle_segv=0",
                         f"suppressions={tests}/support/thread_sanitizer_programs.txt"],
    }
    for name, options in more.items():
        os.environ[name] = ":".join([os.environ.get(name, ""), *options, f"log_path={log_path}"])
    os.environ["LD_PRELOAD"] = runtime


def sanitizer_reports(directory):
    """The reports in which the library occurs; others are about the programs alone."""
    reports = []
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:
            reports += re.split(r"^={18,}$", file.read(), flags=re.M)
    return [report for report in reports if "libnex.so" in report or "rdma/nex/" in report]


def run_cases(cases):
    nexrun, case = sys.argv[1:]
    if case == "list":
        print("\n".join(cases))
        return 0
    runtime = os.environ.pop("NEX_SANITIZER", "")
    code = 0
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o1777)  # some cases run as other users
        if runtime:
            prepare_sanitizer(runtime, os.path.join(directory, "report"))
        failures = []
        try:
            cases[case](Pair(nexrun))
        except AssertionError as error:
            failures.append(str(error))
        for failure in failures + sanitizer_reports(directory):
            print(f"{case}: {failure}")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(run_cases(CASES))
