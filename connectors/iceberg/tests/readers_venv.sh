#!/bin/sh
# Makes the Python environment of the readers test, outside the tree, and prints its Python.
# Takes nothing but PyPI; does nothing if the environment is there.
set -eu
venv="${FRAZIL_READERS_VENV:-$HOME/.cache/frazil/venv}"
if ! "$venv/bin/python" -c 'import duckdb, pyiceberg, pyarrow, sqlalchemy, duckdb_extension_iceberg, duckdb_extension_avro' 2>/dev/null; then
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install -q 'pyiceberg[sql-sqlite,pyarrow]' duckdb \
        duckdb-extension-iceberg duckdb-extension-avro >&2
fi
echo "$venv/bin/python"
