"""What a mount must withstand: peers that die or never answer, load, many users, bad places."""
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

import mount_e2e
import oxmem_e2e
from mount_e2e import MountTest
from oxmem_e2e import CLIENT_MAC, NODE_MAC, Namespace

FIO = unittest.skipUnless(shutil.which("fio"), "there is no fio")
NOBODY = 65534
MOUNTS = 200


class LossyNet:
    """As oxmem_e2e.Net, with a hop between the two that loses every fiftieth frame at random."""

    RELAY = """
import random, select, socket
random.seed(1)
ends = []
for name in ("m0", "m1"):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    end.bind((name, 0))
    ends.append(end)
print("ready", flush=True)
while True:
    for end in select.select(ends, [], [])[0]:
        frame, address = end.recvfrom(65536)
        if address[2] == socket.PACKET_OUTGOING or random.random() < 0.02:
            continue
        try:
            ends[1 - ends.index(end)].send(frame)
        except OSError:
            pass  # lost as well
"""

    def __init__(self):
        self.client, self.node, self._hop = Namespace(), Namespace(), Namespace()
        self.source = f"tloe://v0/{NODE_MAC}"
        for space, mac, name in ((self.client, CLIENT_MAC, "m0"), (self.node, NODE_MAC, "m1")):
            space.run("ip", "link", "add", "v0", "mtu", "9000", "address", mac, "type", "veth",
                      "peer", "name", name, "mtu", "9000", "netns", str(self._hop.pid))
            space.run("ip", "link", "set", "v0", "up")
            self._hop.run("ip", "link", "set", name, "up")
        self._relay = subprocess.Popen([*self._hop.prefix(), sys.executable, "-c", self.RELAY],
                                       stdout=subprocess.PIPE, text=True)
        if self._relay.stdout.readline() != "ready\n":
            raise RuntimeError("the hop does not work")

    def close(self):
        self._relay.kill()
        self._relay.wait()
        self._relay.stdout.close()
        for space in (self.client, self.node, self._hop):
            space.close()


class Nodes(MountTest):
    """The other end goes away, or was never there."""

    @FIO
    def test_kill_9_of_the_node_under_fio_and_its_return(self):
        net = self.net()
        backing = f"backing=file:{self.path('region')}"
        listen = ("--region", f"data=8M,{backing}", "--listen", "tloe://v0")
        node = self.serve(net.node, *listen)
        self.mount(net.source + "?size=8M", "-o", "dax=never,timeout=30s", space=net.client)
        fio = self.fio("--ioengine=libaio", "--direct=1", "--iodepth=16", "--bs=4k", "--loops=3",
                       "--rate_iops=3000")
        for _ in range(2):
            before = self.counted("writes")
            self.wait_until_counted("writes", before + 300)
            node.signal(signal.SIGKILL)
            node.wait()
            node = self.serve(net.node, *listen)
        self.assertEqual(fio.wait(120), 0, fio.stdout.read())

    def test_a_source_that_never_answers_is_refused_in_time(self):
        net = self.net()
        for words in ((), ("-f",)):
            result = self.refused(1, r"no answer from .* on v0", "mount", *words,
                                  net.source + "?size=8M&connect_timeout=400ms", self.dir,
                                  space=net.client)
            self.assertLess(result.seconds, 5)
            self.assertEqual(os.listdir(self.dir), [])
            self.wait_for_no_process()

    def test_nothing_hangs_on_a_node_that_falls_silent(self):
        net = self.net()
        node = self.node(net)
        daemon = self.mount(net.source + "?size=8M", "-o", "dax=never,timeout=2s",
                            space=net.client)
        fd = os.open(self.data, os.O_RDWR)
        self.addCleanup(lambda: os.close(fd) if fd >= 0 else None)
        node.stop()
        self.addCleanup(node.signal, signal.SIGCONT)
        self.wait_until_stopped(node.pid)
        begin = time.monotonic()
        with self.assertRaises(OSError):
            os.pread(fd, 4096, 0)
        self.assertLess(time.monotonic() - begin, 8)
        begin = time.monotonic()
        self.run_tool("ls", "-l", self.dir, seconds=10)
        self.run_tool("df", self.dir, seconds=10)
        self.run_tool("stat", self.data, seconds=10)
        self.assertLess(time.monotonic() - begin, 5)
        os.close(fd)
        fd = -1
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(20), 0)
        self.assertEqual(os.listdir(self.dir), [])

    def wait_until_stopped(self, pid):
        until = time.monotonic() + 20
        for task in os.listdir(f"/proc/{pid}/task"):
            state = ""
            while state != "T":
                self.assertLess(time.monotonic(), until, "it does not stop")
                with open(f"/proc/{pid}/task/{task}/stat", encoding="ascii") as file:
                    state = file.read().rpartition(")")[2].split()[0]

    def test_the_contents_are_right_with_2_percent_of_the_frames_lost(self):
        net = LossyNet()
        self.addCleanup(net.close)
        self.node(net)
        for dax in ("never", "auto"):
            daemon = self.mount(net.source + "?size=8M", "-o", f"dax={dax}", space=net.client)
            self.check_file("--operations", "100", "--processes", "2", "--seed", "7")
            self.assertGreater(self.counted("channel_resends"), 0)
            daemon.signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)


class Load(MountTest):
    @FIO
    def test_umount_under_load_says_who_holds_it_and_changes_nothing(self):
        self.check("mount", "mem:?size=8M", "-o", "dax=never", self.dir)
        fio = self.fio("--ioengine=psync", "--bs=4k", "--loops=20")
        self.wait_until_counted("writes", 100)
        self.refused(1, rf"is in use: .*fio .*has {self.data} open", "umount", self.dir)
        self.assertEqual(fio.wait(120), 0, fio.stdout.read())
        self.check("umount", self.dir)
        self.wait_for_no_process()

    def test_lazy_umount_lets_the_user_finish(self):
        self.check("mount", "mem:?size=8M", "-o", "dax=never", self.dir)
        with open(self.data, "r+b", buffering=0) as file:
            self.check("umount", "--lazy", self.dir)
            self.assertEqual(os.listdir(self.dir), [])
            file.write(b"x" * 100000)
            file.seek(99999)
            self.assertEqual(file.read(2), b"x\0")
        self.wait_for_no_process()

    def test_64_processes_at_once(self):
        self.mount("mem:?size=32M", "-o", "dax=never,threads=2")
        self.check_file("--operations", "40", "--processes", "64")

    def test_64_processes_at_once_on_one_channel(self):
        self.mount("delay:(mem:?size=32M)?latency=20us")
        self.check_file("--operations", "20", "--processes", "64")

    def test_mounts_in_a_row_leave_nothing_behind(self):
        def left():
            with open("/proc/mounts", encoding="utf-8") as mounts:
                mounted = mounts.read().count(self.directory)
            return mounted, self.processes(), os.listdir(self.env["OXMEM_RUNTIME_DIR"])

        for number in range(MOUNTS):
            words = ("-o", ("dax=never", "threads=2,dax=never", "dax=auto")[number % 3])
            self.check("mount", "mem:?size=1M", *words, self.dir)
            with open(self.data, "r+b", buffering=0) as file:
                file.write(b"x" * 5000)
            self.check("umount", self.dir)
            self.wait_for_no_process()
        self.assertEqual(left(), (0, [], []))

    def test_one_daemon_takes_no_more_memory_and_descriptors_with_use(self):
        daemon = self.mount("mem:?size=4M", "-o", "dax=never")

        def usage():
            with open(f"/proc/{daemon.pid}/statm", encoding="ascii") as statm:
                pages = int(statm.read().split()[1])
            return len(os.listdir(f"/proc/{daemon.pid}/fd")), pages

        def use():
            for _ in range(200):
                with open(self.data, "r+b", buffering=0) as file:
                    file.write(b"x" * 100000)
                    os.listxattr(self.data)
                    os.listdir(self.dir)

        use()
        fds, pages = usage()
        for _ in range(5):
            use()
        self.assertEqual(usage()[0], fds)
        if not oxmem_e2e.SANITIZED:  # which keeps what was freed, and looks for leaks itself
            self.assertLess(usage()[1], pages + 512)


class Places(MountTest):
    def test_a_mount_point_that_is_taken_missing_or_full(self):
        self.check("mount", "mem:?size=1M", self.dir)
        self.refused(1, "mounted there already; oxmem umount", "mount", "mem:?size=1M", self.dir)
        self.assertEqual(os.stat(self.data).st_size, 1 << 20)
        self.check("umount", self.dir)
        with open(os.path.join(self.dir, "file"), "w", encoding="ascii"):
            pass
        self.refused(1, r"not empty \(\"file\" is in it", "mount", "mem:?size=1M", self.dir)
        self.refused(1, "no such directory .make it with mkdir", "mount", "mem:?size=1M",
                     self.path("none"))
        self.wait_for_no_process()

    def test_a_directory_through_a_link_and_with_a_slash(self):
        os.symlink(self.dir, self.path("link"))
        self.check("mount", "mem:?size=1M", self.path("link") + "/")
        self.assertEqual(os.stat(self.data).st_size, 1 << 20)
        self.check("umount", self.path("link"))
        self.check("mount", "mem:?size=1M", os.path.relpath(self.dir))
        self.check("umount", os.path.relpath(self.dir))


@unittest.skipUnless(shutil.which("fusermount3") and shutil.which("setpriv"),
                     "there is no fusermount3 or setpriv")
@unittest.skipUnless(os.path.exists("/etc/mtab"), "fusermount3 wants /etc/mtab")
class Unprivileged(MountTest):
    USER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")

    def setUp(self):
        super().setUp()
        # Where another user can run it.
        self.binary = self.path("oxmem")
        shutil.copy(oxmem_e2e.OXMEM, self.binary)
        for path in (self.directory, self.dir):
            os.chown(path, NOBODY, NOBODY)
        self.user_env = dict(self.env, HOME=self.directory)
        self.addCleanup(self.kill_users)

    def kill_users(self):
        subprocess.run(["umount", "-l", self.dir], capture_output=True)

    def as_user(self, *words):
        return subprocess.run([*self.USER, self.binary, *words], capture_output=True, text=True,
                              timeout=60, env=self.user_env)

    def test_a_killed_daemon_is_followed_by_another_one(self):
        done = self.as_user("mount", "mem:?size=1M", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.run_tool(*self.USER, "sh", "-c", f"echo hello | dd of={self.data} conv=notrunc")
        os.kill(self.daemon(), signal.SIGKILL)
        self.assertEqual(self.run_tool(*self.USER, "head", "-c6", self.data), "hello\n")
        done = self.as_user("umount", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_places_that_are_not_the_users(self):
        done = self.as_user("mount", "mem:?size=1M", "/mnt")
        self.assertEqual(done.returncode, 1, done)
        self.assertRegex(done.stderr, "^oxmem mount: ")
        os.chown(self.dir, 0, 0)
        os.chmod(self.dir, 0o700)
        done = self.as_user("mount", "mem:?size=1M", self.dir)
        self.assertEqual(done.returncode, 1, done)
        self.assertRegex(done.stderr, "Permission denied|not permitted|permission")


if __name__ == "__main__":
    mount_e2e.main()
