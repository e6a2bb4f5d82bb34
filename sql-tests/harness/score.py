"""The count of claims that held, and the closing line."""

import shutil
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

    def close(self, folder=None, keep=False):
        """A run that claimed nothing has failed. Only a failed run keeps its folder, unless asked."""
        if self.passed + self.failed == 0:
            print("no claim was tested", file=sys.stderr)
            self.failed = 1
        if folder is not None:
            if keep or self.failed:
                self.say(f"kept: {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0
