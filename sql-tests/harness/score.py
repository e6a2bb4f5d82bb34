"""The count of claims that held, and the closing line."""

import sys
import time


class Score:
    """Counts claims; `close` prints the closing line and gives the exit code."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.started = time.monotonic()

    def claim(self, name, problem):
        """A claim holds if `problem` is None; else `problem` says what was seen."""
        if problem is None:
            self.passed += 1
            self.say(f"ok    {name}")
        else:
            self.failed += 1
            self.say(f"FAIL  {name}: {problem}")
        return problem is None

    def say(self, text):
        """One line with the seconds since the start."""
        print(f"[{time.monotonic() - self.started:6.1f}s] {text}", flush=True)

    def close(self):
        """A run that claimed nothing has failed."""
        if self.passed + self.failed == 0:
            print("no claim was tested", file=sys.stderr)
            self.failed = 1
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0
