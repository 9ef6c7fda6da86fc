"""What random play earns on each of the 47 tasks: `random.json`, for the tables.

python results/random_play.py [--tasks paxmen_5a,...]
"""

import json
from pathlib import Path

import torch

from torch_mars import envs
from torch_mars.protocol.intervals import mean_and_interval
from torch_mars.run import cli
from torch_mars.run.cli import Parser
from torch_mars.run.files import to_json, write_whole
from torch_mars.run.settings import typed_task

PATH = Path(__file__).parent / "random.json"
EPISODES = 320


def play(task: str) -> dict[str, dict[str, float]]:
    """Of the return and every metric of the environment: the mean over episodes, and half its interval."""
    env = envs.make(task, num_envs=EPISODES, seed=0)
    env.reset()
    names = ("episode_return", *env.metrics)
    result = torch.zeros(len(names), EPISODES)
    is_over = torch.zeros(EPISODES, dtype=torch.bool)
    while not is_over.all():
        ts = env.step(env.sample_actions())
        is_end = ts.terminated | ts.truncated
        found = torch.stack([ts.info[name].float() for name in names])
        result = torch.where(is_end & ~is_over, found, result)
        is_over |= is_end
    numbers = [[round(number, 5) for number in mean_and_interval(row.tolist())] for row in result]
    return {name: dict(zip(("mean", "half"), pair)) for name, pair in zip(names, numbers)}


def main() -> int:
    parser = Parser(prog="random_play", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--tasks", default=",".join(envs.TASKS))
    tasks = [typed_task(name, "--tasks").name for name in parser.parse_args().tasks.split(",")]
    found = json.loads(PATH.read_text()) if PATH.exists() else {}
    for task in tasks:
        found[task] = play(task)
        print(task, f"{found[task]['episode_return']['mean']:.2f}", flush=True)
        write_whole(PATH, to_json({task: found[task] for task in envs.TASKS if task in found}).encode())
    return 0


if __name__ == "__main__":
    cli.guarded(main, "random_play")
