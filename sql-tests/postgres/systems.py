"""PostgreSQL and the system under test, as answers to single statements, over libpq itself.

An answer has what the server sent: values as text (or bytes), the types' OIDs, or the SQLSTATE.
"""

import os
import threading
import time
from typing import NamedTuple

from psycopg import pq
from psycopg.errors import OperationalError

from harness.frazil import Frazil

STATEMENT_SECONDS = 60  # beyond it the server is taken for hanging, and is killed
CRASH = "crash"


class Answer(NamedTuple):
    """Rows and OIDs, or an SQLSTATE with a message; `crash` for a connection that was lost."""

    rows: tuple = ()
    oids: tuple = ()
    sqlstate: str = ""
    message: str = ""

    @property
    def failed(self):
        return bool(self.sqlstate)


class Refused(Exception):
    """A statement failed; `answer` says how."""

    def __init__(self, answer):
        super().__init__(answer.message)
        self.answer = answer


class Server:
    """A connection that is opened again when it is lost; each statement is a transaction."""

    def __init__(self):
        self.connection = None
        self.prepared = None
        self.statements = 0
        self.seconds = 0.0

    def send(self, call):
        """The answer to one call of libpq."""
        if self.connection is None:
            self.connect()
        began = time.monotonic()
        try:
            result = call(self.connection.pgconn)
        except OperationalError as error:
            return self.lost(str(error))
        finally:
            self.statements += 1
            self.seconds += time.monotonic() - began
        if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            return read(result)
        if self.connection.pgconn.status != pq.ConnStatus.OK:
            return self.lost(self.connection.pgconn.error_message.decode(errors="replace"))
        field = result.error_field
        message = (field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        detail = (field(pq.DiagnosticField.MESSAGE_DETAIL) or b"").decode(errors="replace")
        sqlstate = (field(pq.DiagnosticField.SQLSTATE) or b"").decode() or "?"
        return Answer((), (), sqlstate, f"{message} ({detail})" if detail else message)

    def lost(self, message):
        self.connection = self.prepared = None
        return Answer((), (), CRASH, message.strip().splitlines()[0] if message else "no message")

    def ask(self, sql):
        """The answer to a simple query, which may be an error."""
        return self.send(lambda pgconn: pgconn.exec_(sql.encode()))

    def run(self, sql):
        """The answer to a simple query that must succeed, else Refused."""
        answer = self.ask(sql)
        if answer.failed:
            raise Refused(answer)
        return answer

    def ask_binary(self, sql):
        """The answer to a query, with values in their binary form."""
        self.prepared = None
        return self.send(
            lambda pgconn: pgconn.exec_params(sql.encode(), None, result_format=pq.Format.BINARY)
        )

    def prepare(self, sql, oids):
        """Prepares the unnamed statement, if it is not that of the last time."""
        if self.prepared is None or self.prepared[0] != (sql, oids):
            answer = self.send(lambda pgconn: pgconn.prepare(b"", sql.encode(), oids))
            self.prepared = ((sql, oids), answer)
        return self.prepared[1]

    def with_parameters(self, sql, oids, values, binary):
        """The answer to a query with parameters; values and result as text or binary."""
        answer = self.prepare(sql, oids)
        return answer if answer.failed else self.execute(values, binary)

    def execute(self, values, binary):
        """Runs the unnamed statement, with values and the result as text or binary."""
        formats = [pq.Format.BINARY if binary else pq.Format.TEXT] * len(values)
        result = pq.Format.BINARY if binary else pq.Format.TEXT
        return self.send(lambda pgconn: pgconn.exec_prepared(b"", values, formats, result))


def read(result):
    columns = range(result.nfields)
    rows = tuple(
        tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)
    )
    return Answer(rows, tuple(result.ftype(column) for column in columns))


class Oracle(Server):
    """A database of PostgreSQL."""

    view = "VIEW"

    def __init__(self, postgres, database, settings=()):
        super().__init__()
        self.postgres, self.database = postgres, database
        self.settings = ("statement_timeout = '5s'", *settings)

    def connect(self):
        self.connection = self.postgres.connect(self.database)
        for setting in self.settings:
            self.connection.execute(f"SET {setting}")

    def close(self):
        if self.connection is not None:
            self.connection.close()


class Subject(Server):
    """Frazil. It is started again when it has died, and killed when a statement does not end."""

    view = "MATERIALIZED VIEW"

    def __init__(self, folder, binary, number):
        super().__init__()
        data, log = (os.path.join(folder, f"{name}-{number}") for name in ("data", "frazil.log"))
        self.frazil = Frazil(binary, data, log, workers=2).start()
        self.deadline = None
        self.ended = threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def connect(self):
        if not self.frazil.alive():
            self.frazil.start()
        self.connection = self.frazil.connect(60)

    def send(self, call):
        if self.connection is None:
            self.connect()
        self.deadline = time.monotonic() + STATEMENT_SECONDS
        try:
            return super().send(call)
        finally:
            self.deadline = None

    def lost(self, message):
        answer = super().lost(message)
        for _ in range(20):
            if not self.frazil.alive():
                break
            time.sleep(0.05)
        return answer

    def watch(self):
        while not self.ended.wait(0.5):
            deadline = self.deadline
            if deadline is not None and time.monotonic() > deadline:
                self.deadline = None
                self.frazil.kill()

    def close(self):
        self.ended.set()
        if self.connection is not None:
            self.connection.close()
        self.frazil.stop()
