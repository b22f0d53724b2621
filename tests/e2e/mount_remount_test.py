"""mount -o remount: what of a mount changes while it is used."""
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

import mount_e2e
import oxmem_e2e
from mount_e2e import build_path
from mount_keeper_test import KeeperTest


# Agrees to whatever it is asked.
_STRANGER = """
import os, socket, sys
os.setresuid(65534, 65534, 65534)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(16)
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    if peer.recv(65536):
        peer.sendall(b'{"read_only": false, "no_exec": false}\\n')
    print("asked", flush=True)
"""


class RemountTest(KeeperTest):
    def setUp(self):
        super().setUp()
        self.helper = build_path("apps", "mount_helper", "mount.oxmem")

    def remount(self, options, source="none"):
        self.run_tool(self.helper, source, self.dir, "-o", "remount," + options, env=self.env)

    def remount_refused(self, pattern, options, source="none", code=1):
        done = subprocess.run([self.helper, source, self.dir, "-o", "remount," + options],
                              capture_output=True, text=True, env=self.env, timeout=60)
        self.assertEqual(done.returncode, code, done)
        self.assertRegex(done.stderr, pattern)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def facts(self):
        return [part["facts"] for process in self.statistics() if process["command"] == "mount"
                for part in process["parts"] if part["kind"] == "mount"][0]

    def check_read_only(self, fd=None):
        for call in (lambda: os.open(self.data, os.O_RDWR), lambda: os.chmod(self.data, 0o600),
                     lambda: os.truncate(self.data, 0)):
            with self.assertRaises(OSError) as raised:
                call()
            self.assertEqual(raised.exception.errno, errno.EROFS)
        self.assertEqual(os.statvfs(self.dir).f_flag & os.ST_RDONLY, os.ST_RDONLY)
        self.assertEqual(self.facts()["read_only"], "yes")
        self.assertEqual(os.getxattr(self.data, "user.oxmem.read_only"), b"yes")

    def write(self, text, at=0):
        fd = os.open(self.data, os.O_RDWR)
        os.pwrite(fd, text, at)
        os.close(fd)

    def check_writable(self, text):
        self.write(text)
        with open(self.data, "rb") as file:
            self.assertEqual(file.read(len(text)), text)
        self.assertEqual(os.statvfs(self.dir).f_flag & os.ST_RDONLY, 0)
        self.assertEqual(self.facts()["read_only"], "no")
        self.assertEqual(os.getxattr(self.data, "user.oxmem.read_only"), b"no")

    def mounted_with(self):
        with open("/proc/mounts", encoding="utf-8") as table:
            return re.search(rf"(?m) {self.dir} fuse.oxmem (\S*)", table.read())[1].split(",")


class Moved(RemountTest):
    """A mount that mount --move has taken elsewhere is still that mount."""

    def setUp(self):
        super().setUp()
        # Only within a mount that is nobody else's can something be moved.
        area = self.path("area")
        os.mkdir(area)
        self.run_tool("mount", "-t", "tmpfs", "none", area)
        self.addCleanup(subprocess.run, ["umount", "-l", area], capture_output=True)
        self.run_tool("mount", "--make-private", area)
        self.before, self.dir = os.path.join(area, "before"), os.path.join(area, "after")
        for directory in (self.before, self.dir):
            os.mkdir(directory)
            self.addCleanup(subprocess.run, ["umount", "-l", directory], capture_output=True)
        self.data = os.path.join(self.dir, "data")

    def processes(self):
        # Of this test alone, by the place it has for sockets.
        mark = f"OXMEM_RUNTIME_DIR={self.env['OXMEM_RUNTIME_DIR']}".encode()
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                pass
        return found

    def check_all_options(self):
        self.remount("ro")
        self.check_read_only()
        self.remount("rw,umask=077,read_ahead=64K,timeout=7s,noexec")
        self.check_writable(b"moved")
        self.assertEqual(os.stat(self.data).st_mode & 0o777, 0o600)
        self.assertIn("noexec", self.mounted_with())
        self.remount("umask=022,read_ahead=1M,exec")
        self.assertEqual([process["name"] for process in self.statistics()], [self.dir])

    def test_it_is_changed_replaced_and_kept_where_it_is_now(self):
        self.check("mount", "mem:?size=1M", "-o", "dax=never", self.before)
        self.run_tool("mount", "--move", self.before, self.dir)
        self.check_all_options()
        first = self.daemon()
        os.kill(first, signal.SIGKILL)
        second = self.daemon(other_than=[first])
        self.check_all_options()
        self.check("mount", "--replace", "mem:?size=1M", "-o", "dax=never", self.dir)
        self.assertNotIn(self.daemon(), (first, second))
        self.check_all_options()
        self.check("umount", self.dir)
        self.wait_for_no_process()

    def test_what_is_at_the_old_place_stays_when_one_that_waits_for_its_node_is_stopped(self):
        net = self.net()
        node = self.node(net)
        self.check("mount", net.source + "?size=1M&connect_timeout=60s", "-o",
                   "dax=never,keep=600s", self.before, space=net.client)
        self.run_tool("mount", "--move", self.before, self.dir)
        first = self.daemon()
        node.signal(signal.SIGKILL)
        node.wait()
        others = set(self.processes())
        os.kill(first, signal.SIGKILL)
        until = time.monotonic() + 20
        while not (waiting := set(self.processes()) - others):
            self.assertLess(time.monotonic(), until, "nobody goes on with the mount")
        self.check("mount", "mem:?size=2M", self.before)
        # It can hear a signal once it has asked its keeper.
        while len(os.listdir(f"/proc/{min(waiting)}/task")) < 2:
            self.assertLess(time.monotonic(), until)
        os.kill(min(waiting), signal.SIGTERM)
        while min(waiting) in self.processes():
            self.assertLess(time.monotonic(), until, "SIGTERM does not end it")
        self.assertEqual(os.stat(os.path.join(self.before, "data")).st_size, 2 << 20)
        self.assertEqual(os.listdir(self.dir), [])
        self.check("umount", self.before)
        self.wait_for_no_process()

    def test_what_comes_to_the_old_place_is_left_alone(self):
        daemon = self.start("mount", "-f", "mem:?size=1M", self.before)
        daemon.wait_for(r"(?m)^" + self.before + "/")
        self.run_tool("mount", "--move", self.before, self.dir)
        self.check("mount", "mem:?size=2M", self.before)
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.assertEqual(os.listdir(self.dir), [])
        self.assertEqual(os.stat(os.path.join(self.before, "data")).st_size, 2 << 20)
        self.check("umount", self.before)


class ReadOnly(RemountTest):
    def check_both_ways(self, *words, **more):
        self.check("mount", *words, self.dir, **more)
        self.check_writable(b"first")
        reader = os.open(self.data, os.O_RDONLY)
        self.addCleanup(os.close, reader)
        self.remount("ro")
        self.check_read_only()
        self.assertEqual(os.pread(reader, 5, 0), b"first")
        self.remount("rw")
        self.check_writable(b"again")
        self.assertEqual(os.pread(reader, 5, 0), b"again")
        self.assertLessEqual({"rw", "nosuid", "nodev", "relatime"}, set(self.mounted_with()))

    def test_direct(self):
        self.check_both_ways("mem:?size=1M", "-o", "dax=never")

    def test_passthrough(self):
        self.check_both_ways("mem:?size=1M", "-o", "dax=always")

    def test_page_cache(self):
        self.check_both_ways("delay:(mem:?size=1M)?latency=1ms")

    def test_in_the_foreground_without_a_keeper(self):
        self.mount("mem:?size=1M", "-o", "dax=never")
        self.remount("ro")
        self.check_read_only()
        self.remount("rw")
        self.check_writable(b"again")

    def test_what_was_mounted_ro_can_be_written_then(self):
        self.check("mount", "mem:?size=1M", "-o", "ro,umask=027", self.dir)
        self.check_read_only()
        self.remount("rw")
        self.check_writable(b"x")
        self.assertEqual(os.stat(self.data).st_mode & 0o777, 0o640)

    def test_a_region_that_is_read_only_stays_so(self):
        self.serve(None, "--region", "data=1M,ro", "--listen", "unix:" + self.path("node.sock"))
        self.check("mount", "unix:" + self.path("node.sock"), "-o", "dax=never", self.dir)
        for options in ("ro", "rw"):
            self.remount(options)
            with self.assertRaises(OSError) as raised:
                os.open(self.data, os.O_RDWR)
            self.assertEqual(raised.exception.errno, errno.EROFS)
            self.assertEqual(os.getxattr(self.data, "user.oxmem.read_only"), b"yes")

    def test_while_somebody_writes_it_is_refused(self):
        self.check("mount", "mem:?size=1M", "-o", "dax=never", self.dir)
        with open(self.data, "r+b") as file:
            holder = subprocess.Popen(["sleep", "1000"], stdout=file)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        self.remount_refused(rf"open for writing: sleep \(pid {holder.pid}\) has .*; end that first",
                             "ro")
        self.check_writable(b"still")
        holder.kill()
        holder.wait()
        self.remount("ro")
        self.check_read_only()

    def test_who_takes_over_goes_on_as_it_is_now(self):
        self.check("mount", "mem:?size=1M", "-o", "dax=never,uid=5", self.dir)
        self.remount("ro,uid=6,timeout=7s")
        first = self.kill_daemon()
        second = self.daemon(other_than=[first])
        self.check_read_only()
        self.assertEqual(os.stat(self.data).st_uid, 6)
        self.kill_keeper()
        self.kill_daemon(second)
        third = self.daemon(other_than=[first, second])
        self.check_read_only()
        self.assertEqual(os.stat(self.data).st_uid, 6)
        self.remount("rw,uid=7")
        self.kill_daemon(third)
        self.daemon(other_than=[first, second, third])
        self.check_writable(b"fourth")
        self.assertEqual(os.stat(self.data).st_uid, 7)

    def test_who_takes_over_in_the_foreground_too(self):
        words = ("mem:?size=1M", "-o", "dax=never,keep=60s")
        first = self.mount(*words)
        self.write(b"kept")
        reader = os.open(self.data, os.O_RDONLY)
        self.addCleanup(os.close, reader)
        self.remount("ro")
        first.signal(signal.SIGKILL)
        first.wait()
        second = self.mount(*words)
        self.assertIn("taken over", second.out)
        self.assertEqual(os.pread(reader, 4, 0), b"kept")
        self.check_read_only()
        self.remount("rw")
        self.check_writable(b"x")


class ByMount(RemountTest):
    """By mount(8) itself, as it finds its helpers: in a mount namespace with ours at their place."""

    FSTAB = ""

    def in_space(self, script):
        """Runs a shell there; /sbin has our helper for both names of the type."""
        script = f"""set -e
            mkdir {self.path('over')} {self.path('work')}
            mount -t overlay -o lowerdir=/sbin/,upperdir={self.path('over')},workdir={self.path('work')} none /sbin/ 2>/dev/null ||
              {{ echo no overlay; exit 77; }}
            ln -sf {self.helper} /sbin/mount.oxmem
            ln -sf {self.helper} /sbin/mount.fuse.oxmem
            {script}"""
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                              capture_output=True, text=True, env=self.env, timeout=120)
        if done.returncode == 77:
            self.skipTest(done.stdout)
        return done

    def test_without_fstab(self):
        done = self.in_space(f"""
            mount -t oxmem 'mem:?size=1M mem:?size=2M' {self.dir} -o dax=never,noexec
            mount -o remount,ro {self.dir}
            ! (echo x > {self.data}) 2>/dev/null
            grep -q ' {self.dir} fuse.oxmem ro,nosuid,nodev,noexec,' /proc/mounts
            mount -o remount,rw {self.dir}
            echo x > {self.data}
            mount -o remount,exec {self.dir}
            grep ' {self.dir} ' /proc/mounts
            umount {self.dir}""")
        self.assertEqual(done.returncode, 0, done)
        self.assertIn(" rw,nosuid,nodev,relatime,", done.stdout)

    def test_with_fstab(self):
        with open(self.path("fstab"), "w", encoding="ascii") as file:
            file.write(f"mem:?size=1M {self.dir} oxmem _netdev,nofail,dax=never,uid=5,name=data,"
                       "timeout=20s,noauto 0 0\n")
        done = self.in_space(f"""
            mount --fstab {self.path('fstab')} {self.dir}
            mount --fstab {self.path('fstab')} -o remount,ro {self.dir}
            ! (echo x > {self.data}) 2>/dev/null
            mount --fstab {self.path('fstab')} -o remount,rw {self.dir}
            echo x > {self.data}
            sed -i s/uid=5/uid=6/ {self.path('fstab')}
            mount --fstab {self.path('fstab')} -o remount {self.dir}
            stat -c 'owner %u' {self.data}
            sed -i s/dax=never/dax=always/ {self.path('fstab')}
            ! mount --fstab {self.path('fstab')} -o remount {self.dir}
            umount {self.dir}""")
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("owner 6", done.stdout)
        self.assertIn("dax cannot be changed while it is mounted; unmount it", done.stderr)


    def test_all_of_fstab_twice(self):
        for number, sources in enumerate((r"mem:?size=1M", r"mem:?size=1M\040mem:?size=2M")):
            with open(self.path("fstab"), "w", encoding="ascii") as file:
                file.write(f"{sources} {self.dir} oxmem defaults 0 0\n")
            with self.subTest(sources):
                shutil.rmtree(self.path("over"), ignore_errors=True)
                shutil.rmtree(self.path("work"), ignore_errors=True)
                done = self.in_space(f"""
                    mount --fstab {self.path('fstab')} -a
                    mount --fstab {self.path('fstab')} -a
                    echo files: $(ls {self.dir})
                    umount {self.dir}""")
                self.assertEqual((done.returncode, done.stderr), (0, ""), done)
                self.assertRegex(done.stdout, "(?m)^files:( data.?){%d}$" % (1 + number))


class Other(RemountTest):
    """Options beside ro and rw."""

    def test_owners_and_umask(self):
        self.check("mount", "mem:?size=1M", "-o", "umask=022", self.dir)
        self.remount("uid=5,gid=6,umask=077")
        status = os.stat(self.data)
        self.assertEqual((status.st_uid, status.st_gid, status.st_mode & 0o777), (5, 6, 0o600))
        self.assertEqual(os.stat(self.dir).st_uid, 5)

    def test_noexec_and_exec(self):
        self.check("mount", "mem:?size=1M", "-o", "umask=0", self.dir)
        os.chmod(self.data, 0o755)
        self.write(b"#!/bin/sh\nexit 7\n")
        os.truncate(self.data, 1 << 20)
        run = lambda: subprocess.run(["sh", "-c", 'exec "$0"', self.data], capture_output=True)
        self.assertEqual(run().returncode, 7)
        self.remount("noexec")
        self.assertEqual(run().returncode, 126)
        self.remount("exec")
        self.assertEqual(run().returncode, 7)

    def test_read_ahead(self):
        self.check("mount", "mem:?size=1M", self.dir)

        def read_ahead():
            device = os.stat(self.dir).st_dev
            path = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
            with open(path, encoding="ascii") as file:
                return int(file.read())
        self.assertEqual(read_ahead(), 1024)
        self.remount("read_ahead=64K")
        self.assertEqual(read_ahead(), 64)

    def test_timeout(self):
        """Also of a request that is under way."""
        daemon = self.mount("delay:(mem:?size=1M)?latency=100s", "-o", "dax=never,timeout=0")
        reader = subprocess.Popen(["dd", "if=" + self.data, "of=/dev/null", "bs=4k", "count=1"],
                                  stderr=subprocess.PIPE, text=True)
        self.addCleanup(reader.stderr.close)
        self.addCleanup(reader.wait)
        self.addCleanup(reader.kill)
        self.wait_until_counted("in_flight", 1)
        begin = time.monotonic()
        self.remount("timeout=300ms")
        self.assertNotEqual(reader.wait(20), 0)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertIn("Input/output error", reader.stderr.read())
        daemon.wait_for("no answer in time")

    def test_timeout_beyond_that_of_a_peer_is_refused(self):
        net = self.net()
        self.node(net)
        source = net.source + "?size=8M"
        self.check("mount", source, "-o", "timeout=10s", self.dir, space=net.client)
        self.remount("timeout=3s")
        self.remount("timeout=9s")
        for longer in ("11s", "0"):
            self.remount_refused("opened to wait for 10s and cannot wait longer while it is mounted; "
                                 "oxmem mount --replace opens it anew", "timeout=" + longer)

    def test_what_cannot_change_is_refused_and_nothing_changes(self):
        self.check("mount", "mem:?size=1M", "-o", "dax=never,threads=2", self.dir)
        for options in ("threads=3", "spin=1", "keep=7s", "stats=" + self.path("x"),
                        "prometheus=127.0.0.1:1"):
            key = options.split("=", maxsplit=1)[0]
            self.remount_refused(f"{key} cannot be changed while it is mounted; oxmem mount "
                                 "--replace can", "ro," + options)
        for options in ("dax=always", "allow_other", "name=other"):
            key = options.split("=", maxsplit=1)[0]
            self.remount_refused(f"{key} cannot be changed while it is mounted; unmount it and "
                                 "mount it anew", options + ",ro")
        self.remount_refused("the source cannot be changed .*: it is mem:.size=1M, not mem:.size=2M",
                             "ro", "mem:?size=2M")
        self.remount_refused("-o nonsense: there is no such option", "nonsense")
        self.remount_refused("-o umask: \"9\" is not an octal number", "umask=9")
        self.remount_refused("log level \"loud\" is not one of", "log_level=loud")
        self.check_writable(b"x")
        # What is so already is no change.
        self.remount("rw,dax=never,threads=2,name=data,user_id=0,group_id=0,default_permissions",
                     "mem:?size=1M")

    def test_where_nothing_is_mounted(self):
        self.remount_refused("nothing is mounted there", "ro")
        self.refused(1, "nothing is mounted there", "mount", "-o", "remount,ro", self.dir)

    def test_by_oxmem_mount(self):
        self.check("mount", "mem:?size=1M", self.dir)
        self.check("mount", "-o", "remount,ro", self.dir)
        self.check_read_only()
        self.check("mount", "-o", "remount,rw", "mem:?size=1M", self.dir)
        self.check_writable(b"x")
        for words in (["-f"], ["--replace"]):
            self.refused(2, "remount: goes with the directory", "mount", "-o", "remount", *words,
                         self.dir)

    def test_from_where_the_daemon_cannot_be_asked(self):
        self.check("mount", "mem:?size=1M", self.dir)
        runtime = self.env["OXMEM_RUNTIME_DIR"]
        self.env["OXMEM_RUNTIME_DIR"] = self.path("elsewhere")
        self.remount_refused("no oxmem mount that can be asked", "ro")
        self.env["OXMEM_RUNTIME_DIR"] = runtime
        self.check_writable(b"x")

    def test_the_word_of_another_user_is_not_believed(self):
        self.check("mount", "mem:?size=1M", "-o", "ro,noexec", self.dir)
        run = self.env["OXMEM_RUNTIME_DIR"]
        os.chmod(self.directory, 0o755)
        os.chmod(run, 0o777)
        stranger = subprocess.Popen(
            [sys.executable, "-c", _STRANGER, os.path.join(run, "0.sock")], stdout=subprocess.PIPE, text=True)
        self.addCleanup(stranger.stdout.close)
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        self.assertEqual(stranger.stdout.readline(), "ready\n")
        self.check("mount", "-o", "remount,uid=7", self.dir)
        self.assertEqual(stranger.stdout.readline(), "asked\n")
        self.check("mount", "--replace", "mem:?size=1M", "-o", "ro,noexec,uid=8", self.dir)
        stranger.kill()
        self.assertEqual(os.stat(self.data).st_uid, 8)
        self.check_read_only()
        self.assertLessEqual({"ro", "noexec"}, set(self.mounted_with()))

    def test_an_unprivileged_user_is_told(self):
        self.check("mount", "mem:?size=1M", "-o", "allow_other", self.dir)
        os.chmod(self.directory, 0o755)
        done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", self.helper, "none",
                               self.dir, "-o", "remount,ro"], capture_output=True, text=True,
                              env=self.env)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.check_writable(b"x")


if __name__ == "__main__":
    mount_e2e.main()
