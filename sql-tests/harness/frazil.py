"""The binary under test: `frazil serve` on a free port."""

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
    """One data directory, and the process that serves it now, if any."""

    def __init__(self, binary, data_dir, log_path, config=None, workers=1):
        if not os.access(binary, os.X_OK):
            raise FileNotFoundError(f"{binary} is not there; {BIN_HINT}")
        self.binary, self.data_dir, self.log_path = str(binary), str(data_dir), str(log_path)
        self.workers = workers
        self.config_path = None
        if config:
            self.config_path = f"{self.log_path}.toml"
            with open(self.config_path, "w") as file:
                file.writelines(f"{name} = {value}\n" for name, value in config.items())
        self.child = None
        self.port = None

    def start(self, env=None):
        """Starts a process; does not wait until it serves."""
        self.port = free_port()
        argv = [self.binary, "serve", "--data-dir", self.data_dir]
        argv += ["--pg-listen", f"127.0.0.1:{self.port}", "--workers", self.workers]
        if self.config_path:
            argv += ["--config", self.config_path]
        self.child = Child(argv, self.log_path, env=env)
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
        if self.child is not None:
            self.child.kill()

    def stop(self):
        if self.child is not None:
            self.child.stop()


class ChildDied(Exception):
    """The process ended while it was needed."""
