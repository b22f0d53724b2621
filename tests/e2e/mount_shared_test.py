"""Mounts of a node's memory on the same host: one memory for everybody who maps it."""
import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import signal
import subprocess
import time

import mount_e2e
import oxmem_e2e
from mount_e2e import MountTest


class Shared(MountTest):
    def setUp(self):
        super().setUp()
        os.makedirs(self.env["OXMEM_RUNTIME_DIR"], exist_ok=True)
        self.other = self.path("other")
        os.mkdir(self.other)
        self.addCleanup(subprocess.run, ["umount", "-l", self.other], capture_output=True)

    def node(self, *listens, size="8M"):
        words = [word for listen in listens for word in ("--listen", listen)]
        return self.serve(None, "--region", f"data={size}", *words, listens=len(listens))

    def map(self, path):
        fd = os.open(path, os.O_RDWR)
        self.addCleanup(self.close, fd)
        memory = mmap.mmap(fd, 1 << 20)
        self.addCleanup(memory.close)
        return fd, memory

    @staticmethod
    def close(fd):
        """Closing says EIO too where the memory was lost."""
        with contextlib.suppress(OSError):
            os.close(fd)

    def test_on_a_host_where_nothing_of_oxmem_ran_yet(self):
        for listen in ("shm://pool", f"unix:{self.env['OXMEM_RUNTIME_DIR']}/node.sock"):
            shutil.rmtree(self.env["OXMEM_RUNTIME_DIR"], ignore_errors=True)
            node = self.serve(None, "--region", "data=1M", "--listen", listen)
            self.assertEqual(self.check("info", "--json", listen).json["size_bytes"], 1 << 20)
            node.signal(signal.SIGTERM)
            self.assertEqual(node.wait(), 0)

    def test_stores_are_seen_by_the_node_and_by_every_other_mapping_at_once(self):
        self.node("shm://pool", f"unix:{self.path('sock')}?mode=0600")
        self.mount("shm://pool", "-o", "dax=always")
        second = self.start("mount", "-f", f"unix:{self.path('sock')}", self.other)
        second.wait_for(r"(?m)/data: .*, passthrough")
        _, first_map = self.map(self.data)
        fd, second_map = self.map(os.path.join(self.other, "data"))
        first_map[5000:5005] = b"hello"
        self.assertEqual(second_map[5000:5005], b"hello")
        self.assertEqual(os.pread(fd, 5, 5000), b"hello")
        # What the node itself has: the descriptor it hands to everybody, by way of its process.
        os.pwrite(fd, b"world", 70000)
        self.assertEqual(first_map[70000:70005], b"world")
        result = self.check("info", "--json", "shm://pool")
        self.assertIn("8388608", result.out)
        for memory in self.node_memory():
            self.assertEqual((os.pread(memory, 5, 5000), os.pread(memory, 5, 70000)),
                             (b"hello", b"world"))

    def node_memory(self):
        """The memfd of the node that this test started."""
        found = []
        for process in self.check("stats", "--json").json:
            if process["command"] != "serve":
                continue
            for name in os.listdir(f"/proc/{process['pid']}/fd"):
                path = f"/proc/{process['pid']}/fd/{name}"
                if "memfd:oxmem" in os.readlink(path):
                    found.append(os.open(path, os.O_RDONLY))
                    self.addCleanup(os.close, found[-1])
        self.assertNotEqual(found, [])
        return found

    def test_what_two_mounts_of_a_region_see_of_each_other(self):
        """As oxmem-mount(1) says it, mode by mode."""
        self.serve(None, "--region", "memory=64K", "--region",
                   f"file=64K,backing=file:{self.path('region')}", "--listen", "shm://pool")
        for mode, region, dax in (("passthrough", "memory", "always"), ("direct", "memory", "never"),
                                  ("page-cache", "file", "auto")):
            with self.subTest(mode), contextlib.ExitStack() as stack:
                for directory in (self.dir, self.other):
                    self.check("mount", f"shm://pool/{region}", "-o", f"dax={dax}", directory)
                    stack.callback(self.check, "umount", directory)
                here, there = (os.path.join(place, region) for place in (self.dir, self.other))
                self.assertEqual(os.getxattr(here, "user.oxmem.dax"), mode.encode())
                self.check_coherence(mode, here, there, stack)

    def check_coherence(self, mode, here, there, stack):
        def open_file(path):
            fd = os.open(path, os.O_RDWR)
            stack.callback(os.close, fd)
            return fd
        writer = open_file(there)
        os.pwrite(writer, b"1--", 0)
        reader = open_file(here)
        memory = mmap.mmap(reader, 4096)
        stack.callback(memory.close)
        self.assertEqual((os.pread(reader, 1, 0), memory[:1]), (b"1", b"1"))
        os.pwrite(writer, b"2", 0)
        self.assertEqual(os.pread(reader, 1, 0), b"1" if mode == "page-cache" else b"2")
        self.assertEqual(memory[:1], b"2" if mode == "passthrough" else b"1")
        # Whoever opens the file anew has all of that mount look again.
        again = open_file(here)
        self.assertEqual([os.pread(again, 1, 0), os.pread(reader, 1, 0), memory[:1]], [b"2"] * 3)
        # Written at once; stored with msync, and then by whole pages.
        os.pwrite(reader, b"w", 5000)
        self.assertEqual(os.pread(open_file(there), 1, 5000), b"w")
        memory[1] = ord("s")
        os.pwrite(writer, b"o", 2)
        self.assertEqual(os.pread(open_file(there), 3, 0),
                         b"2so" if mode == "passthrough" else b"2-o")
        memory.flush()
        self.assertEqual(os.pread(open_file(there), 3, 0),
                         b"2so" if mode == "passthrough" else b"2s-")
        for fd in (reader, writer):  # each in its own mount
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_the_checker_in_every_mode(self):
        self.node("shm://pool", size="4M")
        for dax in ("always", "never", "auto"):
            daemon = self.mount("shm://pool", "-o", f"dax={dax}")
            self.check_file("--operations", "200", "--processes", "2")
            daemon.signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)

    def test_a_file_open_by_passthrough_goes_on_after_its_daemon_was_killed(self):
        self.node("shm://pool")
        self.check("mount", "shm://pool", "-o", "dax=always", self.dir)
        fd, memory = self.map(self.data)
        memory[0:4] = b"kept"
        first = self.daemon()
        os.kill(first, signal.SIGKILL)
        self.daemon(other_than=[first])
        again, _ = self.map(self.data)
        self.assertEqual(os.pread(again, 4, 0), b"kept")
        os.pwrite(fd, b"more", 4)
        self.assertEqual(memory[0:8], b"keptmore")

    def test_a_dead_node_gives_errors_in_time_and_is_found_again(self):
        node = self.node("shm://pool")
        self.mount("shm://pool?timeout=1s", "-o", "dax=never,timeout=5s")
        fd = os.open(self.data, os.O_RDWR)
        self.addCleanup(os.close, fd)
        os.pwrite(fd, b"before", 0)
        node.signal(signal.SIGKILL)
        node.wait()
        # The memory is still mapped: the daemon has to hear first that nobody is there any more.
        failed, begin = False, time.monotonic()
        while not failed and time.monotonic() - begin < 5.0:
            try:
                os.pwrite(fd, b"x", 9)
            except OSError:
                failed = True
        self.assertTrue(failed)
        self.node("shm://pool")
        for _ in range(30):
            try:
                os.pwrite(fd, b"after", 0)
                break
            except OSError:
                continue
        self.assertEqual(os.pread(fd, 5, 0), b"after")

    def lose_node_under_passthrough(self, *words, timeout="1s"):
        """A mount whose node was killed while a file and a mapping were open: both, and the node."""
        node = self.node("shm://pool")
        daemon = self.mount(f"shm://pool?timeout={timeout}", "-o", "dax=always", *words)
        fd, memory = self.map(self.data)
        memory[0:6] = b"before"
        node.signal(signal.SIGKILL)
        node.wait()
        daemon.wait_for("data: region .*; files that are open on the memory it had fail from now on")
        return fd, memory

    def fails(self, call, *numbers):
        """Until the call fails so, within a time in which it may still work."""
        until = time.monotonic() + 20
        while True:
            try:
                call()
            except OSError as error:
                self.assertIn(error.errno, numbers)
                return
            self.assertLess(time.monotonic(), until, "it goes on working")

    def test_a_lost_nodes_memory_is_read_by_nobody_who_opened_it(self):
        fd, memory = self.lose_node_under_passthrough()
        self.fails(lambda: os.pread(fd, 6, 0), errno.EIO)
        self.fails(lambda: os.pwrite(fd, b"x", 0), errno.EIO)
        self.fails(lambda: os.fsync(fd), errno.EIO)
        # While there is no node, an open waits as long as any other request, and fails.
        begin = time.monotonic()
        self.fails(lambda: os.open(self.data, os.O_RDWR), errno.EIO)
        self.assertGreater(time.monotonic() - begin, 0.5)
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(os.stat(self.data).st_size, 8 << 20)
        self.assertIn("pool", os.getxattr(self.data, "user.oxmem.health").decode())
        # Mappings are the only thing that cannot be taken away.
        self.assertEqual(memory[0:6], b"before")

    def test_the_next_nodes_memory_is_what_is_opened_then(self):
        fd, memory = self.lose_node_under_passthrough()
        self.node("shm://pool")
        again, new = self.map(self.data)
        self.assertEqual((os.pread(again, 6, 0), new[0:6]), (b"\0" * 6, b"\0" * 6))
        os.pwrite(again, b"after", 0)
        self.assertEqual(new[0:5], b"after")
        for memory_fd in self.node_memory():
            self.assertEqual(os.pread(memory_fd, 5, 0), b"after")
        self.fails(lambda: os.pread(fd, 6, 0), errno.EIO)
        self.assertEqual(memory[0:6], b"before")
        self.assertEqual(os.getxattr(self.data, "user.oxmem.memory_losses"), b"1")
        self.assertEqual(self.counted("memory_losses"), 1)
        self.check_file("--operations", "100", "--processes", "2")

    def test_an_open_waits_for_a_node_that_comes_back(self):
        self.lose_node_under_passthrough(timeout="20s")
        opener = subprocess.Popen(["head", "-c1", self.data], stdout=subprocess.PIPE)
        self.addCleanup(opener.stdout.close)
        self.node("shm://pool")
        self.assertEqual(opener.communicate(timeout=30)[0], b"\0")

    def test_an_open_that_was_asked_for_before_the_loss_was_noticed_waits_as_well(self):
        node = self.node("shm://pool")
        daemon = self.mount("shm://pool?timeout=20s", "-o", "dax=always")
        self.map(self.data)
        opener = subprocess.Popen(["sh", "-c", 'read go; exec head -c1 "$0"', self.data], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        self.addCleanup(opener.stdout.close)
        daemon.stop()
        node.signal(signal.SIGKILL)
        node.wait()
        # It finds the file that was there before: the kernel remembers names.
        opener.stdin.write(b"go\n")
        opener.stdin.close()
        self.wait_until_it_waits(opener.pid)
        daemon.signal(signal.SIGCONT)
        daemon.wait_for("data: region .*; files that are open on the memory it had fail from now on")
        # Done by now, by the daemon itself and here: the name stands for another file.
        os.stat(self.data)
        self.node("shm://pool")
        self.assertEqual((opener.stdout.read(), opener.wait()), (b"\0", 0))

    def wait_until_it_waits(self, pid):
        """For the daemon: a process that was started to open the file."""
        until = time.monotonic() + 20
        while True:
            with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
                if file.read() == "request_wait_answer":
                    return
            self.assertLess(time.monotonic(), until)

    def test_several_threads_lose_it_once(self):
        self.lose_node_under_passthrough("-o", "threads=3")
        for number in range(2, 5):
            node = self.node("shm://pool")
            fds = [os.open(self.data, os.O_RDWR) for _ in range(9)]
            for fd in fds:
                os.pwrite(fd, b"x", number)
            self.assertEqual(self.counted("memory_losses"), number - 1)
            node.signal(signal.SIGKILL)
            node.wait()
            for fd in fds:
                self.fails(lambda fd=fd: os.pread(fd, 1, 0), errno.EIO)
                self.close(fd)

    def test_a_node_and_the_daemon_are_lost_together(self):
        node = self.node("shm://pool")
        self.check("mount", "shm://pool", "-o", "dax=always", self.dir)
        fd, _ = self.map(self.data)
        first = self.daemon()
        oxmem_e2e.stop(first)
        node.signal(signal.SIGKILL)
        node.wait()
        self.node("shm://pool")
        os.kill(first, signal.SIGKILL)
        self.daemon(other_than=[first])
        self.fails(lambda: os.pread(fd, 1, 0), errno.EIO)
        again, memory = self.map(self.data)
        os.pwrite(again, b"new", 7)
        self.assertEqual(memory[7:10], b"new")
        self.assertEqual(os.getxattr(self.data, "user.oxmem.memory_losses"), b"1")

    def test_what_is_wrong_is_one_line(self):
        self.refused(1, "pool", "mount", "shm://pool", self.dir)
        self.refused(2, "mode=9 is not an octal", "serve", "--region", "data=1M", "--listen",
                     f"unix:{self.path('sock')}?mode=9")
        self.refused(2, "anonymous memory, which no other process can map", "serve", "--region",
                     "data=1M,backing=anonymous", "--listen", "shm://pool")
        self.assertEqual(os.listdir(self.dir), [])


if __name__ == "__main__":
    mount_e2e.main()
