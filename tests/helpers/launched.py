"""Commands that torchrun starts, and what becomes of them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

LESSONS = Path(__file__).parents[2] / "torch_mars" / "algos"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


class Launch:
    """`torchrun --nproc-per-node ranks [options] words`, in the background.

    Args:
        folder: where it runs, and what it says is kept.
        options: of torchrun.
    """

    def __init__(self, folder, *words, ranks=2, options=()):
        self.said = Path(folder) / f"said-{time.monotonic_ns()}"
        self.started = time.monotonic()
        with open(self.said, "wb") as output:
            self.process = subprocess.Popen(
                [*TORCHRUN, "--nproc-per-node", str(ranks), *options, *map(str, words)],
                cwd=folder, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    @property
    def text(self):
        """What was said, without torchrun's own words."""
        lines = self.said.read_text().splitlines()
        report = next((i for i, line in enumerate(lines) if line.startswith("Traceback")), None)
        return "\n".join(line for line in lines[:report] if not re.match(r"[EW]\d{4} .* torch/distributed/", line))

    @property
    def exit_codes(self):
        """Of the ranks that failed, from torchrun's report: rank -> code."""
        report = self.said.read_text()
        return {int(rank): int(code) for rank, code in re.findall(r"rank +: (\d+) .*\n +exitcode +: (-?\d+)", report)}

    def wait_for(self, condition, patience=90):
        """Until something holds. AssertionError if the launch ends before."""
        deadline = time.monotonic() + patience
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.02)

    def end(self, patience=90):
        """Its exit code, once it has ended."""
        try:
            return self.process.wait(patience)
        finally:
            self.process.kill()

    def ranks(self):
        """The process numbers of the ranks, in their order."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        numbers = {}
        for child in children:
            words = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            found = [int(word[5:]) for word in words if word.startswith(b"RANK=")]
            numbers |= {rank: int(child) for rank in found}
        return [numbers[rank] for rank in sorted(numbers)]

    def kill_rank(self, rank):
        os.kill(self.ranks()[rank], signal.SIGKILL)
