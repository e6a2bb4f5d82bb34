"""Prints the rows of Iceberg tables as PyIceberg and as DuckDB read them.

usage: readers.py <catalog.db> <warehouse> <namespace.table>...

One line a reader and table: JSON {"reader", "table", "rows"}; a row is a list of texts or null, in
the order of the key (the first column). A reader that fails gives {"reader", "table", "error"}.
"""

import datetime
import decimal
import json
import sys

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg
from pyiceberg.catalog.sql import SqlCatalog


def text(value):
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return str((value - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1))
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, (int, str, decimal.Decimal, datetime.date)):
        return str(value)
    raise TypeError(type(value))


def connect():
    duck = duckdb.connect()
    for package, name in ((duckdb_extension_avro, "avro"), (duckdb_extension_iceberg, "iceberg")):
        load(duck, package, name)
    return duck


def load(duck, package, name):
    import glob
    import os

    folder = os.path.dirname(package.__file__)
    found = glob.glob(os.path.join(folder, "**", f"{name}.duckdb_extension"), recursive=True)
    if not found:
        raise RuntimeError(f"no DuckDB extension {name} in {folder}")
    duck.execute(f"LOAD '{found[0]}'")


def pyiceberg_rows(catalog, table):
    found = catalog.load_table(table).scan().to_arrow().to_pylist()
    return [[text(value) for value in row.values()] for row in found]


def duckdb_rows(duck, location):
    query = f"SELECT * REPLACE (epoch_us(\"at\") AS \"at\") FROM iceberg_scan('{location}')"
    return [[text(value) for value in row] for row in duck.execute(query).fetchall()]


def main():
    database, warehouse, *tables = sys.argv[1:]
    catalog = SqlCatalog("frazil", uri=f"sqlite:///{database}", warehouse=warehouse)
    duck = connect()
    for table in tables:
        location = catalog.load_table(table).metadata_location
        readers = {
            "pyiceberg": lambda: pyiceberg_rows(catalog, table),
            "duckdb": lambda: duckdb_rows(duck, location),
        }
        for reader, rows in readers.items():
            line = {"reader": reader, "table": table}
            try:
                line["rows"] = sorted(rows(), key=lambda row: int(row[0]))
            except Exception as error:  # reported, and the test fails on it
                line["error"] = f"{type(error).__name__}: {error}"
            print(json.dumps(line))


main()
