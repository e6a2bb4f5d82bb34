"""A child process, a free port, a wait with a limit."""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time


class Timeout(Exception):
    """What was waited for did not come within its limit."""


def free_port():
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, probe, seconds, pause=0.05):
    """Calls `probe` until it returns something true, and returns that.

    Raises Timeout naming `what` and the last error of the probe after `seconds`.
    """
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            found = probe()
            if found:
                return found
        except Exception as error:  # the probe of a thing that is not up yet
            last = error
        if time.monotonic() >= deadline:
            raise Timeout(f"{what} did not come within {seconds} s; last error: {last}")
        time.sleep(pause)


def listens(port):
    """True if somebody listens on the port."""
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0


class Child:
    """A process in a group of its own, with its output in a file.

    It ends with the lane: at the lane's exit, and also when the lane itself is killed.
    """

    running = set()

    def __init__(self, argv, log_path, env=None, user=None, cwd=None):
        self.argv = [str(a) for a in argv]
        self.log_path = str(log_path)
        self.name = os.path.basename(self.argv[0])
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                user=user,
                cwd=cwd,
                start_new_session=True,
            )
        Child.running.add(self)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def send(self, number):
        """Sends a signal to the whole group; a group that is gone is no error."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self):
        """kill -9, and the exit code."""
        self.send(signal.SIGKILL)
        Child.running.discard(self)
        return self.process.wait()

    def stop(self, number=signal.SIGTERM, seconds=10):
        """Asks by a signal, then kills."""
        if self.alive():
            self.send(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        return self.kill()

    def wait(self, seconds):
        """The exit code, or Timeout."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Timeout(f"{self.name} did not exit within {seconds} s") from None

    def tail(self, lines=30):
        """The end of its output."""
        with open(self.log_path, errors="replace") as log:
            return "".join(log.readlines()[-lines:])


@atexit.register
def end_all():
    """Ends what a failure left running."""
    for child in list(Child.running):
        child.kill()


def exit_on_term(*_):
    """SIGTERM ends a lane as an exception would, so that its clean-up runs."""
    raise SystemExit(143)


signal.signal(signal.SIGTERM, exit_on_term)
