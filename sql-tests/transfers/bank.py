"""Accounts, what is read of them, and what must hold of every state that is seen.

    accounts (id, balance, moves) ─┬─► sums      all of them, one row
                                   ├─► branches  by id % BRANCHES
                                   └─► Iceberg tables of accounts and of branches

A transfer changes two balances by opposite amounts, and adds 1 to the moves of both accounts.

Invariant: a state is `(accounts, balance, moves)`, summed over all rows. The first two never
change; the third is even, and is twice the number of transfers that the state holds.
"""

import itertools
import threading

ACCOUNTS = 40
OPENING = 1000
BRANCHES = 5
STATES_MIN = 5  # a reader that saw fewer states has tested nothing

DDL = (
    "CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT, moves BIGINT)",
    f"INSERT INTO accounts SELECT g, {OPENING}, 0 FROM generate_series(1, {ACCOUNTS}) AS g",
    "CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS accounts, sum(balance) AS balance,"
    " sum(moves) AS moves FROM accounts",
    f"CREATE MATERIALIZED VIEW branches AS SELECT id % {BRANCHES} AS branch, count(*) AS accounts,"
    f" sum(balance) AS balance, sum(moves) AS moves FROM accounts GROUP BY id % {BRANCHES}",
)
TABLE = "(SELECT count(*) AS n, sum(balance) AS b, sum(moves) AS m FROM accounts) AS a"
BRANCH_SUMS = "(SELECT sum(accounts) AS n, sum(balance) AS b, sum(moves) AS m FROM branches) AS c"
# Name -> a query of one row: one state, or more of them side by side.
READS = {
    "the table": f"SELECT * FROM {TABLE}",
    "a view": "SELECT accounts, balance, moves FROM sums",
    "a table and two views at once": f"SELECT * FROM {TABLE}, sums, {BRANCH_SUMS}",
}
# Iceberg table -> (key, columns, the state that one row stands for).
LAKE = {
    "accounts": ("id", ("balance", "moves"), lambda row: (1, *row)),
    "branches": ("branch", ("accounts", "balance", "moves"), tuple),
}


def sink(table, folder, version):
    """The statement that writes a relation to the lake, in commits that are close together."""
    return (
        f"CREATE SINK {table}_lake FROM {table} WITH (connector = 'iceberg', type = 'upsert',"
        f" primary_key = '{LAKE[table][0]}', catalog.type = 'sql',"
        f" catalog.uri = 'sqlite://{folder}/catalog.db', warehouse.path = '{folder}',"
        f" database.name = 'bank', table.name = '{table}', commit_interval = '100ms',"
        f" create_table_if_not_exists = true, format_version = '{version}')"
    )


def statement(source, target, amount, prepared):
    """A transfer as SQL and parameters: values in its text, or a plan that clients share."""
    text = (
        "UPDATE accounts SET balance = balance + CASE id WHEN {} THEN {} ELSE {} END,"
        " moves = moves + 1 WHERE id IN ({}, {})"
    )
    values = (source, -amount, amount, source, target)
    return (text.format(*["%s"] * 5), values) if prepared else (text.format(*values), None)


def torn(source, target, amount):
    """The same in two statements: what the readers must notice."""
    text = "UPDATE accounts SET balance = balance + %s, moves = moves + 1 WHERE id = %s"
    return (text, (-amount, source)), (text, (amount, target))


def total(states):
    """The sum of states."""
    return tuple(map(sum, zip((0, 0, 0), *states, strict=True)))


def problem_of(states):
    """None if states of one moment are whole and equal, else what is wrong."""
    for accounts, balance, moves in states:
        if accounts != ACCOUNTS:
            return f"{accounts} accounts instead of {ACCOUNTS}"
        if balance != ACCOUNTS * OPENING:
            return f"the sum is {balance} instead of {ACCOUNTS * OPENING}"
        if moves % 2:
            return f"{moves} moves: a transfer has reached one of its accounts only"
    return None if len(set(states)) == 1 else f"not of one moment: {states}"


class Reading:
    """The states that a reader has seen in their order, and the first problem."""

    def __init__(self):
        self.count = 0
        self.moves = set()
        self.least = 0
        self.problem = None

    def see(self, *states):
        """States that are said to be of one moment, at or after the one that was seen before."""
        self.count += 1
        moves = states[0][2]
        problem = problem_of(states)
        if problem is None and moves < self.least:
            problem = f"{moves} moves; {self.least} were acknowledged or seen before"
        if self.problem is None and problem is not None:
            self.problem = f"reading {self.count}: {problem}"
        self.least = max(self.least, moves)
        self.moves.add(moves)

    def outcome(self):
        """None if every state was as it must be, and there were some."""
        if self.problem is None and len(self.moves) < STATES_MIN:
            return f"only {len(self.moves)} different states were seen"
        return self.problem

    def __str__(self):
        return f"{self.count} readings, {len(self.moves)} states"


class Ledger:
    """What the accounts hold by all acknowledged transfers: id -> (balance, moves)."""

    def __init__(self):
        self.lock = threading.Lock()
        self.accounts = {key: (OPENING, 0) for key in range(1, ACCOUNTS + 1)}
        self.moves = 0

    def post(self, *transfer):
        with self.lock:
            self.accounts = posted(self.accounts, [transfer])
            self.moves += 2

    def settle(self, found, in_doubt):
        """Compares with what the table holds; None if it is right, else the difference.

        Each transfer in doubt may be there as a whole or not at all; those found are posted.
        """
        for size in range(len(in_doubt) + 1):
            for chosen in itertools.combinations(in_doubt, size):
                if posted(self.accounts, chosen) == found:
                    self.accounts = found
                    self.moves += 2 * size
                    return None
        wrong = [key for key in self.accounts if self.accounts[key] != found.get(key)]
        shown = [(key, self.accounts[key], found.get(key)) for key in wrong[:4]]
        return f"{len(in_doubt)} in doubt; (account, acknowledged, found): {shown}"


def posted(accounts, transfers):
    """Accounts after transfers."""
    accounts = dict(accounts)
    for source, target, amount in transfers:
        for key, change in ((source, -amount), (target, amount)):
            balance, moves = accounts[key]
            accounts[key] = (balance + change, moves + 1)
    return accounts
