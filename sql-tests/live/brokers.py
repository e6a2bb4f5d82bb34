"""What a real broker does that librdkafka's mock cannot, each a check of its own.

    brokers.py [--bin PATH] [--only NAME] [--keep]

A topic that is created again, partitions that are added, a start at the end, an aborted transaction,
the offsets of the group, timestamps and headers of messages, a partition without a leader.
"""

import json
import time

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions
from harness import checks
from harness.frazil import Frazil
from harness.kafka import Kafka
from harness.process import wait_for


def event(key, value):
    return json.dumps({"before": None, "after": {"id": key, "v": value}, "op": "c"})


class Lane:
    """A broker, an engine with two workers, and a topic for each check."""

    def __init__(self, folder, binary):
        self.folder = folder
        self.kafka = Kafka(folder)
        self.producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "linger.ms": 0})
        self.frazil = Frazil(
            binary, f"{folder}/data", f"{folder}/frazil.log",
            config={"checkpoint_interval_ms": 50}, workers=2,
        )
        self.frazil.start()

    def send(self, topic, messages, partition=0, producer=None):
        producer = producer or self.producer
        for key, value in messages:
            producer.produce(
                topic, key=json.dumps({"id": key}), value=event(key, value), partition=partition
            )
        producer.flush(30)

    def create(self, table, topic, more=""):
        self.sql(
            f"CREATE TABLE {table} (id BIGINT PRIMARY KEY, v TEXT) WITH (connector = 'kafka', "
            f"topic = '{topic}', properties.bootstrap.server = '{self.kafka.bootstrap}'{more}) "
            "FORMAT DEBEZIUM ENCODE JSON"
        )

    def sql(self, text):
        with self.frazil.connect() as connection:
            connection.execute(text)

    def flush(self):
        """What FLUSH says."""
        notices = []
        with self.frazil.connect() as connection:
            connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            connection.execute("FLUSH")
        return notices

    def rows(self, table):
        return dict(self.frazil.rows(f"SELECT id, v FROM {table}"))

    def job(self, table):
        """State and error of a job."""
        with self.frazil.connect() as connection:
            found = connection.execute("SHOW JOBS")
            names = [column.name for column in found.description]
            jobs = [dict(zip(names, row)) for row in found.fetchall()]
        return next(job for job in jobs if job["name"] == table)

    def crash(self):
        self.frazil.kill()
        self.frazil.start()
        self.frazil.connect().close()

    def stop(self):
        self.frazil.kill()
        self.kafka.stop()


def created_again(lane):
    """The table fails, and says so, instead of reading the new topic from the middle."""
    lane.kafka.create_topic("again", 1)
    lane.send("again", [(n, "old") for n in range(5)])
    lane.create("again", "again")
    wait_for("5 rows", lambda: len(lane.rows("again")) == 5, 30)
    lane.sql("FLUSH")
    lane.frazil.kill()
    for future in lane.kafka.admin.delete_topics(["again"]).values():
        future.result(30)
    wait_for(
        "deletion", lambda: "again" not in lane.kafka.admin.list_topics(timeout=5).topics, 30
    )
    wait_for("creation", lambda: lane.kafka.create_topic("again", 1) is None, 30)
    lane.send("again", [(n, "new") for n in range(100, 120)])
    lane.frazil.start()
    lane.frazil.connect().close()
    job = wait_for(
        "failure", lambda: (j := lane.job("again"))["state"].lower() == "failed" and j, 30
    )
    assert "was deleted and created again" in str(job), job
    lane.sql("DROP TABLE again")
    lane.create("again", "again")
    wait_for("20 rows", lambda: sorted(lane.rows("again")) == list(range(100, 120)), 30)


def partitions_added(lane):
    """New partitions are found, and every message of them is read."""
    lane.kafka.create_topic("grows", 1)
    lane.send("grows", [(n, "a") for n in range(50)])
    lane.create("grows", "grows")
    wait_for("50 rows", lambda: len(lane.rows("grows")) == 50, 30)
    for future in lane.kafka.admin.create_partitions([NewPartitions("grows", 4)]).values():
        future.result(30)
    # One that does not know the topic as it was.
    producer = Producer({"bootstrap.servers": lane.kafka.bootstrap})
    for partition in range(1, 4):
        messages = [(100 * partition + n, "b") for n in range(50)]
        lane.send("grows", messages, partition, producer)
    wait_for("200 rows", lambda: len(lane.rows("grows")) == 200, 40)
    lane.crash()
    lane.send("grows", [(999, "c")], 2, producer)
    wait_for("201 rows", lambda: len(lane.rows("grows")) == 201, 30)


def keys_that_move(lane):
    """Keys go from an old partition with a backlog to new ones: their newest messages win."""
    lane.kafka.create_topic("moves", 1)
    lane.send("moves", [(0, "a")])
    lane.create("moves", "moves")
    wait_for("a row", lambda: lane.rows("moves") == {0: "a"}, 30)
    lane.sql("FLUSH")
    lane.frazil.kill()
    lane.send("moves", [(n % 4, "old") for n in range(60_000)])
    for future in lane.kafka.admin.create_partitions([NewPartitions("moves", 4)]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": lane.kafka.bootstrap})
    for partition in range(1, 4):
        lane.send("moves", [(partition, "new")], partition, producer)
    lane.frazil.start()
    lane.sql("FLUSH")
    assert lane.rows("moves") == {0: "old", 1: "new", 2: "new", 3: "new"}, lane.rows("moves")


def begins_at_the_end(lane):
    """`latest` is decided when CREATE answers: a crash right after it loses nothing."""
    lane.kafka.create_topic("late", 3)
    lane.send("late", [(n, "old") for n in range(9)])
    more = ", scan.startup.mode = 'latest'"
    lane.create("late", "late", more)
    lane.frazil.kill()
    for partition in range(3):
        lane.send("late", [(100 + partition, "new")], partition)
    lane.frazil.start()
    lane.frazil.connect().close()
    wait_for("3 rows", lambda: sorted(lane.rows("late")) == [100, 101, 102], 30)


def aborted(lane):
    """Messages of an aborted transaction are not read."""
    lane.kafka.create_topic("tx", 1)
    producer = Producer({"bootstrap.servers": lane.kafka.bootstrap, "transactional.id": "t"})
    producer.init_transactions(30)
    lane.create("tx", "tx")
    for number, ends in enumerate([True, False, True, False]):
        producer.begin_transaction()
        lane.send("tx", [(number, "x")], producer=producer)
        (producer.commit_transaction if ends else producer.abort_transaction)(30)
    wait_for("2 rows", lambda: sorted(lane.rows("tx")) == [0, 2], 30)
    lane.sql("FLUSH")
    assert sorted(lane.rows("tx")) == [0, 2]


def lag(lane):
    """The group's offsets, which tools show lag by, follow the checkpoints."""
    lane.kafka.create_topic("lagging", 2)
    lane.create("lagging", "lagging")
    asked = [ConsumerGroupTopicPartitions("frazil-lagging", [TopicPartition("lagging", 1)])]

    def offset():
        group = next(iter(lane.kafka.admin.list_consumer_group_offsets(asked).values()))
        return group.result(10).topic_partitions[0].offset

    lane.send("lagging", [(n, "x") for n in range(30)], 1)
    wait_for("30 rows", lambda: len(lane.rows("lagging")) == 30, 30)
    wait_for("the group's offset", lambda: offset() == 30, 30)
    lane.crash()
    lane.send("lagging", [(n, "x") for n in range(30, 40)], 1)
    wait_for("the group's offset after a crash", lambda: offset() == 40, 30)
    assert len(lane.rows("lagging")) == 40


def included(lane):
    """What Kafka tells of a message besides its value: INCLUDE."""
    lane.kafka.create_topic("told", 2)
    for key in (1, 2):
        lane.producer.produce(
            "told", key=json.dumps({"id": key}), value=event(key, "x"), partition=1,
            timestamp=1_700_000_000_123, headers=[("trace", b"old"), ("trace", b"new")],
        )
    lane.producer.flush(30)
    lane.sql(
        "CREATE TABLE told (id BIGINT PRIMARY KEY, v TEXT) INCLUDE timestamp AS sent INCLUDE partition "
        "AS part INCLUDE offset AS at INCLUDE key AS k INCLUDE header 'trace' AS trace WITH (connector "
        f"= 'kafka', topic = 'told', properties.bootstrap.server = '{lane.kafka.bootstrap}') "
        "FORMAT DEBEZIUM ENCODE JSON"
    )
    query = "SELECT sent::text, part, at, k, trace FROM told WHERE id = 2"
    row = wait_for("the row", lambda: lane.frazil.rows(query), 30)[0]
    assert row[0].startswith("2023-11-14 22:13:20.123"), row
    assert row[1:] == (1, 1, b'{"id": 2}', "new"), row


def begin_halved(lane, table):
    """A table over a topic whose partition 1 is at broker 2; 10 rows of each partition are read."""
    lane.kafka.start_second()
    lane.kafka.create_topic_at(table, [1, 2, 1])
    wait_for("leaders", lambda: lane.kafka.leaders(table) == [1, 2, 1], 30)
    send_to_all(lane, table, 0)
    lane.create(table, table)
    wait_for("30 rows", lambda: len(lane.rows(table)) == 30, 30)
    lane.sql("FLUSH")


def send_to_all(lane, topic, begin):
    for partition in range(3):
        lane.send(topic, [(1000 * partition + n, "x") for n in range(begin, begin + 10)], partition)


def lose_leader(lane, topic):
    lane.kafka.second.kill()
    wait_for("the end of broker 2", lambda: lane.kafka.leaders(topic) == [1, -1, 1], 30)


def names_partition(lane, table):
    """SHOW JOBS names the partition; FLUSH says that the table is not flushed."""
    def named():
        job = lane.job(table)
        return "has partitions without a leader: 1; they" in (job["error"] or "") and job

    job = wait_for("the partition's name", named, 30)
    assert job["state"] == "retrying", job
    notices = lane.flush()
    assert any(f'not flushed: "{table}"' in notice for notice in notices), notices


def others_go_on(lane, table, key, seconds):
    """Messages of the other partitions are read, without a pause of the reader."""
    # One that does not wait for the broker that is gone.
    producer = Producer({"bootstrap.servers": lane.kafka.bootstrap, "linger.ms": 0})
    lane.send(table, [(key, "y")], 0, producer)
    lane.send(table, [(2000 + key, "y")], 2, producer)
    wait_for("rows of the others", lambda: {key, 2000 + key} <= lane.rows(table).keys(), seconds)


def bring_leader_back(lane, table, keys):
    """Nothing is lost, and there is nothing to tell any more."""
    lane.kafka.start_second()
    wait_for("the leader", lambda: lane.kafka.leaders(table) == [1, 2, 1], 30)
    producer = Producer({"bootstrap.servers": lane.kafka.bootstrap, "linger.ms": 0})
    lane.send(table, [(1999, "z")], 1, producer)
    wait_for("every row", lambda: lane.rows(table).keys() == {*keys, 1999}, 60)
    wait_for("a sound job", lambda: (j := lane.job(table))["state"] == "running" and j, 30)
    assert lane.job(table)["error"] is None
    # Tables of earlier checks have lost their leader as well.
    wait_for("a FLUSH of all tables", lambda: lane.flush() == [], 30)


def offline(lane):
    """A partition loses its leader: it is named, the others go on, also after a crash."""
    begin_halved(lane, "halved")
    lose_leader(lane, "halved")
    names_partition(lane, "halved")
    # Longer than the reader waits before it looks into the silence.
    time.sleep(12)
    others_go_on(lane, "halved", 500, 5)
    lane.crash()
    others_go_on(lane, "halved", 501, 30)
    read = [1000 * partition + n for partition in range(3) for n in range(10)]
    bring_leader_back(lane, "halved", [*read, 500, 501, 2500, 2501])


def offline_at_start(lane):
    """A partition has no leader at a restart, and has messages that were never read."""
    begin_halved(lane, "unread")
    lane.frazil.kill()
    send_to_all(lane, "unread", 10)
    lose_leader(lane, "unread")
    lane.frazil.start()
    lane.frazil.connect().close()
    wait_for("50 rows", lambda: len(lane.rows("unread")) == 50, 30)
    names_partition(lane, "unread")
    assert len(lane.rows("unread")) == 50
    read = [1000 * partition + n for partition in range(3) for n in range(20)]
    bring_leader_back(lane, "unread", read)


def offline_at_create(lane):
    """A table that is created while a partition has no leader reads the others."""
    lane.kafka.start_second()
    lane.kafka.create_topic_at("early", [1, 2, 1])
    wait_for("leaders", lambda: lane.kafka.leaders("early") == [1, 2, 1], 30)
    send_to_all(lane, "early", 0)
    lose_leader(lane, "early")
    lane.create("early", "early")
    wait_for("20 rows", lambda: len(lane.rows("early")) == 20, 30)
    names_partition(lane, "early")
    bring_leader_back(lane, "early", [1000 * p + n for p in range(3) for n in range(10)])


CHECKS = [
    created_again, partitions_added, keys_that_move, begins_at_the_end, aborted, lag, included, offline,
    offline_at_start, offline_at_create,
]


if __name__ == "__main__":
    checks.run("brokers", __doc__, Lane, CHECKS)
