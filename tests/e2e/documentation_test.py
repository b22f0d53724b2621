"""The manual pages and the completion know every command and every option that --help knows."""
import os
import re
import shutil
import subprocess
import unittest

import oxmem_e2e
from oxmem_e2e import E2eTest, SOURCE_ROOT

MAN = os.path.join(SOURCE_ROOT, "docs", "man")
COMPLETION = os.path.join(SOURCE_ROOT, "packaging", "bash-completion", "oxmem")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class Documentation(E2eTest):
    def commands(self):
        # Newer versions of the library print the headings in capitals.
        listed = re.split("(?i)subcommands:", self.check("--help").out)[1]
        return re.findall(r"(?m)^  (\w+) ", listed)

    def options(self, command):
        """Long and short, as --help lists them."""
        text = self.check(*([command] if command else []), "--help").out
        lines = re.findall(r"(?m)^  (-[^ ]+)(?: |$)", re.split("(?i)\noptions:", text)[1])
        return [option for line in lines for option in line.split(",")]

    def complete(self, *words):
        """What bash offers behind the words, the last of which is being typed."""
        line = " ".join(words)
        # As readline splits: a colon is a word of its own.
        split = [part for word in words for part in (re.split("(:)", word) if ":" in word else [word])]
        script = f"""source {COMPLETION}
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
            compopt() {{ :; }}
            _oxmem; printf '%s\\n' "${{COMPREPLY[@]}}" """
        out = subprocess.run(["bash", "-c", script, "bash", *split], check=True,
                             capture_output=True, text=True)
        self.assertEqual(out.stderr, "")
        return out.stdout.split()

    def test_every_command_has_a_page_and_stands_in_the_overview(self):
        overview = read(os.path.join(MAN, "oxmem.1"))
        commands = self.commands()
        self.assertGreaterEqual(set(commands), {"serve", "info", "ping", "bench", "stats"})
        for command in commands:
            self.assertIn(f".It Cm {command}\n", overview)
            self.assertTrue(os.path.exists(os.path.join(MAN, f"oxmem-{command}.1")), command)

    def test_every_option_is_in_its_page_and_no_other_is(self):
        for command in [None, *self.commands()]:
            page = read(os.path.join(MAN, f"oxmem-{command}.1" if command else "oxmem.1"))
            items = " ".join(re.findall(r"(?m)^\.It (Fl .*)$", page))
            documented = {"-" + flag for flag in re.findall(r"Fl (\S+)", items)}
            self.assertEqual(documented, set(self.options(command)), command)

    def test_every_option_is_completed_and_no_other_is(self):
        for command in self.commands():
            long = {option for option in self.options(command) if option.startswith("--")}
            self.assertEqual(set(self.complete("oxmem", command, "--")), long, command)
        offered = self.complete("oxmem", "")
        self.assertEqual(set(offered), {*self.commands(), "--help", "--version"})

    def test_values_are_completed(self):
        self.assertEqual(self.complete("oxmem", "bench", "--op", "at"), ["atomic"])
        self.assertEqual(self.complete("oxmem", "serve", "--listen", "tloe://l"), ["//lo"])
        self.assertEqual(self.complete("oxmem", "info", "tloe://l"), ["//lo/"])
        self.assertEqual(self.complete("oxmem", "info", "me"), ["mem:"])
        for command in ("info", "ping", "bench", "mount"):
            for typed, offered in (("un", "unix:"), ("sh", "shm://"), ("str", "stripe:"),
                                   ("mi", "mirror:")):
                self.assertIn(offered, self.complete("oxmem", command, typed), command)
        self.assertLessEqual({"unix:", "shm://", "tloe+udp://", "tloe://lo"},
                             set(self.complete("oxmem", "serve", "--listen", "")))

    def test_help_names_every_way_to_listen(self):
        text = re.sub(r"\s+", " ", self.check("serve", "--help").out)
        listen = re.search(r"--listen (.*?) -a,", text)[1]
        for scheme in ("tloe://", "tloe+udp://", "unix:", "shm://"):
            self.assertIn(scheme, listen)

    def test_the_pages_are_well_formed(self):
        if shutil.which("groff") is None:
            self.skipTest("there is no groff")
        for name in sorted(os.listdir(MAN)):
            rendered = subprocess.run(["groff", "-ww", "-mdoc", "-Tascii", os.path.join(MAN, name)],
                                      capture_output=True, text=True, check=True)
            if "can't find macro file" in rendered.stderr or "mdoc" in rendered.stderr:
                self.skipTest("groff is here without its mdoc macros")
            self.assertEqual(rendered.stderr, "", name)
            text = re.sub(".\x08", "", rendered.stdout)
            self.assertIn("NAME", text)
            if name.endswith(".1"):
                command = name[:-len(".1")].replace("-", " ")
                self.assertRegex(text, rf"(?m)^SYNOPSIS\n +{command} ", name)

    def test_every_key_of_a_source_is_in_the_manual(self):
        page = read(os.path.join(MAN, "oxmem-sources.7"))
        documented = set(re.findall(r"(?m)^\.It Li (\w+)$", page))
        for source in ("mem:", "tloe://v0/02:00:00:00:00:02", "tloe+udp://127.0.0.1:4000",
                       "stripe:(mem:,mem:)", "mirror:(mem:,mem:)", "delay:(mem:)", "rate:(mem:)",
                       "fault:(mem:)"):
            result = self.run_oxmem("info", f"{source}?no_such_key=1")
            keys = re.search(r"\(known: (.*?)\)", result.err)[1].split(", ")
            self.assertEqual(set(keys) - documented, set(), source)


if __name__ == "__main__":
    oxmem_e2e.main()
