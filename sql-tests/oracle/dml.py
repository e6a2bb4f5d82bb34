"""Random INSERT, UPDATE and DELETE over the tables of `queries`, as text for both systems."""

from queries import TABLES


class Dml:
    """Draws statements; knows which keys are live, so that no insert meets its own key."""

    def __init__(self, random):
        self.random = random
        self.keys = {table: set() for table in TABLES}

    def literal(self, kind):
        r = self.random
        if r.random() < 0.12:
            return "NULL"
        if kind.startswith("numeric"):
            return f"{r.randint(-500, 500) / 100:.2f}"
        return {
            "int": lambda: str(r.randint(-3, 8)),
            "bigint": lambda: str(r.choice([r.randint(-3, 8), 2**33])),
            "text": lambda: r.choice(["'a'", "'b'", "'ab'", "'Zz'", "''", "'x y'", "'é'"]),
            "boolean": lambda: r.choice(["true", "false"]),
            "timestamp": lambda: f"TIMESTAMP '2024-01-0{r.randint(1, 9)} 00:00:01.5'",
        }[kind]()

    def row(self, table, key):
        values = [self.literal(kind) for kind in TABLES[table].values()]
        return f"({key}, {', '.join(values)})"

    def statement(self):
        r = self.random
        table = r.choice(list(TABLES))
        keys = self.keys[table]
        chance = r.random()
        if not keys or chance < 0.45:
            return self.insert(table)
        column = r.choice(list(TABLES[table]))
        value = self.literal(TABLES[table][column])
        if chance < 0.65:
            return f"UPDATE {table} SET {column} = {value} WHERE k = {r.choice(sorted(keys))}"
        if chance < 0.73:
            return f"UPDATE {table} SET {column} = {value} WHERE g = {r.randint(-3, 8)}"
        if chance < 0.78:
            return f"UPDATE {table} SET g = g + 1 WHERE g < {r.randint(-3, 8)}"
        if chance < 0.79:
            keys.clear()
            return f"DELETE FROM {table}"
        gone = set(r.sample(sorted(keys), min(len(keys), r.choice([1, 1, 1, 5]))))
        keys -= gone
        return f"DELETE FROM {table} WHERE k IN ({', '.join(map(str, sorted(gone)))})"

    def insert(self, table):
        free = sorted(set(range(1, 201)) - self.keys[table])
        new = self.random.sample(free, min(len(free), self.random.choice([1, 1, 4])))
        if not new:
            self.keys[table].clear()
            return f"DELETE FROM {table}"
        self.keys[table].update(new)
        rows = ", ".join(self.row(table, key) for key in new)
        names = ", ".join(["k", *TABLES[table]])
        return f"INSERT INTO {table} ({names}) VALUES {rows}"
