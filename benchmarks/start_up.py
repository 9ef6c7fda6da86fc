"""Seconds from the command to the first update of a training: the first time on a machine, and later.

    python benchmarks/start_up.py [--tasks paxmen_5a,...] [--rounds 3] [--json FILE]

"cold": no environment's loops were compiled on this machine before (numba's cache is an empty folder). "warm": they
were. Python and its packages are in the system's cache of files in both. Turns alternate over tasks; medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import facts, print_facts, write_json

TASKS = (
    "paxmen_5a", "aerojax_8v8", "jaxnav_11x11x4a", "search_and_rescue_2x20", "connector_5x5x3a", "simple_spread_3ag",
    "rware_tiny_2ag", "smax_2s3z",
)  # fmt: skip
SETTINGS = "--num-envs 16 --rollout-length 16 --total-steps 256 --eval-episodes 1 --device cpu"


def seconds_to_first_update(task: str, cache: Path) -> float:
    """Of a training in a process of its own, whose compiled loops are kept in `cache`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", "-m", "torch_mars.algos.mars", "--env", task, *SETTINGS.split()]
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
        start = time.perf_counter()
        training = subprocess.Popen(
            [*command, "--run-dir", folder],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = []
        for line in training.stdout:
            lines.append(line)
            if line.startswith("update 1/1"):
                seconds = time.perf_counter() - start
                training.communicate()
                return seconds
    raise SystemExit("".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write machine and rows to this file, too")
    options = parser.parse_args()
    machine = facts("cpu")
    print_facts(machine)
    times = {task: {"cold": [], "warm": []} for task in options.tasks.split(",")}
    for _ in range(options.rounds):
        for task, found in times.items():
            with tempfile.TemporaryDirectory() as cache:
                for kind in ("cold", "warm"):
                    found[kind].append(seconds_to_first_update(task, Path(cache)))
    print(f"{'task':24} {'cold (s)':>10} {'warm (s)':>10}")
    rows = []
    for task, found in times.items():
        cold, warm = (statistics.median(found[kind]) for kind in ("cold", "warm"))
        rows.append({"task": task, "cold_s": cold, "warm_s": warm})
        print(f"{task:24} {cold:10.1f} {warm:10.1f}")
    write_json(options.json, machine, rows)


if __name__ == "__main__":
    main()
