#!/usr/bin/env python3
"""Mounts as their users see them: real programs on real mounts, of memory here and behind a wire."""
import errno
import mmap
import os
import shutil
import signal
import subprocess
import time
import unittest

import mount_e2e
import oxmem_e2e
from mount_e2e import MountTest, build_path


class Commands(MountTest):
    def test_mounts_in_the_background_and_unmounts(self):
        result = self.check("mount", "mem:?size=8M", self.dir)
        self.assertRegex(result.out, r"/data: .*8M, passthrough")
        self.assertEqual(os.stat(self.data).st_size, 8 << 20)
        self.check("umount", self.dir)
        self.assertFalse(os.path.exists(self.data))

    def test_without_a_source_a_gibibyte_of_memory(self):
        self.check("mount", self.dir)
        self.assertEqual(os.stat(self.data).st_size, 1 << 30)
        self.check("umount", self.dir)

    def test_umount_says_who_holds_it(self):
        self.check("mount", "mem:?size=1M", self.dir)
        with open(self.data, "rb"):
            self.refused(1, rf"in use: .*pid {os.getpid()}\) has {self.data} open", "umount",
                         self.dir)
        self.check("umount", self.dir)
        self.refused(1, "nothing is mounted", "umount", self.dir)

    def test_umount_names_the_loop_device_and_the_mounts_that_hold_it(self):
        self.check("mount", "mem:?size=8M", self.dir)
        self.run_tool("mke2fs", "-q", "-F", self.data)
        device = subprocess.run(["losetup", "--find", "--show", self.data], capture_output=True,
                                text=True)
        if device.returncode != 0:
            self.skipTest(f"no loop devices here: {device.stderr.strip()}")
        name = device.stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", name], capture_output=True)
        self.refused(1, rf"in use: {name} has {self.data} open; end that", "umount", self.dir)
        inner = self.path("inner")
        os.mkdir(inner)
        self.run_tool("mount", name, inner)
        self.addCleanup(subprocess.run, ["umount", "-l", inner], capture_output=True)
        self.refused(1, rf"{name} has {self.data} open and is mounted at {inner}", "umount", self.dir)
        self.run_tool("umount", inner)
        self.run_tool("losetup", "-d", name)
        self.check("umount", self.dir)

    def test_umount_does_not_wait_for_a_daemon_that_is_stopped(self):
        daemon = self.mount("mem:?size=1M", "-o", "threads=1")
        daemon.stop()
        try:
            self.refused(1, "mounted there already and does not answer", "mount", "mem:?size=1M",
                         self.dir)
            self.check("umount", self.dir)
        finally:
            daemon.signal(signal.SIGCONT)
        self.assertEqual(daemon.wait(), 0)

    def test_an_endpoint_without_the_memory_that_was_asked_for_is_no_mount(self):
        net = self.net()
        self.node(net)
        for what, place in (("?size=1T", "last"), ("?size=4K&base=0x40000000", "first")):
            self.refused(1, f"denies the {place} byte of .*see size= and base=", "mount",
                         net.source + what, self.dir, space=net.client)
            self.assertFalse(os.path.ismount(self.dir))
        self.wait_for_no_process()

    def test_a_term_signal_unmounts(self):
        daemon = self.mount("mem:?size=1M")
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.assertEqual(os.listdir(self.dir), [])

    def test_a_killed_daemon_is_recovered_from(self):
        for recover in ("mount", "umount"):
            daemon = self.mount("mem:?size=1M")
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            with self.assertRaises(OSError):
                os.listdir(self.dir)
            if recover == "mount":
                self.check("mount", "mem:?size=1M", self.dir)
                self.assertEqual(os.stat(self.data).st_size, 1 << 20)
            self.check("umount", self.dir)

    def test_several_sources_options_and_statistics(self):
        self.mount("mem:?size=1M", "mem:?size=2M", "mem:?size=3M", "-o",
                   "dax=never,uid=12,gid=34,umask=027,name=first")
        self.assertEqual(sorted(os.listdir(self.dir)), ["data", "data2", "first"])
        status = os.stat(os.path.join(self.dir, "data2"))
        self.assertEqual((status.st_size, status.st_uid, status.st_gid, status.st_mode & 0o777),
                         (3 << 20, 12, 34, 0o640))
        with open(os.path.join(self.dir, "first"), "r+b", buffering=0) as file:
            file.write(bytes(5000))
        stats = self.check("stats", "--json").out
        self.assertIn('"write_bytes"', stats)
        self.assertIn("5000", stats)
        total = os.statvfs(self.dir)
        self.assertEqual(total.f_blocks * total.f_frsize, 6 << 20)

    def test_bad_input_is_one_line_and_mounts_nothing(self):
        os.mkfifo(self.path("pipe"))
        os.symlink("elsewhere", self.path("link"))
        for code, pattern, words in (
                (2, "directory to mount at is missing", []),
                (2, "directory to mount at is missing", ["mem:?size=1M"]),
                (2, "directory to mount at is missing", ["mem:?size=1M", ""]),
                (2, "stats_interval: there is no file", ["-o", "stats_interval=1s", self.dir]),
                (2, "there is no such option .known: ro", ["-o", "blub", self.dir]),
                (2, "not one of auto, always, never", ["-o", "dax=some", self.dir]),
                (2, "not a number from 1", ["-o", "threads=0", self.dir]),
                (2, "octal", ["-o", "umask=9", self.dir]),
                (2, "no user", ["-o", "uid=nobody-of-that-name", self.dir]),
                (2, "2 names for 1 source", ["-o", "name=a,name=b", self.dir]),
                (2, "cannot be the name", ["-o", "name=a/b", self.dir]),
                (2, r'"a\\x1b" cannot be the name', ["-o", "name=a\x1b", self.dir]),
                (2, "unknown scheme", ["blub:x", self.dir]),
                (1, "/dev/null is not a file that could be replaced",
                 ["-o", "stats=/dev/null", self.dir]),
                (1, "pipe is not a file that", ["-o", f"stats={self.path('pipe')}", self.dir]),
                (1, "link is not a file that", ["-o", f"stats={self.path('link')}", self.dir]),
                (1, "no such directory", ["mem:?size=1M", self.path("none")]),
                (1, "not empty", ["mem:?size=1M", "/etc"]),
                (1, "not a directory", ["mem:?size=1M", "/etc/passwd"]),
                (1, "mounted there already", ["mem:?size=1M", "/proc"]),
                (1, "dax=always: data: ", ["-o", "dax=always", "delay:(mem:?size=1M)", self.dir])):
            self.refused(code, pattern, "mount", *words)
            self.assertEqual(os.listdir(self.dir), [])

    def test_the_helper_of_mount_takes_what_fstab_has(self):
        helper = build_path("apps", "mount_helper", "mount.oxmem")
        self.run_tool(helper, "mem:?size=1M mem:?size=2M", self.dir, "-o",
                      "rw,_netdev,nofail,x-systemd.device-timeout=5,noatime", env=self.env)
        self.assertEqual(sorted(os.listdir(self.dir)), ["data", "data2"])
        self.check("umount", self.dir)

    def test_many_mounts_in_a_row(self):
        for _ in range(20):
            self.check("mount", "mem:?size=1M", self.dir)
            self.check("umount", self.dir)


class Contents(MountTest):
    """What is written is read back, in every mode, under everything programs do."""

    def check_all(self, *words, operations=400):
        self.mount(*words)
        self.check_file("--operations", str(operations), "--processes", "3")

    def test_passthrough(self):
        self.check_all("mem:?size=8M", "-o", "dax=always")

    def test_direct(self):
        self.check_all("mem:?size=8M", "-o", "dax=never")

    def test_two_threads(self):
        self.check_all("mem:?size=8M", "-o", "dax=never,threads=2")

    def test_page_cache_over_delays_and_stripes(self):
        self.check_all("delay:(stripe:(mem:?size=4M,mem:?size=4M)?chunk=64K)?latency=200us", "-o",
                       "dax=auto", operations=150)

    def test_over_the_wire_in_the_page_cache(self):
        net = self.net()
        self.node(net)
        # The mount is made outside of the namespace's mount table, its daemon lives in the network.
        self.mount(net.source + "?size=8M", space=net.client)
        self.check_file("--operations", "150", "--processes", "2")

    def test_over_the_wire_directly(self):
        net = self.net()
        self.node(net)
        self.mount(net.source + "?size=8M", "-o", "dax=never", space=net.client)
        self.check_file("--operations", "150", "--processes", "2")

    def test_copies_and_truncation(self):
        self.mount("mem:?size=4M", "-o", "dax=never")
        original = self.path("original")
        with open(original, "wb") as file:
            file.write(os.urandom(4 << 20))
        self.run_tool("cp", original, self.data)
        self.run_tool("cmp", original, self.data)
        self.run_tool("dd", f"if={original}", f"of={self.data}", "bs=64K", "conv=notrunc,fsync")
        self.run_tool("dd", f"if={self.data}", f"of={self.path('back')}", "bs=1M", "iflag=direct")
        self.run_tool("cmp", original, self.path("back"))
        refused = subprocess.run(["truncate", "-s", "1M", self.data], capture_output=True, text=True)
        self.assertNotEqual(refused.returncode, 0)
        if shutil.which("rsync"):
            with open(original, "r+b") as file:
                file.seek(1 << 20)
                file.write(os.urandom(100000))
            self.run_tool("rsync", "--inplace", "--no-whole-file", "--ignore-times",
                          original, self.data)
            self.run_tool("cmp", original, self.data)

    @unittest.skipUnless(shutil.which("fio"), "there is no fio")
    def test_fio_verifies(self):
        for dax in ("never", "always"):
            self.check_verified("mem:?size=16M", f"dax={dax}")

    @unittest.skipUnless(shutil.which("fio"), "there is no fio")
    def test_fio_verifies_memory_of_a_node_of_this_host(self):
        socket = "unix:" + self.path("node.sock")
        self.serve(None, "--region", "data=16M", "--listen", socket)
        for dax in ("never", "always"):
            self.check_verified(socket, f"dax={dax}")

    @unittest.skipUnless(shutil.which("fio"), "there is no fio")
    def test_fio_verifies_over_the_wire(self):
        net = self.net()
        self.node(net)
        for dax in ("never", "auto"):
            self.check_verified(net.source + "?size=16M", f"dax={dax}", space=net.client)

    def check_verified(self, source, options, **more):
        self.mount(source, "-o", options, **more)
        self.run_tool("fio", "--minimal",
                      os.path.join(oxmem_e2e.SOURCE_ROOT, "bench", "e2e", "verify.fio"),
                      cwd=self.directory, env=dict(self.env, FILE=self.data, SIZE="8m"))
        self.check("umount", self.dir)

    @unittest.skipUnless(shutil.which("fio"), "there is no fio")
    def test_fio_verifies_over_the_wire_with_back_pressure(self):
        net = self.net()
        self.node(net)
        self.mount(f"fault:({net.source}?size=8M)?short_submit=0.2", space=net.client)
        self.run_tool("fio", "--minimal", "--section=libaio-deep", "--section=mmap",
                      os.path.join(oxmem_e2e.SOURCE_ROOT, "bench", "e2e", "verify.fio"),
                      cwd=self.directory, env=dict(self.env, FILE=self.data, SIZE="4m"))

    @unittest.skipUnless(shutil.which("mke2fs") and shutil.which("fsck.ext2"), "no e2fsprogs")
    def test_a_file_system_inside_is_consistent(self):
        self.mount("mem:?size=16M", "-o", "dax=never")
        self.run_tool("mke2fs", "-q", "-F", "-t", "ext2", self.data)
        self.run_tool("fsck.ext2", "-f", "-n", self.data)


class LoopMount(MountTest):
    """A file system in the file, and a database in that: killed, and whole afterwards."""

    SQL = ("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b BLOB);"
           "INSERT INTO t(b) SELECT randomblob(1000) FROM generate_series(1, 200);")

    @unittest.skipUnless(shutil.which("sqlite3") and shutil.which("mke2fs"),
                         "there is no sqlite3 or mke2fs")
    def test_a_database_survives_being_killed(self):
        self.check_database("mem:?size=32M", "-o", "dax=never")

    @unittest.skipUnless(shutil.which("sqlite3") and shutil.which("mke2fs"),
                         "there is no sqlite3 or mke2fs")
    def test_a_database_survives_being_killed_over_the_wire(self):
        net = self.net()
        self.node(net)
        self.check_database(net.source + "?size=32M", space=net.client)

    def check_database(self, *words, **more):
        self.mount(*words, **more)
        self.run_tool("mke2fs", "-q", "-F", "-t", "ext4", self.data)
        inner = self.path("inner")
        os.mkdir(inner)
        mounted = subprocess.run(["mount", "-o", "loop", self.data, inner], capture_output=True,
                                 text=True)
        if mounted.returncode != 0:
            self.skipTest(f"no loop mounts here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", inner], capture_output=True)
        database = os.path.join(inner, "db")
        self.run_tool("sqlite3", database, self.SQL)
        writer = subprocess.Popen(["sqlite3", database], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        # Killed in the middle of a transaction that has written already.
        writer.stdin.write("PRAGMA cache_size=10; BEGIN; UPDATE t SET b=randomblob(1000);"
                           "SELECT 'written';\n")
        writer.stdin.flush()
        while "written" not in writer.stdout.readline():
            self.assertIsNone(writer.poll())
        writer.kill()
        writer.wait()
        writer.stdin.close()
        writer.stdout.close()
        self.assertEqual(self.run_tool("sqlite3", database, "PRAGMA integrity_check;"
                                       "SELECT count(*) FROM t;"), "ok\n200\n")
        self.run_tool("umount", inner)
        self.run_tool("fsck.ext4", "-f", "-n", self.data)


@unittest.skipUnless(os.path.exists("/etc/mtab"), "fusermount3 wants /etc/mtab")
class Unprivileged(MountTest):
    def test_a_user_mounts_and_unmounts_through_fusermount(self):
        if shutil.which("fusermount3") is None or shutil.which("setpriv") is None:
            self.skipTest("there is no fusermount3 or setpriv")
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        binary = self.path("oxmem")
        shutil.copy(oxmem_e2e.OXMEM, binary)
        for path in (self.directory, self.dir):
            os.chown(path, 65534, 65534)
        env = dict(self.env, HOME=self.directory)
        out = self.run_tool(*user, binary, "mount", "mem:?size=1M", self.dir, env=env)
        self.assertIn("page-cache (passthrough needs root", out)
        self.run_tool(*user, "dd", "if=/dev/zero", f"of={self.data}", "bs=64K", "count=16",
                      "conv=notrunc")
        self.run_tool(*user, binary, "umount", self.dir, env=env)


class Failures(MountTest):
    def read_fails_after(self):
        """The seconds until a direct read of the mount fails with EIO."""
        fd = os.open(self.data, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, 4096)
        began = time.monotonic()
        with self.assertRaises(OSError) as failure:
            os.preadv(fd, [buffer], 0)
        took = time.monotonic() - began
        os.close(fd)
        self.assertEqual(failure.exception.errno, errno.EIO)
        return took

    def test_a_request_fails_at_its_deadline(self):
        daemon = self.mount("delay:(mem:?size=1M)?latency=60s", "-o", "dax=never,timeout=2s")
        self.assertTrue(2 <= self.read_fails_after() < 3.5)
        daemon.signal(signal.SIGKILL)

    def test_sources_wait_as_long_as_the_mount_unless_they_say_otherwise(self):
        net = self.net()
        node = self.node(net)
        for options, source, least, most in (("timeout=7s", "?size=1M", 7, 9),
                                             ("timeout=7s", "?size=1M&timeout=1s", 1, 3)):
            daemon = self.mount(net.source + source, "-o", f"dax=never,{options}", space=net.client)
            node.stop()
            self.assertTrue(least <= self.read_fails_after() < most)
            node.signal(signal.SIGCONT)
            daemon.signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)

    def test_a_dead_node_gives_errors_in_time_and_heals(self):
        net = self.net()
        node = self.node(net)
        daemon = self.mount(net.source + "?size=8M", "-o", "dax=never,timeout=1s",
                            space=net.client)
        fd = os.open(self.data, os.O_RDWR)
        self.addCleanup(os.close, fd)
        os.pwrite(fd, b"alive", 0)
        node.signal(signal.SIGKILL)
        node.wait()
        begin = time.monotonic()
        with self.assertRaises(OSError) as raised:
            os.pread(fd, 4096, 0)
        self.assertEqual(raised.exception.errno, 5)
        self.assertLess(time.monotonic() - begin, 10)
        daemon.wait_for("no answer in time|timed out")
        self.node(net)
        until = time.monotonic() + 30
        while True:
            try:
                os.pwrite(fd, b"again", 0)
                break
            except OSError:
                self.assertLess(time.monotonic(), until, "it did not heal")
        self.assertEqual(os.pread(fd, 5, 0), b"again")

    def test_killed_readers_of_a_dead_node_end_at_once(self):
        net = self.net()
        node = self.node(net)
        self.mount(net.source + "?size=8M", "-o", "dax=never,timeout=60s", space=net.client)
        node.stop()
        self.addCleanup(node.signal, signal.SIGCONT)
        reader = subprocess.Popen(["dd", f"if={self.data}", "of=/dev/null", "bs=4k", "count=1"],
                                  stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while "fuse" not in self.wait_channel(reader.pid) and \
                "request_wait" not in self.wait_channel(reader.pid):
            self.assertLess(time.monotonic(), until, "dd does not wait for the mount")
        reader.kill()
        reader.wait(timeout=20)

    @staticmethod
    def wait_channel(pid):
        try:
            with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
                return file.read()
        except OSError:
            return ""

    def test_a_term_signal_under_load_unmounts(self):
        daemon = self.mount("mem:?size=8M", "-o", "dax=never")
        self.mounted_at = os.stat(self.data).st_mtime_ns
        writer = subprocess.Popen(["dd", "if=/dev/zero", f"of={self.data}", "bs=4k", "conv=notrunc",
                                   "count=1000000"], stderr=subprocess.PIPE)
        until = time.monotonic() + 20
        while os.stat(self.data).st_mtime_ns == self.mounted_at:
            self.assertLess(time.monotonic(), until, "dd writes nothing")
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        writer.kill()
        writer.wait(timeout=20)
        writer.stderr.close()
        self.assertEqual(os.listdir(self.dir), [])


if __name__ == "__main__":
    mount_e2e.main()
