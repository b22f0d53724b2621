"""What the end-to-end tests share: network namespaces, processes, and the oxmem command in them.

Everything dies with the test, also when it is killed: a namespace lives as long as the process that
holds it, and every process gets SIGKILL when its parent ends. Names inside a namespace are nobody
else's, so tests run beside each other.

Each test file is run by ctest as: FILE.py --oxmem PATH [--sanitized SANITIZERS] [unittest arguments]
"""
import ctypes
import glob
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

OXMEM = None
SANITIZED = ""  # "address,undefined", "thread"
SOURCE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# As the presets give them to every test; each report goes to a file beside the test's.
SANITIZER_OPTIONS = {name: os.environ.get(name, "")
                     for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")}
# libfuse frees its copy of the mount point only when it unmounts, which is not for it to do.
LEAKS_OF_OTHERS = os.path.join(SOURCE_ROOT, "tests", "e2e", "leaks_of_others.txt")
SKIPPED = 77  # ctest's SKIP_RETURN_CODE

NODE_MAC = "02:00:00:00:00:02"
CLIENT_MAC = "02:00:00:00:00:01"

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def why_no_namespaces():
    """Empty if this process can make network namespaces and veth pairs."""
    if shutil.which("ip") is None:
        return "there is no ip command (package iproute2)"
    probe = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"],
        capture_output=True, text=True)
    return "" if probe.returncode == 0 else f"cannot make network namespaces: {probe.stderr.strip()}"


class Namespace:
    """A network namespace with its loopback up."""

    def __init__(self):
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"],
            stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent)
        if self._holder.stdout.readline().strip() != "ready":
            raise RuntimeError("a network namespace could not be made")
        self.pid = self._holder.pid

    def prefix(self):
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net"]

    def run(self, *command):
        subprocess.run([*self.prefix(), *command], check=True, capture_output=True, text=True)

    def close(self):
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()


class Net:
    """Two namespaces joined by a veth pair, both ends called v0 and up: .client and .node."""

    def __init__(self, mtu=9000):
        self.client = Namespace()
        self.node = Namespace()
        self.client.run("ip", "link", "add", "v0", "mtu", str(mtu), "address", CLIENT_MAC, "type",
                        "veth", "peer", "name", "v0", "mtu", str(mtu), "address", NODE_MAC,
                        "netns", str(self.node.pid))
        for space, address in ((self.client, "10.0.0.1/24"), (self.node, "10.0.0.2/24")):
            space.run("ip", "address", "add", address, "dev", "v0")
            space.run("ip", "link", "set", "v0", "up")
        self.source = f"tloe://v0/{NODE_MAC}"
        self.udp = "tloe+udp://10.0.0.2:4000"

    def close(self):
        self.client.close()
        self.node.close()


def _thread_states(pid):
    for path in glob.glob(f"/proc/{pid}/task/*/stat"):
        with open(path, encoding="utf-8") as stat:
            yield stat.read().rpartition(")")[2].split()[0]


def stop(pid):
    """SIGSTOP, until none of its threads runs any more: each stops when it is scheduled next."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + 20
    while any(state != "T" for state in _thread_states(pid)):
        assert time.monotonic() < until, "it does not stop"


class Process:
    """A running command with its output in pipes. Lines are read with a deadline."""

    def __init__(self, command, space=None, env=None):
        prefix = space.prefix() if space else []
        self._process = subprocess.Popen([*prefix, *command], stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env,
                                         preexec_fn=_die_with_parent)
        self.pid = self._process.pid
        self._texts = {self._process.stdout.fileno(): b"", self._process.stderr.fileno(): b""}
        self._open = set(self._texts)

    def _read_some(self, until):
        ready, _, _ = select.select(list(self._open), [], [], max(0.0, until - time.monotonic()))
        for fd in ready:
            data = os.read(fd, 65536)
            if not data:
                self._open.discard(fd)
            self._texts[fd] += data
        return bool(ready)

    def text(self, stream):
        return self._texts[stream.fileno()].decode(errors="replace")

    @property
    def out(self):
        return self.text(self._process.stdout)

    @property
    def err(self):
        return self.text(self._process.stderr)

    def wait_for(self, pattern, seconds=20.0, count=1):
        """Waits until standard output or error has the pattern `count` times."""
        until = time.monotonic() + seconds
        while len(re.findall(pattern, self.out + self.err)) < count:
            if not self._open or time.monotonic() >= until or not self._read_some(until):
                raise AssertionError(f"no {pattern!r} in time; it said:\n{self.out}{self.err}")

    def signal(self, number):
        self._process.send_signal(number)

    def stop(self):
        stop(self.pid)

    def wait(self, seconds=30.0):
        """Waits for the end and returns the exit code; negative for a signal."""
        until = time.monotonic() + seconds
        while self._open:
            if time.monotonic() >= until or not self._read_some(until):
                self._process.kill()
                raise AssertionError(f"did not end in {seconds} s; it said:\n{self.out}{self.err}")
        return self._process.wait(max(0.1, until - time.monotonic()))

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()


class Result:
    def __init__(self, code, out, err, seconds):
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"exit {self.code} after {self.seconds:.2f} s\n{self.out}{self.err}"


def sanitizer_environment(report):
    """Variables that make a sanitized program write its reports to files with that prefix."""
    if not SANITIZED:
        return []
    return [f"LSAN_OPTIONS=suppressions={LEAKS_OF_OTHERS}:print_suppressions=0",
            *(f"{name}={options}:log_path={report}" for name, options in SANITIZER_OPTIONS.items())]


def read_reports(prefix):
    return [open(path, encoding="utf-8", errors="replace").read()
            for path in sorted(glob.glob(prefix + ".*"))]


class E2eTest(unittest.TestCase):
    """A test with a directory of its own, where its processes also put their control sockets."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="oxmem-e2e-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        # A process in the background has no stderr that anybody reads.
        self.addCleanup(self.check_sanitizer_reports)
        for word in sanitizer_environment(self.path("sanitizer")):
            name, _, options = word.partition("=")
            os.environ[name] = options
        self.env = dict(os.environ, OXMEM_RUNTIME_DIR=os.path.join(self.directory, "run"))
        self.env.pop("NOTIFY_SOCKET", None)

    def path(self, name):
        return os.path.join(self.directory, name)

    def check_sanitizer_reports(self):
        """Runs when every process of the test has ended."""
        texts = read_reports(self.path("sanitizer"))
        self.assertEqual(texts, [], "\n".join(texts))

    def net(self, mtu=9000):
        net = Net(mtu)
        self.addCleanup(net.close)
        return net

    def start(self, *words, space=None, prefix=()):
        process = Process([*prefix, OXMEM, *words], space, self.env)
        self.addCleanup(process.close)
        return process

    def serve(self, space, *words, listens=1):
        """A node that is ready."""
        process = self.start("serve", *words, space=space)
        process.wait_for(r"(?m)^listening on ", count=listens)
        return process

    def node(self, net, *words):
        """A node with 64 MiB called data on the far end of the pair."""
        return self.serve(net.node, "--region", "data=64M", "--listen", "tloe://v0", *words)

    def run_oxmem(self, *words, space=None, prefix=(), seconds=60.0):
        begin = time.monotonic()
        process = self.start(*words, space=space, prefix=prefix)
        code = process.wait(seconds)
        return Result(code, process.out, process.err, time.monotonic() - begin)

    def check(self, *words, **more):
        """Runs a command that must succeed and say nothing on stderr."""
        result = self.run_oxmem(*words, **more)
        self.assertEqual((result.code, result.err), (0, ""), result)
        return result

    def refused(self, code, pattern, *words, **more):
        """Runs a command that must fail with this code and one line that has the pattern."""
        result = self.run_oxmem(*words, **more)
        self.assertEqual(result.code, code, result)
        self.assertRegex(result.err, pattern)
        self.assertEqual(result.err.count("\n"), 1, result)
        self.assertTrue(result.err.startswith("oxmem"), result)
        return result


def main():
    global OXMEM, SANITIZED
    arguments = sys.argv[1:]
    if "--oxmem" not in arguments:
        sys.exit("usage: --oxmem PATH [--sanitized SANITIZERS] [unittest arguments]")
    at = arguments.index("--oxmem")
    OXMEM = os.path.abspath(arguments[at + 1])
    del arguments[at:at + 2]
    if "--sanitized" in arguments:
        at = arguments.index("--sanitized")
        SANITIZED = arguments[at + 1]
        del arguments[at:at + 2]
    if reason := why_no_namespaces():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    unittest.main(module="__main__", argv=[sys.argv[0], *arguments], verbosity=2)
