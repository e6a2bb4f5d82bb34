"""What a restart costs, with the same and with other numbers of workers; run by `benches/restart`.

Loads ROWS rows into a table with a join view and an aggregate over it, replaces a fifth of them, and
starts again with each of the numbers of workers in turn. Prints for each start the time until the
view can be read, the resident memory one second later (steady), the sum of SHOW MEMORY, the peak
before (VmHWM), and how many bytes the process has read, beside the size of the stored state. Asserts that the views are what
they were. The goal is a peak of at most 1.3 times the steady memory, and state read once.
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", default="2,2,4,1")
    parser.add_argument("--bin", default=default_bin())
    args = parser.parse_args()
    numbers = [int(number) for number in args.workers.split(",")]
    root = tempfile.mkdtemp(prefix="frazil-restart-")
    expected = None
    try:
        for workers in numbers:
            server = Frazil(args.bin, f"{root}/data", f"{root}/log", workers=workers)
            start = time.monotonic()
            server.start()
            pid = server.child.pid
            with server.connect(seconds=3600) as connection:
                if expected is None:
                    load(connection, args.rows)
                    expected = [connection.execute(view).fetchall() for view in VIEWS]
                    server.stop()
                    continue
                connection.execute("SELECT count(*) FROM d")
                seconds, peak, read = time.monotonic() - start, status(pid, "VmHWM"), read_bytes(pid)
                time.sleep(1)
                steady = status(pid, "VmRSS")
                account = sum(int(row[2]) for row in connection.execute("SHOW MEMORY").fetchall())
                found = [connection.execute(view).fetchall() for view in VIEWS]
                assert found == expected, f"{found} instead of {expected}"
            stored = stored_bytes(f"{root}/data")
            print(f"{workers} workers: {seconds:.1f} s, steady {steady / MIB:.0f} MiB ("
                  f"{account / MIB:.0f} MiB in SHOW MEMORY), peak {peak / MIB:.0f} MiB, "
                  f"{peak / steady:.2f} times; read {read / MIB:.0f} MiB of {stored / MIB:.0f} MiB",
                  flush=True)
            server.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
