"""Mounts whose own files would lie in them, whose sources do not fit together, and other odd ones."""
import os
import re
import signal
import subprocess
import sys
import time

import mount_e2e
from mount_e2e import MountTest


class InItself(MountTest):
    """A daemon that used its own mount would wait for itself."""

    def refused_and_nothing_there(self, pattern, *words, code=2, **more):
        result = self.refused(code, pattern, "mount", *words, seconds=15.0, **more)
        self.assertFalse(os.path.ismount(self.dir))
        self.assertEqual(os.listdir(self.dir), [])
        self.wait_for_no_process()
        return result

    def test_the_statistics_file(self):
        pattern = "-o stats: .* lies in .*, which is to be mounted; choose another place"
        inside = self.path("inside")
        os.symlink(self.dir, inside)
        for path in (self.dir + "/x", self.dir, self.dir + "/../mnt/./x", inside + "/x"):
            for where in ([], ["-f"]):
                self.refused_and_nothing_there(pattern, *where, "mem:?size=1M", "-o",
                                               "stats=" + path, self.dir)
        self.refused_and_nothing_there(pattern, "mem:?size=1M", "-o", "stats=x", self.dir,
                                       prefix=["env", "-C", self.dir])
        # Beside it, with a name that begins alike.
        self.check("mount", "mem:?size=1M", "-o", "stats=" + self.dir + "x", self.dir)
        self.assertTrue(os.path.exists(self.dir + "x"))

    def test_the_directory_for_sockets(self):
        pattern = "directory for sockets .* lies in .*; choose another place"
        for place in (self.dir, self.dir + "/run"):
            self.env["OXMEM_RUNTIME_DIR"] = place
            for where in ([], ["-f"]):
                self.refused_and_nothing_there(pattern, *where, "mem:?size=1M", self.dir)
        self.env["OXMEM_RUNTIME_DIR"] = self.path("run")

    def test_a_successor_is_refused_too_and_the_mount_goes_on(self):
        self.check("mount", "mem:?size=1M", self.dir)
        daemon = self.daemon()
        self.refused(2, "-o stats: .* lies in", "mount", "--replace", "mem:?size=1M", "-o",
                     "stats=" + self.data, self.dir)
        self.assertEqual(self.daemons(), [daemon])


class Terminated(MountTest):
    """SIGTERM while a program has dirty mapped pages of a node that is out of reach."""

    def terminate(self, net, *words):
        """A store that reaches no node; then the daemon gets SIGTERM."""
        daemon = self.mount(net.source + "?size=1M", *words, space=net.client)
        writer = subprocess.Popen(
            [sys.executable, "-c", "import mmap, os, sys\n"
             "mapped = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 1 << 20)\n"
             "print(mapped[5], flush=True)\ninput()\n"
             "mapped[5] = 65\nprint('dirty', flush=True)\ninput()\n", self.data],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(writer.stdin.close)
        self.addCleanup(writer.stdout.close)
        self.addCleanup(writer.wait)
        self.addCleanup(writer.kill)
        self.assertEqual(writer.stdout.readline(), "0\n")
        net.node.run("ip", "link", "set", "v0", "down")
        writer.stdin.write("\n")
        writer.stdin.flush()
        self.assertEqual(writer.stdout.readline(), "dirty\n")
        daemon.signal(signal.SIGTERM)
        # Until it has a child that waits, or has ended.
        until = time.monotonic() + 20
        while not self.waits(daemon.pid):
            self.assertLess(time.monotonic(), until)
        return daemon

    def test_what_is_dirty_is_written_back(self):
        net = self.net()
        self.node(net)
        daemon = self.terminate(net)
        net.node.run("ip", "link", "set", "v0", "up")
        self.assertEqual(daemon.wait(), 0)
        self.assertIn("was in use and is detached: python3", daemon.err)
        self.assertNotIn("could be written back", daemon.err)
        self.mount(net.source + "?size=1M", "-o", "dax=never", space=net.client)
        with open(self.data, "rb") as file:
            self.assertEqual(file.read(7), b"\0\0\0\0\0A\0")

    def test_a_node_that_is_dead_is_not_waited_for(self):
        net = self.net()
        self.node(net)
        daemon = self.terminate(net, "-o", "timeout=300ms")
        self.assertEqual(daemon.wait(), 0)
        self.assertIn("not everything could be written back: Input/output error", daemon.err)

    def test_who_is_killed_meanwhile_ends(self):
        net = self.net()
        self.node(net)
        daemon = self.terminate(net, "-o", "timeout=0")
        daemon.signal(signal.SIGKILL)
        self.assertEqual(daemon.wait(20), -signal.SIGKILL)

    def waits(self, pid):
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
                for child in children.read().split():
                    with open(f"/proc/{child}/status", encoding="ascii") as status:
                        if re.search(r"State:\t[DS]", status.read()):
                            return True
            with open(f"/proc/{pid}/status", encoding="ascii") as status:
                return "State:\tZ" in status.read()
        except OSError:
            return False


class Sources(MountTest):
    def test_a_peer_can_be_waited_for_without_end(self):
        self.serve(None, "--region", "data=1M", "--listen", "unix:" + self.path("node.sock"))
        self.check("mount", "unix:" + self.path("node.sock"), "-o", "timeout=0", self.dir)
        self.assertEqual(os.stat(self.data).st_size, 1 << 20)


class Unequal(MountTest):
    def test_what_the_smallest_part_decides_is_said(self):
        source = "stripe:(mem:?size=3M,mem:?size=1M)"
        daemon = self.mount(source)
        self.assertIn("2M, page-cache", daemon.out)
        self.assertIn("not used: 2M of part 1", daemon.out)
        daemon.wait_for("data: not used, as the smallest part decides: 2M of part 1")
        facts = [part["facts"] for process in self.statistics() for part in process["parts"]
                 if part["kind"] == "file"]
        self.assertEqual(facts[0]["not_used"], "2M of part 1")
        self.assertRegex(self.check("info", source).out, r"not used +2M of part 1\n")
        self.assertEqual(self.check("info", "--json", source).json["transport"]["not used"],
                         "2M of part 1")

    def test_in_the_background_too(self):
        result = self.check("mount", "mirror:(mem:?size=1M,mem:?size=1025K)", self.dir)
        self.assertRegex(result.out, r"/data: .*, not used: 1K of part 2\n")

    def test_of_equal_parts_nothing_is_said(self):
        result = self.check("mount", "stripe:(mem:?size=1M,mem:?size=1M)", self.dir)
        self.assertNotIn("not used", result.out)


if __name__ == "__main__":
    mount_e2e.main()
