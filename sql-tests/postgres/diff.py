"""The postgres lane: expressions of PostgreSQL's catalogs give in Frazil what they give there.

    pg_operator, pg_cast, pg_proc, syntax ─► signatures ─► cases: edges and random values
        ─► chunks ─► PostgreSQL, Frazil: constants, columns, conditions, views, parameters
        ─► value, type, SQLSTATE equal, or a known difference of exceptions.txt?

Each job has a Frazil of its own and takes the next chunk. A signature is one claim: no difference
in any mode that is not known. Cases follow from the seed and the signature, so that --only repeats
them; --count is shared equally by all signatures.
"""

import argparse
import collections
import multiprocessing
import os
import queue
import sys
import tempfile
import traceback

from aggregates import AggregateTrial, Sets
from cases import draw_all, size
from exceptions import Exceptions
from judge import KINDS
from signatures import VALUE
from systems import Oracle, Subject
from trial import MODES, Operands, Trial

from harness.frazil import default_bin
from harness.postgres import Postgres
from harness.score import Score

SHOWN_MAX = 60
# What the stand-in of --self-check does in another way, and where that must be seen.
FAULT = "IntervalStyle = 'iso_8601'"
FAULT_LABEL = f"{VALUE} interval"
FAULT_MODES = {"plain", "column", "params"}


def work(index, arguments, postgres, folder, chunks, tasks, results):
    """One job: its own two systems, and chunks until there are no more."""
    parent = os.getppid()
    subject = None
    try:
        oracle = Oracle(postgres, f"diff_{index}")
        if arguments.self_check:
            subject = Oracle(postgres, f"stand_in_{index}", [FAULT])
        else:
            subject = Subject(folder, arguments.bin, index)
        operands = Operands(oracle, subject)
        while (number := tasks.get()) is not None and os.getppid() == parent:
            kind = AggregateTrial if isinstance(chunks[number], Sets) else Trial
            trial = kind(number, chunks[number], oracle, subject, operands)
            problem = None
            try:
                trial.run()
            except Exception:
                problem = traceback.format_exc(limit=-6)
            counts = (trial.tried, trial.blocked, trial.seconds)
            results.put((number, trial.findings, *counts, problem))
        results.put((None, oracle.statements, oracle.seconds, subject.statements, subject.seconds))
    except Exception:
        results.put((None, traceback.format_exc(limit=-6)))
    finally:
        if subject is not None:
            subject.close()


class Findings:
    """What came of all chunks, in the order of the chunks."""

    def __init__(self):
        self.by_chunk = {}
        self.tried = collections.Counter()
        self.blocked = collections.Counter()
        self.seconds = collections.Counter()
        self.problems = []
        self.times = [0, 0.0, 0, 0.0]

    def all(self):
        return [one for number in sorted(self.by_chunk) for one in self.by_chunk[number]]

    def add(self, number, *rest):
        if number is None and len(rest) == 1:
            self.problems.append(rest[0])
        elif number is None:
            self.times = [a + b for a, b in zip(self.times, rest)]
        else:
            findings, tried, blocked, seconds, problem = rest
            self.by_chunk[number] = findings
            self.tried.update(tried)
            self.blocked.update(blocked)
            self.seconds.update(seconds)
            if problem:
                self.problems.append(f"chunk {number}: {problem}")


def run_chunks(arguments, postgres, folder, chunks, score):
    context = multiprocessing.get_context("fork")
    tasks, results = context.Queue(), context.Queue()
    jobs = max(1, min(arguments.jobs, len(chunks)))
    for task in [*range(len(chunks)), *[None] * jobs]:
        tasks.put(task)
    workers = [
        context.Process(
            target=work, args=(n, arguments, postgres, folder, chunks, tasks, results), daemon=True
        )
        for n in range(jobs)
    ]
    for worker in workers:
        worker.start()
    found, ended = Findings(), 0
    while ended < jobs:
        try:
            message = results.get(timeout=5)
        except queue.Empty:
            if any(worker.is_alive() for worker in workers):
                continue
            found.problems.append("a job was ended from outside")
            break
        found.add(*message)
        ended += message[0] is None
        done = len(found.by_chunk)
        if message[0] is not None and done % 10 == 0:
            score.say(f"{done} of {len(chunks)} chunks")
    for worker in workers:
        worker.join(20)
    return found


def grouped(findings):
    """(label, kind, about) -> findings, those that happen most often first."""
    groups = collections.defaultdict(list)
    for one in findings:
        groups[one.label, one.kind, one.about].append(one)
    order = sorted(groups, key=lambda key: (-len(groups[key]), KINDS.index(key[1]), key))
    return {key: groups[key] for key in order}


def described(findings, tried):
    """Some lines about a group: how often, in which modes, and one example."""
    label, kind = findings[0].label, findings[0].kind
    modes = collections.Counter(one.mode for one in findings)
    counts = [f"{mode} {modes[mode]}/{tried[label, mode]}" for mode in MODES if modes[mode]]
    one = findings[0]
    about = f" {one.about}" if one.about else ""
    return (
        f"{len(findings):5}  {kind:<8}{about}  {label}   [{', '.join(counts)}]\n"
        f"         {one.sql[:400]}\n"
        f"         PostgreSQL: {one.expected}\n"
        f"         Frazil:     {one.found}"
    )


def write_report(path, found, unknown):
    """All differences by signature; unknown ones are marked."""
    findings = found.all()
    with open(path, "w") as file:
        sums = collections.Counter(one.kind for one in findings)
        file.write(", ".join(f"{kind} {sums[kind]}" for kind in KINDS if sums[kind]) + "\n")
        blocked = collections.Counter()
        for (_, mode), count in found.blocked.items():
            blocked[mode] += count
        file.write(f"tried {found.tried.total()}, blocked by operands {dict(blocked)}\n\n")
        new = {(one.label, one.kind) for one in unknown}
        for some in grouped(findings).values():
            mark = "NEW\n" if (some[0].label, some[0].kind) in new else ""
            file.write(f"{mark}{described(some, found.tried)}\n\n")


def conclude(arguments, found, exceptions, score):
    """Compares with the known differences, prints the rest, and counts the claims."""
    findings = found.all()
    if arguments.self_check:
        modes = {one.mode for one in findings if one.label == FAULT_LABEL}
        problem = f"not in {FAULT_MODES - modes}" if FAULT_MODES - modes else None
        score.claim("intervals of another style are noticed", problem)
        findings = [one for one in findings if "interval" not in one.label + one.expected]
        exceptions = Exceptions(os.devnull)
    unknown = [one for one in findings if not exceptions.known(one)]
    gone = list(exceptions.gone(found.tried))
    groups = grouped(unknown)
    for some in list(groups.values())[:SHOWN_MAX]:
        print(f"FAIL\n{described(some, found.tried)}")
    if len(groups) > SHOWN_MAX:
        print(f"… and {len(groups) - SHOWN_MAX} more; --report PATH has all")
    for entry, modes in gone:
        score.say(f"differs no longer in {','.join(sorted(modes))}: {entry}")
    if arguments.report:
        write_report(arguments.report, found, unknown)
    if arguments.learn and not arguments.self_check:
        exceptions.learn(unknown, found.tried)
    labels = {label for label, _ in found.tried}
    failed = {one.label for one in unknown}
    score.passed += len(labels - failed)
    score.failed += len(failed)
    for problem in found.problems:
        score.claim("a chunk comes to its end", problem)
    statements = "{} statements of PostgreSQL in {:.0f} s, {} of the other system in {:.0f} s"
    score.say(statements.format(*found.times))
    parts = ", ".join(f"{mode} {seconds:.0f}" for mode, seconds in found.seconds.items())
    score.say(f"seconds of its modes: {parts}")
    score.say(
        f"{found.tried.total()} comparisons, {len(findings) - len(unknown)} known differences, "
        f"{len(unknown)} others, {found.blocked.total()} left out for their operands, "
        f"{len(gone)} entries of exceptions.txt are out of date"
    )


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20000, help="number of expressions")
    parser.add_argument("--only", help="an operator, a function, or a whole signature")
    parser.add_argument("--bin", default=default_bin(), help="the frazil binary")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--report", help="a file for all differences")
    parser.add_argument("--learn", action="store_true", help="update exceptions.txt")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--self-check", action="store_true", help="PostgreSQL in Frazil's place")
    return parser.parse_args()


def main():
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    arguments = parse()
    score = Score()
    folder = tempfile.mkdtemp(prefix="frazil-postgres-")
    os.chmod(folder, 0o755)  # PostgreSQL's user passes through
    postgres = Postgres(folder)
    with postgres.connect() as connection:
        for index in range(arguments.jobs):
            for name in ("diff", "stand_in"):
                connection.execute(f"CREATE DATABASE {name}_{index}")
        exceptions = Exceptions()
        chunks = draw_all(arguments, Oracle(postgres, "postgres"), connection, exceptions)
    kinds, expressions = map(sum, zip(*map(size, chunks))) if chunks else (0, 0)
    score.say(
        f"SEED={arguments.seed}; {expressions} expressions of {kinds} signatures; "
        f"again: sql-tests/postgres/run --seed {arguments.seed} --count {arguments.count}"
    )
    found = run_chunks(arguments, postgres, folder, chunks, score)
    postgres.stop()
    conclude(arguments, found, exceptions, score)
    return score.close(folder, arguments.keep)


if __name__ == "__main__":
    sys.exit(main())
