"""Mounts that go on when their daemon dies or is replaced, and those that do not."""
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest
import urllib.request

import mount_e2e
import oxmem_e2e
from mount_e2e import MountTest

FIO = unittest.skipUnless(shutil.which("fio"), "there is no fio")


class TakeOverTest(MountTest):
    def open(self, flags=os.O_RDWR):
        fd = os.open(self.data, flags)
        self.addCleanup(os.close, fd)
        # The kernel learns at the first close that closing asks nobody; until then the children of
        # this process would wait for the daemon too.
        os.close(os.dup(fd))
        return fd

    def is_dead(self):
        try:
            os.statvfs(self.dir)
        except OSError:
            return True
        return False

    def kill_daemon(self, pid=None):
        pid = pid or self.daemon()
        os.kill(pid, signal.SIGKILL)
        return pid


class Killed(TakeOverTest):
    """kill -9 of the daemon of a mount in the background: its keeper starts the next one."""

    def check_open_file_goes_on(self, *words, **more):
        self.check("mount", *words, self.dir, **more)
        before = self.open()
        os.pwrite(before, b"written before", 1000)
        first = self.kill_daemon()
        os.pwrite(before, b"written after", 500000)
        self.assertEqual(os.pread(before, 14, 1000), b"written before")
        second = self.daemon(other_than=[first])
        self.assertEqual(os.pread(self.open(), 13, 500000), b"written after")
        self.kill_daemon(second)
        self.assertEqual(os.pread(before, 13, 500000), b"written after")
        self.assertNotEqual(self.daemon(other_than=[first, second]), second)
        self.refused(1, rf"in use: .*pid {os.getpid()}\)", "umount", self.dir)

    def check_gone_without_a_trace(self):
        self.check("umount", self.dir)
        self.assertEqual(os.listdir(self.dir), [])
        self.wait_for_no_process()
        self.check("stats")  # clears away the sockets of those that were killed
        self.assertEqual(os.listdir(self.env["OXMEM_RUNTIME_DIR"]), [])

    def test_direct(self):
        self.check_open_file_goes_on("mem:?size=1M", "-o", "dax=never")

    def test_passthrough(self):
        self.check_open_file_goes_on("mem:?size=1M", "-o", "dax=always")

    def test_page_cache(self):
        self.check_open_file_goes_on("delay:(stripe:(mem:?size=4M,mem:?size=4M)?chunk=64K)")

    def test_three_threads(self):
        self.check_open_file_goes_on("mem:?size=1M", "-o", "dax=never,threads=3")

    def test_over_the_wire(self):
        net = self.net()
        self.node(net)
        self.check_open_file_goes_on(net.source + "?size=8M", "-o", "dax=never", space=net.client)

    def test_attributes_stay_and_nothing_is_left_behind(self):
        self.check("mount", "mem:?size=1M", self.dir)
        os.chmod(self.data, 0o600)
        os.chown(self.data, 7, 8)
        os.utime(self.data, (100, 200))
        first = self.kill_daemon()
        self.daemon(other_than=[first])
        status = os.stat(self.data)
        self.assertEqual((status.st_mode & 0o777, status.st_uid, status.st_gid, status.st_mtime),
                         (0o600, 7, 8, 200))
        self.check_gone_without_a_trace()

    @FIO
    def test_fio_does_not_notice(self):
        net = self.net()
        self.node(net)
        self.check("mount", net.source + "?size=8M", "-o", "dax=never", self.dir, space=net.client)
        killed = []
        self.check_fio_goes_on(
            lambda: killed.append(self.kill_daemon(self.daemon(other_than=killed))))
        self.assertEqual(len(self.daemons()), 1)

    @FIO
    def test_fio_on_the_page_cache_and_mappings_does_not_notice(self):
        self.check("mount", "delay:(mem:?size=8M)?latency=50us", self.dir)
        for engine in ("psync", "mmap"):
            pid = self.daemon()
            fio = self.fio(f"--ioengine={engine}", "--bs=4k", "--fsync=16", "--loops=2")
            self.wait_until_counted("writes", 50)
            self.kill_daemon(pid)
            self.assertEqual(fio.wait(120), 0, fio.stdout.read())
            self.daemon(other_than=[pid])

    def write_rows(self, database):
        # The pipe fills, and then each row waits for its turn.
        while not self.enough:
            database.write(f"REPLACE INTO t VALUES({self.rows % 300}, randomblob(3000));\n")
            self.rows += 1
        database.close()

    @unittest.skipUnless(shutil.which("sqlite3") and shutil.which("mke2fs"),
                         "there is no sqlite3 or mke2fs")
    def test_a_database_in_a_loop_mount_does_not_notice(self):
        self.check("mount", "mem:?size=32M", "-o", "dax=never", self.dir)
        self.run_tool("mke2fs", "-q", "-F", "-t", "ext4", self.data)
        inner = self.path("inner")
        os.mkdir(inner)
        mounted = subprocess.run(["mount", "-o", "loop", self.data, inner], capture_output=True,
                                 text=True)
        if mounted.returncode != 0:
            self.skipTest(f"no loop mounts here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", inner], capture_output=True)
        writer = subprocess.Popen(["sqlite3", "-batch", "-bail", os.path.join(inner, "db")],
                                  stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        writer.stdin.write("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB);\n")
        self.addCleanup(writer.kill)
        self.rows, self.enough = 0, False
        rows = threading.Thread(target=self.write_rows, args=(writer.stdin,), daemon=True)
        rows.start()
        killed = []
        for _ in range(3):
            pid = self.daemon(other_than=killed)
            self.wait_until_counted("writes", 20)
            killed.append(self.kill_daemon(pid))
        self.enough = True
        rows.join()
        self.assertEqual((writer.wait(120), writer.stderr.read()), (0, ""))
        writer.stderr.close()
        self.assertEqual(self.run_tool("sqlite3", os.path.join(inner, "db"),
                                       "PRAGMA integrity_check; SELECT count(*) FROM t;"),
                         f"ok\n{min(self.rows, 300)}\n")
        self.run_tool("umount", inner)
        self.run_tool("fsck.ext4", "-f", "-n", self.data)

    def test_who_dies_again_and_again_is_given_up(self):
        self.check("mount", "mem:?size=1M", self.dir)
        killed = []
        until = time.monotonic() + 60
        while not self.is_dead():
            self.assertLess(time.monotonic(), until, "it is started for ever")
            for pid in self.daemons():
                killed.append(self.kill_daemon(pid))
        self.assertEqual(len(killed), 6)
        with self.assertRaises(OSError):
            os.listdir(self.dir)
        self.check("mount", "mem:?size=1M", self.dir)
        self.check_gone_without_a_trace()

    def test_a_dead_mount_is_recovered_when_the_keeper_dies_too(self):
        for recover in ("mount", "umount"):
            self.check("mount", "mem:?size=1M", self.dir)
            self.kill_all()
            with self.assertRaises(OSError):
                os.listdir(self.dir)
            if recover == "mount":
                self.check("mount", "mem:?size=1M", self.dir)
                self.assertEqual(os.stat(self.data).st_size, 1 << 20)
            self.check("umount", self.dir)

    def kept(self):
        return [part["facts"]["keeper"] for process in self.check("stats", "--json").json
                for part in process["parts"] if part["kind"] == "mount"][0]

    def test_a_mount_without_a_keeper_serves_on(self):
        self.check("mount", "mem:?size=1M", "-o", "dax=never,keep=0", self.dir)
        daemon = self.daemon()
        self.assertEqual(self.processes(), [daemon])
        self.assertEqual(self.kept(), "no")
        fd = self.open()
        os.pwrite(fd, b"x", 0)
        self.kill_daemon(daemon)
        with self.assertRaises(OSError):
            os.pread(fd, 1, 0)
        self.check("umount", self.dir)


class Replaced(TakeOverTest):
    """A planned replacement, by a newer oxmem for example."""

    def check_replaced(self, *words, **more):
        self.check("mount", *words, self.dir, **more)
        before = self.open()
        os.pwrite(before, b"before", 77)
        first = self.daemon()
        result = self.check("mount", "--replace", *words, self.dir, **more)
        self.assertRegex(result.out, "/data: .*, taken over\n")
        self.assertEqual(os.pread(before, 6, 77), b"before")
        os.pwrite(before, b"again", 4000)
        self.assertEqual(os.pread(self.open(), 5, 4000), b"again")
        self.assertNotIn(first, self.daemons())
        self.assertLessEqual(len(self.processes()), 3)  # a daemon, a keeper, one that is ending

    def test_direct(self):
        self.check_replaced("mem:?size=1M", "-o", "dax=never")

    def test_passthrough(self):
        self.check_replaced("mem:?size=1M", "-o", "dax=always")

    def test_over_the_wire(self):
        net = self.net()
        self.node(net)
        self.check_replaced(net.source + "?size=8M", space=net.client)

    def test_without_a_mount_it_mounts(self):
        self.check("mount", "--replace", "mem:?size=1M", self.dir)
        self.assertEqual(os.stat(self.data).st_size, 1 << 20)
        self.check("umount", self.dir)

    def test_what_is_not_the_same_is_refused_and_the_mount_goes_on(self):
        self.check("mount", "mem:?size=1M", self.dir)
        for pattern, words in (("a file of it is data of mem:.size=1M", ["mem:?size=2M"]),
                               ("2 files|1 files", ["mem:?size=1M", "mem:?size=1M"]),
                               ("its options are rw", ["mem:?size=1M", "-o", "ro"])):
            self.refused(1, "cannot be taken over: .*" + pattern, "mount", "--replace", *words,
                         self.dir)
        self.refused(1, "mounted there already; .*--replace", "mount", "mem:?size=1M", self.dir)
        os.pread(self.open(), 1, 0)
        self.check("stats", self.dir)

    def test_other_owners_are_applied_and_others_stay(self):
        self.check("mount", "mem:?size=1M", "-o", "uid=5,gid=6,umask=022", self.dir)

        def owners(path):
            status = os.stat(path)
            return status.st_uid, status.st_gid, status.st_mode & 0o777
        self.assertEqual(owners(self.data), (5, 6, 0o644))
        self.check("mount", "--replace", "mem:?size=1M", "-o", "uid=7,gid=8,umask=077", self.dir)
        self.assertEqual(owners(self.data), (7, 8, 0o600))
        self.assertEqual(owners(self.dir), (7, 8, 0o700))
        os.chown(self.data, 9, 9)
        first = self.kill_daemon()
        self.daemon(other_than=[first])
        self.check("mount", "--replace", "mem:?size=1M", "-o", "uid=7,gid=10,umask=077", self.dir)
        self.assertEqual(owners(self.data), (9, 10, 0o600))

    def test_a_successor_that_cannot_offer_its_figures_changes_nothing(self):
        self.check("mount", "mem:?size=1M", self.dir)
        first = self.daemon()
        before = self.open()
        os.pwrite(before, b"before", 77)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            for pattern, option in (
                    ("cannot write .*/none/x", "stats=" + self.path("none/x")),
                    ("is not a file that could be replaced", "stats=" + self.directory),
                    ("cannot bind", f"prometheus=127.0.0.1:{other.getsockname()[1]}"),
                    ("cannot bind", "prometheus=192.0.2.1:9100"),
                    ("cannot resolve", "prometheus=nowhere.invalid:9100")):
                self.refused(1, pattern, "mount", "--replace", "-o", option, "mem:?size=1M",
                             self.dir)
                self.assertEqual(self.daemons(), [first], option)
        self.assertEqual(os.pread(self.open(), 6, 77), b"before")
        self.assertTrue(os.path.ismount(self.dir))

    def test_the_port_for_metrics_is_handed_over(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ("mem:?size=1M", "-o", f"prometheus=127.0.0.1:{port}")
        self.check_replaced(*words)

        def scraped():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
                return f'process="{self.dir}"' in answer.read().decode()
        self.assertTrue(scraped())
        first = self.kill_daemon()
        self.daemon(other_than=[first])
        self.assertTrue(scraped())
        self.check("mount", "--replace", "mem:?size=1M", self.dir)
        with self.assertRaises(OSError):
            scraped()

    def test_a_successor_that_cannot_reach_its_node_changes_nothing(self):
        net = self.net()
        node = self.node(net)
        source = net.source + "?size=8M&connect_timeout=300ms"
        self.check("mount", source, "-o", "dax=never", self.dir, space=net.client)
        first = self.daemon()
        node.signal(signal.SIGKILL)
        node.wait()
        self.refused(1, "no answer", "mount", "--replace", source, "-o", "dax=never", self.dir,
                     space=net.client)
        self.assertEqual(self.daemons(), [first])
        self.node(net)
        until = time.monotonic() + 30
        fd = self.open()
        while True:
            try:
                os.pwrite(fd, b"healed", 0)
                break
            except OSError:
                self.assertLess(time.monotonic(), until)

    @FIO
    def test_fio_does_not_notice(self):
        net = self.net()
        self.node(net)
        words = (net.source + "?size=8M", "-o", "dax=never", self.dir)
        self.check("mount", *words, space=net.client)
        self.check_fio_goes_on(lambda: self.check("mount", "--replace", *words, space=net.client))


class Interrupted(TakeOverTest):
    def check_gives_up(self, number, processes, *words, **more):
        command = self.start("mount", *words, self.dir, **more)
        until = time.monotonic() + 20
        while len(self.processes()) < processes:
            self.assertLess(time.monotonic(), until, command.err)
        command.signal(number)
        command.wait()
        self.wait_for_no_process(10)

    def silent_node(self):
        # Far longer than this test waits for everything to end.
        net = self.net()
        return net, net.source + "?size=1M&connect_timeout=60s"

    def test_who_waits_no_more_gets_no_mount(self):
        net, source = self.silent_node()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            # The command, the daemon, its keeper.
            self.check_gives_up(number, 3, source, space=net.client)
            self.assertFalse(os.path.ismount(self.dir))
        self.check("mount", "mem:?size=1M", self.dir)

    def test_in_the_foreground(self):
        net, source = self.silent_node()
        self.check_gives_up(signal.SIGTERM, 2, "-f", source, "-o", "keep=9s", space=net.client)

    def test_one_that_goes_on_by_itself_and_waits_for_its_node(self):
        net = self.net()
        node = self.node(net)
        self.check("mount", net.source + "?size=1M&connect_timeout=60s", "-o",
                   "dax=never,keep=600s", self.dir, space=net.client)
        fd = self.open()
        before = self.processes()
        node.signal(signal.SIGKILL)
        node.wait()
        self.kill_daemon()
        reader = subprocess.Popen(["dd", "if=/dev/stdin", "of=/dev/null", "bs=4k", "count=1"],
                                  stdin=fd, stderr=subprocess.DEVNULL)
        self.addCleanup(reader.wait)
        until = time.monotonic() + 20
        while not (waiting := set(self.processes()) - set(before)):
            self.assertLess(time.monotonic(), until, "nobody goes on with the mount")
        # Until it can hear a signal: it looks from when it has asked its keeper. (A sanitizer has a
        # thread of its own.)
        needed = 3 if oxmem_e2e.SANITIZED == "thread" else 2
        while len(os.listdir(f"/proc/{min(waiting)}/task")) < needed:
            self.assertLess(time.monotonic(), until)
        os.kill(min(waiting), signal.SIGTERM)
        self.assertEqual(reader.wait(10), 1)
        self.wait_for_no_process(10)
        self.assertFalse(os.path.ismount(self.dir))


class WithoutStandardDescriptors(TakeOverTest):
    def test_it_mounts_and_says_so_by_its_code(self):
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" mount "mem:?size=1M" "$1" <&- >&- 2>&-', oxmem_e2e.OXMEM,
             self.dir], env=self.env, timeout=60)
        self.assertEqual(done.returncode, 0)
        self.check("umount", self.dir)


class AtOnce(TakeOverTest):
    def test_one_of_many_mounts(self):
        for _ in range(5):
            started = [self.start("mount", "mem:?size=1M", self.dir) for _ in range(6)]
            codes = sorted(process.wait() for process in started)
            self.assertEqual(codes, [0, 1, 1, 1, 1, 1], [process.err for process in started])
            with open("/proc/mounts", encoding="ascii") as mounts:
                self.assertEqual(mounts.read().count(f" {self.dir} "), 1)
            self.check("umount", self.dir)
            self.wait_for_no_process()


class Foreground(TakeOverTest):
    """Whoever started the daemon in the foreground starts the next one too."""

    def test_a_restarted_daemon_takes_over(self):
        words = ("mem:?size=1M", "-o", "dax=never,keep=60s")
        first = self.mount(*words)
        fd = self.open()
        os.pwrite(fd, b"kept", 5)
        first.signal(signal.SIGKILL)
        first.wait()
        second = self.mount(*words)
        self.assertEqual(os.pread(fd, 4, 5), b"kept")
        self.assertIn("taken over", second.out)
        os.pwrite(fd, b"more", 9)
        second.signal(signal.SIGTERM)
        second.wait()
        self.wait_for_no_process()

    def test_without_a_keeper_the_mount_dies_with_its_daemon(self):
        daemon = self.mount("mem:?size=1M", "-o", "dax=never")
        fd = self.open()
        self.assertEqual(self.processes(), [daemon.pid])
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        with self.assertRaises(OSError):
            os.pread(fd, 1, 0)
        self.check("umount", self.dir)

    def test_umount_ends_the_wait_for_another_daemon(self):
        daemon = self.mount("mem:?size=1M", "-o", "dax=never,keep=600s")
        fd = self.open()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        result = self.check("umount", self.dir)
        self.assertLess(result.seconds, 20)
        with self.assertRaises(OSError):
            os.pread(fd, 1, 0)
        self.assertEqual(os.listdir(self.dir), [])
        self.wait_for_no_process()

    def test_another_mount_than_the_orphan_is_made_anew(self):
        daemon = self.mount("mem:?size=1M", "-o", "dax=never,keep=600s")
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        second = self.mount("mem:?size=2M")
        second.wait_for("cannot be taken over: .*mounted anew")
        self.assertEqual(os.stat(self.data).st_size, 2 << 20)

    def test_the_keeper_gives_up_in_time(self):
        daemon = self.mount("mem:?size=1M", "-o", "dax=never,keep=300ms")
        fd = self.open()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        with self.assertRaises(OSError):
            os.pread(fd, 1, 0)
        self.wait_for_no_process()


class Mirror(TakeOverTest):
    """A mirror whose first part missed a write: whoever goes on with the mount knows that."""

    def part(self, name):
        return self.serve(None, "--region", f"d=1M,backing=file:{self.path(name)}",
                          "--listen", "unix:" + self.path(name + ".sock"))

    def source(self, more=""):
        parts = ",".join(f"unix:{self.path(name)}.sock?timeout=500ms" for name in "ab")
        return f"mirror:({parts}){more}"

    def write(self, text):
        with open(self.data, "r+b", buffering=0) as file:
            file.write(text)
            os.fsync(file.fileno())

    def contents(self, name):
        with open(self.path(name), "rb") as file:
            return file.read(3)

    def read(self):
        with open(self.data, "rb", buffering=0) as file:
            return file.read(3)

    def degrade(self, *words):
        """Serves what the first part, whose node is dead, has not."""
        first = self.part("a")
        self.part("b")
        self.check("mount", *words, self.dir)
        self.write(b"000")
        first.signal(signal.SIGKILL)
        first.wait()
        # The node's memory is there until the daemon notices that the node is not.
        for number in range(1, 1000):
            self.fresh = b"%03d" % number
            self.write(self.fresh)
            self.stale = self.contents("a")
            if self.stale != self.fresh:
                break
        self.assertEqual((self.stale < self.fresh, self.contents("b")), (True, self.fresh))

    def check_brought_back(self):
        self.assertEqual(self.read(), self.fresh)
        until = time.monotonic() + 20
        while self.contents("a") != self.fresh:
            self.assertLess(time.monotonic(), until, "the stale part is not brought up to date")
        self.assertEqual((self.read(), self.contents("b")), (self.fresh, self.fresh))

    def check_killed(self, *words):
        self.degrade(*words)
        oxmem_e2e.stop(self.keeper_of_mount())
        first = self.kill_daemon()
        self.part("a")
        os.kill(self.keeper_of_mount(), signal.SIGCONT)
        self.daemon(other_than=[first])
        self.check_brought_back()

    def keeper_of_mount(self):
        served = self.daemons()
        return next(pid for pid in self.processes() if pid not in served)

    def test_killed(self):
        self.check_killed(self.source(), "-o", "dax=never")

    def test_killed_with_several_threads(self):
        self.check_killed(self.source(), "-o", "dax=never,threads=3")

    def test_killed_with_a_copy_at_the_beginning(self):
        self.check_killed(self.source("?copy=yes"), "-o", "dax=never")

    def test_killed_within_others(self):
        self.check_killed(f"delay:(delay:({self.source()})?latency=1us)?latency=1us",
                          "-o", "dax=never")

    def test_replaced(self):
        words = (self.source("?copy=yes"), "-o", "dax=never")
        self.degrade(*words)
        first = self.daemon()
        result = self.run_oxmem("mount", "--replace", *words, self.dir)
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.err, "leg 1 .* is missing and counts as lost until it is back")
        self.part("a")
        self.daemon(other_than=[first])
        self.check_brought_back()

    def test_killed_while_a_part_is_missing(self):
        self.degrade(self.source(), "-o", "dax=never")
        first = self.kill_daemon()
        second = self.daemon(other_than=[first])
        self.assertEqual(self.read(), self.fresh)
        self.fresh = b"new"
        self.write(self.fresh)
        self.assertEqual((self.contents("a"), self.contents("b")), (self.stale, self.fresh))
        self.kill_daemon(second)
        self.daemon(other_than=[first, second])
        self.part("a")
        self.check_brought_back()


if __name__ == "__main__":
    mount_e2e.main()
