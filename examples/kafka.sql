-- The shop of examples/shop.sql, from real Kafka topics that Debezium writes.
--
--   cargo run -- run examples/kafka.sql
--
-- Debezium's JSON converter is understood with and without schemas.enable. Set
-- value.converter.replace.null.with.default=false there, or NULLs in columns with a default arrive
-- as the default. A primary key is all that Frazil needs: REPLICA IDENTITY may stay DEFAULT.
-- Declare times with the precision that they have at the source: docs/0005-debezium.md.

CREATE TABLE customers (
  id BIGINT PRIMARY KEY, name TEXT, email TEXT, city TEXT, updated TIMESTAMPTZ
) WITH (
  connector = 'kafka', topic = 'shop.public.customers',
  properties.bootstrap.server = '127.0.0.1:9092'
) FORMAT DEBEZIUM ENCODE JSON;

CREATE TABLE orders (
  id BIGINT PRIMARY KEY, customer BIGINT, amount NUMERIC(12,2), status TEXT, at TIMESTAMPTZ
) WITH (
  connector = 'kafka', topic = 'shop.public.orders',
  properties.bootstrap.server = '127.0.0.1:9092'
) FORMAT DEBEZIUM ENCODE JSON;

CREATE MATERIALIZED VIEW paid_orders AS
SELECT id, customer, amount, at FROM orders WHERE status = 'paid';

CREATE MATERIALIZED VIEW revenue_by_city AS
SELECT c.city, count(*) AS orders, sum(o.amount) AS revenue
FROM paid_orders o JOIN customers c ON o.customer = c.id
GROUP BY c.city;

CREATE SINK orders_lake FROM orders WITH (
  connector = 'iceberg', type = 'upsert', primary_key = 'id',
  catalog.type = 'sql', catalog.uri = 'sqlite://lake/catalog.db', warehouse.path = 'lake',
  database.name = 'shop', table.name = 'orders', create_table_if_not_exists = true,
  partition_by = 'bucket(4, id)', commit_interval = '5s'
);
