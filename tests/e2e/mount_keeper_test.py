"""Keepers that are killed, and mounts that have none: the daemon goes on, and can be replaced."""
import os
import shutil
import signal
import subprocess
import time
import unittest

import mount_e2e
import oxmem_e2e
from mount_e2e import build_path
from mount_takeover_test import TakeOverTest

FIO = unittest.skipUnless(shutil.which("fio"), "there is no fio")


class KeeperTest(TakeOverTest):
    def keeper_facts(self):
        return [part["facts"]["keeper"] for process in self.statistics()
                if process["command"] == "mount"
                for part in process["parts"] if part["kind"] == "mount"]

    def wait_until_kept(self, kept="yes", seconds=30.0):
        until = time.monotonic() + seconds
        while self.keeper_facts() != [kept]:
            self.assertLess(time.monotonic(), until, self.keeper_facts())

    def keepers(self):
        """Of this test's mounts: by the name that a keeper gives itself."""
        found = []
        for pid in self.processes():
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                    name, state = file.read().split("(", 1)[1].rsplit(") ", 1)
            except OSError:
                continue
            if name == "oxmem-keeper" and not state.startswith("Z"):
                found.append(pid)
        return found

    def kill_keeper(self, again=True):
        """And waits until the daemon has another one."""
        until = time.monotonic() + 30
        # That of a daemon before this one may be about to end.
        while len(before := self.keepers()) > 1:
            self.assertLess(time.monotonic(), until, before)
        self.assertEqual(len(before), 1)
        os.kill(before[0], signal.SIGKILL)
        while again and (not self.keepers() or self.keepers() == before):
            self.assertLess(time.monotonic(), until, "the daemon starts no other keeper")
        self.wait_until_kept("yes" if again else "no")


class Killed(KeeperTest):
    """kill -9 of the keeper, then kill -9 of the daemon: open files go on."""

    def check_goes_on(self, *words, command=None, **more):
        if command:
            self.run_tool(*command, env=self.env)
        else:
            self.check("mount", *words, **more)
        fd = self.open()
        os.pwrite(fd, b"before", 1000)
        daemon = self.daemon()
        for round_number in range(2):
            self.kill_keeper()
            self.assertEqual(self.daemons(), [daemon])
            os.pwrite(fd, b"kept%d" % round_number, 2000)
            self.kill_daemon(daemon)
            os.pwrite(fd, b"after", 500000)
            self.assertEqual(os.pread(fd, 6, 1000), b"before")
            daemon = self.daemon(other_than=[daemon])
            self.assertEqual(os.pread(self.open(), 5, 500000), b"after")
            self.assertEqual(os.pread(fd, 5, 2000), b"kept%d" % round_number)
        self.kill_keeper()
        self.assertEqual(os.pread(fd, 6, 1000), b"before")
        os.close(os.dup(fd))

    def check_nothing_is_left(self):
        subprocess.run(["umount", "-l", self.dir], check=True)
        self.wait_for_no_process()
        self.check("stats")
        self.assertEqual(os.listdir(self.env["OXMEM_RUNTIME_DIR"]), [])

    def test_direct(self):
        self.check_goes_on("mem:?size=1M", "-o", "dax=never", self.dir)

    def test_passthrough(self):
        self.check_goes_on("mem:?size=1M", "-o", "dax=always", self.dir)

    def test_many_threads_and_every_option(self):
        self.check_goes_on("mem:?size=1M", "mem:?size=2M", "-o",
                           "dax=never,threads=3,name=data,name=b c;d=e,uid=5,gid=6,umask=077,"
                           "read_ahead=64K,timeout=7s,keep=20s,spin=0", self.dir)
        self.assertEqual(sorted(os.listdir(self.dir)), ["b c;d=e", "data"])
        self.assertEqual(os.stat(self.data).st_uid, 5)

    def test_over_the_wire(self):
        net = self.net()
        self.node(net)
        self.check_goes_on(net.source + "?size=8M", "-o", "dax=never", self.dir, space=net.client)

    def test_by_the_helper_of_mount(self):
        self.check_goes_on(command=[build_path("apps", "mount_helper", "mount.oxmem"),
                                    "mem:?size=1M", self.dir, "-o", "rw,dax=never"])

    def processes(self):
        helper = build_path("apps", "mount_helper", "mount.oxmem").encode()
        return super().processes() + [pid for pid in self.processes_of(helper)]

    def test_by_a_file_whose_socket_has_a_relative_path(self):
        self.serve(None, "--region", "data=1M", "--listen", "unix:" + self.path("node.sock"))
        with open(self.path("m.conf"), "w", encoding="ascii") as file:
            file.write("source = unix:./node.sock\n"
                       f"directory = {self.dir}\nname = \"data\"\ndax = never\nkeep = 30s\n")
        self.check_goes_on("-c", self.path("m.conf"), prefix=["env", "-C", self.directory])

    @FIO
    def test_fio_does_not_notice(self):
        net = self.net()
        self.node(net)
        self.check("mount", net.source + "?size=8M", "-o", "dax=never", self.dir, space=net.client)
        killed = []

        def kill_both():
            pid = self.daemon(other_than=killed)
            self.kill_keeper()
            killed.append(self.kill_daemon(pid))

        self.check_fio_goes_on(kill_both)

    def test_a_directory_that_was_relative_is_the_same_for_all(self):
        self.check("mount", "mem:?size=1M", "mnt", prefix=["env", "-C", self.directory])
        first = self.daemon()
        self.kill_daemon(first)
        second = self.daemon(other_than=[first])
        self.assertEqual([process["name"] for process in self.statistics()], [self.dir])
        self.check("mount", "--replace", "mem:?size=1M", "mnt", prefix=["env", "-C", self.directory])
        third = self.daemon(other_than=[first, second])
        self.kill_daemon(third)
        os.kill(self.daemon(other_than=[first, second, third]), signal.SIGTERM)
        until = time.monotonic() + 20
        while os.path.ismount(self.dir):
            self.assertLess(time.monotonic(), until, "SIGTERM does not unmount")

    def test_nothing_is_left_behind(self):
        self.check("mount", "mem:?size=1M", self.dir)
        self.kill_keeper()
        self.check_nothing_is_left()

    def test_in_the_foreground(self):
        words = ("mem:?size=1M", "-o", "dax=never,keep=60s")
        first = self.mount(*words)
        fd = self.open()
        os.pwrite(fd, b"kept", 5)
        self.kill_keeper()
        first.wait_for("its keeper was killed; another one is there")
        first.signal(signal.SIGKILL)
        first.wait()
        second = self.mount(*words)
        self.assertEqual(os.pread(fd, 4, 5), b"kept")
        self.assertIn("taken over", second.out)

    def test_the_limit(self):
        daemon = self.mount("mem:?size=1M", "-o", "dax=never,keep=60s")
        for _ in range(5):
            self.kill_keeper()
        self.kill_keeper(again=False)
        daemon.wait_for("again and again; until the next one is started, in .* s")
        self.assertEqual(self.keepers(), [])
        os.pread(self.open(), 1, 0)
        # Whoever wants to replace it is not refused for that.
        self.check("mount", "--replace", "mem:?size=1M", "-o", "dax=never", self.dir)
        self.assertEqual(daemon.wait(), 0)
        self.wait_until_kept()

    def test_a_stopped_keeper_is_no_reason_to_hang(self):
        self.check("mount", "mem:?size=1M", self.dir)
        keeper = self.keepers()[0]
        oxmem_e2e.stop(keeper)
        os.pread(self.open(), 1, 0)
        self.refused(1, f"{self.dir}: the keeper of the mount, .*does not answer: is it stopped",
                     "mount", "--replace", "mem:?size=1M", self.dir)
        os.kill(keeper, signal.SIGKILL)
        self.wait_until_kept()


class CheckedMeanwhile(KeeperTest):
    """The checker of contents goes on while daemons and keepers are killed and replaced."""

    def check_contents(self, *words, **more):
        self.check("mount", *words, self.dir, **more)
        checker = subprocess.Popen(
            [build_path("tests", "e2e", "mount", "file_checker"), self.data, "--operations",
             "1000000", "--processes", "3"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, start_new_session=True)
        self.addCleanup(checker.stderr.close)
        self.addCleanup(checker.wait)
        self.addCleanup(lambda: checker.poll() is None and os.killpg(checker.pid, signal.SIGKILL))
        self.daemon()
        for _ in range(3):
            served = self.daemons()
            self.kill_daemon(served[0])
            self.daemon(other_than=served)
            self.kill_keeper()
            self.check("mount", "--replace", *words, self.dir, **more)
            self.assertIsNone(checker.poll(), checker.poll() and checker.stderr.read())
        os.killpg(checker.pid, signal.SIGTERM)
        self.assertEqual((checker.wait(60), checker.stderr.read()), (-signal.SIGTERM, ""))
        # What is there now is what it wrote: another one reads all of it first.
        self.check_file("--operations", "50", "--processes", "3", "--seed", "9")

    def test_direct(self):
        self.check_contents("mem:?size=8M", "-o", "dax=never")

    def test_passthrough(self):
        self.check_contents("mem:?size=8M", "-o", "dax=always")

    def test_page_cache_and_many_threads(self):
        self.check_contents("stripe:(mem:?size=4M,mem:?size=4M)", "-o", "threads=3")

    def test_over_the_wire(self):
        net = self.net()
        self.node(net)
        self.check_contents(net.source + "?size=8M", space=net.client)

    def test_memory_of_a_node(self):
        self.serve(None, "--region", "data=8M", "--listen", "unix:" + self.path("node.sock"))
        self.check_contents("unix:" + self.path("node.sock"))


class Replaced(KeeperTest):
    """`--replace` of a mount that has no keeper."""

    def check_replaced(self, *words):
        first = self.mount(*words)
        fd = self.open()
        os.pwrite(fd, b"before", 77)
        self.assertEqual(self.processes(), [first.pid])
        result = self.check("mount", "--replace", *words, self.dir)
        self.assertRegex(result.out, "/data: .*, taken over\n")
        self.assertEqual(first.wait(), 0, first.err)
        self.assertEqual(os.pread(fd, 6, 77), b"before")
        os.pwrite(fd, b"again", 4000)
        self.assertEqual(os.pread(self.open(), 5, 4000), b"again")

    def test_direct(self):
        self.check_replaced("mem:?size=1M", "-o", "dax=never")

    def test_passthrough(self):
        self.check_replaced("mem:?size=1M", "-o", "dax=always")

    def test_it_said_it_wants_none(self):
        self.check("mount", "mem:?size=1M", "-o", "dax=never,keep=0", self.dir)
        fd = self.open()
        os.pwrite(fd, b"x", 9)
        for _ in range(2):
            self.check("mount", "--replace", "mem:?size=1M", "-o", "dax=never,keep=0", self.dir)
            self.assertEqual(os.pread(fd, 1, 9), b"x")
            self.assertEqual(self.keeper_facts(), ["no"])

    def test_who_is_refused_leaves_no_keeper_behind(self):
        daemon = self.mount("mem:?size=1M", "-o", "dax=never")
        fd = self.open()
        self.refused(1, "a file of it is data of mem:.size=1M", "mount", "--replace",
                     "mem:?size=2M", "-o", "dax=never", self.dir)
        until = time.monotonic() + 20
        while self.processes() != [daemon.pid]:
            self.assertLess(time.monotonic(), until, self.processes())
        self.assertEqual(self.keeper_facts(), ["no"])
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        with self.assertRaises(OSError):
            os.pread(fd, 1, 0)

    def test_from_where_the_daemon_cannot_be_asked(self):
        self.mount("mem:?size=1M")
        fd = self.open()
        self.env["OXMEM_RUNTIME_DIR"] = self.path("elsewhere")
        self.refused(1, f"mount: {self.dir}: cannot be taken over: no oxmem mount .*OXMEM_RUNTIME_DIR.*stays as it is",
                     "mount", "--replace", "mem:?size=1M", self.dir)
        os.pread(fd, 1, 0)

    @FIO
    def test_fio_does_not_notice(self):
        words = ("mem:?size=8M", "-o", "dax=never,keep=0")
        self.check("mount", *words, self.dir)
        self.check_fio_goes_on(lambda: self.check("mount", "--replace", *words, self.dir))


@unittest.skipUnless(shutil.which("ss"), "there is no ss")
class KilledWhileItHandsOver(KeeperTest):
    """kill -9 of the keeper after the daemon was asked to leave: the daemon goes on."""

    SOURCE = "delay:(mem:?size=1M)?latency=5s"

    def read_slowly(self):
        """A reader whose request keeps the daemon for a while from leaving."""
        reader = subprocess.Popen(["dd", "if=" + self.data, "of=/dev/null", "bs=4k", "count=1"],
                                  stderr=subprocess.PIPE, text=True)
        self.addCleanup(reader.stderr.close)
        self.addCleanup(reader.wait)
        self.addCleanup(lambda: reader.poll() is None and reader.kill())
        self.wait_until_counted("in_flight", 1)
        return reader

    def check_goes_on(self, *words):
        reader = self.read_slowly()
        before, daemon = self.keepers(), self.daemon()
        oxmem_e2e.stop(daemon)
        successor = self.start("mount", "--replace", *words, self.dir)
        until = time.monotonic() + 20
        while not self.was_asked_to_leave(daemon):
            self.assertLess(time.monotonic(), until, "the daemon is not asked to leave")
        os.kill(before[0], signal.SIGKILL)
        os.kill(daemon, signal.SIGCONT)
        self.assertEqual(successor.wait(), 1)
        self.assertRegex(successor.err, f"{self.dir}: the keeper of the mount.* try again")
        self.assertEqual(reader.wait(60), 0, reader.stderr.read())
        self.wait_until_kept()
        self.assertEqual(self.daemons(), [daemon])
        self.check("mount", "--replace", *words, self.dir)
        self.daemon(other_than=[daemon])
        self.check("umount", self.dir)
        self.wait_for_no_process()
        self.check("stats")
        self.assertEqual(os.listdir(self.env["OXMEM_RUNTIME_DIR"]), [])

    def was_asked_to_leave(self, daemon):
        """Its keeper has said something that it has not read."""
        sockets = self.run_tool("ss", "--unix", "--no-header", "--numeric", "--processes")
        return any(line.startswith("u_seq") and f"pid={daemon}," in line and
                   int(line.split()[2]) > 0 for line in sockets.splitlines())

    def test_in_the_background(self):
        words = (self.SOURCE, "-o", "dax=never")
        self.check("mount", *words, self.dir)
        self.check_goes_on(*words)


@unittest.skipIf(oxmem_e2e.SANITIZED, "a sanitizer wants to be preloaded first")
class OtherLibfuse(KeeperTest):
    """A successor whose libfuse agrees on something else with the kernel."""

    def check_refused(self, daemon, *words):
        fd = self.open()
        os.pwrite(fd, b"before", 77)
        processes = self.processes()
        library = build_path("tests", "e2e", "mount", "libother_libfuse.so")
        self.refused(1, "cannot be taken over: .*agrees on something else with the kernel",
                     "mount", "--replace", *words, self.dir,
                     prefix=["env", "LD_PRELOAD=" + library])
        self.assertEqual(self.daemons(), [daemon])
        self.assertEqual(os.pread(fd, 6, 77), b"before")
        os.pwrite(self.open(), b"after", 100)
        until = time.monotonic() + 20
        while sorted(self.processes()) != sorted(processes):
            self.assertLess(time.monotonic(), until, self.processes())

    def test_in_the_background(self):
        self.check("mount", "mem:?size=1M", "-o", "dax=never", self.dir)
        self.check_refused(self.daemon(), "mem:?size=1M", "-o", "dax=never")

    def test_in_the_foreground(self):
        daemon = self.mount("mem:?size=1M", "-o", "dax=never,keep=9s")
        self.check_refused(daemon.pid, "mem:?size=1M", "-o", "dax=never")


class AskedByHand(oxmem_e2e.E2eTest):
    def test_the_words_of_a_keeper_are_for_oxmem_alone(self):
        for words in ([], ["0"], ["0", "1", "1", "no", "/"], ["3", "1", "-1", "no", "/"],
                      ["x", "1", "1", "no", "/", "source=mem:", "directory=/"]):
            self.refused(2, "--as-keeper is for oxmem mount itself", "--as-keeper", *words)


if __name__ == "__main__":
    mount_e2e.main()
