"""./quickstart in a machine of its own: private network, private /run."""
import os
import re
import shutil
import unittest

import oxmem_e2e
from oxmem_e2e import E2eTest, Process, SOURCE_ROOT

QUICKSTART = os.path.join(SOURCE_ROOT, "quickstart")
# What must not be there afterwards; lines of output are leftovers.
LEFTOVERS = """
ip -o link | grep -v ': lo:' || true
ip netns list
ls -d /run/oxmem-quickstart /run/oxmem 2>/dev/null || true
"""


class Quickstart(E2eTest):
    def run_script(self, script, seconds=120):
        """Runs a shell script where nobody else's namespaces and processes can be seen."""
        private = "mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip link set lo up\n"
        process = Process(["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc",
                           "--kill-child", "bash", "-euc", private + script])
        self.addCleanup(process.close)
        code = process.wait(seconds)
        return code, process.out, process.err

    def test_shows_the_memory_and_leaves_the_node_running_until_stop(self):
        code, out, err = self.run_script(f"""
            {QUICKSTART} --oxmem {oxmem_e2e.OXMEM}
            echo ==== running; {oxmem_e2e.OXMEM} stats
            {QUICKSTART} --oxmem {oxmem_e2e.OXMEM} > /dev/null
            echo ==== twice; {oxmem_e2e.OXMEM} stats
            {QUICKSTART} stop
            echo ==== stopped; ps -e -o comm= | grep oxmem || true
            {LEFTOVERS}
            {QUICKSTART} stop""")
        self.assertEqual((code, err), (0, ""), out)
        first, running, twice, stopped = (part.strip() for part in out.split("===="))
        for text in ("listening on tloe://oxmem-far/02:6f:78:6d:65:6d", "health ", "5 answered",
                     "verified: every byte as it was written", "sequential read, size 1M",
                     "/mnt/oxmem/data: ",
                     "./quickstart stop"):
            self.assertIn(text, first)
        for text in (running, twice):
            self.assertEqual(text.count('serve "quickstart"'), 1, text)
        self.assertEqual(stopped.splitlines(),
                         ["stopped", "== the node, its namespace and the veth pair are gone"])

    def test_each_of_the_five_things_to_try_works(self):
        for tool in ("getfattr", "fio", "mke2fs"):
            if shutil.which(tool) is None:
                self.skipTest(f"there is no {tool}")
        code, out, err = self.run_script(f"{QUICKSTART} --oxmem {oxmem_e2e.OXMEM}")
        self.assertEqual((code, err), (0, ""), out)
        lines = re.findall(r"(?m)^  (.*)$", out.split("Five things to try:")[1])
        self.assertEqual(len(lines), 5, lines)
        tries = "\n".join(f"echo ==== {number}; {line}" for number, line in enumerate(lines))
        code, out, err = self.run_script(f"""
            mount -t tmpfs tmpfs /media
            {QUICKSTART} --oxmem {oxmem_e2e.OXMEM} > /dev/null
            {tries}
            echo ====; {QUICKSTART} stop""")
        self.assertEqual((code, err), (0, ""), out)
        facts, copied, measured, mounted, watched = out.split("====")[1:6]
        self.assertIn('user.oxmem.health="ok"', facts)
        self.assertIn("equal", copied)
        self.assertRegex(measured, r"read: IOPS=[1-9]")
        self.assertRegex(mounted, r"/dev/loop\d+ .*/media")
        self.assertIn("/mnt/oxmem", watched)
        self.assertIn("4K, depth 32", watched)

    def test_a_failure_leaves_nothing_behind(self):
        broken = self.path("broken")
        with open(broken, "w", encoding="ascii") as file:
            # Serves, but cannot be used.
            file.write(f'#!/bin/sh\n[ "$1" = serve ] && exec {oxmem_e2e.OXMEM} "$@"\nexit 1\n')
        os.chmod(broken, 0o755)
        for program, reason in (("/bin/false", "the node did not start"), (broken, "undone")):
            code, out, _ = self.run_script(f"""
                {QUICKSTART} --oxmem {program} || echo ==== failed
                ps -e -o comm= | grep oxmem || true
                {LEFTOVERS}""")
            self.assertEqual(code, 0, out)
            self.assertIn(reason, out)
            self.assertEqual(out.split("==== failed")[1].strip(), "", out)

    def test_wrong_words_and_other_users_are_refused(self):
        self.assertEqual(self.run_script(f"{QUICKSTART} nonsense")[0], 2)
        for program in ("", " /nonexistent/oxmem", " /tmp"):
            code, _, err = self.run_script(f"{QUICKSTART} --oxmem{program}")
            self.assertEqual(code, 2)
            self.assertIn("--oxmem: there is no program", err)
        other = "setpriv --reuid=65534 --clear-groups"
        if self.run_script(f"{other} test -r {QUICKSTART}")[0] != 0:
            self.skipTest("another user cannot read the script from here")
        code, _, err = self.run_script(f"{other} bash {QUICKSTART}")
        self.assertEqual(code, 1)
        self.assertIn("try sudo ./quickstart", err)


if __name__ == "__main__":
    oxmem_e2e.main()
