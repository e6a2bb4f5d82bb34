"""Aggregates of pg_proc over sets of rows, in the same ways as expressions.

    plain     SELECT aggregate FROM (VALUES …)
    column    SELECT aggregate FROM table WHERE g = i
    filter    SELECT g, aggregate FROM table GROUP BY g
    view      a materialized view with a row for each set; it is made when the table has every
              second row, and read when all are there and again after a DELETE of every third one

Aggregates of the same types share their sets: set i is the rows with g = i. Those in which an order
matters have ORDER BY.
"""

import collections
import random
from typing import NamedTuple

from judge import Outcome, outcome
from signatures import POLYMORPHIC, Signature, instances, short
from tables import NO_ROW, solve
from trial import GAVE_UP, Ledger
from values import TYPES, literal, untyped

AGGREGATES = """
SELECT p.proname, array(SELECT t.typname FROM unnest(p.proargtypes) WITH ORDINALITY a(oid, n)
          JOIN pg_type t ON t.oid = a.oid ORDER BY a.n)
  FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid
  WHERE a.aggkind = 'n' AND p.proname NOT LIKE 'json\\_%' AND p.pronargs > 0 ORDER BY 1, 2
"""
IN_ORDER = ("array_agg", "string_agg", "jsonb_agg", "jsonb_object_agg")
DISTINCT = ("count", "sum", "avg", "min", "array_agg")
ROWS_MAX = 7
# Equal to others and written in another way: min and max may give either.
TWINS = {"-0", "0.00", "30 days", "24:00:00", "1 mon -30 days"}
NAMES = ("a", "b")


def aggregate_signatures(connection):
    """Signatures by label; the columns of a set are {0} and {1}, and {k} is its order."""
    found = {}
    for name, kinds in connection.execute(AGGREGATES).fetchall():
        # `any` is whatever type, as is `anyelement`.
        kinds = ["anyelement" if kind == "any" else short(kind) for kind in kinds]
        if not all(kind in TYPES or kind in POLYMORPHIC for kind in kinds):
            continue
        if name == "jsonb_object_agg":
            kinds[0] = "text"
        for types in instances(kinds):
            words = ["", "DISTINCT "] if name in DISTINCT and len(types) == 1 else [""]
            for word in words:
                columns = ", ".join(f"{{{index}}}" for index in range(len(types)))
                order = ""
                if name in IN_ORDER:
                    order = " ORDER BY {0}" if word else " ORDER BY k"
                label = f"{name}({word}{', '.join(types)})"
                template = f"{name}({word}{columns}{order})"
                found[label] = Signature(name, label, template, types, (None,) * len(types))
    one = Signature("count", "count(*)", "count(*)", ("int4",), (None,))
    filtered = "sum({0}) FILTER (WHERE {0} > 0)"
    two = Signature("sum", "sum(int4) FILTER", filtered, ("int4",), (None,))
    return {**found, one.label: one, two.label: two}


class Sets(NamedTuple):
    """A chunk: aggregates of the same types, and the sets of rows that they take."""

    signatures: tuple
    kinds: tuple
    sets: tuple


def draw_sets(signatures, count, values, seed):
    """Chunks, each with sets of its own; the first is an empty set, the second one row."""
    by_kinds = collections.defaultdict(list)
    for one in signatures:
        by_kinds[one.kinds].append(one)
    for kinds, some in by_kinds.items():
        r = random.Random(f"{seed}/aggregates/{kinds}")
        pools = [[v for v in values.pool(kind, None) if v not in TWINS] for kind in kinds]
        sizes = [0, 1, *(r.randint(1, ROWS_MAX) for _ in range(max(count - 2, 2)))]
        sets = tuple(
            tuple(tuple(r.choice(pool) for pool in pools) for _ in range(size)) for size in sizes
        )
        yield Sets(tuple(some), kinds, sets)


class AggregateTrial(Ledger):
    """One chunk of aggregates."""

    def __init__(self, number, chunk, oracle, subject, operands):
        super().__init__()
        self.oracle, self.subject, self.operands = oracle, subject, operands
        self.signatures, self.kinds = chunk.signatures, chunk.kinds
        self.sets = dict(enumerate(chunk.sets))
        # The last digits of a sum of floats depend on the order of the rows, which is anyone's.
        self.ignored = [("digits", kind) for kind in ("float4", "float8")]
        self.table = f"sets_{number}"
        self.views = 0

    def run(self):
        self.timed("plain", self.plain)
        if not all(self.operands.column(kind, None)[0] for kind in self.kinds):
            self.block(["column", "filter", "view"])
            return
        self.sets = {g: rows for g, rows in self.sets.items() if self.kept(rows)}
        if self.sets:
            self.timed("sets", self.tables)

    def block(self, modes):
        for one in self.signatures:
            for mode in modes:
                self.blocked[one.label, mode] += 1

    def together(self, mode, signatures, run):
        """Outcomes by signature; those that have failed before alone."""
        healthy = [one for one in signatures if not self.alone(mode, one)]
        found = dict(zip(healthy, solve(healthy, run)))
        return found | {s: solve([s], run)[0] for s in signatures if s not in found}

    def selected(self, signatures):
        names = NAMES[: len(self.kinds)]
        return ", ".join(f"{s.expression(names)} AS c{i}" for i, s in enumerate(signatures))

    def compare(self, mode, source, shown):
        """Compares all aggregates over one source of rows, such as `FROM t WHERE g = 1`."""
        expected = {}
        for one in self.signatures:
            answer = self.oracle.ask(f"SELECT {self.selected([one])} {source}")
            if answer.sqlstate not in GAVE_UP:
                expected[one] = outcome(answer)

        def run(some):
            answer = self.subject.run(f"SELECT {self.selected(some)} {source}")
            return [outcome(answer, 0, index) for index in range(len(some))]

        good = [one for one in expected if not expected[one].failed]
        found = self.together(mode, good, run)
        found |= {one: solve([one], run)[0] for one in expected if one not in found}
        for one, value in found.items():
            sql = f"SELECT {one.expression(NAMES)} {shown}"
            self.judge(mode, one, sql, expected[one], value)
        return expected

    def plain(self):
        for rows in self.sets.values():
            pairs = [pair for row in rows for pair in zip(self.kinds, row)]
            if not all(self.operands.constant(*pair, False)[0] for pair in pairs):
                self.block(["plain"])
            elif rows:
                source = self.values(list(enumerate(rows)))
                self.compare("plain", source, source)

    def kept(self, rows):
        """Whether columns keep all values of a set."""
        if all(self.operands.column(*pair)[0] for row in rows for pair in zip(self.kinds, row)):
            return True
        self.block(["column", "filter", "view"])
        return False

    def tables(self):
        named = list(zip(NAMES, self.kinds))
        columns = ", ".join(f"{name} {kind}" for name, kind in named)
        ddl = f"CREATE TABLE {self.table} (k int PRIMARY KEY, g int, {columns})"
        lines = []
        self.numbers = {}
        for g, rows in self.sets.items():
            self.numbers[g] = range(len(lines), len(lines) + len(rows))
            for k, row in zip(self.numbers[g], rows):
                lines.append(f"({k}, {g}, {', '.join(map(untyped, row))})")
        systems = (self.oracle, self.subject)
        for server in systems:
            server.run(ddl)
            self.insert(server, lines[::2])
        failing = self.failing()
        views = self.create_views(failing)
        for server in systems:
            self.insert(server, lines[1::2])
        for g, rows in self.sets.items():
            source = f"FROM {self.table} WHERE g = {g}"
            self.compare("column", source, f"FROM {self.table} of {rows}")
        self.compare_groups(failing)
        self.compare_views(views, failing)
        for server in systems:
            server.run(f"DELETE FROM {self.table} WHERE k % 3 = 0")
        self.compare_views(views, failing)
        for server in (self.subject, self.oracle):
            server.run(f"DROP TABLE {self.table} CASCADE")

    def insert(self, server, lines):
        if lines:
            server.run(f"INSERT INTO {self.table} VALUES {', '.join(lines)}")

    def failing(self):
        """Signature -> the sets on which PostgreSQL refuses it: all rows, or those of a moment."""
        found = {}
        for one in self.signatures:
            found[one] = {g for g, rows in self.sets.items() if rows and self.refused(one, g)}
        return found

    def refused(self, one, g):
        rows = list(zip(self.numbers[g], self.sets[g]))
        moments = [rows, [r for r in rows if r[0] % 2 == 0], [r for r in rows if r[0] % 3]]
        return any(
            self.oracle.ask(f"SELECT {self.selected([one])} {self.values(some)}").failed
            for some in moments
            if some
        )

    def values(self, rows):
        """FROM with rows as constants, each with its number."""
        texts = ", ".join(
            f"({k}, {', '.join(literal(*pair) for pair in zip(self.kinds, row))})"
            for k, row in rows
        )
        return f"FROM (VALUES {texts}) AS v(k, {', '.join(NAMES[: len(self.kinds)])})"

    def query(self, signatures, sets):
        numbers = ", ".join(map(str, sets))
        return (
            f"SELECT g, {self.selected(signatures)} FROM {self.table} WHERE g IN ({numbers})"
            " GROUP BY g"
        )

    def grouped(self, mode, failing, read):
        """Compares values by group with what `read` gives for a signature."""
        for sets, some in self.by_sets(failing).items():
            for one in some:
                answer = self.oracle.ask(self.query([one], sets))
                if answer.failed:
                    continue
                expected = by_group(answer)[0]
                values = read(one, sets)
                sql = f"{mode} of {one.expression(NAMES)} GROUP BY g"
                for g, value in expected.items():
                    found = values if isinstance(values, Outcome) else values.get(g, NO_ROW)
                    self.judge(mode, one, f"{sql} of {self.sets[g]}", value, found)

    def by_sets(self, failing):
        found = collections.defaultdict(list)
        for one in self.signatures:
            sets = tuple(g for g, rows in self.sets.items() if rows and g not in failing[one])
            if sets:
                found[sets].append(one)
        return found

    def compare_groups(self, failing):
        found = {}
        for sets, some in self.by_sets(failing).items():

            def run(part, sets=sets):
                return by_group(self.subject.run(self.query(part, sets)))

            found |= self.together("filter", some, run)
        self.grouped("filter", failing, lambda one, _: found[one])

    def create_views(self, failing):
        """Signature -> its view and column, or how the view was refused."""
        found = {}
        for sets, some in self.by_sets(failing).items():
            made = solve(some, lambda part, sets=sets: self.create_view(part, sets))
            found.update(zip(some, made))
        return found

    def create_view(self, signatures, sets):
        self.views += 1
        name = f"{self.table}_view_{self.views}"
        query = self.query(signatures, sets)
        self.subject.run(f"CREATE {self.subject.view} {name} AS {query}")
        return [(name, column) for column in range(len(signatures))]

    def compare_views(self, places, failing):
        answers = {}

        def rows(one, sets):
            if isinstance(places[one], Outcome):
                return places[one]
            name, column = places[one]
            if name not in answers:
                answers[name] = self.subject.ask(f"SELECT * FROM {name}")
            if not answers[name].failed:
                return by_group(answers[name])[column]
            if sum(place[0] == name for place in places.values()) == 1:
                return outcome(answers[name])
            places[one] = solve([one], lambda part: self.create_view(part, sets))[0]
            return rows(one, sets)

        self.grouped("view", failing, rows)


def by_group(answer):
    """For each column the outcomes by group."""
    return [
        {int(row[0]): Outcome(row[i], answer.oids[i]) for row in answer.rows}
        for i in range(1, len(answer.oids))
    ]
