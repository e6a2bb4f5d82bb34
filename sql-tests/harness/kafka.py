"""A Kafka broker (KRaft, one node), more of them if asked, and Kafka Connect with Debezium."""

import json
import os
import secrets
import subprocess
import urllib.error
import urllib.request

from confluent_kafka.admin import AdminClient, NewTopic

from .process import Child, free_port, listens, wait_for

LOGGING = """
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
"""

BROKER = """
process.roles={roles}
node.id={node}
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port}{listeners}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/log-{node}
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.partitions=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""

CONNECT = """
bootstrap.servers=127.0.0.1:{port}
listeners=http://127.0.0.1:{rest}
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
offset.storage.file.filename={folder}/offsets
offset.flush.interval.ms=1000
plugin.discovery=service_load
"""


def jars_dir():
    """Where setup.sh put the jars."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(os.environ.get("FRAZIL_CACHE") or f"{cache}/frazil", "kafka")


class Java:
    """How to run a class of the jars: one class path and one log configuration."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        self.logging = self.write("log4j2.properties", LOGGING)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def argv(self, heap, main, *arguments):
        # One core is the engine's; the JIT's first tier is enough for a minute's life.
        flags = [f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        flags += [f"-Dlog4j2.configurationFile={self.logging}"]
        return ["java", *flags, "-cp", f"{jars_dir()}/*", main, *arguments]


class Kafka:
    """A running broker on 127.0.0.1.

    `listeners`: more of them, by name, as (security protocol, properties). `scram`: credentials in
    the form of Kafka's StorageTool. `ports` has the port of each listener.
    """

    def __init__(self, folder, listeners=None, scram=()):
        self.folder = folder
        self.java = Java(os.path.join(folder, "kafka"))
        listeners = listeners or {}
        self.port, self.controller = free_port(), free_port()
        self.ports = {name: free_port() for name in listeners}
        self.bootstrap = f"127.0.0.1:{self.port}"
        # 22 digits are a UUID in base64 that never starts with "-", which would be an option.
        self.cluster = secrets.token_hex(11)
        more = f",CONTROLLER://127.0.0.1:{self.controller}"
        more += "".join(f",{name}://127.0.0.1:{port}" for name, port in self.ports.items())
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        text = ""
        for name, (protocol, lines) in listeners.items():
            protocols[name] = protocol
            text += "".join(f"listener.name.{name.lower()}.{line}\n" for line in lines)
        protocols = ",".join(f"{name}:{protocol}" for name, protocol in protocols.items())
        text += f"listener.security.protocol.map={protocols}\n"
        text = self.properties("broker,controller", 1, self.port, more) + text
        self.child = self.start(self.formatted(1, text, scram))
        self.second = None
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        wait_for("Kafka", lambda: self.admin.list_topics(timeout=1), 180)

    def properties(self, roles, node, port, listeners=""):
        return BROKER.format(
            roles=roles, node=node, port=port, controller=self.controller,
            folder=self.java.folder, listeners=listeners,
        )

    def formatted(self, node, text, scram=()):
        """Writes the properties of a node and makes its log; the file of the properties."""
        properties = self.java.write(f"server-{node}.properties", text)
        format_log = ["kafka.tools.StorageTool", "format", "-t", self.cluster, "-c", properties]
        for credential in scram:
            format_log += ["--add-scram", credential]
        subprocess.run(
            self.java.argv("256m", *format_log),
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        return properties

    def start(self, properties):
        argv = self.java.argv("512m", "kafka.Kafka", properties)
        return Child(argv, os.path.join(self.folder, "kafka.log"))

    def start_second(self):
        """Starts broker 2, which is no controller; waits until the first one knows it."""
        if self.second is None:
            text = self.properties("broker", 2, free_port())
            text += "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
            self.second_properties = self.formatted(2, text)
        elif self.second.alive():
            return
        self.second = self.start(self.second_properties)
        wait_for("broker 2", lambda: 2 in self.admin.list_topics(timeout=1).brokers, 60)

    def create_topic(self, name, partitions):
        for future in self.admin.create_topics([NewTopic(name, partitions, 1)]).values():
            future.result(30)

    def create_topic_at(self, name, brokers):
        """A topic with one partition at each broker that is named."""
        topic = NewTopic(name, len(brokers), replica_assignment=[[it] for it in brokers])
        for future in self.admin.create_topics([topic]).values():
            future.result(30)

    def leaders(self, topic):
        """The leading broker of each partition; -1: it has none."""
        partitions = self.admin.list_topics(topic, timeout=5).topics[topic].partitions
        return [partitions[number].leader for number in sorted(partitions)]

    def stop(self):
        # SIGTERM moves leaders first, which a broker on its own never finishes quickly.
        for child in filter(None, (self.second, self.child)):
            child.kill()


class Connect:
    """Kafka Connect, standalone, with Debezium's connector for PostgreSQL in its class path."""

    def __init__(self, folder, kafka):
        java = Java(os.path.join(folder, "connect"))
        self.rest = free_port()
        text = CONNECT.format(port=kafka.port, rest=self.rest, folder=java.folder)
        properties = java.write("connect.properties", text)
        argv = java.argv("512m", "org.apache.kafka.connect.cli.ConnectStandalone", properties)
        self.child = Child(argv, os.path.join(folder, "connect.log"))
        wait_for("Kafka Connect", lambda: listens(self.rest) and self.call("/connectors") == [], 90)

    def call(self, path, body=None):
        """A call of Connect's REST interface: GET, or PUT of a body."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.rest}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method="GET" if body is None else "PUT",
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read().decode()[:500]}") from error

    def connect_postgres(self, name, postgres, database, options):
        """Starts a connector and waits until its task runs."""
        config = {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "plugin.name": "pgoutput",
            "database.hostname": "127.0.0.1",
            "database.port": str(postgres.port),
            "database.user": "postgres",
            "database.password": "unused",
            "database.dbname": database,
            "topic.prefix": name,
            "slot.name": name,
            "publication.name": name,
            "publication.autocreate.mode": "filtered",
            "poll.interval.ms": "50",
            **options,
        }
        self.call(f"/connectors/{name}/config", config)

        def running():
            status = self.call(f"/connectors/{name}/status")
            states = [task["state"] for task in status["tasks"]]
            if "FAILED" in states:
                raise RuntimeError(status["tasks"][0].get("trace", "")[:500])
            return states == ["RUNNING"]

        wait_for(f"connector {name}", running, 60, pause=0.2)

    def stop(self):
        self.child.kill()
