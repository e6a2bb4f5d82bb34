"""A PostgreSQL cluster of the test's own, on a free port, in a scratch folder."""

import glob
import os
import pwd
import re
import shutil
import signal
import subprocess

import psycopg

from .process import Child, free_port, wait_for

# Durability is not what is tested here, so the cluster does not sync.
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
max_wal_senders = 8
max_replication_slots = 8
fsync = off
synchronous_commit = off
full_page_writes = off
timezone = 'UTC'
"""


def bin_dir():
    """The programs of the newest PostgreSQL on the machine."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if not found:
        raise FileNotFoundError("no /usr/lib/postgresql/*/bin/initdb; run sql-tests/live/setup.sh")
    newest = max(found, key=lambda path: int(re.search(r"/(\d+)/", path)[1]))
    return os.path.dirname(newest)


class Postgres:
    """A running cluster. PostgreSQL refuses to run as root, so root runs it as `postgres`."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "postgres")
        self.port = free_port()
        self.user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        os.makedirs(self.folder, mode=0o700)
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        data = os.path.join(self.folder, "data")
        subprocess.run(
            [f"{bin_dir()}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N"]
            + ["--locale=C.UTF-8", "-E", "UTF8"],
            user=self.user,
            cwd="/",
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        with open(os.path.join(data, "postgresql.conf"), "a") as conf:
            conf.write(f"{SETTINGS}\nport = {self.port}\n")
        log = os.path.join(folder, "postgres.log")
        argv = [f"{bin_dir()}/postgres", "-D", data]
        self.child = Child(argv, log, user=self.user, cwd="/")
        wait_for("PostgreSQL", lambda: self.connect().close() or True, 30)

    def connect(self, database="postgres"):
        """A connection in autocommit mode."""
        return psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=postgres dbname={database} connect_timeout=5",
            autocommit=True,
        )

    def stop(self):
        # "Immediate": the cluster is thrown away, and a connector may still hold a connection.
        self.child.stop(signal.SIGQUIT)
