"""A chunk of signatures, tried in every way on both systems.

    plain     SELECT expression of constants
    where     SELECT 1 WHERE (expression) IS NOT DISTINCT FROM expression
    column    SELECT expression of columns FROM table
    literal   the same, with untyped constants for all operands but the first, or for the only one
    bound     the same, with parameters for all operands but the first, text or binary in turn
    filter    SELECT k FROM table WHERE expression, of columns
    view      the same expression in a materialized view over the table, filled before or after
    params    SELECT expression of $1, $2 … with declared types, values and result as text
    binary    the same, values and result binary

What PostgreSQL computes goes to the system under test many expressions at a time. If a statement
fails it is sent again in halves, so that each expression gets an answer of its own. What PostgreSQL
refuses goes alone.

An operand that the system under test does not take as a constant, column or parameter is not used
there: it is counted as blocked, and differs under its own signature, `value of TYPE`. Likewise a
constant is written without its type only if it has that type: see `constant of TYPE`.

A signature that is refused for its types is tried twice in each mode, and one that is refused for
whatever reason four times; if it was never taken until then, it is left at that.
"""

import collections
from typing import NamedTuple

from judge import BY_TYPES, ERRORS_MAX, differences, outcome
from signatures import CONSTANT, VALUE
from systems import Refused
from tables import Tables, counted, itself, solve
from values import OIDS, is_bare, literal, untyped

MODES = ("plain", "where", "column", "literal", "bound", "filter", "view", "params", "binary")
# PostgreSQL gave up: nothing to compare with.
GAVE_UP = ("57014", "53200", "crash")
REFUSALS_MAX = 4
BEFORE_TABLES = ("plain", "where", "params", "binary")


class Case(NamedTuple):
    """One expression: a signature with operands as text; `bare` constants name no type."""

    signature: object
    number: int
    operands: tuple
    bare: bool

    def constants(self):
        kinds = self.signature.kinds
        return [literal(kind, text, self.bare) for kind, text in zip(kinds, self.operands)]

    def sql(self):
        return self.signature.expression(self.constants())


class Finding(NamedTuple):
    """One difference, as the report shows it."""

    label: str
    name: str
    mode: str
    kind: str
    about: str
    sql: str
    expected: str
    found: str


def numbered(signatures, first=1):
    """Expressions of several signatures over `$1`, `$2` …"""
    found = []
    for one in signatures:
        found.append(one.expression([f"${first + index}" for index in range(len(one.kinds))]))
        first += len(one.kinds)
    return found


class Operands:
    """Which operands the system under test takes as they are; asked once for each."""

    def __init__(self, oracle, subject):
        self.oracle, self.subject = oracle, subject
        self.known = {}
        self.bytes = {}
        self.tables = {}

    def once(self, key, ask):
        if key not in self.known:
            expected, found = ask()
            kinds = {kind for kind, _ in differences(expected, found)}
            self.known[key] = (kinds <= {"scale", "type"}, expected, found)
        return self.known[key]

    def constant(self, kind, text, bare):
        sql = f"SELECT {literal(kind, text, bare)}"
        return self.once(sql, lambda: [outcome(s.ask(sql)) for s in (self.oracle, self.subject)])

    def is_typed(self, kind, text, bare):
        """Whether a constant that may leave out the name of its type has that type."""
        if text is None or not bare or not is_bare(kind, text):
            return self.constant(kind, text, False)[0]
        return not differences(*self.constant(kind, text, True)[1:])

    def constants(self, case):
        pairs = zip(case.signature.kinds, case.operands)
        return all(self.constant(kind, text, case.bare)[0] for kind, text in pairs)

    def column(self, kind, text):
        """Whether a column keeps the value."""
        return self.once(("column", kind, text), lambda: self.stored(kind, text))

    def stored(self, kind, text):
        table = f"stored_{kind.replace('[]', '_array')}"
        if kind not in self.tables:
            ddl = f"CREATE TABLE {table} (k int PRIMARY KEY, v {kind})"
            self.oracle.run(ddl)
            self.tables[kind] = [0, self.subject.ask(ddl)]
        state = self.tables[kind]
        state[0] += 1
        insert = f"INSERT INTO {table} VALUES ({state[0]}, {untyped(text)})"
        select = f"SELECT v FROM {table} WHERE k = {state[0]}"

        def ask(server):
            if server is self.subject and state[1].failed:
                return outcome(state[1])
            answer = server.ask(insert)
            return outcome(answer if answer.failed else server.ask(select))

        return ask(self.oracle), ask(self.subject)

    def parameter(self, kind, text, binary):
        """Whether the value comes back when it is a parameter."""
        value = self.parameter_value(kind, text, binary)

        def ask(server):
            answer = server.with_parameters("SELECT $1", [OIDS[kind]], [value], binary)
            return outcome(answer, binary=binary)

        return self.once(
            ("parameter", kind, text, binary), lambda: (ask(self.oracle), ask(self.subject))
        )

    def parameter_value(self, kind, text, binary):
        """The operand as a parameter."""
        if text is None or not binary:
            return None if text is None else text.encode()
        if (kind, text) not in self.bytes:
            answer = self.oracle.ask_binary(f"SELECT {literal(kind, text)}")
            if answer.failed:
                raise Refused(answer)
            self.bytes[kind, text] = answer.rows[0][0]
        return self.bytes[kind, text]


class Ledger:
    """What came of a chunk: `findings`, and how often each signature was tried or left out."""

    def __init__(self):
        self.findings = []
        self.tried = collections.Counter()
        self.blocked = collections.Counter()
        self.suspects = set()
        self.ignored = ()
        self.refusals = collections.Counter()
        self.taken = set()
        self.seconds = collections.Counter()

    def timed(self, mode, work):
        """Runs a mode and notes how long it kept the system under test."""
        before = self.subject.seconds
        work()
        self.seconds[mode] += self.subject.seconds - before

    def hopeless(self, mode, one):
        """Whether a signature has been refused time and again, and never taken."""
        return self.refusals[mode, one] >= REFUSALS_MAX and (mode, one) not in self.taken

    def alone(self, mode, one):
        """Whether expressions of a signature fail so often that they go alone."""
        modes = {mode, "plain"} if mode in BEFORE_TABLES else {mode, "plain", "column"}
        return any((one_of_them, one) in self.suspects for one_of_them in modes)

    def judge(self, mode, one, sql, expected, found):
        """Notes how an expression of a signature came out."""
        self.tried[one.label, mode] += 1
        if not expected.failed:
            if found.failed:
                self.refusals[mode, one] += 2 if found.sqlstate.startswith(BY_TYPES) else 1
            else:
                self.taken.add((mode, one))
        for kind, about in differences(expected, found, mode == "view"):
            if (kind, about) in self.ignored:
                continue
            if kind in ("refused", "crash"):
                self.suspects.add((mode, one))
            shown = (expected.shown(), found.shown())
            self.findings.append(Finding(one.label, one.name, mode, kind, about, sql, *shown))


class Trial(Ledger):
    """One chunk of signatures with their cases."""

    def __init__(self, number, groups, oracle, subject, operands):
        super().__init__()
        self.number = number
        self.groups = groups
        self.oracle, self.subject, self.operands = oracle, subject, operands

    def run(self):
        self.expected = {}
        self.groups = [[self.spelled(case) for case in cases] for cases in self.groups]
        for cases in self.groups:
            for case in cases:
                answer = self.oracle.ask(f"SELECT {case.sql()}")
                if answer.sqlstate not in GAVE_UP:
                    self.expected[case] = outcome(answer)
        self.groups = [
            kept for cases in self.groups if (kept := [c for c in cases if c in self.expected])
        ]
        self.timed("plain", self.plain)
        self.timed("where", self.where)
        self.groups = [cases for cases in self.groups if cases[0].signature.name != CONSTANT]
        self.timed("params", self.parameters)
        Tables(self).run()

    def spelled(self, case):
        """The case, with its constants written in the other way if the system takes only that."""
        if case.signature.name == CONSTANT:
            return case
        pairs = list(zip(case.signature.kinds, case.operands))
        for bare in (case.bare, not case.bare):
            if all(self.operands.is_typed(*pair, bare) for pair in pairs):
                return case._replace(bare=bare)
        return case

    # What each mode shares.

    def usable(self, mode, case, takes):
        """Whether the operands can be used; a value's own signature is always tried."""
        if takes or case.signature.name in (VALUE, CONSTANT):
            return True
        self.blocked[case.signature.label, mode] += 1
        return False

    def together(self, mode, cases, run):
        """Outcomes of cases: those that may fail alone, the others in as few statements as work."""

        def alone(case):
            return self.alone(mode, case.signature) or self.expected[case].failed

        rest = [case for case in cases if not alone(case)]
        found = dict(zip(rest, solve(rest, run)))
        found.update((case, solve([case], run)[0]) for case in cases if alone(case))
        return found

    def rounds(self, mode, usable, errors_max=None):
        """The first case of every signature, then the second …; those that must fail at last."""
        good, bad = [], []
        for cases in self.groups:
            good.append([case for case in cases if not self.expected[case].failed])
            bad.append([case for case in cases if self.expected[case].failed][:errors_max])
        for lists in (good, bad):
            for index in range(max(map(len, lists), default=0)):
                row = [cases[index] for cases in lists if index < len(cases)]
                yield [
                    case for case in row
                    if not self.hopeless(mode, case.signature) and usable(case)
                ]  # fmt: skip

    # Without a table.

    def plain(self):
        def run(cases):
            if len(cases) == 1:
                answer = self.subject.run(f"SELECT {cases[0].sql()}")
            else:
                columns = (f"{case.sql()} AS c{index}" for index, case in enumerate(cases))
                answer = self.subject.run(f"SELECT {', '.join(columns)}")
            return [outcome(answer, 0, index) for index in range(len(cases))]

        def usable(case):
            return self.usable("plain", case, self.operands.constants(case))

        for cases in self.rounds("plain", usable):
            for case, found in self.together("plain", cases, run).items():
                sql = f"SELECT {case.sql()}"
                self.judge("plain", case.signature, sql, self.expected[case], found)

    def where(self):
        def sql(cases):
            return f"SELECT 1 WHERE {' AND '.join(itself(case.sql()) for case in cases)}"

        def run(cases):
            answer = self.subject.run(sql(cases))
            if not answer.rows and len(cases) > 1:
                raise Refused(answer)
            return [counted(answer)] * len(cases)

        def usable(case):
            return self.usable("where", case, self.operands.constants(case))

        for cases in self.rounds("where", usable, ERRORS_MAX):
            for case, found in self.together("where", cases, run).items():
                expected = counted(self.oracle.ask(sql([case])))
                self.judge("where", case.signature, sql([case]), expected, found)

    def parameters(self):
        for mode in ("params", "binary"):
            self.with_parameters(mode)

    def with_parameters(self, mode):
        binary = mode == "binary"

        def sql(cases):
            expressions = numbered([case.signature for case in cases])
            if len(cases) > 1:
                expressions = [f"{one} AS c{index}" for index, one in enumerate(expressions)]
            return f"SELECT {', '.join(expressions)}"

        def ask(server, cases):
            pairs = [p for c in cases for p in zip(c.signature.kinds, c.operands)]
            values = [self.operands.parameter_value(*pair, binary) for pair in pairs]
            oids = [OIDS[kind] for kind, _ in pairs]
            return server.with_parameters(sql(cases), oids, values, binary)

        def run(cases):
            answer = ask(self.subject, cases)
            if answer.failed:
                raise Refused(answer)
            return [outcome(answer, 0, index, binary) for index in range(len(cases))]

        def usable(case):
            pairs = zip(case.signature.kinds, case.operands)
            takes = [self.operands.parameter(*pair, binary)[0] for pair in pairs]
            return self.usable(mode, case, all(takes))

        for cases in self.rounds(mode, usable, ERRORS_MAX):
            for case, found in self.together(mode, cases, run).items():
                pairs = zip(case.signature.kinds, case.operands)
                shown = ", ".join(f"{text} ({kind})" for kind, text in pairs)
                expected = outcome(ask(self.oracle, [case]), binary=binary)
                shown = f"{sql([case])} with {shown}"
                self.judge(mode, case.signature, shown, expected, found)
