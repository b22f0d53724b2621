"""Completion in a bash of its own, asked as readline asks."""
import os
import subprocess
import unittest

import oxmem_e2e

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging",
                      "bash-completion", "oxmem")

# Splits a line into words as readline does, which takes = and : for words too.
ASK = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=()
rest=$2
while [ -n "$rest" ]; do
  case $rest in
    " "*) rest=${rest# } ;;
    [=:]*) COMP_WORDS+=("${rest:0:1}"); rest=${rest:1} ;;
    *) word=${rest%%[ =:]*}; COMP_WORDS+=("$word"); rest=${rest#"$word"} ;;
  esac
done
[[ $2 != *[\ =:] ]] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_oxmem
printf '%s\n' "${COMPREPLY[@]}"
"""


class Completion(unittest.TestCase):
    def complete(self, line):
        done = subprocess.run(["bash", "-c", ASK, "bash", SCRIPT, line], capture_output=True,
                              text=True, timeout=60, check=True)
        return done.stdout.split()

    def test_commands_and_options(self):
        self.assertEqual(self.complete("oxmem umo"), ["umount"])
        self.assertEqual(self.complete("oxmem mount --rep"), ["--replace"])
        self.assertEqual(self.complete("oxmem bench --op wr"), ["write"])

    def test_words_of_a_list(self):
        self.assertEqual(self.complete("oxmem mount -o allow"), ["allow_other"])
        self.assertEqual(self.complete("oxmem mount -o dax="), ["auto", "always", "never"])
        self.assertEqual(self.complete("oxmem mount -o dax=n"), ["never"])
        self.assertEqual(self.complete("oxmem mount -o ro,ke"), ["ro,keep="])
        self.assertEqual(self.complete("oxmem mount -o ro,dax=al"), ["always"])
        self.assertEqual(self.complete("oxmem mount -o uid=5,nam"), ["5,name="])

    def test_sources(self):
        self.assertEqual(self.complete("oxmem info uni"), ["unix:"])
        self.assertEqual(self.complete("oxmem info del"), ["delay:"])
        self.assertIn("//lo/", self.complete("oxmem mount tloe:"))
        self.assertEqual(self.complete("oxmem mount tloe+udp:/"), ["//"])


if __name__ == "__main__":
    oxmem_e2e.main()
