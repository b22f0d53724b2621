#!/usr/bin/env python3
"""The tree's own rules, as a test: include arrows, lengths, banned calls, include guards, licence words.

usage: tidy.py ROOT
Prints every violation as file:line: text and exits 1 if there is one.
"""
import os
import re
import subprocess
import sys

# folder -> folders of ours that it may include (itself is implied). Order does not matter.
ARROWS = {
    "transport/base": [],
    "transport/api": ["transport/base"],
    "transport/runtime": ["transport/api", "transport/base"],
    "transport/local": ["transport/api", "transport/base"],
    "transport/compose": ["transport/api", "transport/base"],
    "transport/ucx": ["transport/api", "transport/base"],
    "oxmem/tilelink": ["transport/base"],
    "oxmem/tloe": ["oxmem/tilelink", "transport/base"],
    "oxmem/link": ["transport/base"],
    "oxmem/channel": ["transport/api", "transport/base", "oxmem/tilelink", "oxmem/tloe", "oxmem/link"],
    "oxmem/node": ["transport/base", "oxmem/tilelink", "oxmem/tloe", "oxmem/link"],
    "rdma/verbs": ["transport/base"],
    "rdma/channel": ["transport/api", "transport/base", "rdma/verbs"],
    "rdma/store": ["transport/base", "rdma/verbs"],
    "rdma/easy": ["transport/base", "rdma/verbs"],
    "rdma/nex": ["transport/base"],
    "fs/volume": ["transport/api", "transport/runtime", "transport/base"],
    "fs/fuse": ["fs/volume", "transport/api", "transport/base"],
    "fs/block": ["fs/volume", "transport/api", "transport/base"],
}
TOP = ("transport", "oxmem", "rdma", "fs")
FREE = ("apps", "tests", "bench")  # may include everything

MAX_FILE = 800
MAX_FUNCTION = 70
MAX_LINE = 100
# Protocol machines, folders and single parts: no I/O, clock, log, randomness.
PURE = ("oxmem/tilelink/", "oxmem/tloe/", "rdma/nex/qp/", "rdma/nex/cm/dialogue.", "rdma/nex/cm/message.",
        "rdma/nex/datagram.", "rdma/nex/handshake.", "rdma/nex/wire.")

BANNED = [
    (re.compile(r"\b(strcpy|strcat|sprintf|gets|strtok|atoi|atol|atoll|rand|srand)\s*\("), "banned call"),
    (re.compile(r"#\s*define\s+private\s+public"), "tests go through the public interface"),
    (re.compile(r"\busing namespace std\b"), "no using namespace std"),
    (re.compile(r"\b(TODO|FIXME|XXX)\b"), "unfinished work belongs into an issue"),
]
BANNED_PURE = re.compile(
    r"\b(Now\s*\(\)|clock_gettime|std::chrono|std::thread|std::mutex|spdlog|std::random_device|socket\s*\(|getenv)")

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
# The opening line of a function body at namespace or class level, Google style.
FUNCTION_END = re.compile(r"^( {0,2})\}")


def folder_of(path):
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] in TOP else parts[0]


def check_includes(path, lines):
    here = folder_of(path)
    if here in FREE:
        return
    if here not in ARROWS:
        yield 1, f"folder {here} is not in the table of dependencies (design of the tree)"
        return
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        there = folder_of(match.group(1))
        if there.split("/")[0] not in TOP + FREE:
            continue  # a library's header in quotes
        if there != here and there not in ARROWS[here]:
            yield number, f"{here} must not include {there}"


def check_lengths(path, lines):
    if len(lines) > MAX_FILE:
        yield 1, f"{len(lines)} lines; {MAX_FILE} is the limit"
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE and "http" not in line and 'R"' not in line:
            yield number, f"{len(line)} columns; {MAX_LINE} is the limit"
    yield from check_functions(lines)


def check_functions(lines):
    """A body starts at a line ending in '{' at indent 0 or 2 that has a ')' before, and ends at the
    matching '}' at the same indent."""
    start = None
    for number, line in enumerate(lines, 1):
        if start is None:
            body = re.match(r"^( {0,2})(?! )(.*)\{$", line)
            if not body or re.match(r"\s*(namespace|class|struct|enum|union|extern)\b", line):
                continue
            if ")" not in line:
                continue
            start = (number, body.group(1))
        else:
            end = re.match(r"^( *)\}", line)
            if end and end.group(1) == start[1]:
                if number - start[0] + 1 > MAX_FUNCTION:
                    yield start[0], f"function of {number - start[0] + 1} lines; {MAX_FUNCTION} is the limit"
                start = None


def check_guard(path, lines):
    if not path.endswith(".h"):
        return
    guard = re.sub(r"[/.]", "_", path).upper() + "_"
    text = "\n".join(lines)
    if f"#ifndef {guard}" not in text or f"#define {guard}" not in text:
        yield 1, f"include guard should be {guard}"


def check_words(path, lines):
    pure = path.startswith(PURE)
    for number, line in enumerate(lines, 1):
        for pattern, why in BANNED:
            if pattern.search(line):
                yield number, f"{why}: {line.strip()}"
        code = line.split("//")[0]
        if pure and BANNED_PURE.search(code):
            yield number, f"protocol machines are pure: {line.strip()}"


def check_file(path, lines):
    for check in (check_includes, check_lengths, check_guard, check_words):
        yield from check(path, lines)


def source_files(root):
    out = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, text=True)
    if out.returncode == 0:
        names = out.stdout.split("\n")
    else:  # an unpacked archive
        names = [os.path.relpath(os.path.join(base, name), root)
                 for base, _, files in os.walk(root) for name in files]
    return sorted(n for n in names if re.search(r"\.(h|cc|c|cpp)$", n)
                  and not n.startswith(("build", "tests/data/")))


def main():
    root = sys.argv[1]
    failed = checked = 0
    for path in source_files(root):
        full = os.path.join(root, path)
        if not os.path.exists(full):
            continue
        with open(full, encoding="utf-8") as file:
            lines = file.read().split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        checked += 1
        for number, text in check_file(path, lines):
            print(f"{path}:{number}: {text}")
            failed += 1
    print(f"tidy: {checked} files, {failed} violations")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
