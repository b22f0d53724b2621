"""Cases with programs of UCX, Open MPI and libfabric, which bring their own ideas of a device.

Each case takes the Pair of nex_e2e.py.
"""
import functools
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile

import places

CASES = {}   # on one host
GROUPS = {}  # between two namespaces: the cases of each


def case(name, *arguments, group=None, host=True):
    """Adds a case that calls the function below with these arguments."""
    def add(function):
        if host:
            CASES[name] = lambda pair: function(pair, *arguments)
        if group:
            GROUPS.setdefault(group, {})[name] = lambda pair: function(pair, *arguments)
        return function
    return add


def final_count(text):
    """How many iterations ucx_perftest says it did."""
    found = re.search(r"^Final: +(\d+)", text, re.M)
    assert found, text
    return int(found.group(1))


@functools.lru_cache
def without_mpi():
    """Where it was built with Open MPI it takes part in that unless it is told not to, or has a terminal."""
    help_text = subprocess.run(["ucx_perftest", "-h"], capture_output=True, text=True).stdout
    return ("-P", "0") if "MPI mode" in help_text else ()


def ucx_perftest(pair, options):
    pair.new_ports()
    if shutil.which("ucx_perftest") is None:
        print("skipped: ucx_perftest is not installed")
        sys.exit(77)
    common = ["ucx_perftest", *without_mpi(), "-p", str(pair.port), *options]
    out = pair.run(common, common + [pair.exchange])
    count = int(options[options.index("-n") + 1])
    assert final_count(out["client"]) == count, out["client"]
    return out


@case("ucx_info")
def ucx_info(pair):
    run = pair.start(["ucx_info", "-d"])
    text = run.communicate(timeout=60 * pair.patience)[0]
    assert run.returncode == 0, text
    domain = text.split("# Memory domain: nex0")[1].split("# Memory domain")[0]
    for transport in ("rc_verbs", "ud_verbs"):
        assert re.search(rf"Transport: {transport}\n# +Device: nex0:1", domain), text
    # It names one atomic operation of 64 bits for each list it understands.
    assert "atomic_fadd: 64 bit" in domain and "atomic_cswap: 64 bit" in domain, domain


UCT_RC = (["-t", "am_lat"], ["-t", "am_bw", "-s", "4000", "-D", "zcopy"], ["-t", "put_lat"], ["-t", "put_bw"],
          ["-t", "put_bw", "-D", "zcopy", "-s", "1048576"], ["-t", "get", "-D", "bcopy"],
          ["-t", "get", "-D", "zcopy", "-s", "1048576"], ["-t", "add_lat"], ["-t", "fadd"], ["-t", "cswap"])
UCT_UD = (["-t", "am_lat"], ["-t", "am_bw"], ["-t", "am_bw", "-s", "3000", "-D", "zcopy"])


@case("ucx_uct_rc", "rc_verbs", UCT_RC, group="ucx")
@case("ucx_uct_ud", "ud_verbs", UCT_UD, group="ucx")
def uct(pair, transport, tests):
    for test in tests:
        ucx_perftest(pair, ["-d", "nex0:1", "-x", transport, "-w", "10", "-n", "300", *test])


UCP = (["-t", "tag_lat", "-s", "8"], ["-t", "tag_lat", "-s", "65536"], ["-t", "tag_bw", "-s", "4194304", "-n", "20"],
       ["-t", "ucp_put_lat", "-s", "8"], ["-t", "ucp_put_bw", "-s", "1048576", "-n", "20"],
       ["-t", "ucp_get", "-s", "8"], ["-t", "ucp_get", "-s", "4194304", "-n", "20"], ["-t", "ucp_fadd"],
       ["-t", "ucp_cswap"], ["-t", "stream_bw", "-s", "100000"])


@case("ucx_ucp_rc", "rc_v,self", "1", UCP, group="ucx")
@case("ucx_ucp_rc_tcp", "rc_v,self", "0", UCP)
@case("ucx_ucp_ud", "ud_v,self", "1", [test for test in UCP if "4194304" not in test and "1048576" not in test],
      group="ucx")
def ucp(pair, transports, direct, tests):
    pair.env.update(UCX_TLS=transports, UCX_NET_DEVICES="nex0:1", NEX_DEBUG="1", NEX_DIRECT=direct)
    for test in tests:
        count = [] if "-n" in test else ["-n", "300"]
        out = ucx_perftest(pair, ["-w", "3", *count, *test])
        # The only network there is; a connection on it is how the data went.
        if transports.startswith("rc"):
            assert "connects to" in out["client"] + out["server"], out


def mpirun(pair, ranks, folder):
    """mpirun with all ranks on one host, or with half of them at each end of the wire.

    It reaches another host by ssh or what stands for it, and tells hosts apart by their names.
    """
    if isinstance(pair.place, places.Host):
        return ["mpirun", "-np", str(ranks), "--mca", "plm", "isolated"]
    agent = os.path.join(folder, "agent")
    named = """'hostname "$1" && shift && exec "$@"' named"""
    with open(agent, "w", encoding="utf-8") as script:
        enter = " ".join(pair.place.prefix("client"))
        script.write(f"""#!/bin/sh
host=$1 && shift
export NEX_ADDR={pair.place.addresses["client"]}
exec {enter} unshare --uts sh -c {named} "$host" sh -c "$*"
""")
    os.chmod(agent, 0o755)
    return ["unshare", "--uts", "sh", "-c", named.split("'")[1], "named", "server", "mpirun", "-np", str(ranks),
            "--host", f"server:{ranks // 2},client:{ranks // 2}", "--mca", "plm_rsh_agent", agent]


@case("open_mpi", "mpi_pingpong", 2, ["--mca", "btl", "^tcp,vader,sm,openib"], group="open_mpi")
@case("open_mpi_one_sided", "mpi_window", 4, ["--mca", "btl", "^tcp,vader,sm,openib", "--mca", "osc", "ucx"],
      group="open_mpi")
def open_mpi(pair, name, ranks, options):
    """A program that checks what it gets, with no network but nex0 for its data."""
    if shutil.which("mpicc") is None:
        print("skipped: mpicc is not installed")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, name)
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".c")
        subprocess.run(["mpicc", "-O1", "-o", program, source], check=True)
        for transports in ("rc_v,self", "rc_verbs,ud_verbs,self", "ud_v,self"):
            pair.env.update(NEX_DEBUG="1")
            run = pair.start([*mpirun(pair, ranks, folder), "--allow-run-as-root", "--oversubscribe", "--mca", "pml",
                              "ucx", *options, "-x", f"UCX_TLS={transports}", program])
            text = run.communicate(timeout=120 * pair.patience)[0]
            assert run.returncode == 0 and re.search(r"every (byte|number) was right", text), text
            assert len(set(re.findall(r"nex\[(\d+)\]: listening", text))) == ranks, text
            assert transports == "ud_v,self" or "connects to" in text, text


# The provider leaves loopback interfaces out whatever the device, so these need an address of another.
@case("fi_pingpong_msg", "verbs", "msg", group="libfabric", host=False)
@case("fi_pingpong_rdm", "verbs;ofi_rxm", "rdm", group="libfabric", host=False)
@case("fi_pingpong_dgram", "verbs", "dgram", group="libfabric", host=False)
@case("fi_pingpong_rxd", "verbs;ofi_rxd", "rdm", group="libfabric", host=False)
def fi_pingpong(pair, provider, endpoint):
    common = ["fi_pingpong", "-p", provider, "-e", endpoint, "-I", "100", "-c"]
    out = pair.run(common + ["-B", str(pair.port)], common + ["-P", str(pair.port), pair.exchange])
    for text in out.values():
        lines = re.findall(r"^(\S+) +(\d+) +=(\d+) ", text, re.M)
        assert len(lines) >= 4 and all(line[1:] == ("100", "100") for line in lines), out


PYVERBS_TESTS = "/usr/share/doc/rdma-core/tests"
# Why tests of pyverbs may be left out: vendors' devices, and what nex0 does not have (docs/nex.md).
PYVERBS_SKIPS = re.compile(r"MLX5|EFA|cuda|/dev/dri|PCI device|[Rr]aw Packet|QP type 8|Device memory|dmabuf|ODP|huge pages|"
                           r"Extended CQ is not|Extended QP is not|All gid indices|Converting timestamp|"
                           r"flow|Flow|[Tt]ag [Mm]atching|atomic write|flush|Flush|DM ", re.I)
PYVERBS_PASSES = 112  # with rdma-core 44


def provide_rdma(pair, folder):
    """Newer tests ask `rdma` for the kernel's devices, which fails, and the tests with it, where the kernel
    has no such subsystem at all. Where it has, and no device, the answer is this."""
    found = shutil.which("rdma")
    if found and subprocess.run([found, "link", "show", "-j"], capture_output=True).returncode != 0:
        script = os.path.join(folder, "rdma")
        with open(script, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\necho '[]'\n")
        os.chmod(script, 0o755)
        pair.env["PATH"] = f"{folder}:{os.environ['PATH']}"


@case("pyverbs")
def pyverbs(pair):
    """The whole suite of rdma-core, by the interpreter its package is for."""
    if not os.path.exists(os.path.join(PYVERBS_TESTS, "run_tests.py")):
        print("skipped: the tests of python3-pyverbs are not installed")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        tests = os.path.join(folder, "tests")
        os.mkdir(tests)
        for name in os.listdir(PYVERBS_TESTS):
            source = os.path.join(PYVERBS_TESTS, name)
            if os.path.isdir(source):
                continue
            with (gzip.open if name.endswith(".gz") else open)(source, "rb") as file:
                text = file.read()
            with open(os.path.join(tests, name.removesuffix(".gz")), "wb") as file:
                file.write(text)
        provide_rdma(pair, folder)
        run = pair.start(["/usr/bin/python3", os.path.join(tests, "run_tests.py"), "--dev", "nex0", "-v"])
        text = run.communicate(timeout=240 * pair.patience)[0]
    summary = re.search(r"^Ran (\d+) tests.*^OK \(skipped=(\d+)\)", text, re.M | re.S)
    assert run.returncode == 0 and summary, text
    unexpected = [why for why in re.findall(r"skipped ['\"](.*)['\"]$", text, re.M) if not PYVERBS_SKIPS.search(why)]
    assert not unexpected, unexpected
    passed = int(summary.group(1)) - int(summary.group(2))
    print(f"{passed} passed")
    assert passed >= PYVERBS_PASSES, text
