"""The oracle lane: Frazil's views against PostgreSQL's, under random DML.

    random DML ─┬─► PostgreSQL: tables, plain views        ──┐
                └─► Frazil: tables, materialized views ─ FLUSH ─► equal after every batch?

Half of the views are made on empty tables, half over data; at the end their queries are asked, too.
After half, two thirds and five sixths of the batches Frazil is killed with signal 9 right after a statement was acknowledged, and started again
with another number of workers. With --processes 2 only its last process is killed: process 0 must
then end by itself, with an exit code other than 0.
"""

import argparse
import decimal
import os
import random
import subprocess
import sys
import tempfile

from dml import Dml
from queries import TABLES, Queries, ddl

from harness.frazil import Frazil, default_bin
from harness.postgres import Postgres
from harness.rows import difference, multiset
from harness.score import Score

STATEMENTS_MAX = 24
FOUR_PLACES = decimal.Decimal("0.0001")


class Engine:
    """Frazil over a data directory, or for the self-check a PostgreSQL database in its place."""

    def __init__(self, folder, binary, postgres, processes):
        self.postgres = postgres
        self.frazil = None
        if postgres is None:
            data_dir, log = os.path.join(folder, "data"), os.path.join(folder, "frazil.log")
            self.frazil = Frazil(binary, data_dir, log, workers=2, processes=processes).start()
        self.open()

    def open(self):
        if self.frazil:
            self.connection = self.frazil.connect()
        else:
            self.connection = self.postgres.connect("stand_in")

    def execute(self, statement):
        return self.connection.execute(statement)

    def create_view(self, name, query):
        kind = "MATERIALIZED VIEW" if self.frazil else "VIEW"
        self.execute(f"CREATE {kind} {name} AS {query}")

    def flush(self):
        if self.frazil:
            self.execute("FLUSH")

    def crash(self, workers):
        """kill -9 and a new start; the stand-in only reconnects."""
        self.connection.close()
        if self.frazil:
            self.frazil.crash(workers)
        self.open()

    def close(self):
        self.connection.close()
        if self.frazil:
            self.frazil.stop()


class Run:
    """One seed: both systems, the views, and what went wrong with each."""

    def __init__(self, seed, arguments, postgres, folder):
        self.arguments = arguments
        self.random = random.Random(seed)
        self.queries = Queries(self.random)
        self.dml = Dml(self.random)
        admin = postgres.connect()
        for database in ("oracle", "stand_in"):
            admin.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {database}")
        admin.close()
        self.oracle = postgres.connect("oracle")
        stand_in = postgres if arguments.self_check else None
        self.engine = Engine(folder, arguments.bin, stand_in, arguments.processes)
        self.views = {}
        self.wrong = {}
        for table in TABLES:
            self.execute_both(ddl(table))

    def close(self):
        self.oracle.close()
        self.engine.close()

    def execute_both(self, statement):
        self.oracle.execute(statement)
        self.engine.execute(statement)

    def create(self, numbers):
        """PostgreSQL decides what is a valid query; Frazil must take it."""
        for number in numbers:
            name, query = self.queries.draw(number)
            self.views[name] = query
            self.oracle.execute(f"CREATE VIEW {name} AS {query}")
            try:
                self.engine.create_view(name, query)
            except Exception as error:
                self.wrong[name] = f"refused: {error}"

    def run(self):
        batches, views = self.arguments.batches, self.arguments.views
        self.create(range(views // 2))
        for batch in range(batches):
            if batch == batches // 3:
                self.create(range(views // 2, views))
            for _ in range(self.random.randint(1, STATEMENTS_MAX)):
                self.execute_both(self.dml.statement())
            if batch in (batches // 2, batches * 2 // 3, batches * 5 // 6):
                self.engine.crash(self.random.choice([1, 2, 3]))
            self.engine.flush()
            for relation in (*TABLES, *self.views):
                if relation not in self.wrong:
                    self.compare(relation, batch)
        for name, query in self.views.items():
            if name not in self.wrong:
                self.compare(name, "last, read by its query", query)

    def compare(self, relation, batch, asked=None):
        query = f"SELECT * FROM {relation}"
        expected = multiset(rounded(self.oracle.execute(query).fetchall()))
        try:
            found = self.engine.execute(asked or query).fetchall()
            problem = difference(expected, multiset(rounded(found)))
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            self.wrong[relation] = f"batch {batch}: {problem}"


def rounded(rows):
    """Numbers to four places: an average may be a float in one system and not in the other."""

    def value(v):
        if isinstance(v, (float, decimal.Decimal)) and decimal.Decimal(v).is_finite():
            return decimal.Decimal(v).quantize(FOUR_PLACES)
        return v

    return [tuple(map(value, row)) for row in rows]


def run_seed(seed, arguments, postgres, folder, score):
    """Every relation of a seed is one claim: equal after each batch."""
    os.makedirs(folder)
    score.say(f"SEED={seed}; again: sql-tests/oracle/run --seeds {seed}")
    run = None
    try:
        run = Run(seed, arguments, postgres, folder)
        run.run()
    except Exception as error:
        score.claim(f"seed {seed} comes to its end", f"{type(error).__name__}: {error}")
    if run is None:
        return
    for relation in (*TABLES, *run.views):
        text = run.views.get(relation, "table")
        score.claim(f"{relation}: {text}", run.wrong.get(relation))
    if arguments.other:
        score.claim(f"{arguments.other} with seed {seed}", other(seed, arguments, run, postgres))
    run.close()


def other(seed, arguments, run, postgres):
    """Runs another differential test against the same two systems."""
    port = postgres.port if run.engine.frazil is None else run.engine.frazil.port
    argv = [sys.executable, arguments.other, "--sut", f"127.0.0.1:{port}", "--seed", str(seed)]
    argv += ["--oracle", f"127.0.0.1:{postgres.port}", "--oracle-db", "oracle"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    tail = "\n".join(done.stdout.splitlines()[-20:])
    return None if done.returncode == 0 else f"exit code {done.returncode}\n{tail}\n{done.stderr}"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="1,2,3", help="a list of numbers")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--views", type=int, default=32)
    parser.add_argument("--bin", default=default_bin(), help="the frazil binary")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--self-check", action="store_true", help="PostgreSQL in Frazil's place")
    parser.set_defaults(other=os.environ.get("FRAZIL_DIFF_ORACLE"))
    return parser.parse_args()


def main():
    arguments = parse()
    score = Score()
    folder = tempfile.mkdtemp(prefix="frazil-oracle-")
    os.chmod(folder, 0o755)  # PostgreSQL's user passes through
    postgres = Postgres(folder)
    for seed in map(int, arguments.seeds.split(",")):
        run_seed(seed, arguments, postgres, os.path.join(folder, f"seed-{seed}"), score)
    postgres.stop()
    return score.close(folder)


if __name__ == "__main__":
    sys.exit(main())
