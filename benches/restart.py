"""What a restart costs, with the same and with other numbers of workers; run by `benches/restart`.

A layout is a number of workers, or of processes and of workers of each: `4`, `2x2`. Loads ROWS rows
into a table with a join view and an aggregate over it, and replaces a fifth of them: once for each
layout, whose resident memory at the end is the steady memory. Then starts what the first layout has
stored with each of the others in turn. Prints for each start the time until the views can be read,
the peak of resident memory until then (VmHWM), and how many bytes were read, beside the size of the
stored state; memory and bytes are sums of all processes, and the largest ratio of one of them is
printed beside. Asserts that the views are what they were. The goal is a peak of at most 1.3 times
the steady memory, and state read once.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time

from harness.frazil import Frazil, default_bin

STEP = 50_000
MIB = 1 << 20
VIEWS = ("SELECT count(*), sum(k), sum(length(a)), count(DISTINCT name) FROM v",
         "SELECT count(*), sum(n), sum(s) FROM g")


def status(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":")) * 1024


def read_bytes(pid):
    with open(f"/proc/{pid}/io") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("rchar:"))


def stored_bytes(data):
    sizes = 0
    for folder, _, files in os.walk(data):
        if "state" in folder.split(os.sep):
            sizes += sum(os.path.getsize(os.path.join(folder, name)) for name in files)
    return sizes


def load(connection, rows):
    connection.execute("CREATE TABLE d (k BIGINT PRIMARY KEY, name TEXT)")
    connection.execute("INSERT INTO d SELECT g, 'name ' || g FROM generate_series(0, 999) AS g")
    connection.execute("CREATE TABLE t (k BIGINT PRIMARY KEY, d BIGINT, a TEXT)")
    connection.execute("CREATE MATERIALIZED VIEW v AS "
                       "SELECT t.k, t.a, d.name FROM t JOIN d ON t.d = d.k")
    connection.execute("CREATE MATERIALIZED VIEW g AS "
                       "SELECT k / 4 AS q, count(*) AS n, sum(d) AS s FROM t GROUP BY k / 4")
    for first in list(range(0, rows, STEP)) + list(range(0, rows // 5, STEP)):
        keys = f"generate_series({first}, {min(rows, first + STEP) - 1})"
        connection.execute("INSERT INTO t SELECT g, g % 1000, md5(CAST(g AS TEXT)) "
                           f"FROM {keys} AS keys(g)")


class Bench:
    def __init__(self, args, root):
        self.args, self.root = args, root
        self.expected = None

    def server(self, data, layout):
        processes, workers = layout
        server = Frazil(self.args.bin, f"{self.root}/{data}", f"{self.root}/log", workers=workers,
                        processes=processes)
        return server.start()

    @staticmethod
    def pids(server):
        return [child.pid for child in (server.child, *server.helpers)]

    def load(self, data, layout):
        """Stores the rows; the resident memory of the processes that have taken them."""
        server = self.server(data, layout)
        with server.connect() as connection:
            load(connection, self.args.rows)
            found = [connection.execute(view).fetchall() for view in VIEWS]
        time.sleep(1)
        steady = [status(pid, "VmRSS") for pid in self.pids(server)]
        server.stop()
        assert self.expected in (None, found), f"{found} instead of {self.expected}"
        self.expected = found
        return steady

    def restart(self, data, layout, steady):
        start = time.monotonic()
        server = self.server(data, layout)
        with server.connect(seconds=3600) as connection:
            connection.execute("SELECT count(*) FROM d")
            seconds, pids = time.monotonic() - start, self.pids(server)
            peaks, read = [status(pid, "VmHWM") for pid in pids], sum(map(read_bytes, pids))
            found = [connection.execute(view).fetchall() for view in VIEWS]
        assert found == self.expected, f"{found} instead of {self.expected}"
        server.stop()
        stored = stored_bytes(f"{self.root}/{data}")
        largest = max(peak / steady for peak, steady in zip(peaks, steady))
        print(f"{layout[0]} x {layout[1]} workers: {seconds:.1f} s, peak {sum(peaks) / MIB:.0f} "
              f"MiB, steady {sum(steady) / MIB:.0f} MiB, ratio {sum(peaks) / sum(steady):.2f}, at "
              f"most {largest:.2f}; read {read / MIB:.0f} MiB of {stored / MIB:.0f} MiB",
              flush=True)


def parsed(text):
    processes, _, workers = text.rpartition("x")
    return int(processes or 1), int(workers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--layouts", default="2,4,8,1,2x2,2x1")
    parser.add_argument("--bin", default=default_bin())
    args = parser.parse_args()
    layouts = [parsed(text) for text in args.layouts.split(",")]
    names = {it: "data-{}-{}".format(*it) for it in layouts}
    root = tempfile.mkdtemp(prefix="frazil-restart-")
    try:
        bench = Bench(args, root)
        steady = {}
        for started in layouts:
            steady[started] = bench.load(names[started], started)
        for started in [*layouts, layouts[0]]:
            bench.restart(names[layouts[0]], started, steady[started])
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
