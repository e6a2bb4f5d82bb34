"""Random queries over three small tables and over the views made so far.

Every query has columns with names of its own and a result that does not depend on row order.
"""

# Table -> columns of small integers, numerics and texts. `k` is the primary key of each.
TABLES = {
    "t1": {"g": "int", "v": "int", "d": "numeric(10,2)", "s": "text", "at": "timestamp"},
    "t2": {"g": "int", "w": "int", "s": "text", "b": "boolean"},
    "t3": {"g": "int", "x": "bigint"},
}


def ddl(table):
    columns = ", ".join(f"{name} {kind}" for name, kind in TABLES[table].items())
    return f"CREATE TABLE {table} (k int PRIMARY KEY, {columns})"


class Queries:
    """Draws queries; `views` are those that later ones may read: name -> integer columns."""

    def __init__(self, random):
        self.random = random
        self.views = {}
        self.shapes = [
            self.projection, self.grouped, self.grouped, self.inner_join, self.left_join,
            self.grouped_join, self.three_tables, self.distinct, self.union_all, self.top,
            self.over_view, self.having, self.total, self.total_join, self.membership, self.nested,
        ]

    def draw(self, number):
        """The text of query `number`, and its name as a view."""
        name = f"v{number}"
        text, integers = self.shapes[number % len(self.shapes)]()
        self.views[name] = integers
        return name, text

    # Pieces.

    def table(self):
        return self.random.choice(list(TABLES))

    def integer(self, table):
        kinds = TABLES[table].items()
        return self.random.choice([c for c, kind in kinds if kind in ("int", "bigint")])

    def predicate(self, table, alias):
        r = self.random
        c = f"{alias}.{self.integer(table)}"
        choices = [
            f"{c} {r.choice(['<', '<=', '>', '>=', '=', '<>'])} {r.randint(-2, 7)}",
            f"{c} IS NULL",
            f"{c} IS NOT NULL",
            f"{c} IN (1, 2, {r.randint(-3, 8)})",
            f"{c} BETWEEN {r.randint(-3, 2)} AND {r.randint(2, 8)}",
            f"NOT ({c} = {r.randint(-2, 7)})",
            f"coalesce({c}, 0) % 2 = 0",
        ]
        if table == "t1":
            choices += [f"{alias}.d > {r.randint(-3, 3)}.5", f"{alias}.s LIKE 'a%'"]
        if table == "t2":
            choices += [f"{alias}.b", f"{alias}.b IS NOT TRUE", f"{alias}.s = 'ab'"]
        return r.choice(choices)

    def where(self, table, alias):
        p = self.predicate
        return self.random.choice([
            "",
            f" WHERE {p(table, alias)}",
            f" WHERE {p(table, alias)} {self.random.choice(['AND', 'OR'])} {p(table, alias)}",
        ])

    def aggregate(self, table, alias):
        c = f"{alias}.{self.integer(table)}"
        choices = ["count(*)", f"count({c})", f"sum({c})", f"min({c})", f"max({c})", f"avg({c})"]
        if table == "t1":
            choices += [f"sum({alias}.d)", f"min({alias}.s)", f"max({alias}.at)"]
        return self.random.choice(choices)

    def constant(self):
        return self.random.choice([
            "true", "false", "1 = 2", "NULL::boolean", "NULL::int BETWEEN -1 AND 3",
            f"{self.random.randint(0, 3)} > 1",
        ])

    # Shapes. Each gives the text and the names of its integer columns.

    def projection(self):
        t = self.table()
        c, e = self.integer(t), self.integer(t)
        return (
            f"SELECT a.k, a.{c} + 1 AS c1, CASE WHEN a.{e} > 2 THEN 'big' ELSE 'small' END AS c2,"
            f" coalesce(a.{e}, -1) * 2 AS c3 FROM {t} a{self.where(t, 'a')}",
            ["k", "c1", "c3"],
        )

    def grouped(self):
        t = self.table()
        c = self.integer(t)
        return (
            f"SELECT a.{c} AS g1, count(*) AS n, {self.aggregate(t, 'a')} AS x1,"
            f" {self.aggregate(t, 'a')} AS x2 FROM {t} a{self.where(t, 'a')} GROUP BY a.{c}",
            ["g1", "n"],
        )

    def having(self):
        t = self.table()
        return (
            f"SELECT a.g % 3 AS g1, count(*) AS n, {self.aggregate(t, 'a')} AS x1 FROM {t} a"
            f"{self.where(t, 'a')} GROUP BY a.g % 3 HAVING count(*) > {self.random.randint(1, 3)}",
            ["g1", "n"],
        )

    def total(self):
        """An aggregate without groups, which has a row over no rows, under a filter."""
        r = self.random
        t, u = self.table(), self.table()
        condition = r.choice([
            "x.f", "NOT x.f", "x.n > 1", "x.m IS NULL", self.constant(),
            f"(SELECT max(b.{self.integer(u)}) FROM {u} b) > {r.randint(-3, 9)}",
        ])
        return (
            f"SELECT x.n, x.m AS m1 FROM (SELECT count(*) AS n, max(a.{self.integer(t)}) AS m,"
            f" {self.constant()} AS f FROM {t} a{self.where(t, 'a')}) x WHERE {condition}",
            ["n", "m1"],
        )

    def total_join(self):
        r = self.random
        t, u = self.table(), self.table()
        extra = r.choice(["", f" AND {self.constant()}", f" AND {self.predicate(u, 'b')}"])
        kind = r.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN"])
        return (
            f"SELECT b.k AS k1, x.n FROM (SELECT count(a.{self.integer(t)}) AS n FROM {t} a"
            f"{self.where(t, 'a')}) x {kind} {u} b ON x.n = b.{self.integer(u)}{extra}",
            ["k1", "n"],
        )

    def membership(self):
        r = self.random
        t, u = self.table(), self.table()
        c = self.integer(t)
        condition = r.choice([
            f"EXISTS (SELECT 1 FROM {u} b WHERE b.g = a.g AND {self.predicate(u, 'b')})",
            f"NOT EXISTS (SELECT 1 FROM {u} b WHERE b.g = a.{c} AND {self.predicate(u, 'b')})",
            f"a.{c} IN (SELECT b.{self.integer(u)} FROM {u} b{self.where(u, 'b')})",
            f"a.{c} > (SELECT avg(b.{self.integer(u)}) FROM {u} b{self.where(u, 'b')})",
        ])
        return f"SELECT a.k AS k1, a.{c} AS c1 FROM {t} a WHERE {condition}", ["k1", "c1"]

    def nested(self):
        (one, _), (two, _) = self.union_all(), self.union_all()
        c = self.random.choice(["k1", "c1"])
        return (
            f"SELECT x.{c} AS g1, count(*) AS n, sum(x.f) AS s FROM (SELECT k1, c1, 1 AS f"
            f" FROM ({one}) p UNION ALL SELECT k1, c1, 2 FROM ({two}) q WHERE {self.constant()}) x"
            f" GROUP BY x.{c}",
            ["g1", "n"],
        )

    def inner_join(self):
        t, u = self.table(), self.table()
        return (
            f"SELECT a.k AS k1, b.k AS k2, a.{self.integer(t)} AS c1, b.{self.integer(u)} AS c2"
            f" FROM {t} a JOIN {u} b ON a.g = b.g{self.where(t, 'a')}",
            ["k1", "k2", "c1", "c2"],
        )

    def left_join(self):
        t, u = self.table(), self.table()
        extra = f" AND {self.predicate(u, 'b')}" if self.random.random() < 0.4 else ""
        return (
            f"SELECT a.k AS k1, b.k AS k2, b.{self.integer(u)} AS c1"
            f" FROM {t} a LEFT JOIN {u} b ON a.g = b.g{extra}{self.where(t, 'a')}",
            ["k1", "k2", "c1"],
        )

    def grouped_join(self):
        t, u = self.table(), self.table()
        kind = self.random.choice(["JOIN", "LEFT JOIN"])
        return (
            f"SELECT a.g AS g1, count(b.k) AS n, {self.aggregate(u, 'b')} AS x1"
            f" FROM {t} a {kind} {u} b ON a.{self.integer(t)} = b.k GROUP BY a.g",
            ["g1", "n"],
        )

    def three_tables(self):
        return (
            "SELECT a.k AS k1, b.k AS k2, c.k AS k3, a.v + c.x AS c1 FROM t1 a"
            " JOIN t2 b ON a.g = b.g LEFT JOIN t3 c ON b.w = c.g"
            f" WHERE {self.predicate('t1', 'a')}",
            ["k1", "k2", "k3"],
        )

    def distinct(self):
        t = self.table()
        return (
            f"SELECT DISTINCT a.g AS g1, a.{self.integer(t)} AS c1 FROM {t} a{self.where(t, 'a')}",
            ["g1", "c1"],
        )

    def union_all(self):
        t, u = self.table(), self.table()
        return (
            f"SELECT a.k AS k1, a.{self.integer(t)} AS c1 FROM {t} a{self.where(t, 'a')}"
            f" UNION ALL SELECT b.g, b.{self.integer(u)} FROM {u} b{self.where(u, 'b')}",
            ["k1", "c1"],
        )

    def top(self):
        t = self.table()
        c, way = self.integer(t), self.random.choice(["DESC", "ASC"])
        skip = f" OFFSET {self.random.randint(1, 3)}" if self.random.random() < 0.4 else ""
        return (
            f"SELECT a.k, a.{c} AS c1 FROM {t} a{self.where(t, 'a')}"
            f" ORDER BY a.{c} {way} NULLS LAST, a.k LIMIT {self.random.randint(1, 8)}{skip}",
            ["k", "c1"],
        )

    def over_view(self):
        """A view on a view: filtered, grouped, or joined with a table."""
        view = self.random.choice(list(self.views))
        c = self.random.choice(self.views[view])
        t = self.table()
        return self.random.choice([
            (f"SELECT * FROM {view} WHERE {c} > {self.random.randint(-2, 3)}", self.views[view]),
            (f"SELECT {c} AS g1, count(*) AS n FROM {view} GROUP BY {c}", ["g1", "n"]),
            (
                f"SELECT a.k AS k1, m.{c} AS c1 FROM {t} a LEFT JOIN {view} m ON a.g = m.{c}",
                ["k1", "c1"],
            ),
        ])
