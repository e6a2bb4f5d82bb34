"""The binary under test: `frazil serve` on a free port, with more processes if asked."""

import os

import psycopg

from .process import Child, free_port, wait_for

BIN_HINT = "build it with `cargo build`, or name it by --bin or FRAZIL_BIN"


def default_bin():
    """FRAZIL_BIN, or the debug binary of the target folder that CI uses."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(cache, "frazil", "target")
    return os.environ.get("FRAZIL_BIN") or os.path.join(target, "debug", "frazil")


class Frazil:
    """One data directory, and the processes that serve it now, if any.

    `workers` are those of each process. `child` is process 0, which serves; `helpers` are the others.
    """

    def __init__(self, binary, data_dir, log_path, config=None, workers=1, processes=1):
        if not os.access(binary, os.X_OK):
            raise FileNotFoundError(f"{binary} is not there; {BIN_HINT}")
        self.binary, self.data_dir, self.log_path = str(binary), str(data_dir), str(log_path)
        self.workers = workers
        self.processes = processes
        self.config_path = None
        if config:
            self.config_path = f"{self.log_path}.toml"
            with open(self.config_path, "w") as file:
                file.writelines(f"{name} = {value}\n" for name, value in config.items())
        self.child = None
        self.helpers = []
        self.port = None

    def start(self, env=None):
        """Starts the processes; does not wait until they serve. `env` is for process 0."""
        self.port = free_port()
        argv = [self.binary, "serve", "--data-dir", self.data_dir]
        argv += ["--pg-listen", f"127.0.0.1:{self.port}", "--workers", self.workers]
        if self.config_path:
            argv += ["--config", self.config_path]
        self.helpers = []
        if self.processes == 1:
            self.child = Child(argv, self.log_path, env=env)
            return self
        hosts = f"{self.log_path}.hosts"
        with open(hosts, "w") as file:
            file.writelines(f"127.0.0.1:{free_port()}\n" for _ in range(self.processes))
        argv += ["--hosts", hosts]
        self.child = Child([*argv, "--process", 0], self.log_path, env=env)
        self.helpers = [
            Child([*argv, "--process", index], f"{self.log_path}.{index}")
            for index in range(1, self.processes)
        ]
        return self

    def connect(self, seconds=30):
        """A connection; waits until the process serves, and gives up at once if it has died."""
        address = f"host=127.0.0.1 port={self.port} user=root dbname=dev connect_timeout=10"

        def attempt():
            if not self.child.alive():
                return "dead"
            return psycopg.connect(address, autocommit=True)

        found = wait_for("frazil's port", attempt, seconds, pause=0.02)
        if found == "dead":
            raise ChildDied(f"frazil exited with {self.process_code()}")
        return found

    def rows(self, query):
        """The rows of one query, over a connection of its own."""
        with self.connect() as connection:
            return connection.execute(query).fetchall()

    def alive(self):
        return self.child is not None and self.child.alive()

    def process_code(self):
        """The exit code of the process that has ended; None while it lives."""
        return self.child.process.poll()

    def kill(self):
        for child in (self.child, *self.helpers):
            if child is not None:
                child.kill()

    def crash(self, workers):
        """kill -9, and a new start with another number of workers.

        Of more processes only the last one is killed: process 0 must then end by itself.
        """
        if self.processes > 1:
            self.helpers[-1].kill()
            code = self.child.wait(20)
            if code <= 0:
                raise RuntimeError(f"process 0 ended with {code} when another was killed")
        self.kill()
        self.workers = workers
        self.start()

    def stop(self):
        if self.child is not None:
            self.child.stop()
        for helper in self.helpers:
            helper.stop()


class ChildDied(Exception):
    """The process ended while it was needed."""
