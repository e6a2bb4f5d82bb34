"""The input of a point, written while the engine reads it, and the truth that follows from it.

    items.jsonl   Debezium envelopes: a table with inserts, updates and deletes by key
    clicks.jsonl  plain rows, appended only: whatever is read twice shows up as a wrong count;
                  read by a source, and by a table over which a view is made while rows come

Invariant: the model is advanced with each line before the line is written, so that it always holds
at least what the engine can have read.
"""

import collections
import json
import os

ITEMS = ("id", "grp", "amount", "label")
CLICKS = ("id", "who", "points")

DDL = {
    "items": "CREATE TABLE IF NOT EXISTS items (id BIGINT PRIMARY KEY, grp BIGINT, amount INT,"
    " label TEXT) WITH (connector = 'files', path = '{folder}/items.jsonl', follow = 'true')"
    " FORMAT DEBEZIUM ENCODE JSON",
    "clicks": "CREATE SOURCE IF NOT EXISTS clicks (id BIGINT, who BIGINT, points INT)"
    " WITH (connector = 'files', path = '{folder}/clicks.jsonl', follow = 'true')"
    " FORMAT PLAIN ENCODE JSON",
    "totals": "CREATE MATERIALIZED VIEW IF NOT EXISTS totals AS SELECT grp, count(*) AS items,"
    " sum(amount) AS total, max(label) AS last_label FROM items GROUP BY grp",
    "log": "CREATE TABLE IF NOT EXISTS log (id BIGINT, who BIGINT, points INT)"
    " WITH (connector = 'files', path = '{folder}/clicks.jsonl', follow = 'true')"
    " FORMAT PLAIN ENCODE JSON",
    "tallies": "CREATE MATERIALIZED VIEW IF NOT EXISTS tallies AS SELECT who, count(*) AS clicks,"
    " sum(points) AS points FROM log GROUP BY who",
    "meetings": "CREATE MATERIALIZED VIEW IF NOT EXISTS meetings AS SELECT a.id, b.id AS item"
    " FROM log a JOIN items b ON a.id = b.id",
    "scores": "CREATE MATERIALIZED VIEW IF NOT EXISTS scores AS SELECT who, count(*) AS clicks,"
    " sum(points) AS points FROM clicks GROUP BY who",
}


class Workload:
    """Random changes in chunks, and the rows that every relation must show."""

    def __init__(self, folder, random):
        self.folder = folder
        self.random = random
        self.items = {}
        self.clicks = []
        self.keys = random.choice([20, 200, 2000])
        self.files = {
            name: open(os.path.join(folder, f"{name}.jsonl"), "ab", buffering=0)
            for name in ("items", "clicks")
        }

    def close(self):
        for file in self.files.values():
            file.close()

    def ddl(self):
        return [statement.format(folder=self.folder) for statement in DDL.values()]

    def write_chunk(self):
        """Appends some lines to both files, sometimes with a pause in the middle of a line."""
        items = [self.change() for _ in range(self.random.choice([1, 5, 40]))]
        # A checkpoint of many rows has objects of its own.
        count = 8000 if self.random.random() < 0.04 else self.random.choice([0, 1, 20])
        clicks = [self.click() for _ in range(count)]
        for name, lines in (("items", items), ("clicks", clicks)):
            data = "".join(json.dumps(line) + "\n" for line in lines).encode()
            cut = self.random.randrange(len(data)) if data and self.random.random() < 0.3 else 0
            self.files[name].write(data[:cut])
            self.files[name].write(data[cut:])

    def change(self):
        """An insert or update of a key, or its delete; deleted keys come back later."""
        key = self.random.randrange(self.keys)
        if key in self.items and self.random.random() < 0.35:
            before = dict(zip(ITEMS, self.items.pop(key), strict=True))
            return {"before": before, "after": None, "op": "d", "ts_ms": 0}
        r = self.random
        known = key in self.items
        amount = None if r.random() < 0.1 else r.randint(-1000, 1000)
        label = None if r.random() < 0.1 else f"label-{r.randint(0, 99)}"
        self.items[key] = (key, r.randrange(7), amount, label)
        after = dict(zip(ITEMS, self.items[key], strict=True))
        return {"before": None, "after": after, "op": "u" if known else "c", "ts_ms": 0}

    def click(self):
        row = (len(self.clicks), self.random.randrange(9), self.random.randint(0, 50))
        self.clicks.append(row)
        return dict(zip(CLICKS, row, strict=True))

    def truth(self):
        """Relation -> (columns, rows)."""
        return {
            "items": (ITEMS, list(self.items.values())),
            "clicks": (CLICKS, list(self.clicks)),
            "totals": (("grp", "items", "total", "last_label"), list(self.totals())),
            "scores": (("who", "clicks", "points"), list(self.scores())),
            "log": (CLICKS, list(self.clicks)),
            "tallies": (("who", "clicks", "points"), list(self.scores())),
            "meetings": (("id", "item"), [(k, k) for k in self.items if k < len(self.clicks)]),
        }

    def totals(self):
        by_group = collections.defaultdict(list)
        for _, group, amount, label in self.items.values():
            by_group[group].append((amount, label))
        for group, rows in by_group.items():
            amounts = [a for a, _ in rows if a is not None]
            labels = [x for _, x in rows if x is not None]
            total = sum(amounts) if amounts else None
            yield group, len(rows), total, max(labels, default=None)

    def scores(self):
        by_who = collections.defaultdict(list)
        for _, who, points in self.clicks:
            by_who[who].append(points)
        for who, points in by_who.items():
            yield who, len(points), sum(points)
