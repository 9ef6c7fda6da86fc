"""`tune` as a process of its own, with workers that can be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LINE = ["--algo", "mars", "--env", "paxmen_4a", "--budget", "smoke", "--device", "cpu"]
PATIENCE = 240.0  # seconds


def start(folder, *more):
    """The command in `folder`, where its output is the file `said`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with open(folder / "said", "a") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "torch_mars.tune", *LINE, *map(str, more)], cwd=folder, env=environment,
            stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def end(process, folder):
    """Its exit code; what it said is in the message if it does not end."""
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        raise AssertionError(f"it does not end: {(folder / 'said').read_text()}") from None


def until(condition, folder):
    """Wait for something; what it is when it is something. AssertionError with what was said if it never is."""
    limit = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < limit, (folder / "said").read_text()
        time.sleep(0.05)
    return found


def processes_with(word, folder):
    """Numbers of the processes in `folder` whose command line has a word."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            if word.encode() in words and os.readlink(place / "cwd") == str(folder.resolve()):
                found.append(int(place.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


def checkpoints(folder):
    """Of the trainings that have begun and not ended."""
    done = {path.parent for path in folder.glob("tuned/**/policy.pt")}
    return [path for path in folder.glob("tuned/**/checkpoint.pt") if path.parent not in done]


def runs(folder):
    """Of every trial and seed the folders of its runs: one each, if nothing was begun twice."""
    return [path.parent for path in folder.glob("tuned/**/trials/**/config.yaml")]
