-- A shop's database as its change stream, embedded: no server needed.
--
--   cargo run -- run examples/shop.sql
--
-- The generator emits what Debezium would: snapshot rows, inserts, updates, deletes with their
-- tombstones, and changes of primary keys. Point the tables at Kafka instead and nothing else
-- changes: see examples/kafka.sql.

CREATE TABLE customers (
  id BIGINT PRIMARY KEY, name TEXT, email TEXT, city TEXT, updated TIMESTAMPTZ
) WITH (connector = 'generator', dataset = 'shop', table = 'customers', rows = 60000, seed = 7)
FORMAT DEBEZIUM ENCODE JSON (decimal.handling.mode = 'string');

CREATE TABLE products (
  id BIGINT PRIMARY KEY, name TEXT, category TEXT, price NUMERIC(12,2)
) WITH (connector = 'generator', dataset = 'shop', table = 'products', rows = 6000, seed = 7)
FORMAT DEBEZIUM ENCODE JSON (decimal.handling.mode = 'string');

CREATE TABLE orders (
  id BIGINT PRIMARY KEY, customer BIGINT, amount NUMERIC(12,2), status TEXT, at TIMESTAMPTZ
) WITH (connector = 'generator', dataset = 'shop', table = 'orders', rows = 600000, seed = 7)
FORMAT DEBEZIUM ENCODE JSON (decimal.handling.mode = 'string');

CREATE TABLE order_lines (
  id BIGINT PRIMARY KEY, order_id BIGINT, product_id BIGINT, quantity INT, price NUMERIC(12,2)
) WITH (connector = 'generator', dataset = 'shop', table = 'order_lines', rows = 1200000, seed = 7)
FORMAT DEBEZIUM ENCODE JSON (decimal.handling.mode = 'string');

-- A filter.
CREATE MATERIALIZED VIEW paid_orders AS
SELECT id, customer, amount, at FROM orders WHERE status = 'paid';

-- A join and an aggregate, over a view and a table.
CREATE MATERIALIZED VIEW revenue_by_city AS
SELECT c.city, count(*) AS orders, sum(o.amount) AS revenue
FROM paid_orders o JOIN customers c ON o.customer = c.id
GROUP BY c.city;

-- What sells best, kept up to date.
CREATE MATERIALIZED VIEW top_products AS
SELECT p.id, p.name, sum(l.quantity) AS sold
FROM order_lines l JOIN products p ON l.product_id = p.id
GROUP BY p.id, p.name
ORDER BY sold DESC, p.id
LIMIT 10;

-- Two Iceberg tables in ./lake: one snapshot a second at most, no equality deletes.
CREATE SINK orders_lake FROM orders WITH (
  connector = 'iceberg', type = 'upsert', primary_key = 'id',
  catalog.type = 'sql', catalog.uri = 'sqlite://lake/catalog.db', warehouse.path = 'lake',
  database.name = 'shop', table.name = 'orders', create_table_if_not_exists = true,
  commit_interval = '1s'
);

CREATE SINK revenue_lake FROM revenue_by_city WITH (
  connector = 'iceberg', type = 'upsert', primary_key = 'city',
  catalog.type = 'sql', catalog.uri = 'sqlite://lake/catalog.db', warehouse.path = 'lake',
  database.name = 'shop', table.name = 'revenue_by_city', create_table_if_not_exists = true,
  commit_interval = '1s'
);
