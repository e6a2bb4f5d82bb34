"""Kafka behind TLS and SASL: a real broker with a listener for each way to log in.

    security.py [--bin PATH] [--only NAME] [--keep]

Each check reads a topic through a listener, or shows what the user is told if that is refused.
"""

import base64
import http.server
import json
import subprocess
import threading
import time

import psycopg
from confluent_kafka import Producer
from harness import checks
from harness.frazil import Frazil
from harness.kafka import Kafka
from harness.process import wait_for

USER, PASSWORD = "alice", "alice-secret"
SECURITY = "org.apache.kafka.common.security"


class Certificate:
    """A certificate that signs itself, for 127.0.0.1: its key store, and itself in PEM."""

    def __init__(self, folder):
        self.store, self.pem = f"{folder}/broker.p12", f"{folder}/broker.pem"
        common = ["-alias", "broker", "-keystore", self.store, "-storepass", "changeit"]
        self.keytool(
            "-genkeypair", "-keyalg", "RSA", "-dname", "CN=broker", "-ext", "san=ip:127.0.0.1",
            "-storetype", "PKCS12", "-validity", "2", *common,
        )
        self.keytool("-exportcert", "-rfc", "-file", self.pem, *common)

    @staticmethod
    def keytool(*arguments):
        subprocess.run(
            ["keytool", *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True
        )

    def lines(self):
        return [
            f"ssl.keystore.location={self.store}",
            "ssl.keystore.password=changeit",
            "ssl.keystore.type=PKCS12",
        ]


class TokenEndpoint:
    """Gives unsigned tokens that last 4 seconds, to one client."""

    def __init__(self):
        self.granted = 0
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                if self.headers["authorization"] == f"Basic {expected}":
                    endpoint.granted += 1
                    self.answer(200, {"access_token": endpoint.token(), "expires_in": 4})
                else:
                    self.answer(401, {"error": "invalid_client"})

            def answer(self, status, body):
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def token():
        now = time.time()
        claims = {"sub": USER, "iat": now, "exp": now + 4}
        parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
        parts = [base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts]
        return ".".join([*parts, ""])


class Lane:
    """A broker with all listeners, an engine, and one topic."""

    def __init__(self, folder, binary):
        self.folder = folder
        self.certificate = Certificate(folder)
        self.endpoint = TokenEndpoint()
        tls, jaas = self.certificate.lines(), "sasl.jaas.config"
        scram = [
            "sasl.enabled.mechanisms=SCRAM-SHA-512",
            f"scram-sha-512.{jaas}={SECURITY}.scram.ScramLoginModule required;",
        ]
        plain = [
            "sasl.enabled.mechanisms=PLAIN",
            f'plain.{jaas}={SECURITY}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
        ]
        oauth = [
            "sasl.enabled.mechanisms=OAUTHBEARER",
            "connections.max.reauth.ms=3000",
            f"oauthbearer.{jaas}={SECURITY}.oauthbearer.OAuthBearerLoginModule required "
            'unsecuredLoginStringClaim_sub="broker";',
        ]
        listeners = {
            "TLS": ("SSL", tls),
            "SCRAM": ("SASL_SSL", [*tls, *scram]),
            "SCRAMBARE": ("SASL_PLAINTEXT", scram),
            "PLAIN": ("SASL_PLAINTEXT", plain),
            "OAUTH": ("SASL_PLAINTEXT", oauth),
        }
        credential = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        self.kafka = Kafka(folder, listeners, [credential])
        self.kafka.create_topic("t", 2)
        self.producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "linger.ms": 0})
        self.sent = 0
        self.send(20)
        self.log = f"{folder}/frazil.log"
        self.frazil = Frazil(binary, f"{folder}/data", self.log, workers=2)
        self.frazil.start()

    def send(self, count):
        for key in range(self.sent, self.sent + count):
            event = {"before": None, "after": {"id": key}, "op": "c"}
            self.producer.produce("t", key=json.dumps({"id": key}), value=json.dumps(event))
        self.producer.flush(30)
        self.sent += count

    def create(self, listener, properties, mode="earliest"):
        """Creates the table `t` over a listener; properties of a login in Frazil's names."""
        options = {
            "connector": "kafka",
            "topic": "t",
            "scan.startup.mode": mode,
            "timeout.ms": 5000,
            "properties.bootstrap.server": f"127.0.0.1:{self.kafka.ports[listener]}",
            **{f"properties.{name}": value for name, value in properties.items()},
        }
        options = ", ".join(f"{name} = '{value}'" for name, value in options.items())
        with self.frazil.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS t")
            connection.execute(
                f"CREATE TABLE t (id BIGINT PRIMARY KEY) WITH ({options}) "
                "FORMAT DEBEZIUM ENCODE JSON"
            )

    def await_rows(self):
        expected = [(key,) for key in range(self.sent)]
        query = "SELECT id FROM t ORDER BY id"
        wait_for("rows", lambda: self.frazil.rows(query) == expected, 30)

    def problem(self, listener, properties):
        """What the user is told: by CREATE if the start is asked for, else by SHOW JOBS."""
        told = self.refusal(listener, properties)
        self.create(listener, properties)

        def shown():
            with self.frazil.connect() as connection:
                found = connection.execute("SHOW JOBS")
                names = [column.name for column in found.description]
                jobs = [dict(zip(names, row)) for row in found.fetchall()]
            return next(str(job) for job in jobs if job["name"] == "t" and job["error"])

        shown = wait_for("the problem in SHOW JOBS", shown, 30)
        for text in (told, shown):
            assert PASSWORD not in text and "wrong-one" not in text, text
        return told, shown

    def refusal(self, listener, properties):
        try:
            self.create(listener, properties, "latest")
        except psycopg.Error as error:
            return f"{error} {error.diag.message_hint}"
        raise AssertionError("CREATE ... 'latest' succeeded")

    def tls(self):
        return {"ssl.ca.location": self.certificate.pem}

    def stop(self):
        self.frazil.kill()
        self.kafka.stop()
        self.endpoint.server.shutdown()


def user(password=PASSWORD, **more):
    return {"sasl.username": USER, "sasl.password": password, **more}


def tls(lane):
    """TLS, with the root in a file."""
    lane.create("TLS", {"security.protocol": "SSL", **lane.tls()})
    lane.await_rows()


def unknown_root(lane):
    """A certificate of an unknown root is refused, and the user is told so."""
    for text in lane.problem("TLS", {"security.protocol": "SSL"}):
        assert "certificate" in text and "ssl.ca.location" in text, text


def scram(lane):
    """SASL_SSL with SCRAM-SHA-512."""
    login = user(**{"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"})
    lane.create("SCRAM", {**login, **lane.tls()})
    lane.await_rows()


def jaas(lane):
    """A login as Java's clients write it."""
    login = f'{SECURITY}.scram.ScramLoginModule required username="{USER}" password="{PASSWORD}";'
    lane.create("SCRAMBARE", {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": login,
    })
    lane.await_rows()
    with lane.frazil.connect() as connection:
        text = str(connection.execute("SHOW CREATE TABLE t").fetchall())
    assert PASSWORD not in text, text


def plain(lane):
    """SASL_PLAINTEXT with PLAIN."""
    login = user(**{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"})
    lane.create("PLAIN", login)
    lane.await_rows()


def wrong_password(lane):
    """A wrong password is named as such, by CREATE and by SHOW JOBS."""
    for listener, mechanism in [("PLAIN", "PLAIN"), ("SCRAMBARE", "SCRAM-SHA-512")]:
        protocol = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism}
        for text in lane.problem(listener, user("wrong-one", **protocol)):
            assert "uthentication failed" in text and "password" in text, text


def wrong_protocol(lane):
    """Without TLS at a TLS port the user is told of the protocol."""
    for text in lane.problem("TLS", {}):
        assert "security.protocol" in text, text


def oauth(lane, secret=PASSWORD):
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": lane.endpoint.url,
        "sasl.oauthbearer.client.id": USER,
        "sasl.oauthbearer.client.secret": secret,
    }


def tokens(lane):
    """OAUTHBEARER, with tokens that are renewed while the topic is read."""
    lane.create("OAUTH", oauth(lane))
    lane.await_rows()
    granted = lane.endpoint.granted
    wait_for("renewals", lambda: lane.endpoint.granted >= granted + 4, 60)
    lane.send(5)
    lane.await_rows()


def wrong_secret(lane):
    """What the token endpoint answers is shown."""
    for text in lane.problem("OAUTH", oauth(lane, "wrong-one")):
        assert "401" in text and "invalid_client" in text, text


def no_secrets(lane):
    """No password is in the engine's log."""
    with open(lane.log) as log:
        text = log.read()
    assert PASSWORD not in text and "wrong-one" not in text


CHECKS = [
    tls, unknown_root, scram, jaas, plain, wrong_password, wrong_protocol, tokens, wrong_secret,
    no_secrets,
]


if __name__ == "__main__":
    checks.run("security", __doc__, Lane, CHECKS)
