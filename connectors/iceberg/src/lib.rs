//! Iceberg tables: exactly-once sink and reader.
