"""A small consumer: replays a topic of Debezium messages into a table.

It shares nothing with the engine's decoder. It proves that the topics hold what PostgreSQL holds,
and that they hold the cases the lane means to try.
"""

import base64
import collections
import datetime
import decimal
import json

from confluent_kafka import Consumer, TopicPartition

import shop

PLACEHOLDER = "__debezium_unavailable_value"
EPOCH = datetime.datetime(1970, 1, 1)


def decode(sql_type, value):
    """One value of Debezium's default JSON as Python's type for the column."""
    if value is None:
        return None
    if sql_type.startswith("NUMERIC"):
        unscaled = int.from_bytes(base64.b64decode(value), "big", signed=True)
        return decimal.Decimal(unscaled).scaleb(-2)
    if sql_type == "TIMESTAMP":
        return EPOCH + datetime.timedelta(microseconds=value)
    if sql_type == "TIMESTAMPTZ":
        return datetime.datetime.fromisoformat(value)
    if sql_type == "DATE":
        return (EPOCH + datetime.timedelta(days=value)).date()
    return value


class Replay:
    """The table that a topic's messages give, as far as they were read."""

    def __init__(self, bootstrap, table):
        self.table = table
        self.types = shop.columns(table)
        self.rows = {}
        self.seen = collections.Counter()
        self.consumer = Consumer({
            "bootstrap.servers": bootstrap,
            "group.id": f"replay-{table}",
            "enable.auto.commit": False,
        })
        partitions = range(shop.PARTITIONS[table])
        self.consumer.assign([TopicPartition(shop.topic(table), p, 0) for p in partitions])

    def read(self):
        """Takes what has arrived."""
        while messages := self.consumer.consume(5000, timeout=1.0):
            for message in messages:
                if message.error():
                    raise RuntimeError(message.error())
                self.apply(message.key(), message.value())

    def apply(self, key, value):
        if value is None:
            self.seen["tombstone"] += 1
            return
        key, value = json.loads(key), json.loads(value)
        if set(value) == {"schema", "payload"}:
            self.seen["with schema"] += 1
            key, value = key["payload"], value["payload"]
        self.seen[f"op {value['op']}"] += 1
        if value["op"] == "d":
            self.rows.pop(key["id"], None)
            return
        old = self.rows.get(key["id"])
        row = []
        for position, (name, sql_type) in enumerate(self.types.items()):
            if value["after"][name] == PLACEHOLDER:
                self.seen["unchanged TOAST"] += 1
                row.append(old[position])
            else:
                self.seen["NULL"] += value["after"][name] is None
                row.append(decode(sql_type, value["after"][name]))
        self.rows[key["id"]] = tuple(row)

    def close(self):
        self.consumer.close()
