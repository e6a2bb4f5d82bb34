"""Iceberg's own Java library: one JVM per lane reads and checks tables (java/TableServer.java)."""

import atexit
import datetime
import decimal
import functools
import json
import os
import subprocess

CACHE = os.environ.get("FRAZIL_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "frazil"
)


class JavaError(Exception):
    """What the library said."""


class TableServer:
    """A JVM that answers one question after the other; it ends with the lane."""

    def __init__(self):
        jars = os.path.join(CACHE, "iceberg-java")
        # A test JVM must start soon, not run long.
        argv = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]
        argv += ["-cp", f"{jars}/classes:{jars}/*", "TableServer"]
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )
        atexit.register(self.process.kill)

    def ask(self, question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise JavaError(f"the JVM ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise JavaError(answer["error"])
        return answer

    def rows(self, metadata, columns, snapshot=None):
        """Rows of a table in Python's types; of a snapshot's id, or of the current one."""
        question = {"do": "rows", "metadata": metadata, "columns": list(columns)}
        answer = self.ask(question if snapshot is None else {**question, "snapshot": snapshot})
        read = [reader(kind) for kind in answer["types"]]
        return [
            tuple(None if cell is None else of(cell) for of, cell in zip(read, row, strict=True))
            for row in answer["rows"]
        ]

    def check(self, metadata):
        """`(problems, counts)` of a table's metadata and files."""
        answer = self.ask({"do": "check", "metadata": metadata})
        return answer["problems"], answer["counts"]


@functools.cache
def server():
    """The lane's JVM."""
    return TableServer()


def reader(kind):
    """How a cell of an Iceberg type is read."""
    if kind.startswith("decimal"):
        return decimal.Decimal
    if kind.startswith("timestamp") or kind == "date":
        of = datetime.date if kind == "date" else datetime.datetime
        return of.fromisoformat
    return {
        "int": int, "long": int, "boolean": bool, "string": str, "uuid": str,
        "float": float, "double": float, "binary": bytes.fromhex,
        "time": datetime.time.fromisoformat,
    }[kind]
