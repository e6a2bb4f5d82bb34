"""Threads that work on the accounts: clients that move money, and readers."""

import threading

import bank

READ_PAUSE = 0.02


class Worker(threading.Thread):
    """Takes steps over a connection of its own until it is stopped or loses the engine."""

    def __init__(self, frazil):
        super().__init__(daemon=True)
        self.connection = frazil.connect()
        self.stopped = threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.stopped.is_set():
                self.step()
        except Exception as error:
            self.error = error
        finally:
            self.connection.close()

    def end(self):
        """Waits until the last step is done."""
        self.stopped.set()
        self.join()


class Client(Worker):
    """Moves random amounts. `pending` was sent and is not acknowledged, or is None.

    `statements` makes a transfer to `(text, parameters)` of one statement or more.
    """

    def __init__(self, frazil, ledger, random, statements):
        super().__init__(frazil)
        self.ledger, self.random, self.statements = ledger, random, statements
        self.pending = None

    def step(self):
        source, target = self.random.sample(range(1, bank.ACCOUNTS + 1), 2)
        self.pending = (source, target, self.random.randint(1, 99))
        for text, parameters in self.statements(*self.pending):
            self.connection.execute(text, parameters)
        self.ledger.post(*self.pending)
        self.pending = None


class Reader(Worker):
    """Reads again and again. A state has all transfers acknowledged before the query."""

    def __init__(self, frazil, ledger, query, reading):
        super().__init__(frazil)
        self.ledger, self.query, self.reading = ledger, query, reading
        # What was read and not acknowledged may be gone after a kill.
        reading.least = 0

    def step(self):
        self.reading.least = max(self.reading.least, self.ledger.moves)
        row = [int(value) for value in self.connection.execute(self.query).fetchone()]
        self.reading.see(*(tuple(row[at : at + 3]) for at in range(0, len(row), 3)))
        self.stopped.wait(READ_PAUSE)
