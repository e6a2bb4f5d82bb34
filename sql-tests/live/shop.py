"""The shop: PostgreSQL's tables, Frazil's tables, views and sinks over them, and what each shows.

`orders` travels as bare JSON over four partitions, `customers` with its schema in each message.
"""

ORDERS = {
    "id": "BIGINT",
    "customer": "BIGINT",
    "amount": "NUMERIC(12,2)",
    "status": "TEXT",
    "qty": "INT",
    "paid": "BOOLEAN",
    "ratio": "DOUBLE PRECISION",
    "placed_at": "TIMESTAMP",
    "seen_at": "TIMESTAMPTZ",
    "day": "DATE",
    "note": "TEXT",
}
CUSTOMERS = {"id": "BIGINT", "name": "TEXT", "credit": "NUMERIC(10,2)", "since": "TIMESTAMPTZ"}

REVENUE = """
SELECT customer, count(*) AS orders, sum(amount) AS total, max(qty) AS qty_max
FROM orders WHERE customer IS NOT NULL GROUP BY customer"""
NAMED = """
SELECT o.id, c.name, o.amount, o.status FROM orders o JOIN customers c ON o.customer = c.id"""
UNPAID = """
SELECT c.id, c.name, o.id AS order_id FROM customers c
LEFT JOIN orders o ON o.customer = c.id AND o.paid = false"""

# What a reader of Frazil sees -> the same query on PostgreSQL.
RELATIONS = {
    "orders": "SELECT * FROM orders",
    "customers": "SELECT * FROM customers",
    "revenue": REVENUE,
    "named": NAMED,
    "unpaid": UNPAID,
}

# Iceberg table -> (what it holds, its columns, primary key, format version, partitions).
SINKS = {
    "orders_v3": ("orders", list(ORDERS), "id", 3, "bucket(4, id)"),
    "orders_v2": ("orders", list(ORDERS), "id", 2, None),
    "revenue_v3": ("revenue", ["customer", "orders", "total", "qty_max"], "customer", 3, None),
    "named_v2": ("named", ["id", "name", "amount", "status"], "id", 2, "bucket(4, id)"),
}
# Created while changes flow, so that they begin with a backfill.
LATE = ("unpaid", "named_v2")

# Name of the connector = prefix of its topics -> table and Debezium options.
CONNECTORS = {
    "shop": ("orders", {"key.converter.schemas.enable": "false",
                        "value.converter.schemas.enable": "false"}),
    "crm": ("customers", {"key.converter.schemas.enable": "true",
                          "value.converter.schemas.enable": "true"}),
}
PARTITIONS = {"orders": 4, "customers": 1}


def columns(table):
    return {"orders": ORDERS, "customers": CUSTOMERS}[table]


def topic(table):
    prefix = next(name for name, (of, _) in CONNECTORS.items() if of == table)
    return f"{prefix}.public.{table}"


def column_list(table):
    types = columns(table)
    return ", ".join(f"{c} {t}" + (" PRIMARY KEY" if c == "id" else "") for c, t in types.items())


def postgres_ddl():
    """Tables whose long texts stand outside the row, uncompressed, so that TOAST is at work."""
    for table in ("orders", "customers"):
        yield f"CREATE TABLE {table} ({column_list(table)})"
    yield "ALTER TABLE orders ALTER COLUMN note SET STORAGE EXTERNAL"


def connector_options(name):
    """The options of a connector; NULL in a column with a default stays NULL."""
    table, converter = CONNECTORS[name]
    return {
        "table.include.list": f"public.{table}",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.replace.null.with.default": "false",
        **converter,
    }


def table_ddl(table, bootstrap):
    return (
        f"CREATE TABLE {table} ({column_list(table)}) WITH (connector = 'kafka',"
        f" topic = '{topic(table)}', properties.bootstrap.server = '{bootstrap}')"
        " FORMAT DEBEZIUM ENCODE JSON"
    )


def view_ddl(view):
    return f"CREATE MATERIALIZED VIEW {view} AS {RELATIONS[view].strip()}"


def sink_ddl(name, lake_dir):
    relation, _, key, version, partition = SINKS[name]
    partition_by = f", partition_by = '{partition}'" if partition else ""
    return (
        f"CREATE SINK {name} FROM {relation} WITH (connector = 'iceberg', type = 'upsert',"
        f" primary_key = '{key}', catalog.type = 'sql',"
        f" catalog.uri = 'sqlite://{lake_dir}/catalog.db', warehouse.path = '{lake_dir}',"
        f" database.name = 'shop', table.name = '{name}', commit_interval = '1s',"
        f" create_table_if_not_exists = true, format_version = '{version}'{partition_by})"
    )
