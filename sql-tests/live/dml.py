"""Random transactions on PostgreSQL, from one seed."""

import collections
import datetime
import decimal
import random
import string
import threading
import time

UTC = datetime.timezone.utc
EPOCH = datetime.datetime(2024, 1, 1, tzinfo=UTC)
ORDER_COLUMNS = (
    "id, customer, amount, status, qty, paid, ratio, placed_at, seen_at, day, note".split(", ")
)


class Traffic(threading.Thread):
    """Writes transactions until told to stop; `counts` says what it did.

    `ids` is the set of live orders, so that updates and deletes hit rows.
    """

    def __init__(self, connection, seed, statements_per_second):
        super().__init__(daemon=True)
        self.connection = connection
        self.random = random.Random(seed)
        self.pause = 1.0 / statements_per_second
        self.counts = collections.Counter()
        self.ids = []
        self.next_id = 1
        self.customers = []
        self.stopped = threading.Event()
        self.error = None

    def fill(self, orders, customers):
        """The rows that are there before the connectors are: Debezium's snapshot."""
        with self.connection.transaction():
            for _ in range(customers):
                self.insert_customer()
            for _ in range(orders):
                self.insert_order()

    def run(self):
        try:
            due = time.monotonic()
            while not self.stopped.is_set():
                statements = self.random.randint(1, 6)
                with self.connection.transaction():
                    for _ in range(statements):
                        self.statement()
                due = max(due + statements * self.pause, time.monotonic() - 1.0)
                self.stopped.wait(max(0.0, due - time.monotonic()))
        except Exception as error:
            self.error = error

    def finish(self):
        self.stopped.set()
        self.join()
        if self.error:
            raise self.error

    def statement(self):
        actions = {
            self.insert_order: 34,
            self.update_order: 30,
            self.update_note: 6,
            self.move_order: 6,
            self.delete_order: 14,
            self.bring_back: 4,
            self.update_customer: 4,
            self.insert_customer: 1,
            self.delete_customer: 1,
        }
        action = self.random.choices(list(actions), list(actions.values()))[0]
        if action() is not False:
            self.counts[action.__name__] += 1

    # Values: NULLs, negative and long numerics, microseconds, days before 1970, long texts.

    def maybe(self, value):
        return None if self.random.random() < 0.1 else value

    def cents(self, digits):
        return decimal.Decimal(self.random.randint(-(10**digits) + 1, 10**digits - 1)) / 100

    def moment(self):
        return EPOCH + datetime.timedelta(microseconds=self.random.randint(-(10**15), 10**14))

    def note(self):
        kind = self.random.random()
        if kind < 0.4:
            return "".join(self.random.choices(string.ascii_letters, k=9000))
        if kind < 0.5:
            return self.random.choice(["", "NULL", "it's", 'say "hi"', "naïve ☃", "tab\tnew\nline"])
        return self.maybe(f"note {self.random.random()}")

    def column(self, name):
        r = self.random
        return {
            "customer": lambda: self.maybe(r.randint(1, 60)),
            "amount": lambda: self.maybe(self.cents(r.choice([4, 6, 12]))),
            "status": lambda: self.maybe(r.choice(["new", "paid", "sent", "back"])),
            "qty": lambda: self.maybe(r.choice([r.randint(-9, 99), 2**31 - 1, -(2**31)])),
            "paid": lambda: self.maybe(r.random() < 0.5),
            "ratio": lambda: self.maybe(r.choice([0.1, -1.5e300, 1e-7, r.random()])),
            "placed_at": lambda: self.maybe(self.moment().replace(tzinfo=None)),
            "seen_at": lambda: self.maybe(self.moment()),
            "day": lambda: self.maybe(self.moment().date()),
            "note": self.note,
        }[name]()

    # Statements. False: there was nothing to do it to.

    def pick(self):
        return self.random.randrange(len(self.ids)) if self.ids else None

    def take(self):
        """Removes a random live id and returns it."""
        at = self.pick()
        if at is None:
            return None
        self.ids[at], self.ids[-1] = self.ids[-1], self.ids[at]
        return self.ids.pop()

    def insert_order(self, key=None):
        if key is None:
            key, self.next_id = self.next_id, self.next_id + 1
        values = [key] + [self.column(c) for c in ORDER_COLUMNS[1:]]
        marks = ", ".join(["%s"] * len(values))
        self.connection.execute(f"INSERT INTO orders VALUES ({marks})", values)
        self.ids.append(key)

    def update_order(self):
        """Leaves the long text alone: Debezium sends its placeholder instead."""
        at = self.pick()
        if at is None:
            return False
        names = self.random.sample(ORDER_COLUMNS[1:-1], self.random.randint(1, 4))
        sets = ", ".join(f"{n} = %s" for n in names)
        values = [self.column(n) for n in names]
        self.connection.execute(f"UPDATE orders SET {sets} WHERE id = %s", [*values, self.ids[at]])

    def update_note(self):
        at = self.pick()
        if at is None:
            return False
        query = "UPDATE orders SET note = %s WHERE id = %s"
        self.connection.execute(query, [self.note(), self.ids[at]])

    def move_order(self):
        """A new primary key. The note is new too: an unchanged one would come as a placeholder
        under a key that no reader has seen, which PostgreSQL's log cannot repair."""
        old = self.take()
        if old is None:
            return False
        new, self.next_id = self.next_id, self.next_id + 1
        query = "UPDATE orders SET id = %s, note = %s WHERE id = %s"
        self.connection.execute(query, [new, self.note(), old])
        self.ids.append(new)

    def delete_order(self):
        old = self.take()
        if old is None:
            return False
        self.connection.execute("DELETE FROM orders WHERE id = %s", [old])

    def bring_back(self):
        """Deletes a row and inserts its key anew, in one transaction."""
        old = self.take()
        if old is None:
            return False
        self.connection.execute("DELETE FROM orders WHERE id = %s", [old])
        self.insert_order(old)

    def insert_customer(self):
        free = [c for c in range(1, 61) if c not in self.customers]
        if not free:
            return False
        key = self.random.choice(free)
        values = [key, self.maybe(f"customer {key}"), self.maybe(self.cents(10)), self.moment()]
        self.connection.execute("INSERT INTO customers VALUES (%s, %s, %s, %s)", values)
        self.customers.append(key)

    def update_customer(self):
        if not self.customers:
            return False
        key = self.random.choice(self.customers)
        query = "UPDATE customers SET name = %s, credit = %s WHERE id = %s"
        name = self.maybe(f"renamed {self.random.randint(1, 999)}")
        self.connection.execute(query, [name, self.maybe(self.cents(10)), key])

    def delete_customer(self):
        if len(self.customers) < 20:
            return False
        key = self.customers.pop(self.random.randrange(len(self.customers)))
        self.connection.execute("DELETE FROM customers WHERE id = %s", [key])
