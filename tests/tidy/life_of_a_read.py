#!/usr/bin/env python3
"""Fails when docs/life-of-a-read.md names a function that is not in the file the page gives, or
anywhere in the tree for those it names in passing.

usage: life_of_a_read.py ROOT
"""
import os
import re
import subprocess
import sys

PAGE = "docs/life-of-a-read.md"
FUNCTION = r"`((?:\w+::)*[A-Z]\w+)`"


def defines(text, function):
    """Whether the source has a definition of it: the qualified name, or inside its class."""
    if re.search(rf"\b{function}\(", text):
        return True
    owner, _, name = function.rpartition("::")
    owner = owner.rpartition("::")[2]
    return bool(owner) and bool(re.search(rf"\b(class|struct) {owner}\b", text)) and bool(
        re.search(rf"\b{name}\(", text))


def main():
    root = sys.argv[1]
    with open(os.path.join(root, PAGE), encoding="utf-8") as file:
        page = file.read()
    sources = {}
    listed = subprocess.run(["git", "-C", root, "ls-files", "*.h", "*.cc"], capture_output=True,
                            text=True).stdout.split()
    for path in listed or [os.path.relpath(os.path.join(base, name), root)
                           for base, _, names in os.walk(root) for name in names
                           if name.endswith((".h", ".cc"))]:
        with open(os.path.join(root, path), encoding="utf-8") as file:
            sources[path] = file.read()
    rows = re.findall(rf"(?m)^\| \d+ \| {FUNCTION} \| `([^`]+)` \|", page)
    wrong = [f"{function} is not in {path}" for function, path in rows
             if path not in sources or not defines(sources[path], function)]
    numbers = [int(n) for n in re.findall(r"(?m)^\| (\d+) \|", page)]
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) != len(rows):
        wrong.append(f"the steps are not numbered in order: {numbers}, {len(rows)} of them readable")
    for function in set(re.findall(FUNCTION, page)):
        if not any(defines(text, function) for text in sources.values()):
            wrong.append(f"{function} is nowhere in the tree")
    for line in wrong:
        print(f"{PAGE}: {line}")
    print(f"life of a read: {len(rows)} steps, {len(wrong)} wrong")
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
