"""The table of bench/e2e/run: what is measured, beside what, and how much is wanted."""


class Job:
    """A job file of fio, and what of its figures counts."""

    def __init__(self, name, unit, writes=False):
        self.name, self.unit, self.writes = name, unit, writes


READ_4K_DEPTH1 = Job("read-4k-depth1", "k/s")
READ_4K_DEPTH16 = Job("read-4k-depth16", "k/s")
WRITE_4K_DEPTH16 = Job("write-4k-depth16", "k/s", writes=True)
READ_4K_4JOBS = Job("read-4k-4jobs", "k/s")
READ_1M = Job("read-1m", "MiB/s")
WRITE_1M = Job("write-1m", "MiB/s", writes=True)
PREAD_4K = Job("pread-4k", "k/s")
PREAD_1M = Job("pread-1m", "MiB/s")
MMAP_4K = Job("mmap-4k", "k/s")
MMAP_STREAM = Job("mmap-stream", "MiB/s")
MEMORY = Job("memory", "MiB")

BIG = ("idle",)  # targets that are not filled before
BUSY = ("tloe spin",)  # targets that are only there while they are measured
OLDER_CLIENT_MIB = 57  # of a FUSE client that sent one request at a time, 1 MiB direct


class Line:
    """A figure of oxmem. `wanted` bounds oxmem / peer from below; where several peers are named, the best counts.
    `floor` bounds the figure itself from below, `ceiling` from above."""

    def __init__(self, name, target, job, peers=(), wanted=None, floor=None, ceiling=None):
        self.name, self.target, self.job = name, target, job
        self.peers = [peer if isinstance(peer, tuple) else (peer, job) for peer in peers]
        self.wanted, self.floor, self.ceiling = wanted, floor, ceiling

    def measured(self):
        return [(self.target, self.job), *self.peers]

    def judge(self, medians, missing, figures):
        value = medians.get((self.target, self.job.name))
        peers = {peer if job is self.job else f"{peer} {job.name}": medians[(peer, job.name)]
                 for peer, job in self.peers if (peer, job.name) in medians}
        result = {"name": self.name, "unit": self.job.unit, "value": value, "peers": peers, "ratio": None,
                  "wanted": None, "reached": None,
                  "missing": "; ".join(missing[name] for name in {t for t, _ in self.measured()} & set(missing)),
                  "rounds": {f"{target} {job.name}": figures[(target, job.name)]
                             for target, job in self.measured() if (target, job.name) in figures}}
        if value is None:
            return result
        if self.ceiling is not None:
            result.update(ratio=value / self.ceiling, wanted=f"<= {self.ceiling} {self.job.unit}", limit=self.ceiling,
                          ratio_text=f"{value:.1f} {self.job.unit}", reached=value <= self.ceiling)
            return result
        if not peers:
            return result
        best = max(peers.values())
        wanted = self.wanted * best
        if self.floor is not None:
            wanted = max(wanted, self.floor)
        also = f" and >= {self.floor} {self.job.unit}" if self.floor is not None else ""
        result.update(ratio=value / best, ratio_text=f"{value / best:.2f}x", limit=wanted,
                      wanted=f">= {self.wanted:.2g}x{also}", reached=value >= wanted)
        return result


NULL = ("null single", "null multi")
LINES = [
    Line("tloe: 4 KiB random read, depth 1", "tloe", READ_4K_DEPTH1, ["nbdfuse"], 2),
    Line("tloe: 4 KiB random read, depth 1, spin=1", "tloe spin", READ_4K_DEPTH1, ["nbdfuse"], 4),
    Line("tloe: 4 KiB random read, depth 16", "tloe", READ_4K_DEPTH16, ["nbdfuse"], 2.5),
    Line("tloe: 4 KiB random write, depth 16", "tloe", WRITE_4K_DEPTH16, ["nbdfuse"], 2.5),
    Line("tloe: 4 KiB random read, 4 jobs", "tloe", READ_4K_4JOBS, ["nbdfuse"], 2.5),
    Line("tloe: 1 MiB sequential read", "tloe", READ_1M, [("raw", READ_1M)], 0.4, floor=20 * OLDER_CLIENT_MIB),
    Line("tloe: 1 MiB sequential write", "tloe", WRITE_1M, [("raw", WRITE_1M)], 0.4, floor=20 * OLDER_CLIENT_MIB),
    Line("tloe: page-cache mmap streaming", "tloe page cache", MMAP_STREAM, [("tloe page cache", READ_1M)], 0.8),
    Line("mem: 4 KiB random read, depth 1", "mem", READ_4K_DEPTH1, NULL, 0.9),
    Line("mem: 4 KiB random read, depth 16", "mem", READ_4K_DEPTH16, NULL, 0.9),
    Line("mem: 4 KiB random write, depth 16", "mem", WRITE_4K_DEPTH16, NULL, 0.9),
    Line("mem: 1 MiB sequential read", "mem", READ_1M, NULL, 0.9),
    Line("mem: 1 MiB sequential write", "mem", WRITE_1M, NULL, 0.9),
    Line("dax: 4 KiB pread beside tmpfs", "dax", PREAD_4K, ["tmpfs"], 1 / 1.3),
    Line("dax: 4 KiB pread beside nbdfuse", "dax", PREAD_4K, [("nbdfuse", READ_4K_DEPTH1)], 15),
    Line("dax: mmap random read beside tmpfs", "dax", MMAP_4K, ["tmpfs"], 1 / 1.3),
    Line("dax: 1 MiB read beside tmpfs", "dax", PREAD_1M, ["tmpfs"], 1 / 1.3),
    Line("idle daemon, 1 TiB mounted: memory", "idle", MEMORY, ceiling=64),
]
