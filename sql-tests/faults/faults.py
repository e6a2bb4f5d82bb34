"""The fault lane: N points of one seed. Prints each failing point with how to run it again."""

import argparse
import os
import shutil
import sys
import tempfile
import time

from point import Point

from harness.frazil import default_bin
from harness.score import Score


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=30)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--only", type=int, help="run this point alone")
    parser.add_argument("--bin", default=default_bin(), help="the frazil binary")
    parser.add_argument("--keep", action="store_true", help="keep the folders of all points")
    return parser.parse_args()


def run_point(arguments, score, folder, index):
    """One point; its folder stays if it fails."""
    started = time.monotonic()
    point = Point(arguments.seed, index, folder, arguments.bin)
    try:
        point.run()
        problem = None
    except Exception as error:
        again = f"sql-tests/faults/run --seed {arguments.seed} --only {index} --keep"
        problem = f"{type(error).__name__}: {error}\n          again: {again}"
        for process in point.processes:
            if process.child is not None:
                tail = process.child.tail(8).rstrip()
                problem += f"\n          {process.log_path}:\n{tail}"
    name = f"point {index}: {point}; {time.monotonic() - started:.1f} s"
    if score.claim(name, problem) and not arguments.keep:
        shutil.rmtree(point.folder, ignore_errors=True)


def main():
    arguments = parse()
    score = Score()
    folder = tempfile.mkdtemp(prefix="frazil-faults-")
    score.say(f"SEED={arguments.seed}, folder {folder}")
    only = arguments.only
    for index in range(arguments.points) if only is None else [only]:
        run_point(arguments, score, folder, index)
    if not os.listdir(folder):
        os.rmdir(folder)
    return score.close()


if __name__ == "__main__":
    sys.exit(main())
