"""Installs the build to a fresh place and builds a project of somebody else's against it, by
find_package and by pkg-config; also looks whether everything that belongs to oxmem was installed.

usage: consumer_test.py BUILD_DIRECTORY CXX [SANITIZERS]
"""
import os
import shutil
import subprocess
import sys
import tempfile

PROJECT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "project")


def run(*command, env=None, with_errors=False):
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed:\n{done.stdout}{done.stderr}")
    return done.stdout + (done.stderr if with_errors else "")


def find(prefix, name):
    for base, _, files in os.walk(prefix):
        if name in files:
            return os.path.join(base, name)
    sys.exit(f"{name} was not installed under {prefix}: {sorted(os.listdir(prefix))}")


def by_find_package(prefix, scratch, cxx):
    # Warnings of the consumer's own choice: ours must not reach it, nor come from our headers.
    run("cmake", "-G", "Ninja", "-S", PROJECT, "-B", scratch, f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DCMAKE_CXX_COMPILER={cxx}", "-DCMAKE_CXX_FLAGS=-Wall -Werror",
        "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
    with open(os.path.join(scratch, "compile_commands.json"), encoding="utf-8") as file:
        if "-Wshadow" in file.read():
            sys.exit("the warnings of oxmem's own build reach its consumers")
    run("cmake", "--build", scratch)
    return run(os.path.join(scratch, "consumer"))


def by_pkg_config(prefix, scratch, cxx, sanitizers):
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(find(prefix, "oxmem.pc")))
    flags = run("pkg-config", "--cflags", "--libs", "oxmem", env=env).split()
    if sanitizers:
        flags.append(f"-fsanitize={sanitizers}")
    program = os.path.join(scratch, "by-pkg-config")
    run(cxx, os.path.join(PROJECT, "main.cc"), "-o", program, *flags)
    return run(program)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def check_install(build, scratch, prefix):
    """Where mount(8) and systemd find what is theirs, whatever prefix the build was made for."""
    said = run("cmake", "--install", build, "--prefix", prefix, with_errors=True)
    has_mounts = "mount.oxmem" in said
    if has_mounts and f"link mount.oxmem and mount.fuse.oxmem there from {prefix}/sbin" not in said:
        sys.exit(f"nothing is said of a helper that mount(8) does not find:\n{said}")
    root = os.path.join(scratch, "root")
    said = run("cmake", "--install", build, "--prefix", "/usr", with_errors=True,
               env=dict(os.environ, DESTDIR=root))
    if "mount(8)" in said:
        sys.exit(f"mount(8) looks in /usr/sbin:\n{said}")
    for place, begins in ((prefix, prefix), (os.path.join(root, "usr"), "/usr")):
        if has_mounts:
            for name in ("mount.oxmem", "mount.fuse.oxmem"):
                find(os.path.join(place, "sbin"), name)
        for unit in ("oxmem-mount@.service", "oxmem-serve@.service"):
            text = read(os.path.join(place, "lib", "systemd", "system", unit))
            if f"\nExecStart={begins}/bin/oxmem " not in text:
                sys.exit(f"{unit} starts something else than what was installed:\n{text}")


def main():
    build, cxx = sys.argv[1:3]
    sanitizers = sys.argv[3] if len(sys.argv) > 3 else ""
    scratch = tempfile.mkdtemp(prefix="oxmem-consumer-")
    try:
        prefix = os.path.join(scratch, "prefix")
        check_install(build, scratch, prefix)
        run(find(os.path.join(prefix, "bin"), "oxmem"), "--version")
        for name in ("oxmem.1", "oxmem-serve.1", "oxmem-sources.7"):
            find(os.path.join(prefix, "share", "man"), name)
        find(os.path.join(prefix, "share", "bash-completion", "completions"), "oxmem")
        built = os.path.join(scratch, "build")
        os.mkdir(built)
        for out in (by_find_package(prefix, built, cxx), by_pkg_config(prefix, scratch, cxx, sanitizers)):
            print(out, end="")
            if "mem 1M works" not in out:
                sys.exit("the consumer did not do its work")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
