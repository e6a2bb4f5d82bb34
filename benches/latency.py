"""Latency of statements while the engine has other work, and CPU; run by `benches/latency`.

Each case starts servers of its own, prints one line per figure, and asserts nothing: machines differ.
Figures are of one client on the same machine; CPU is that of the server process.

    insert             autocommit INSERT: latency and CPU
    idle-views         the same beside 0, 100 and 400 views of another table, by number of workers
    create-view        the same while a join view over ROWS rows is created
    points             SELECT by key after random updates; UPDATE by key with 8 clients
    checkpoint         INSERT beside upserts of 200 k rows into a table of ROWS rows
    commit-interval    time between the snapshots of a sink with commit_interval = '1s'
    paced              CPU of ROWS change events at 100,000 per second, committed each 5 s
    restart            peak memory and time of restarts with other numbers of workers
"""

import argparse
import glob
import itertools
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time

from harness.frazil import Frazil, default_bin

TICK = os.sysconf("SC_CLK_TCK")
STATUS = ("new", "paid", "shipped")
EVENTS_PER_SECOND, EVENTS_AT_ONCE = 100_000, 2_000
HELPERS = ("server", "inserts", "load", "into_lake", "events")  # of the cases


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_bytes(pid):
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def line(name, seconds, more=""):
    p50, p99 = statistics.median(seconds) * 1e3, percentile(seconds, 0.99) * 1e3
    print(f"{name:<44} n={len(seconds):<6} p50 {p50:8.2f} ms  p99 {p99:8.2f} ms  "
          f"max {max(seconds) * 1e3:8.2f} ms  {more}", flush=True)


def timed(run, until):
    """Calls `run(i)` until `until(i)` is true; the seconds of each call."""
    seconds, i = [], 0
    while not until(i):
        start = time.monotonic()
        run(i)
        seconds.append(time.monotonic() - start)
        i += 1
    return seconds


class Bench:
    def __init__(self, args):
        self.args = args
        self.root = tempfile.mkdtemp(prefix="frazil-latency-")
        self.count = 0

    def server(self, workers=None, data=None):
        self.count += 1
        data = data or f"{self.root}/data{self.count}"
        log = f"{self.root}/log{self.count}"
        server = Frazil(self.args.bin, data, log, workers=workers or self.args.workers)
        server.start()
        server.connect().close()
        return server

    def inserts(self, connection, table, until):
        return timed(lambda i: connection.execute(f"INSERT INTO {table} VALUES ({i}, {i})"), until)

    def insert(self):
        server = self.server()
        with server.connect() as connection:
            connection.execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)")
            self.inserts(connection, "t", lambda i: i == 50)
            before = cpu_seconds(server.child.pid)
            seconds = self.inserts(connection, "t", lambda i: i == self.args.count)
            used = (cpu_seconds(server.child.pid) - before) / len(seconds) * 1e3
        line("INSERT", seconds, f"CPU {used:.2f} ms per INSERT")
        server.stop()

    def idle_views(self):
        for workers in (1, 2, 4):
            base = None
            for views in (0, 100, 400):
                server = self.server(workers=workers)
                with server.connect() as connection:
                    connection.execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)")
                    connection.execute("CREATE TABLE other (k BIGINT PRIMARY KEY, v BIGINT)")
                    connection.execute("INSERT INTO other VALUES (1, 1)")
                    for view in range(views):
                        connection.execute(
                            f"CREATE MATERIALIZED VIEW v{view} AS SELECT v, count(*) AS n "
                            "FROM other GROUP BY v")
                    self.inserts(connection, "t", lambda i: i == 20)
                    before = cpu_seconds(server.child.pid)
                    seconds = self.inserts(connection, "t", lambda i: i == self.args.count)
                    used = (cpu_seconds(server.child.pid) - before) / len(seconds) * 1e3
                base = base or statistics.median(seconds)
                ratio = statistics.median(seconds) / base
                line(f"INSERT, {workers} workers, {views} idle views", seconds,
                     f"CPU {used:.2f} ms per INSERT, p50 {ratio:.2f} x that of none")
                server.stop()

    def load(self, connection, table, rows, step=100_000):
        for first in range(0, rows, step):
            last = min(rows, first + step) - 1
            connection.execute(
                f"INSERT INTO {table} SELECT g, g % 1000 FROM generate_series({first}, {last}) AS g")

    def create_view(self):
        server = self.server()
        with server.connect() as connection, server.connect() as other:
            for table in ("a", "b", "t"):
                connection.execute(f"CREATE TABLE {table} (k BIGINT PRIMARY KEY, v BIGINT)")
            self.load(connection, "a", self.args.rows)
            self.load(connection, "b", self.args.rows)
            line("INSERT, nothing else", self.inserts(other, "t", lambda i: i == 200))
            took = []

            def create():
                start = time.monotonic()
                connection.execute("CREATE MATERIALIZED VIEW ab AS SELECT a.k, a.v, b.v AS w "
                                   "FROM a JOIN b ON a.k = b.k")
                took.append(time.monotonic() - start)

            thread = threading.Thread(target=create)
            thread.start()
            seconds = self.inserts(other, "t", lambda i: bool(took))
            thread.join()
            line(f"INSERT, while a join of {self.args.rows} rows is created", seconds,
                 f"CREATE {took[0]:.1f} s")
            count = other.execute("SELECT count(*) FROM ab").fetchone()[0]
            assert count == self.args.rows, count
        server.stop()

    def points(self):
        server = self.server()
        rows = self.args.rows
        with server.connect() as connection:
            connection.execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)")
            self.load(connection, "t", rows)
            for _ in range(20):
                keys = ", ".join(str(random.randrange(rows)) for _ in range(rows // 2000))
                connection.execute(f"UPDATE t SET v = v + 1 WHERE k IN ({keys})")
            def select(_):
                connection.execute("SELECT v FROM t WHERE k = %s", (random.randrange(rows),))
            timed(select, lambda i: i == 20)
            line(f"SELECT by key, {rows} rows", timed(select, lambda i: i == self.args.count))
        counts, stop = [], time.monotonic() + 10

        def update():
            with server.connect() as connection:
                seconds = timed(
                    lambda _: connection.execute(
                        "UPDATE t SET v = v + 1 WHERE k = %s", (random.randrange(rows),)),
                    lambda _: time.monotonic() > stop)
                counts.append(seconds)

        threads = [threading.Thread(target=update) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        line("UPDATE by key, 8 clients", [s for seconds in counts for s in seconds],
             f"{sum(map(len, counts)) / 10:.0f} per second")
        server.stop()

    def checkpoint(self):
        server = self.server()
        with server.connect() as connection, server.connect() as other:
            for table in ("big", "t"):
                connection.execute(f"CREATE TABLE {table} (k BIGINT PRIMARY KEY, v BIGINT)")
            self.load(connection, "big", self.args.rows)
            done = []

            def upsert():
                for _ in range(30):
                    first = random.randrange(max(1, self.args.rows - 200_000))
                    start = time.monotonic()
                    connection.execute("INSERT INTO big SELECT g, 7 FROM "
                                       f"generate_series({first}, {first + 199_999}) AS g")
                    done.append(time.monotonic() - start)

            thread = threading.Thread(target=upsert)
            thread.start()
            seconds = self.inserts(other, "t", lambda i: len(done) == 30)
            thread.join()
            line(f"upsert of 200 k rows into {self.args.rows}", done)
            line("INSERT into another table meanwhile", seconds)
        server.stop()

    def into_lake(self, lake, key, interval):
        return ("WITH (connector = 'iceberg', type = 'upsert', "
                f"primary_key = '{key}', catalog.type = 'sql', catalog.uri = 'sqlite://{lake}/c.db', "
                f"warehouse.path = '{lake}', database.name = 'd', table.name = 't', "
                f"commit_interval = '{interval}', create_table_if_not_exists = true)")

    def commit_interval(self):
        server = self.server()
        lake = f"{self.root}/lake"
        with server.connect() as connection:
            connection.execute("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)")
            connection.execute(
                f"CREATE SINK s FROM t {self.into_lake(lake, 'k', '1s')}")
            seen, at = [], None
            stop = time.monotonic() + 30
            i = 0
            while time.monotonic() < stop:
                connection.execute(f"INSERT INTO t VALUES ({i}, {i})")
                i += 1
                with sqlite3.connect(f"file:{lake}/c.db?mode=ro", uri=True) as catalog:
                    (location,) = catalog.execute(
                        "SELECT metadata_location FROM iceberg_tables").fetchone()
                if location != at:
                    at = location
                    seen.append(time.monotonic())
        line("time between commits of 1 s", [b - a for a, b in zip(seen[1:], seen[2:])])
        server.stop()

    def events(self, path):
        """Writes change events of ROWS / 5 keys with whole rows before: a fifth creates, in order."""
        last, dice = {}, random.Random(42)

        def row(key, event):
            return (f'{{"id":{key},"customer_id":{key % 5000},"status":"{STATUS[event % 3]}",'
                    f'"amount":"{event % 30000}.{event % 90 + 10}",'
                    f'"email":"customer{key % 5000}@example.com","discount":0.{event % 90 + 10},'
                    f'"note":"order {key} was changed by event {event}",'
                    f'"updated_at":"2024-02-29T12:00:{event % 50 + 10}.000000Z"}}')

        with open(path, "w") as file:
            for event in range(self.args.rows):
                key = event // 5 if event % 5 == 0 else dice.randrange(event // 5 + 1)
                after, before = row(key, event), last.get(key, "null")
                last[key] = after
                file.write(f'{{"before":{before},"after":{after},"source":{{"connector":'
                           f'"postgresql","table":"orders","lsn":{event}}},"op":'
                           f'"{"c" if before == "null" else "u"}","ts_ms":1700000000000}}\n')

    def paced(self):
        server = self.server()
        source, grows, lake = (f"{self.root}/{name}" for name in ("events", "grows.jsonl", "paced"))
        self.events(source)
        open(grows, "w").close()
        with server.connect() as connection:
            connection.execute(
                "CREATE TABLE t (id BIGINT PRIMARY KEY, customer_id BIGINT, status TEXT, "
                "amount NUMERIC(12,2), email TEXT, discount DOUBLE PRECISION, note TEXT, "
                f"updated_at TIMESTAMPTZ) WITH (connector = 'files', path = '{grows}', "
                "follow = 'true') FORMAT DEBEZIUM ENCODE JSON (decimal.handling.mode = 'string')")
            connection.execute(f"CREATE SINK s FROM t {self.into_lake(lake, 'id', '5s')}")
            before, start = cpu_seconds(server.child.pid), time.monotonic()
            with open(source, "rb") as events, open(grows, "ab", buffering=0) as file:
                for sent in range(0, self.args.rows, EVENTS_AT_ONCE):
                    file.write(b"".join(itertools.islice(events, EVENTS_AT_ONCE)))
                    time.sleep(max(0, start + sent / EVENTS_PER_SECOND - time.monotonic()))
            connection.execute("FLUSH")
            used, took = cpu_seconds(server.child.pid) - before, time.monotonic() - start
            count = connection.execute("SELECT count(*) FROM t").fetchone()[0]
            assert count == (self.args.rows + 4) // 5, count
        commits = len(glob.glob(f"{lake}/d/t/metadata/*.metadata.json")) - 1
        print(f"{self.args.rows} change events in {took:.1f} s: {used:.1f} s of CPU, "
              f"{commits} commits", flush=True)
        server.stop()

    def restart(self):
        server = self.server(workers=2)
        with server.connect() as connection:
            for table in ("a", "b"):
                connection.execute(f"CREATE TABLE {table} (k BIGINT PRIMARY KEY, v BIGINT)")
                self.load(connection, table, self.args.rows)
            connection.execute("CREATE MATERIALIZED VIEW ab AS SELECT a.k, a.v, b.v AS w "
                               "FROM a JOIN b ON a.k = b.k")
        server.stop()
        for workers in (2, 2, 8, 8, 1):
            start = time.monotonic()
            again = self.server(workers=workers, data=server.data_dir)
            took = time.monotonic() - start
            print(f"restart with {workers} workers: {took:.2f} s, peak memory "
                  f"{peak_bytes(again.child.pid) / 1e6:.0f} MB", flush=True)
            again.stop()


def main():
    cases = [name for name in vars(Bench) if not name.startswith("_")]
    cases = [name.replace("_", "-") for name in cases if name not in HELPERS]
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="+", choices=cases)
    parser.add_argument("--bin", default=default_bin())
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--count", type=int, default=500, help="statements that are timed")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    bench = Bench(args)
    try:
        for case in args.case:
            getattr(bench, case.replace("-", "_"))()
    finally:
        shutil.rmtree(bench.root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
