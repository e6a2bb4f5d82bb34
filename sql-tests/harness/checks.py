"""A lane of checks that share one set of servers: runs each and counts."""

import argparse
import os
import shutil
import sys
import tempfile

from harness.frazil import default_bin


def run(name, doc, make_lane, checks):
    """`make_lane(folder, binary)` gives what each check takes; it has `frazil` and `stop()`."""
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--bin", default=default_bin())
    parser.add_argument("--only")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix=f"frazil-{name}-")
    passed = failed = 0
    lane = make_lane(folder, arguments.bin)
    try:
        for check in checks:
            if arguments.only not in (None, check.__name__):
                continue
            try:
                check(lane)
                passed += 1
                print(f"ok      {check.__name__}: {check.__doc__}")
            except Exception as error:
                failed += 1
                print(f"FAILED  {check.__name__}: {error!r}")
                if not lane.frazil.alive():
                    lane.frazil.start()
    finally:
        lane.stop()
        if arguments.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
