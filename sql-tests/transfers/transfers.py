"""The transfer lane: many clients at once, and nobody sees a part of what one of them did.

    clients ─ UPDATE of two rows ─► accounts ─► views ─► Iceberg       … kill -9, a new start …
                                       │          │         │
    readers ───────────────────────────┴──────────┘         └─ every Iceberg snapshot, at the end
"""

import argparse
import os
import random
import sys
import tempfile
import time

import bank
from traffic import Client, Reader

from harness.frazil import Frazil, default_bin
from harness.lake import Lake
from harness.score import Score

CLIENTS = 4
KILLS = 2
CONFIG = {"checkpoint_interval_ms": 50, "epoch_interval_ms": 5}


class Run:
    """An engine of so many processes, what its clients did, and what its readers saw."""

    def __init__(self, arguments, processes, folder, score):
        self.arguments, self.score = arguments, score
        self.random = random.Random(f"{arguments.seed}:{processes}")
        lake_dir = os.path.join(folder, "lake")
        os.makedirs(lake_dir)
        self.lake = Lake(os.path.join(lake_dir, "catalog.db"), lake_dir)
        self.ledger = bank.Ledger()
        self.readings = {name: bank.Reading() for name in bank.READS}
        data_dir, log = os.path.join(folder, "data"), os.path.join(folder, "frazil.log")
        self.frazil = Frazil(arguments.bin, data_dir, log, CONFIG, 2, processes)

    def run(self):
        self.frazil.start()
        self.declare()
        if not self.arguments.self_check:
            for _ in range(KILLS):
                self.traffic(kill=True)
        self.traffic(kill=False)
        with self.frazil.connect() as connection:
            connection.execute("FLUSH")
        for name, reading in self.readings.items():
            self.claim(f"states of {name}", reading)
        for table in bank.LAKE:
            for reader in Lake.READERS:
                self.claim(f"snapshots of {table} by {reader}", self.snapshots(table, reader))
        if self.arguments.self_check:
            self.ledger.post(1, 2, 5)
            self.expect("a transfer that was acknowledged and is not there", self.settle([]))

    def declare(self):
        with self.frazil.connect() as connection:
            for statement in bank.DDL:
                connection.execute(statement)
            for table in bank.LAKE:
                version = self.random.choice([2, 3])
                connection.execute(bank.sink(table, self.lake.warehouse_path, version))

    def traffic(self, kill):
        """Clients and readers at work; then the engine is killed under them, or they stop."""
        clients = [self.client(prepared) for prepared in (False, True) * (CLIENTS // 2)]
        readers = [
            Reader(self.frazil, self.ledger, query, self.readings[name])
            for name, query in bank.READS.items()
        ]
        workers = [*clients, *readers]
        for worker in workers:
            worker.start()
        time.sleep(self.arguments.seconds)
        if kill:
            raise_first_error(workers)
            self.frazil.crash(self.random.choice([1, 2, 3]))
        for worker in workers:
            worker.end()
        if not kill:
            raise_first_error(workers)
        in_doubt = [client.pending for client in clients if client.pending]
        name = "accounts after a kill" if kill else "accounts at the end"
        name += f": {self.ledger.moves // 2} transfers acknowledged, {len(in_doubt)} in doubt"
        self.score.claim(name, self.settle(in_doubt))

    def client(self, prepared):
        def statements(*transfer):
            if self.arguments.self_check:
                return bank.torn(*transfer)
            return [bank.statement(*transfer, prepared)]

        choices = random.Random(self.random.random())
        return Client(self.frazil, self.ledger, choices, statements)

    def settle(self, in_doubt):
        rows = self.frazil.rows("SELECT id, balance, moves FROM accounts")
        return self.ledger.settle({key: (balance, moves) for key, balance, moves in rows}, in_doubt)

    def snapshots(self, table, reader):
        """What a reader sees of every Iceberg snapshot; the last one has all transfers."""
        _, columns, state = bank.LAKE[table]
        reading = bank.Reading()
        for snapshot in self.lake.snapshots("bank", table):
            rows = self.lake.read(reader, "bank", table, columns, snapshot.snapshot_id)
            reading.see(bank.total(map(state, rows)))
        if reading.problem is None and reading.least != self.ledger.moves:
            reading.problem = f"{reading.least} moves instead of {self.ledger.moves}"
        return reading

    def claim(self, name, reading):
        name = f"{name}: {reading}"
        if self.arguments.self_check:
            self.expect(name, reading.problem)
        else:
            self.score.claim(name, reading.outcome())

    def expect(self, name, problem):
        """In a self-check a claim must fail."""
        self.score.claim(f"noticed: {name}: {problem}", None if problem else "nothing was noticed")


def raise_first_error(workers):
    for worker in workers:
        if worker.error:
            raise worker.error


def run_one(arguments, processes, folder, score):
    again = f"sql-tests/transfers/run --seed {arguments.seed} --processes {processes}"
    score.say(f"SEED={arguments.seed}; again: {again}")
    run = Run(arguments, processes, folder, score)
    try:
        run.run()
    except Exception as error:
        score.claim("the run comes to its end", f"{type(error).__name__}: {error}")
    finally:
        run.frazil.kill()


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--seconds", type=float, default=2.5, help="until each kill")
    parser.add_argument("--processes", default="1,2", help="a list of numbers")
    parser.add_argument("--bin", default=default_bin(), help="the frazil binary")
    parser.add_argument("--self-check", action="store_true", help="two statements a transfer")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    return parser.parse_args()


def main():
    arguments = parse()
    score = Score()
    folder = tempfile.mkdtemp(prefix="frazil-transfers-")
    for processes in map(int, arguments.processes.split(",")):
        run_one(arguments, processes, os.path.join(folder, str(processes)), score)
    return score.close(folder, arguments.keep)


if __name__ == "__main__":
    sys.exit(main())
