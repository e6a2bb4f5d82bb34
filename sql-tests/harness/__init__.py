"""What the lanes with real processes share.

    process    a child process, a free port, a wait with a limit
    postgres   a PostgreSQL cluster of the test's own
    kafka      a Kafka broker, and Kafka Connect with Debezium
    frazil     the binary under test
    lake       Iceberg tables, read by PyIceberg and by DuckDB
    rows       rows in one spelling, compared as multisets
    score      the count of claims that held, and the closing line

Invariant: every process started here is ended by the lane that started it, also on failure.
Not here: what a lane claims; that stands in live/, faults/ and oracle/.
"""
