"""Mounts of a node's memory on the same host: one memory for everybody who maps it."""
import mmap
import os
import signal

import mount_e2e
from mount_e2e import MountTest


class Shared(MountTest):
    def setUp(self):
        super().setUp()
        os.makedirs(self.env["OXMEM_RUNTIME_DIR"], exist_ok=True)
        self.other = self.path("other")
        os.mkdir(self.other)

    def node(self, *listens, size="8M"):
        words = [word for listen in listens for word in ("--listen", listen)]
        return self.serve(None, "--region", f"data={size}", *words, listens=len(listens))

    def map(self, path):
        fd = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, fd)
        memory = mmap.mmap(fd, 1 << 20)
        self.addCleanup(memory.close)
        return fd, memory

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
        failed = 0
        for _ in range(20):
            try:
                os.pwrite(fd, b"x", 9)
            except OSError:
                failed += 1
                break
        self.assertEqual(failed, 1)
        self.node("shm://pool")
        for _ in range(30):
            try:
                os.pwrite(fd, b"after", 0)
                break
            except OSError:
                continue
        self.assertEqual(os.pread(fd, 5, 0), b"after")

    def test_what_is_wrong_is_one_line(self):
        self.refused(1, "pool", "mount", "shm://pool", self.dir)
        self.refused(2, "mode=9 is not an octal", "serve", "--region", "data=1M", "--listen",
                     f"unix:{self.path('sock')}?mode=9")
        self.refused(2, "anonymous memory, which no other process can map", "serve", "--region",
                     "data=1M,backing=anonymous", "--listen", "shm://pool")
        self.assertEqual(os.listdir(self.dir), [])


if __name__ == "__main__":
    mount_e2e.main()
