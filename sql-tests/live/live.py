"""The live lane: PostgreSQL -> Debezium -> Kafka -> Frazil -> Iceberg, all real.

    traffic ─► PostgreSQL ─► Debezium ─► Kafka ─► Frazil ──► psql: tables and views
                   │                       │         │  └──► Iceberg ─► PyIceberg, DuckDB, Java
                   └── truth ◄── equal? ───┴─────────┴── kill -9 in the middle

Claims: after the traffic has stopped, every reader shows what PostgreSQL's tables and queries show.
"""

import argparse
import os
import sys
import tempfile
import time

import shop
from dml import Traffic
from topics import Replay

from harness.frazil import Frazil, default_bin
from harness.kafka import Connect, Kafka
from harness.lake import Lake
from harness.postgres import Postgres
from harness.rows import difference, multiset
from harness.score import Score

# What the topics must hold for the run to be worth anything.
CASES = {
    "orders": ["op r", "op c", "op u", "op d", "tombstone", "unchanged TOAST", "NULL"],
    "customers": ["op r", "op u", "with schema", "NULL"],
}


class Live:
    """One run: everything it started, and the claims."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = tempfile.mkdtemp(prefix="frazil-live-")
        os.chmod(self.folder, 0o755)  # PostgreSQL's user passes through
        self.score = Score()
        self.started = []
        self.frazil = None

    def start(self, what):
        self.started.append(what)
        return what

    def run(self):
        say = self.score.say
        say(f"SEED={self.arguments.seed}, logs in {self.folder}")
        self.postgres = self.start(Postgres(self.folder))
        setup = self.postgres.connect()
        for statement in shop.postgres_ddl():
            setup.execute(statement)
        rate = self.arguments.rate
        self.traffic = Traffic(self.postgres.connect(), self.arguments.seed, rate)
        self.traffic.fill(orders=500, customers=40)
        self.kafka = self.start(Kafka(self.folder))
        for table, partitions in shop.PARTITIONS.items():
            self.kafka.create_topic(shop.topic(table), partitions)
        say("PostgreSQL and Kafka are up")
        connect = self.start(Connect(self.folder, self.kafka))
        for name in shop.CONNECTORS:
            options = shop.connector_options(name)
            connect.connect_postgres(name, self.postgres, "postgres", options)
        say("Debezium is up")
        if not self.arguments.pipeline_only:
            self.start_frazil()
        self.drive()
        self.truth = {
            name: multiset(setup.execute(query).fetchall())
            for name, query in shop.RELATIONS.items()
        }
        self.check_topics()
        if not self.arguments.pipeline_only:
            self.check_views()
            self.check_lake()

    def start_frazil(self):
        data_dir, log = os.path.join(self.folder, "data"), os.path.join(self.folder, "frazil.log")
        self.lake_dir = os.path.join(self.folder, "lake")
        os.makedirs(self.lake_dir)
        self.frazil = Frazil(self.arguments.bin, data_dir, log, workers=2)
        self.start(self.frazil.start())
        tables = [shop.table_ddl(t, self.kafka.bootstrap) for t in shop.PARTITIONS]
        views = [shop.view_ddl(v) for v in ("revenue", "named") if v not in shop.LATE]
        sinks = [shop.sink_ddl(s, self.lake_dir) for s in shop.SINKS if s not in shop.LATE]
        self.execute(tables + views + sinks)
        self.score.say("Frazil is up")

    def execute(self, statements):
        with self.frazil.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def drive(self):
        """The traffic: late views after a quarter of it, the kill after half."""
        seconds = self.arguments.seconds
        self.traffic.start()
        time.sleep(seconds / 4)
        if self.frazil:
            late = [shop.view_ddl("unpaid"), shop.sink_ddl("named_v2", self.lake_dir)]
            self.execute(late)
        time.sleep(seconds / 4)
        if self.frazil:
            alive = self.frazil.alive()
            self.score.claim("frazil lives until it is killed", None if alive else "it has exited")
            self.frazil.kill()
            self.score.say("killed Frazil with signal 9")
            time.sleep(1)
            self.frazil.start()
        time.sleep(seconds / 2)
        self.traffic.finish()
        done = ", ".join(f"{n} {name}" for name, n in sorted(self.traffic.counts.items()))
        self.score.say(f"traffic has stopped: {done}")

    def settle(self, name, expected, read, seconds):
        """Claims that `read` gives the expected rows within a limit."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                problem = difference(expected, multiset(read()))
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if problem is None or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        self.score.claim(f"{name} ({expected.total()} rows)", problem)

    def check_topics(self):
        for table, cases in CASES.items():
            replay = Replay(self.kafka.bootstrap, table)

            def read():
                replay.read()
                return replay.rows.values()

            self.settle(f"topic of {table} gives the table", self.truth[table], read, 60)
            replay.close()
            absent = [case for case in cases if not replay.seen[case]]
            problem = f"never came: {absent}" if absent else None
            counts = ", ".join(f"{n} {case}" for case, n in sorted(replay.seen.items()))
            self.score.claim(f"topic of {table} holds every case: {counts}", problem)

    def check_views(self):
        """The first one waits for the engine to catch up; the rest then must follow soon."""
        seconds = self.arguments.catch_up
        for relation, expected in self.truth.items():
            query = f"SELECT * FROM {relation}"
            self.settle(f"frazil's {relation}", expected, lambda: self.frazil.rows(query), seconds)
            seconds = 20

    def check_lake(self):
        lake = Lake(os.path.join(self.lake_dir, "catalog.db"), self.lake_dir)
        seconds = 60
        for table, (relation, columns, _, version, _) in shop.SINKS.items():
            for reader in Lake.READERS:
                def read():
                    return lake.read(reader, "shop", table, columns)

                self.settle(f"{table} by {reader}", self.truth[relation], read, seconds)
            problem = self.look_at(lake, table, version)
            self.score.claim(f"{table} is a v{version} table of many commits", problem)
            problem = self.check_metadata(lake, table)
            self.score.claim(f"{table} has metadata that Java finds right", problem)
            seconds = 20

    def check_metadata(self, lake, table):
        """The first problems of a table that gets no more changes."""
        try:
            problems, _ = lake.check("shop", table)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "; ".join(problems[:3]) or None

    def look_at(self, lake, table, version):
        try:
            found = lake.load("shop", table).metadata.format_version
            commits = len(lake.snapshots("shop", table))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if found != version:
            return f"it is a v{found} table"
        return None if commits >= 3 else f"it has only {commits} snapshots"

    def close(self):
        for what in reversed(self.started):
            what.stop()


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="length of the traffic")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--rate", type=float, default=200, help="statements a second")
    parser.add_argument("--catch-up", type=float, default=180, help="limit in seconds")
    parser.add_argument("--bin", default=default_bin(), help="the frazil binary")
    parser.add_argument("--pipeline-only", action="store_true", help="leave Frazil out")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    return parser.parse_args()


def main():
    live = Live(parse())
    try:
        live.run()
    except Exception as error:
        live.score.claim("the run comes to its end", f"{type(error).__name__}: {error}")
        for what in live.started:
            live.score.say(f"{what.child.log_path}:\n{what.child.tail(15)}")
    finally:
        live.close()
    return live.score.close(live.folder, live.arguments.keep)


if __name__ == "__main__":
    sys.exit(main())
