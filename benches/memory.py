"""A keyed table and a join view that do not fit into the memory they may use; run by `benches/memory`.

Loads ROWS rows of about 200 bytes into a table with a join view over it, replaces rows at random,
and starts again; first without a limit, then with `memory_limit = LIMIT`. Prints for both the rows
per second, the peak of resident memory, and what SHOW MEMORY says at the end; then the ratio of the
speeds. Asserts nothing: machines differ. The goal is 10 M rows, 1GiB: peak <= 1.3 GiB, ratio >= 0.4.
"""

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time

from harness.frazil import Frazil, default_bin

STEP = 20_000
DIMENSIONS = 1000
MIB = 1 << 20


class Peak:
    """The largest resident memory of a process while it is watched, by kind, in bytes."""

    def __init__(self, pid):
        self.pid, self.most, self.stopped = pid, {}, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.stopped.wait(0.05):
            try:
                with open(f"/proc/{self.pid}/status") as file:
                    for line in file:
                        name, _, value = line.partition(":")
                        if name in ("VmRSS", "RssAnon", "RssFile"):
                            size = int(value.split()[0]) * 1024
                            self.most[name] = max(self.most.get(name, 0), size)
            except FileNotFoundError:
                return

    def stop(self):
        self.stopped.set()
        self.thread.join()
        kinds = (f"{name} {size / MIB:.0f} MiB" for name, size in sorted(self.most.items()))
        return ", ".join(kinds)


def values(keys):
    return (f"SELECT g, g % {DIMENSIONS}, repeat(md5(CAST(g AS TEXT)), 6) FROM ({keys}) AS keys(g)")


def load(connection, rows):
    for first in range(0, rows, STEP):
        last = min(rows, first + STEP) - 1
        keys = f"SELECT g FROM generate_series({first}, {last}) AS g"
        connection.execute(f"INSERT INTO t {values(keys)}")


def replace(connection, rows, count, dice):
    for _ in range(0, count, STEP):
        keys = ", ".join(f"({key})" for key in {dice.randrange(rows) for _ in range(STEP)})
        connection.execute(
            f"INSERT INTO t SELECT g, g % {DIMENSIONS}, repeat(md5('new'), 6) "
            f"FROM (VALUES {keys}) AS keys(g)")


def report(connection):
    for name, kind, memory, scratch in connection.execute("SHOW MEMORY").fetchall():
        if int(memory) > MIB or int(scratch or 0) > MIB:
            scratch = f", {int(scratch) / MIB:.0f} MiB in scratch files" if scratch else ""
            print(f"    {name or '':<8} {kind:<18} {int(memory) / MIB:8.1f} MiB{scratch}")


def run(args, limit, root):
    config = {"memory_limit": f"'{limit}'"} if limit else None
    name = limit or "no limit"
    server = Frazil(args.bin, f"{root}/data", f"{root}/log", config=config, workers=args.workers)
    server.start()
    speeds = {}
    with server.connect() as connection:
        connection.execute("CREATE TABLE d (k BIGINT PRIMARY KEY, name TEXT)")
        connection.execute(
            f"INSERT INTO d SELECT g, 'name ' || g FROM generate_series(0, {DIMENSIONS - 1}) AS g")
        connection.execute("CREATE TABLE t (k BIGINT PRIMARY KEY, d BIGINT, a TEXT)")
        connection.execute("CREATE MATERIALIZED VIEW v AS "
                           "SELECT t.k, t.a, d.name FROM t JOIN d ON t.d = d.k")
        steps = [("load", args.rows, lambda: load(connection, args.rows)),
                 ("replace", args.replaced,
                  lambda: replace(connection, args.rows, args.replaced, random.Random(1)))]
        for step, count, work in steps:
            peak, start = Peak(server.child.pid), time.monotonic()
            work()
            speeds[step] = count / (time.monotonic() - start)
            print(f"{name}, {step}: {speeds[step]:.0f} rows/s, peak {peak.stop()}", flush=True)
        report(connection)
        count = connection.execute("SELECT count(*) FROM v").fetchone()[0]
        assert count == args.rows, f"{count} rows in the view"
    server.stop()
    start = time.monotonic()
    server.start()
    peak = Peak(server.child.pid)
    with server.connect(seconds=3600) as connection:
        count = connection.execute("SELECT count(*) FROM v").fetchone()[0]
    print(f"{name}, restart: {time.monotonic() - start:.1f} s, peak {peak.stop()}", flush=True)
    assert count == args.rows, f"{count} rows after the restart"
    server.stop()
    shutil.rmtree(f"{root}/data", ignore_errors=True)
    return speeds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--replaced", type=int, default=400_000)
    parser.add_argument("--limit", default="1GiB")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--bin", default=default_bin())
    args = parser.parse_args()
    root = tempfile.mkdtemp(prefix="frazil-memory-")
    try:
        without, limited = run(args, None, root), run(args, args.limit, root)
        for step, speed in limited.items():
            print(f"{step}: {speed / without[step]:.2f} of the speed without a limit")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
