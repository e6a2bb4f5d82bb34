"""Iceberg tables of a SQL catalog in SQLite, read by PyIceberg, DuckDB and Java."""

import contextlib
import functools
import os
import sqlite3

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg
from pyiceberg.catalog.sql import SqlCatalog

from . import java


def extension_file(package):
    """The extension that a Python package ships, so that DuckDB downloads nothing."""
    for folder, _, names in os.walk(os.path.dirname(package.__file__)):
        for name in names:
            if name.endswith(".duckdb_extension"):
                return os.path.join(folder, name)
    raise FileNotFoundError(f"no .duckdb_extension in {package.__name__}")


@functools.cache
def duck():
    """DuckDB with the extensions it reads Iceberg by; loading them takes longer than a read."""
    connection = duckdb.connect()
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET TimeZone = 'UTC'")
    for package in (duckdb_extension_avro, duckdb_extension_iceberg):
        connection.execute(f"LOAD '{extension_file(package)}'")
    return connection


class Lake:
    """A warehouse folder with its catalog, as other engines read it.

    The catalog's own name is read from its rows, since readers ask for it.
    """

    READERS = ("PyIceberg", "DuckDB", "Java")

    def __init__(self, catalog_path, warehouse_path):
        self.catalog_path = str(catalog_path)
        self.warehouse_path = str(warehouse_path)

    def entries(self):
        """`(catalog, namespace, table, metadata location)` of all tables; none before the first."""
        if not os.path.exists(self.catalog_path):
            return []
        uri = f"file:{self.catalog_path}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as db:
            return db.execute(
                "SELECT catalog_name, table_namespace, table_name, metadata_location"
                " FROM iceberg_tables WHERE metadata_location IS NOT NULL"
            ).fetchall()

    def entry(self, namespace, table):
        for entry in self.entries():
            if entry[1:3] == (namespace, table):
                return entry
        raise LookupError(f"the catalog has no table {namespace}.{table}")

    def load(self, namespace, table):
        """The table as PyIceberg sees it."""
        catalog_name = self.entry(namespace, table)[0]
        catalog = SqlCatalog(
            catalog_name,
            uri=f"sqlite:///{self.catalog_path}",
            warehouse=f"file://{self.warehouse_path}",
            init_catalog_tables="false",
        )
        try:
            return catalog.load_table((namespace, table))
        finally:
            catalog.close()

    def read(self, reader, namespace, table, columns, snapshot=None):
        """Rows of a table, with the columns in the order given, by one of `READERS`.

        `snapshot` is the id of an Iceberg snapshot; None: the current one.
        """
        if reader == "PyIceberg":
            scan = self.load(namespace, table).scan(
                selected_fields=tuple(columns), snapshot_id=snapshot
            )
            arrow = scan.to_arrow().select(list(columns))
        elif reader == "Java":
            return java.server().rows(self.entry(namespace, table)[3], columns, snapshot)
        else:
            location = self.entry(namespace, table)[3].removeprefix("file://")
            names = ", ".join(f'"{c}"' for c in columns)
            at = "" if snapshot is None else f", snapshot_from_id = {snapshot}::UBIGINT"
            query = f"SELECT {names} FROM iceberg_scan('{location}'{at})"
            arrow = duck().execute(query).to_arrow_table()
        lists = [column.to_pylist() for column in arrow.columns]
        return list(zip(*lists, strict=True))

    def check(self, namespace, table):
        """What Java finds wrong in metadata and files, and how much it looked at."""
        return java.server().check(self.entry(namespace, table)[3])

    def snapshots(self, namespace, table):
        """The table's Iceberg snapshots, oldest first."""
        snapshots = self.load(namespace, table).metadata.snapshots
        return sorted(snapshots, key=lambda snapshot: snapshot.sequence_number)
