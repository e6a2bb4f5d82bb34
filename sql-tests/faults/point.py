"""One point: a fault, a workload, and the claim that the outcome is exact.

    start ─► DDL ─► write, write, write … the fault … ─► restart ─► write ─► compare
"""

import contextlib
import os
import random
import signal
import time

import psycopg
from sinks import Sinks
from workload import Workload

from harness.frazil import ChildDied, Frazil
from harness.lake import Lake
from harness.process import Timeout, wait_for
from harness.rows import difference, multiset

CRASHES = (
    "checkpoint.segments_written",
    "checkpoint.gathered",
    "checkpoint.manifest_written",
    "checkpoint.sweeping",
    "compaction.merged",
    "sink.prepared",
    "sink.committed",
)
# Passed once in a start.
RECOVERY = "recovery.restored"
# Dealt in turn, so that a few dozen points meet every kind more than once.
DECK = (
    *[f"crash {point}" for point in CRASHES],
    "kill",
    "reply_lost",
    "twins",
    "one_of_two",
    *[f"crash {point}" for point in CRASHES],
    "double",
    "ddl",
    "create",
    "paused_twin",
    "kill",
)

# Short intervals: many checkpoints and commits in a second.
CONFIG = {"checkpoint_interval_ms": 50, "epoch_interval_ms": 5}
FAULT_SECONDS = 20  # limit for a fault to strike
SETTLE_SECONDS = 30  # limit for all readers to show the truth
CHUNK_PAUSE = 0.03
CREATE_ROWS = 200_000  # some MiB of state
# How an older process says that it may not write any more.
REFUSALS = ("fenced", "taken over", "newer process")


class Wrong(Exception):
    """What was seen instead of what was claimed."""


class Point:
    """Number `index` of a seed. Everything random follows from the two."""

    def __init__(self, seed, index, folder, binary):
        self.random = random.Random(f"{seed}:{index}")
        self.kind = DECK[index % len(DECK)]
        self.detail = self.kind
        self.folder = os.path.join(folder, f"point-{index}")
        lake_dir = os.path.join(self.folder, "lake")
        os.makedirs(lake_dir)
        self.lake = Lake(os.path.join(lake_dir, "catalog.db"), lake_dir)
        # A stream of its own: how much is written depends on time, what is chosen must not.
        self.workload = Workload(self.folder, random.Random(f"{seed}:{index}:workload"))
        self.sinks = Sinks(lake_dir, self.random)
        self.binary = binary
        self.processes = []
        self.frazil = self.process("frazil")

    def __str__(self):
        return f"{self.detail}; {self.sinks}"

    def process(self, name):
        """A process over the point's data directory; not started."""
        data_dir, log = os.path.join(self.folder, "data"), os.path.join(self.folder, f"{name}.log")
        frazil = Frazil(self.binary, data_dir, log, CONFIG, workers=self.random.choice([1, 2]))
        self.processes.append(frazil)
        return frazil

    def run(self):
        """Raises what went wrong."""
        name, _, crash = self.kind.partition(" ")
        try:
            getattr(self, name)(*([crash] if crash else []))
            self.write_for(0.1)
            self.settle()
            self.check_commits()
            self.check_metadata()
        finally:
            self.workload.close()
            for process in self.processes:
                process.kill()

    # Kinds of faults. Each leaves a running process in `self.frazil`.

    def crash(self, point):
        """The process kills itself at the n-th passing of a named place."""
        times = self.random.randint(1, 6)
        self.detail = f"crash {point}:{times}"
        self.begin({"FRAZIL_CRASH": f"{point}:{times}"})
        self.await_death()
        self.restart()

    def double(self):
        """It crashes, and crashes again while it recovers or soon after."""
        first, second = self.random.choice(CRASHES), self.random.choice((*CRASHES, RECOVERY))
        times = (self.random.randint(1, 4), 1 if second == RECOVERY else self.random.randint(1, 2))
        self.detail = f"double {first}:{times[0]} then {second}:{times[1]}"
        self.begin({"FRAZIL_CRASH": f"{first}:{times[0]}"})
        self.await_death()
        self.frazil.start({"FRAZIL_CRASH": f"{second}:{times[1]}"})
        self.await_death()
        self.restart()

    def kill(self):
        """kill -9 from outside at a random time, two times, the second perhaps in recovery."""
        delays = (self.random.uniform(0.0, 1.5), self.random.uniform(0.0, 0.5))
        self.detail = f"kill after {delays[0]:.3f} s, again after {delays[1]:.3f} s"
        self.begin({})
        self.write_for(delays[0])
        self.frazil.kill()
        self.frazil.start()
        self.write_for(delays[1])
        self.frazil.kill()
        self.restart()

    def one_of_two(self):
        """kill -9 of one of two processes: the other one stops by itself."""
        delay, victim = self.random.uniform(0.0, 1.0), self.random.choice([1, 1, 0])
        self.detail = f"kill of process {victim} of 2 after {delay:.3f} s"
        self.frazil.processes = 2
        self.begin({})
        self.write_for(delay)
        both = [self.frazil.child, self.frazil.helpers[0]]
        both[victim].kill()
        code = both[1 - victim].wait(FAULT_SECONDS)
        if code <= 0:
            raise Wrong(f"the other process ended with {code}")
        self.frazil.processes = self.random.choice([1, 2])
        self.restart()

    def ddl(self):
        """kill -9 while statements are being executed; they are then given again."""
        statements = [*self.workload.ddl(), *self.sinks.ddl()]
        done = self.random.randrange(len(statements))
        delay = self.random.choice([0.0, self.random.uniform(0.0, 0.1)])
        self.detail = f"kill {delay:.3f} s after {done} statements"
        self.workload.write_chunk()
        self.frazil.start()
        with self.frazil.connect() as connection:
            for statement in statements[:done]:
                connection.execute(statement)
            time.sleep(delay)
            self.frazil.kill()
        self.begin({})

    def create(self):
        """A crash in a CREATE that has written a part of its state; it is then given again."""
        point = f"fragment.early_written:{self.random.randint(1, 2)}"
        self.detail = f"crash {point} in a CREATE"
        create = ("CREATE MATERIALIZED VIEW copies AS SELECT a.k, b.v FROM many a JOIN many b"
                  " ON a.k = b.k")
        self.workload.write_chunk()
        self.frazil.start({"FRAZIL_CRASH": point})
        with self.frazil.connect() as connection:
            connection.execute("CREATE TABLE many (k BIGINT PRIMARY KEY, v BIGINT)")
            connection.execute(
                f"INSERT INTO many SELECT g, g % 7 FROM generate_series(1, {CREATE_ROWS}) AS g")
            with contextlib.suppress(psycopg.OperationalError):
                connection.execute(create)
                raise Wrong("the crash point was not reached")
        self.await_death()
        self.restart()
        with self.frazil.connect() as connection:
            connection.execute(create)
            expected = [(CREATE_ROWS, CREATE_ROWS * (CREATE_ROWS + 1) // 2)]
            found = connection.execute("SELECT count(*), sum(k)::BIGINT FROM copies").fetchall()
            if found != expected:
                raise Wrong(f"copies: {found}")
        self.declare()

    def reply_lost(self):
        """A commit lands in the catalog, and its reply says that it failed."""
        times = self.random.randint(1, 6)
        self.detail = f"reply_lost sink.reply_lost:{times}"
        self.begin({"FRAZIL_FAULT": f"sink.reply_lost:{times}"})
        self.write_for(1.0)
        if not self.frazil.alive():
            raise Wrong("the process ended when a reply was lost")

    def twins(self):
        """Two processes over one data directory: the newer one, or else the older one, is refused."""
        self.replace_older(paused=False)

    def paused_twin(self):
        """As twins, but the older one sleeps while the newer one starts, and then wakes."""
        self.replace_older(paused=True)

    def replace_older(self, paused):
        """The lock refuses the newer process; without the lock the fence refuses the older one."""
        head_start = self.random.uniform(0.0, 0.6)
        self.begin({})
        self.write_for(head_start)
        older = self.frazil
        if paused:
            older.child.send(signal.SIGSTOP)
        if self.process("refused").start().child.wait(FAULT_SECONDS) == 0:
            raise Wrong("a process ended well whose data directory another one has")
        if not older.alive():
            raise Wrong("the older process ended, which has the lock")
        # As on a store that knows no locks.
        os.remove(os.path.join(older.data_dir, "lock"))
        self.frazil = self.process("newer").start()
        try:
            self.frazil.connect(seconds=3 if paused else 30).close()
            self.write_for(0.3)
        except Timeout:
            # The older one may have been stopped while it held the catalog's lock.
            if not paused:
                raise
        if paused:
            older.child.send(signal.SIGCONT)
            self.frazil.connect().close()
        self.write_until(lambda: is_refused(older), "the older process is refused")
        if older.process_code() == 0:
            raise Wrong("the older process ended as if nothing had happened")

    # Steps.

    def begin(self, env):
        """Starts the process and gives it all statements."""
        self.workload.write_chunk()
        self.frazil.start(env)
        try:
            self.declare()
        except Exception:
            # A crash may strike as soon as there is something to commit; the connection is lost
            # a moment before the process is gone.
            if "FRAZIL_CRASH" not in env:
                raise
            self.frazil.child.wait(5)
            self.frazil.start()
            self.declare()
            self.frazil.kill()

    def declare(self):
        with self.frazil.connect() as connection:
            for statement in (*self.workload.ddl(), *self.sinks.ddl()):
                connection.execute(statement)

    def restart(self):
        """A new start, with another number of workers."""
        self.frazil.workers = self.random.choice([1, 2, 3])
        self.frazil.start()
        self.frazil.connect().close()

    def write_for(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.workload.write_chunk()
            time.sleep(CHUNK_PAUSE)

    def write_until(self, true, what):
        """Writes until it is so: the engine always has something to commit."""

        def probe():
            self.workload.write_chunk()
            return true()

        wait_for(what, probe, FAULT_SECONDS, pause=CHUNK_PAUSE)

    def await_death(self):
        self.write_until(lambda: not self.frazil.alive(), "the crash point")
        code = self.frazil.process_code()
        if code != -signal.SIGKILL:
            raise Wrong(f"the process ended with {code} and not by its crash point")

    # Claims.

    def settle(self):
        """Right after FLUSH every view and table shows the truth, by every reader."""
        deadline = time.monotonic() + SETTLE_SECONDS
        self.flush(deadline)
        for relation, (columns, rows) in self.workload.truth().items():
            expected = multiset(rows)
            if relation != "clicks":  # a source keeps no rows to read
                query = f"SELECT {', '.join(columns)} FROM {relation}"
                self.agree(relation, expected, lambda: self.frazil.rows(query), deadline)
            if relation not in self.sinks.choices:
                continue
            for reader in Lake.READERS:
                def read():
                    return self.lake.read(reader, "shop", relation, columns)

                self.agree(f"{relation} by {reader}", expected, read, deadline)

    def flush(self, deadline):
        """A sink that a fault still keeps makes FLUSH fail; it is tried again."""
        while True:
            try:
                with self.frazil.connect() as connection:
                    return connection.execute("FLUSH")
            except ChildDied:
                raise
            except Exception:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def agree(self, name, expected, read, deadline):
        """Reading may fail for a while; what was read must be right at once."""
        while True:
            try:
                found = multiset(read())
                break
            except ChildDied:
                raise
            except Exception as error:
                if time.monotonic() > deadline:
                    raise Wrong(f"{name}: {type(error).__name__}: {error}") from error
            time.sleep(0.05)
        problem = difference(expected, found)
        if problem is not None:
            raise Wrong(f"{name}: {problem}")

    def check_commits(self):
        """No checkpoint was committed twice to a table, and the versions are those asked for."""
        for relation, (_, _, version, _) in self.sinks.choices.items():
            metadata = self.lake.load("shop", relation).metadata
            if metadata.format_version != version:
                raise Wrong(f"{relation} is a v{metadata.format_version} table")
            seen = set()
            for snapshot in metadata.snapshots:
                summary = snapshot.summary.additional_properties
                mark = (summary.get("frazil.sink-id"), summary.get("frazil.checkpoint"))
                if snapshot.summary.operation.value == "replace" or mark[1] is None:
                    continue
                if mark in seen:
                    raise Wrong(f"{relation} has checkpoint {mark[1]} twice")
                seen.add(mark)
            if not seen:
                raise Wrong(f"{relation} has no snapshot that names its checkpoint")

    def check_metadata(self):
        """Java finds every field of the metadata as the files and Iceberg's specification say."""
        for relation in self.sinks.choices:
            problems, counts = self.lake.check("shop", relation)
            if problems:
                raise Wrong(f"{relation}: {len(problems)} problems, first {problems[:3]}")
            if not counts.get("values") or not counts.get("summary fields"):
                raise Wrong(f"{relation}: the check of the metadata saw only {counts}")


def is_refused(frazil):
    """True if the process has ended, or says of a job that it was refused."""
    if not frazil.alive():
        return True
    try:
        with frazil.connect(seconds=2) as connection:
            jobs = connection.execute("SHOW JOBS").fetchall()
    except (ChildDied, Timeout):
        return not frazil.alive()
    return any(word in str(job).lower() for job in jobs for word in REFUSALS)
