#!/usr/bin/env python3
"""What a mount does to those who get its place, its options or its end wrong, or use them all."""
import contextlib
import errno
import fcntl
import mmap
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import unittest

import mount_e2e
import oxmem_e2e
from mount_e2e import MountTest

NOBODY = 65534
BLKGETSIZE64 = 0x80081272
USER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


class Umount(MountTest):
    def test_a_loop_device_that_holds_it_is_named(self):
        self.check("mount", "mem:?size=8M", "-o", "dax=never", self.dir)
        made = subprocess.run(["losetup", "-f", "--show", self.data], capture_output=True, text=True)
        if made.returncode != 0:
            self.skipTest(f"no loop devices here: {made.stderr.strip()}")
        device = made.stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", device], capture_output=True)
        self.refused(1, rf"is in use: {device} has {self.data} open; end that", "umount", self.dir)
        self.run_tool("losetup", "-d", device)
        self.wait_until_gone(lambda: self.run_oxmem("umount", self.dir).code == 0)

    def wait_until_gone(self, done):
        until = time.monotonic() + 20
        while not done():
            self.assertLess(time.monotonic(), until)

    def test_many_who_hold_it_are_counted(self):
        self.check("mount", "mem:?size=1M", self.dir)
        holders = [subprocess.Popen(["sleep", "1000"], cwd=self.dir) for _ in range(11)]
        for holder in holders:
            self.addCleanup(holder.wait)
            self.addCleanup(holder.kill)
        self.refused(1, r"(sleep \(pid \d+\) works in it, ){7}sleep .* works in it and 3 more; ",
                     "umount", self.dir)

    def test_a_file_elsewhere_with_the_same_path_is_no_use_of_it(self):
        """A process of another mount namespace, where another file system is at that place."""
        innocent = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             f"mount -t tmpfs none {self.dir} && cd {self.dir} && exec 5>{self.data} && echo ready && "
             "exec sleep 1000"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end, innocent)
        self.assertEqual(innocent.stdout.readline(), "ready\n")
        self.assertEqual(os.readlink(f"/proc/{innocent.pid}/fd/5"), self.data)
        self.check("mount", "mem:?size=1M", self.dir)
        with open(self.data, "rb"):
            self.refused(1, rf"is in use: \S+ \(pid {os.getpid()}\) has {self.data} open; end",
                         "umount", self.dir)
        holder = subprocess.Popen(["sleep", "1000"], cwd=self.dir)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        self.refused(1, rf"is in use: \S+ \(pid {holder.pid}\) works in it; end", "umount", self.dir)

    def test_a_lock_of_who_started_it_does_not_stay_with_the_mount(self):
        lock = self.path("lock")
        script = 'exec 9>"$0"; flock --nonblock 9 || exit 9; exec "$@"'
        self.check("mount", "mem:?size=1M", self.dir, prefix=["sh", "-c", script, lock])
        self.run_tool("flock", "--nonblock", lock, "true")
        for pid in self.processes():
            fds = f"/proc/{pid}/fd"
            self.assertNotIn(lock, [os.readlink(os.path.join(fds, fd)) for fd in os.listdir(fds)])
        before = self.daemon()
        os.kill(before, signal.SIGKILL)
        self.daemon(other_than=[before])
        self.run_tool("flock", "--nonblock", lock, "true")

    def test_another_mount_namespace_keeps_what_it_has(self):
        daemon = self.mount("mem:?size=1M")
        other = self.namespace()
        self.check("umount", self.dir)
        self.assertEqual(os.listdir(self.dir), [])
        there = f"/proc/{other.pid}/root{self.data}"
        with open(there, "r+b", buffering=0) as file:
            file.write(b"still served")
        self.check("mount", "mem:?size=2M", self.dir)
        self.assertEqual((os.stat(self.data).st_size, os.stat(there).st_size), (2 << 20, 1 << 20))
        self.check("umount", self.dir)
        self.end(other)
        self.assertEqual(daemon.wait(), 0)
        self.wait_for_no_process()

    def test_a_term_signal_ends_it_in_another_mount_namespace_too(self):
        daemon = self.mount("mem:?size=1M", "-o", "dax=never")
        other = self.namespace()
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.assertIn("still mounted in another mount namespace", daemon.err)
        with self.assertRaises(OSError) as raised:
            os.listdir(f"/proc/{other.pid}/root{self.dir}")
        self.assertEqual(raised.exception.errno, errno.ENOTCONN)

    def test_umount_in_another_mount_namespace_changes_nothing_here(self):
        self.check("mount", "mem:?size=1M", self.dir)
        self.check("umount", self.dir, prefix=("unshare", "--mount", "--propagation", "private"))
        self.assertEqual(os.stat(self.data).st_size, 1 << 20)
        self.check("umount", self.dir)

    def namespace(self):
        """A process with a mount table of its own, which has what is mounted now."""
        other = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                  "echo ready; exec sleep 1000"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end, other)
        self.assertEqual(other.stdout.readline(), "ready\n")
        return other

    @staticmethod
    def end(process):
        process.kill()
        process.wait()
        process.stdout.close()


class Inherited(MountTest):
    """What a parent leaves to the processes that it starts."""

    LIMITED = ("bash", "-c", 'ulimit -f 1000; exec "$@"', "bash")

    def test_children_can_be_waited_for_whatever_the_parent_did(self):
        ignoring = (sys.executable, "-c", "import os, signal, sys\n"
                    "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
                    "os.execvp(sys.argv[1], sys.argv[1:])")
        self.check("mount", "mem:?size=1M", self.dir, prefix=ignoring)
        self.check("umount", self.dir, prefix=ignoring)
        self.wait_for_no_process()

    def test_memory_beyond_the_limit_for_files_is_refused_in_a_line(self):
        self.refused(1, "cannot make 64M of memory: File too large .ulimit -f is 1000K here.*raise it",
                     "mount", "mem:?size=64M", self.dir, prefix=self.LIMITED)
        self.refused(1, "growing a memory file to 64M: File too large .ulimit -f is 1000K",
                     "serve", "--region", "data=64M", "--listen", f"unix:{self.path('s')}",
                     prefix=self.LIMITED)
        self.check("mount", "mem:?size=512K", self.dir, prefix=self.LIMITED)
        self.check("umount", self.dir)


class StoppedDaemon(MountTest):
    """One that neither serves nor dies, as under a debugger."""

    def setUp(self):
        super().setUp()
        self.check("mount", "mem:?size=1M", "-o", "dax=never", self.dir)
        self.stopped = self.daemon()
        oxmem_e2e.stop(self.stopped)

    def test_umount_works(self):
        result = self.check("umount", self.dir)
        self.assertLess(result.seconds, 5)
        os.kill(self.stopped, signal.SIGCONT)
        self.wait_for_no_process()

    def test_umount_says_that_it_does_not_answer(self):
        waits = subprocess.Popen(["head", "-c1", self.data], stdout=subprocess.DEVNULL)
        self.addCleanup(waits.wait)
        self.addCleanup(waits.kill)
        self.addCleanup(os.kill, self.stopped, signal.SIGCONT)
        until = time.monotonic() + 20
        while "fuse" not in (place := self.waits_in(waits.pid)) and "request_wait" not in place:
            self.assertLess(time.monotonic(), until, place)
        self.refused(1, "is in use: .*and its daemon does not answer; end that, or detach", "umount",
                     self.dir)
        self.check("umount", "--lazy", self.dir)

    @staticmethod
    def waits_in(pid):
        with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
            return file.read()

    def test_another_mount_is_refused_and_a_successor_takes_over(self):
        result = self.refused(1, "mounted there already and does not answer; oxmem umount", "mount",
                              "mem:?size=1M", self.dir)
        self.assertLess(result.seconds, 10)
        result = self.check("mount", "--replace", "mem:?size=1M", "-o", "dax=never", self.dir)
        self.assertIn("taken over", result.out)
        with open(self.data, "r+b", buffering=0) as file:
            file.write(b"goes on")
        os.kill(self.stopped, signal.SIGCONT)
        self.check("umount", self.dir)
        self.wait_for_no_process()


class Places(MountTest):
    def test_of_many_who_mount_at_once_one_does(self):
        for _ in range(3):
            mounts = [self.start("mount", f"mem:?size={size}M", self.dir) for size in range(1, 9)]
            codes = [mount.wait() for mount in mounts]
            self.assertEqual(sorted(codes), [0] + [1] * 7)
            for mount, code in zip(mounts, codes):
                self.assertEqual(mount.err.count("\n"), code, mount.err)
            with open("/proc/mounts", encoding="utf-8") as table:
                self.assertEqual(table.read().count(f" {self.dir} fuse.oxmem "), 1)
            self.assertEqual(os.stat(self.data).st_size, (codes.index(0) + 1) << 20)
            self.check("umount", self.dir)
            self.wait_for_no_process()

    def test_names_that_are_awkward(self):
        for name in ("a b,c\\d", "line\nbreak", "-o", "%n%s", "\u00fc"):
            directory = os.path.join(self.directory, name)
            os.mkdir(directory)
            self.check("mount", "mem:?size=1M", "-o", "name=x y%", directory)
            self.addCleanup(subprocess.run, ["umount", "-l", directory], capture_output=True)
            with open(os.path.join(directory, "x y%"), "r+b") as file:
                self.assertEqual(len(file.read()), 1 << 20)
            self.check("umount", directory)
            self.assertEqual(os.listdir(directory), [])

    def test_a_relative_directory_that_begins_with_a_dash(self):
        here = ("env", "-C", self.dir)
        os.mkdir(os.path.join(self.dir, "-x"))
        self.addCleanup(subprocess.run, ["umount", "-l", os.path.join(self.dir, "-x")],
                        capture_output=True)
        for words in (("mem:?size=1M", "--", "-x"), ("-o", "dax=never", "--", "mem:?size=1M", "-x")):
            self.check("mount", *words, prefix=here)
            self.assertEqual(os.listdir(os.path.join(self.dir, "-x")), ["data"])
            self.check("umount", "--", "-x", prefix=here)
        self.refused(2, "-x", "mount", "mem:?size=1M", "-x", prefix=here)

    def test_a_directory_whose_name_is_awkward_is_found_by_it(self):
        for name in ("line\nbreak", b"caf\xe9"):
            directory = os.path.join(os.fsencode(self.directory), os.fsencode(name))
            os.mkdir(directory)
            self.check("mount", "mem:?size=1M", directory)
            self.addCleanup(subprocess.run, ["umount", "-l", directory], capture_output=True)
            self.assertEqual(len(self.check("stats", "--json", directory).json), 1)
            top = self.check("top", "--once", "-i", "0.1", "--json", directory).json
            self.assertEqual((len(top["rows"]), top["notes"]), (2, []))
            self.check("umount", directory)

    def test_a_place_for_sockets_that_takes_none(self):
        """Then there are no figures and no replacement, and it says so; the mount works."""
        small = self.path("small")
        os.mkdir(small)
        self.run_tool("mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "full", small)
        self.addCleanup(subprocess.run, ["umount", "-l", small], capture_output=True)
        for place, why in ((small, "No space left"), (os.path.join(small, "sub"), "No space left"),
                           ("/etc/passwd", "Not a directory"), ("/proc/self", "(No such|Permission)"),
                           (self.path("long" * 50), "too long")):
            self.env["OXMEM_RUNTIME_DIR"] = place
            result = self.run_oxmem("mount", "mem:?size=1M", self.dir)
            self.assertEqual(result.code, 0, result)
            self.assertRegex(result.err, f"oxmem stats will not see this mount: .*{why}")
            self.assertRegex(result.err, "oxmem mount --replace will not work: ")
            with open(self.data, "r+b", buffering=0) as file:
                file.write(b"works")
            self.assertEqual(self.run_oxmem("umount", self.dir).code, 0)
            self.wait_for_no_process()


class Options(MountTest):
    """Every option does what it says."""

    def test_read_only(self):
        for words in (("mem:?size=1M", "-o", "ro"), ("mem:?size=1M", "-o", "ro,dax=never")):
            self.check("mount", *words, self.dir)
            self.assertEqual(os.statvfs(self.dir).f_flag & os.ST_RDONLY, os.ST_RDONLY)
            for call in (lambda: os.open(self.data, os.O_RDWR),
                         lambda: os.chmod(self.data, 0o777), lambda: os.truncate(self.data, 0)):
                with self.assertRaises(OSError) as raised:
                    call()
                self.assertEqual(raised.exception.errno, errno.EROFS)
            with open(self.data, "rb") as file:
                self.assertEqual(file.read(), bytes(1 << 20))
            self.check("umount", self.dir)

    def test_noexec(self):
        script = b"#!/bin/sh\nexit 7\n"
        for words, code in (("umask=0", 7), ("umask=0,noexec", 126)):
            self.check("mount", "mem:?size=64K", "-o", words, self.dir)
            with open(self.data, "r+b") as file:
                file.write(script)
            os.chmod(self.data, 0o755)
            done = subprocess.run(["sh", "-c", f"'{self.data}'"], capture_output=True)
            self.assertEqual(done.returncode, code, done.stderr)
            self.check("umount", self.dir)

    @unittest.skipUnless(shutil.which("setpriv"), "there is no setpriv")
    def test_allow_other_and_the_owner(self):
        for path in (self.directory, self.dir):
            os.chmod(path, 0o755)
        for words, readable, writable in (("umask=0", False, False), ("allow_other", True, False),
                                          ("allow_other,umask=0", True, True),
                                          ("allow_other,umask=077", False, False),
                                          (f"allow_other,umask=077,uid={NOBODY}", True, True),
                                          (f"allow_other,umask=007,gid={NOBODY}", True, True)):
            self.check("mount", "mem:?size=1M", "-o", f"umask=022,{words}", self.dir)
            for tool, allowed in ((("head", "-c1", self.data), readable),
                                  (("dd", "if=/dev/zero", f"of={self.data}", "bs=1", "count=1",
                                    "conv=notrunc"), writable)):
                done = subprocess.run([*USER, *tool], capture_output=True)
                self.assertEqual(done.returncode == 0, allowed, (words, tool, done.stderr))
            self.check("umount", self.dir)

    def test_threads_and_read_ahead(self):
        for threads, read_ahead in ((1, "1M"), (5, "64K"), (2, "0")):
            daemon = self.mount("mem:?size=1M", "-o",
                                f"dax=never,threads={threads},read_ahead={read_ahead}")
            of_sanitizer = 1 if oxmem_e2e.SANITIZED == "thread" else 0
            self.assertEqual(len(os.listdir(f"/proc/{daemon.pid}/task")), threads + 1 + of_sanitizer)
            device = os.stat(self.dir).st_dev
            with open(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb",
                      encoding="ascii") as file:
                self.assertEqual(int(file.read()), {"1M": 1024, "64K": 64, "0": 0}[read_ahead])
            daemon.signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)

    def test_spin_sleeps_less(self):
        sleeps = {}
        for spin in ("0", "1"):
            daemon = self.mount("delay:(mem:?size=1M)?latency=100us", "-o", f"dax=never,spin={spin}")
            with open(self.data, "r+b", buffering=0) as file:
                for _ in range(200):
                    file.seek(0)
                    file.write(b"x" * 512)
            sleeps[spin] = self.counted("sleeps")
            daemon.signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)
        self.assertEqual(sleeps["1"], 0)
        self.assertGreater(sleeps["0"], 100)

    def test_words_of_mount_that_say_what_is_so_change_nothing(self):
        self.check("mount", "mem:?size=1M", "-o", "silent,loud,nosuid,nodev,noatime,nostrictatime,"
                   "noiversion,_netdev,nofail,x-systemd.automount,async,defaults", self.dir)
        self.check("umount", self.dir)
        for word, why in (("suid", "always nosuid and nodev"), ("dev", "always nosuid and nodev"),
                          ("strictatime", "reading does not change times"),
                          ("iversion", "versions of files are not counted")):
            self.refused(2, f"-o {word}: .*{why}", "mount", "mem:?size=1M", "-o", word, self.dir)

    def test_what_is_wrong_is_one_line_and_mounts_nothing(self):
        for word in ("ro=1", "rw=0", "allow_other=1", "noexec=1", "uid=", "uid=-1", "uid=4294967296",
                     "gid=", "gid=no-such-group", "umask=", "umask=8", "umask=7777", "dax=",
                     "dax=resident", "timeout=", "timeout=5", "timeout=-1s", "timeout=99999999h",
                     "threads=", "threads=257", "threads=1.5", "spin=2", "spin=-1us", "read_ahead=",
                     "read_ahead=-1", "stats=", "stats_interval=1ms", "keep=", "keep=1", "prometheus=",
                     "prometheus=1", "log_level=loud", "name=", "name=..", "suid", "dev", "uid=4294967295",
                     "gid=4294967295"):
            self.refused(2, f"-o {word.partition('=')[0]}: |log level", "mount", "mem:?size=1M", "-o",
                         word, self.dir)
        self.refused(1, "cannot write /nonexistent/x: No such file", "mount", "mem:?size=1M", "-o",
                     "stats=/nonexistent/x", self.dir)
        self.assertEqual(os.listdir(self.dir), [])
        self.wait_for_no_process()


class Files(MountTest):
    MODES = {"passthrough": ("mem:?size=4M", "-o", "dax=always"),
             "direct": ("mem:?size=4M", "-o", "dax=never"),
             "page-cache": ("delay:(mem:?size=4M)?latency=10us", "-o", "dax=auto")}
    SIZE = 4 << 20

    def test_calls_that_are_rare(self):
        for mode, words in self.MODES.items():
            with self.subTest(mode), contextlib.ExitStack() as stack:
                self.check("mount", *words, self.dir)
                stack.callback(self.check, "umount", self.dir)
                fd = os.open(self.data, os.O_RDWR)
                stack.callback(os.close, fd)
                full = errno.EPERM if mode == "passthrough" else errno.ENOSPC
                self.check_calls(fd, full)
                self.check_direct(full)

    def fails(self, number, call):
        with self.assertRaises(OSError) as raised:
            call()
        self.assertEqual(errno.errorcode[raised.exception.errno], errno.errorcode[number])

    def check_calls(self, fd, full):
        self.fails(errno.ENOTTY, lambda: fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))
        self.fails(full, lambda: os.pwritev(fd, [b"x"], self.SIZE))
        self.assertEqual(os.pread(fd, 9, self.SIZE - 3), bytes(3))
        self.assertEqual(os.pread(fd, 9, self.SIZE + 3), b"")
        self.fails(errno.ENOSPC, lambda: os.posix_fallocate(fd, 0, self.SIZE + 1))
        os.posix_fallocate(fd, 0, self.SIZE)
        for size in (0, 1, self.SIZE - 1, self.SIZE + 1):
            self.fails(errno.EPERM, lambda size=size: os.ftruncate(fd, size))
        os.ftruncate(fd, self.SIZE)
        append = os.open(self.data, os.O_WRONLY | os.O_APPEND)
        self.fails(full, lambda: os.write(append, b"x"))
        os.close(append)
        os.pwrite(fd, b"copied", 100)
        self.assertEqual(os.copy_file_range(fd, fd, 6, 100, 1 << 20), 6)
        self.assertEqual(os.pread(fd, 6, 1 << 20), b"copied")
        with mmap.mmap(fd, 4096, flags=mmap.MAP_PRIVATE) as private:
            private[100:106] = b"mine!!"
            self.assertEqual(os.pread(fd, 6, 100), b"copied")
        for call in (lambda: os.rename(self.data, self.data + "2"), lambda: os.unlink(self.data),
                     lambda: os.link(self.data, self.data + "2"), lambda: os.mkdir(self.data + "2"),
                     lambda: os.symlink("a", self.data + "2"),
                     lambda: os.open(self.data + "2", os.O_CREAT | os.O_RDWR)):
            self.fails(errno.EPERM, call)
        self.fails(errno.EEXIST, lambda: os.open(self.data, os.O_CREAT | os.O_EXCL))
        self.fails(errno.EOPNOTSUPP, lambda: os.setxattr(self.data, "user.mine", b"x"))
        self.assertTrue(stat.S_ISREG(os.fstat(fd).st_mode))
        directory = os.open(self.dir, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def check_direct(self, full):
        fd = os.open(self.data, os.O_RDWR | os.O_DIRECT)
        memory = mmap.mmap(-1, 8192)
        # Of any alignment, in memory and in the file, to the last byte.
        for offset, length in ((0, 4096), (1, 4096), (4095, 1), (513, 100), (self.SIZE - 100, 100)):
            text = os.urandom(length)
            memory[1:1 + length] = text
            self.assertEqual(os.pwritev(fd, [memoryview(memory)[1:1 + length]], offset), length)
            memory[1:1 + length] = bytes(length)
            self.assertEqual(os.preadv(fd, [memoryview(memory)[1:1 + length]], offset), length)
            self.assertEqual(memory[1:1 + length], text)
        self.fails(full, lambda: os.pwritev(fd, [memory], self.SIZE))
        self.assertEqual(os.preadv(fd, [memory], self.SIZE - 10), 10)
        os.close(fd)

    def test_every_way_to_sync_is_a_flush_of_the_region(self):
        for mode in ("direct", "page-cache"):
            with self.subTest(mode), contextlib.ExitStack() as stack:
                self.check("mount", *self.MODES[mode], self.dir)
                stack.callback(self.check, "umount", self.dir)
                fd = os.open(self.data, os.O_RDWR)
                stack.callback(os.close, fd)
                synced = os.open(self.data, os.O_RDWR | os.O_DSYNC)
                stack.callback(os.close, synced)
                memory = mmap.mmap(fd, 8192)
                stack.callback(memory.close)
                direct = os.open(self.data, os.O_RDWR | os.O_DIRECT | os.O_SYNC)
                stack.callback(os.close, direct)
                for number, call in enumerate((lambda: os.fsync(fd), lambda: os.fdatasync(fd),
                                               lambda: os.pwrite(synced, b"x", 0),
                                               lambda: os.pwritev(direct, [mmap.mmap(-1, 512)], 0),
                                               lambda: os.pwritev(fd, [b"x"], 0, os.RWF_DSYNC),
                                               memory.flush)):
                    os.pwrite(fd, b"x", 4096)
                    memory[number] = 7
                    call()
                    # Once for the file and once in the sum of its mount.
                    self.assertEqual(self.counted("flushes"), 2 * (number + 1))

    def test_copies_of_a_file_with_holes(self):
        """As of a device: O_TRUNC empties nothing, so holes must be written or punched."""
        whole, shorter = self.path("whole"), self.path("shorter")
        for path, size in ((whole, self.SIZE), (shorter, self.SIZE - (1 << 20))):
            with open(path, "wb") as file:
                file.truncate(size)
                file.seek(5000)
                file.write(b"A")
                file.seek(2 << 20)
                file.write(os.urandom(70000))
        self.assertLess(os.stat(whole).st_blocks * 512, self.SIZE // 2, "it has no holes here")
        for mode, words in self.MODES.items():
            with self.subTest(mode):
                self.check("mount", *words, self.dir)
                for tool, original in ((("cp", "--sparse=never"), whole),
                                       (("cp", "--sparse=never"), shorter),
                                       (("cp", "--sparse=always"), whole)):
                    self.run_tool("dd", "if=/dev/urandom", f"of={self.data}", "bs=1M", "count=4",
                                  "conv=notrunc")
                    self.run_tool(*tool, original, self.data)
                    self.run_tool("cmp", "-n", str(os.stat(original).st_size), original, self.data)
                with open(self.data, "r+b") as file:
                    file.write(b"old")
                self.run_tool("dd", f"if={whole}", f"of={self.data}", "bs=64K")
                self.run_tool("cmp", whole, self.data)
                self.check("umount", self.dir)

    def test_programs_that_copy(self):
        original = self.path("original")
        with open(original, "wb") as file:
            file.write(os.urandom(1 << 20) + bytes(1 << 20) + os.urandom(1 << 20) + bytes(1 << 20))
        for mode, words in self.MODES.items():
            with self.subTest(mode):
                self.check("mount", *words, self.dir)
                for tool in (("cp", "--sparse=always"), ("cp", "--sparse=never"),
                             ("cp", "-a"), ("rsync", "-aI", "--inplace")):
                    if shutil.which(tool[0]) is None:
                        continue
                    self.run_tool("dd", "if=/dev/urandom", f"of={self.data}", "bs=1M", "count=4",
                                  "conv=notrunc")
                    self.run_tool(*tool, original, self.data)
                    self.run_tool("cmp", original, self.data)
                self.run_tool("cp", "--sparse=always", self.data, self.path("back"))
                self.run_tool("cmp", original, self.path("back"))
                too_much = subprocess.run(["dd", "if=/dev/zero", f"of={self.data}", "bs=1M",
                                           "count=5", "conv=notrunc"], capture_output=True, text=True)
                self.assertEqual(too_much.returncode, 1)
                self.assertRegex(too_much.stderr, r"4\+0 records out")
                self.check("umount", self.dir)


@unittest.skipUnless(shutil.which("fusermount3") and shutil.which("setpriv"),
                     "there is no fusermount3 or setpriv")
@unittest.skipUnless(os.path.exists("/etc/mtab"), "fusermount3 wants /etc/mtab")
class Unprivileged(MountTest):
    def setUp(self):
        super().setUp()
        self.binary = self.path("oxmem")
        shutil.copy(oxmem_e2e.OXMEM, self.binary)
        for path in (self.directory, self.dir):
            os.chown(path, NOBODY, NOBODY)

    def as_user(self, *words, prefix=()):
        return subprocess.run([*prefix, *USER, self.binary, *words], capture_output=True, text=True,
                              timeout=60, env=dict(self.env, HOME=self.directory))

    def refused_to_user(self, pattern, *words, prefix=()):
        done = self.as_user("mount", "mem:?size=1M", *words, self.dir, prefix=prefix)
        self.assertEqual(done.returncode, 1, done)
        self.assertRegex(done.stderr, f"^oxmem mount: {re.escape(self.dir)}: {pattern}")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertEqual(os.listdir(self.dir), [])

    def test_read_ahead_is_not_theirs_to_set(self):
        done = self.as_user("mount", "mem:?size=1M", "-o", "read_ahead=64K", self.dir)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done)
        self.assertRegex(done.stderr, "read_ahead.*only root can set it")
        self.assertEqual(os.listdir(self.dir), [])

    def test_what_fusermount_refuses_is_one_line(self):
        with open("/etc/fuse.conf", encoding="utf-8") as conf:
            if re.search(r"(?m)^user_allow_other", conf.read()):
                self.skipTest("/etc/fuse.conf lets users share their mounts")
        self.refused_to_user("option allow_other only allowed if 'user_allow_other' is set",
                             "-o", "allow_other")

    def test_without_fusermount(self):
        hidden = f"mount --bind /dev/null {shutil.which('fusermount3')} && exec \"$@\""
        self.refused_to_user(r"fusermount3 cannot be run \(is the package fuse3 installed\?\)",
                             prefix=("unshare", "--mount", "--propagation", "private", "sh", "-c",
                                     hidden, "sh"))

    def test_always_dax_says_what_it_needs(self):
        self.refused_to_user("dax=always: data: passthrough needs root", "-o", "dax=always")

    def test_read_only_and_noexec(self):
        done = self.as_user("mount", "mem:?size=1M", "-o", "ro,noexec", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open("/proc/mounts", encoding="utf-8") as table:
            mounted = re.search(rf"(?m) {self.dir} fuse.oxmem (\S*)", table.read())[1].split(",")
        self.assertLessEqual({"ro", "noexec", "nosuid", "nodev"}, set(mounted))
        self.assertEqual(self.as_user("umount", self.dir).returncode, 0)


if __name__ == "__main__":
    mount_e2e.main()
