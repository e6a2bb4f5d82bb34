"""The modes of a chunk that read a table: column, literal, filter, view.

Row i has the operands of the i-th case of every signature, in columns of its own; a signature with
fewer cases repeats them. Cases that PostgreSQL refuses have rows of their own, from FAILING on.
Every second chunk makes its view before the rows, the others after them.
"""

import collections

from judge import BY_TYPES, ERRORS_MAX, Outcome, outcome
from signatures import NESTED, VALUE
from systems import Refused
from values import OIDS, untyped

FAILING = 1000
BOOL = 16
LETTERS = "abcdefghij"
KEPT = ("kept", "left out")
NO_ROW = Outcome(b"no row")


def solve(items, run):
    """The outcome of each item by `run(items)`, which raises Refused if any of them fails."""
    if not items:
        return []
    try:
        return run(items)
    except Refused as refused:
        if len(items) == 1:
            return [outcome(refused.answer)]
    middle = len(items) // 2
    return solve(items[:middle], run) + solve(items[middle:], run)


class Tables:
    """The table of one chunk, on both systems."""

    def __init__(self, trial):
        self.trial = trial
        self.oracle, self.subject = trial.oracle, trial.subject
        self.table = f"chunk_{trial.number}"
        self.names = {}  # signature -> the columns of its operands
        self.columns = {}  # signature -> its expression over columns
        self.good = {}  # signature -> cases by row
        self.bad = []  # (row, case)
        self.rows = collections.defaultdict(dict)  # row -> column -> text
        self.kinds = {}  # column -> type
        self.views = 0

    def run(self):
        self.place()
        if not self.kinds:
            return
        columns = ", ".join(f"{name} {kind}" for name, kind in self.kinds.items())
        ddl = f"CREATE TABLE {self.table} (k int PRIMARY KEY, {columns})"
        insert = self.insertion()
        self.oracle.run(ddl)
        self.oracle.run(insert)
        self.learn_truth()
        self.subject.run(ddl)
        healthy = self.split("view")[0]
        early = self.early_view(healthy) if self.trial.number % 2 else None
        self.subject.run(insert)
        self.trial.timed("column", self.column)
        self.trial.timed("literal", self.literal)
        self.trial.timed("bound", self.bound)
        self.trial.timed("filter", self.filter)
        self.trial.timed("view", lambda: self.view(early))
        for server in (self.subject, self.oracle):
            server.run(f"DROP TABLE {self.table} CASCADE")

    def place(self):
        """Gives every signature its columns and every case its row."""
        trial = self.trial
        self.height = height = max(map(len, trial.groups), default=0)
        failing = FAILING
        for index, cases in enumerate(trial.groups):
            one = cases[0].signature
            kept = [case for case in cases if self.stored(case)]
            if not kept:
                continue
            names = [f"s{index}_{place}" for place in range(len(one.kinds))]
            self.kinds.update(zip(names, one.kinds))
            self.names[one] = names
            self.columns[one] = one.expression(names)
            good = [case for case in kept if not trial.expected[case].failed]
            if good:
                self.good[one] = [good[row % len(good)] for row in range(height)]
                for row, case in enumerate(self.good[one]):
                    self.rows[row].update(zip(names, case.operands))
            bad = [case for case in kept if trial.expected[case].failed][:ERRORS_MAX]
            for case in bad if not trial.hopeless("plain", one) else []:
                self.rows[failing].update(zip(names, case.operands))
                self.bad.append((failing, case))
                failing += 1

    def stored(self, case):
        """Whether columns keep the operands; says so for the signature of the value itself."""
        kept = [self.trial.operands.column(*pair)
                for pair in zip(case.signature.kinds, case.operands)]  # fmt: skip
        takes = all(one[0] for one in kept)
        if case.signature.name == VALUE:
            if not takes:
                sql = f"INSERT and SELECT of {untyped(case.operands[0])}::{case.signature.kinds[0]}"
                self.trial.judge("column", case.signature, sql, *kept[0][1:])
            return takes
        return self.trial.usable("column", case, takes)

    def insertion(self):
        names = list(self.kinds)
        rows = []
        for number, row in sorted(self.rows.items()):
            texts = ", ".join(untyped(row.get(name)) for name in names)
            rows.append(f"({number}, {texts})")
        return f"INSERT INTO {self.table} (k, {', '.join(names)}) VALUES {', '.join(rows)}"

    def learn_truth(self):
        """PostgreSQL's values; what fails over columns and not over constants is left out."""

        def run(some):
            return self.by_column(self.oracle.run(self.select(some)), some)

        signatures = list(self.good)
        truth = dict(zip(signatures, solve(signatures, run)))
        self.truth = {one: rows for one, rows in truth.items() if not isinstance(rows, Outcome)}
        self.good = {one: self.good[one] for one in self.truth}

    def select(self, signatures):
        """The query of several signatures over all rows that have values."""
        columns = (f"{self.columns[one]} AS c{index}" for index, one in enumerate(signatures))
        return f"SELECT k, {', '.join(columns)} FROM {self.table} WHERE k < {FAILING}"

    def judge(self, mode, case, expected, found):
        """Notes an outcome, with a statement that tells it without the other columns."""
        one, count = case.signature, len(case.operands)
        names = list(LETTERS[:count])
        if mode == "literal":
            names[min(count - 1, 1) :] = map(untyped, case.operands[min(count - 1, 1) :])
        elif mode == "bound":
            names[1:] = [f"${index}" for index in range(1, count)]
        expression = one.expression(names)
        if mode == "filter":
            condition = expression if expected.text() in KEPT else itself(expression)
            sql = f"SELECT k FROM t WHERE {condition}"
        else:
            sql = f"SELECT {expression} FROM t"
        told = zip(names, case.operands, one.kinds)
        values = [f"{n} = {text} ({kind})" for n, text, kind in told if n[0] in LETTERS + "$"]
        prefix = "view of " if mode == "view" else ""
        self.trial.judge(mode, one, f"{prefix}{sql} with {', '.join(values)}", expected, found)

    def judge_rows(self, mode, one, found):
        """Compares a column with PostgreSQL's; each case once."""
        for row, case in self.distinct(one):
            value = found if isinstance(found, Outcome) else found[row]
            self.judge(mode, case, self.truth[one][row], value)

    def distinct(self, one):
        """Rows with the cases of a signature, each case once."""
        cases = self.good[one]
        return list(enumerate(cases))[: len(set(cases))]

    def by_column(self, answer, signatures):
        """For each signature the outcomes by row; the first column is the row's number."""
        rows = {int(row[0]): row for row in answer.rows}
        return [
            [
                Outcome(rows[row][column], answer.oids[column]) if row in rows else NO_ROW
                for row in range(self.height)
            ]
            for column in range(1, len(signatures) + 1)
        ]

    def split(self, mode):
        """Signatures that go together, and those that go alone."""
        alone = [one for one in self.good if self.trial.alone(mode, one)]
        return [one for one in self.good if one not in alone], alone

    def column(self):
        def run(some):
            return self.by_column(self.subject.run(self.select(some)), some)

        healthy, suspects = self.split("column")
        found = list(zip(healthy, solve(healthy, run)))
        found += [(one, solve([one], run)[0]) for one in suspects]
        for one, values in found:
            if isinstance(values, Outcome) and not values.sqlstate.startswith(BY_TYPES):
                values = [self.single(one, row) for row in range(len(self.good[one]))]
            self.judge_rows("column", one, values)
        for row, case in self.bad:
            sql = f"SELECT {self.columns[case.signature]} FROM {self.table} WHERE k = {row}"
            expected, found = (outcome(server.ask(sql)) for server in (self.oracle, self.subject))
            self.judge("column", case, expected, found)

    def single(self, one, row):
        sql = f"SELECT {self.columns[one]} FROM {self.table} WHERE k = {row}"
        return outcome(self.subject.ask(sql))

    def literal(self):
        """Untyped constants for all operands but the first, or for the only one."""

        def ask(server, row, cases):
            expressions = []
            for case in cases:
                texts = [untyped(text) for text in case.operands]
                if len(texts) > 1:
                    texts[0] = self.names[case.signature][0]
                expressions.append(case.signature.expression(texts))
            return server.ask(f"{self.listed(expressions)} WHERE k = {row}")

        def usable(row, case):
            return case.signature.name not in (VALUE, NESTED)

        self.row_by_row("literal", ask, usable)

    def bound(self):
        """Parameters for all operands but the first; binary ones in every second row."""
        operands = self.trial.operands

        def ask(server, row, cases):
            expressions, oids, values = [], [], []
            for case in cases:
                one = case.signature
                pairs = list(zip(one.kinds, case.operands))[1:]
                names = [f"${len(oids) + index + 1}" for index in range(len(pairs))]
                expressions.append(one.expression([self.names[one][0], *names]))
                oids += [OIDS[kind] for kind, _ in pairs]
                values += [operands.parameter_value(*pair, row % 2 == 1) for pair in pairs]
            sql = f"{self.listed(expressions)} WHERE k = {row}"
            return server.with_parameters(sql, oids, values, row % 2 == 1)

        def usable(row, case):
            pairs = list(zip(case.signature.kinds, case.operands))[1:]
            if not pairs:
                return False
            takes = all(operands.parameter(*pair, row % 2 == 1)[0] for pair in pairs)
            return self.trial.usable("bound", case, takes)

        self.row_by_row("bound", ask, usable)

    def listed(self, expressions):
        """SELECT of expressions from the table, under names of their own if there are several."""
        if len(expressions) > 1:
            expressions = [f"{one} AS c{index}" for index, one in enumerate(expressions)]
        return f"SELECT {', '.join(expressions)} FROM {self.table}"

    def row_by_row(self, mode, ask, usable):
        """Asks for the first case of all signatures, then for the second …"""
        rows = [(row, []) for row in range(self.height)]
        for one, cases in self.good.items():
            for row, case in self.distinct(one):
                rows[row][1].append(case)
        rows += [(row, [case]) for row, case in self.bad]
        for row, cases in rows:
            cases = [
                case for case in cases
                if not self.trial.hopeless(mode, case.signature) and usable(row, case)
            ]  # fmt: skip
            binary = mode == "bound" and row % 2 == 1

            def run(some, row=row, binary=binary):
                answer = ask(self.subject, row, some)
                if answer.failed:
                    raise Refused(answer)
                return [outcome(answer, 0, index, binary) for index in range(len(some))]

            expected = {c: outcome(ask(self.oracle, row, [c]), binary=binary) for c in cases}
            healthy = [
                case for case in cases
                if not expected[case].failed and not self.trial.alone(mode, case.signature)
            ]  # fmt: skip
            found = dict(zip(healthy, solve(healthy, run)))
            found |= {case: solve([case], run)[0] for case in cases if case not in found}
            for case, value in found.items():
                self.judge(mode, case, expected[case], value)

    def filter(self):
        """A boolean expression is the condition itself; all others are compared with themselves."""
        truth = self.truth
        conditions = [one for one in self.good if truth[one][0].oid == BOOL]
        for one in conditions:
            sql = f"SELECT k FROM {self.table} WHERE k < {FAILING} AND {self.columns[one]}"
            answer = self.subject.ask(sql)
            if answer.failed:
                for _, case in self.distinct(one):
                    self.judge("filter", case, Outcome(KEPT[0].encode()), outcome(answer))
                continue
            found = {int(row[0]) for row in answer.rows}
            for row, case in self.distinct(one):
                words = KEPT[truth[one][row].value != b"t"], KEPT[row not in found]
                expected, value = (Outcome(word.encode()) for word in words)
                self.judge("filter", case, expected, value)
        self.filter_others([one for one in self.good if one not in conditions])
        for row, case in self.bad:
            one = self.columns[case.signature]
            sql = f"SELECT k FROM {self.table} WHERE k = {row} AND {itself(one)}"
            expected, value = (counted(server.ask(sql)) for server in (self.oracle, self.subject))
            self.judge("filter", case, expected, value)

    def filter_others(self, signatures):
        expected = Outcome(b"all rows")

        def run(some):
            conditions = " AND ".join(itself(self.columns[one]) for one in some)
            sql = f"SELECT k FROM {self.table} WHERE k < {FAILING} AND {conditions}"
            answer = self.subject.run(sql)
            if len(answer.rows) < self.height:
                if len(some) > 1:
                    raise Refused(answer)
                return [Outcome(f"{len(answer.rows)} of {self.height} rows".encode())]
            return [expected] * len(some)

        healthy = [one for one in signatures if not self.trial.alone("filter", one)]
        found = dict(zip(healthy, solve(healthy, run)))
        found |= {one: solve([one], run)[0] for one in signatures if one not in found}
        for one, value in found.items():
            for _, case in self.distinct(one):
                self.judge("filter", case, expected, value)

    def create_view(self, signatures):
        self.views += 1
        name = f"{self.table}_view_{self.views}"
        self.subject.run(f"CREATE {self.subject.view} {name} AS {self.select(signatures)}")
        return name

    def drop_view(self, name):
        self.subject.ask(f"DROP {self.subject.view} {name}")

    def early_view(self, signatures):
        """A view over the empty table; None if there is none."""
        if not signatures:
            return None
        try:
            return self.create_view(signatures), signatures
        except Refused:
            return None

    def view(self, early):
        def read(name, some):
            try:
                return self.by_column(self.subject.run(f"SELECT * FROM {name}"), some)
            finally:
                self.drop_view(name)

        def run(some):
            return read(self.create_view(some), some)

        found = {}
        if early is not None:
            name, signatures = early
            try:
                found = dict(zip(signatures, read(name, signatures)))
            except Refused:
                pass  # halves of it tell more
        healthy, suspects = self.split("view")
        healthy = [one for one in healthy if one not in found]
        found |= dict(zip(healthy, solve(healthy, run)))
        found |= {one: solve([one], run)[0] for one in suspects if one not in found}
        for one, values in found.items():
            self.judge_rows("view", one, values)
        self.failing_views()

    def failing_views(self):
        """One view for each signature that must fail."""
        seen = set()
        for row, case in self.bad:
            one = case.signature
            if one in seen:
                continue
            seen.add(one)
            name = f"{self.table}_fails_{row}"
            query = f"SELECT k, {self.columns[one]} AS c FROM {self.table} WHERE k = {row}"
            answer = self.subject.ask(f"CREATE {self.subject.view} {name} AS {query}")
            if not answer.failed:
                answer = self.subject.ask(f"SELECT c FROM {name}")
                self.drop_view(name)
            expected = outcome(self.oracle.ask(f"SELECT c FROM ({query}) AS q"))
            self.judge("view", case, expected, outcome(answer))


def itself(expression):
    return f"({expression}) IS NOT DISTINCT FROM ({expression})"


def counted(answer):
    """How many rows came, as an outcome."""
    if answer.failed:
        return outcome(answer)
    return Outcome(f"{len(answer.rows)} rows".encode())
