"""Watch a team: a film of what a run has learned, of the team installed for a task, or of one that acts at random.

    python -m torch_mars.play paxmen_5a
    python -m torch_mars.play runs/paxmen_5a/mars/<run> --out team.gif

What is in the pictures and how they become a file is in `run/film.py`.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from torch_mars import envs
from torch_mars.envs import rng
from torch_mars.envs.core import BatchedEnv
from torch_mars.envs.window import Window
from torch_mars.run import film
from torch_mars.run.cli import Parser, UsageError, guarded, path_argument, short, whole_number
from torch_mars.teams.policies import Policy, add_own, is_trained, read


def random_team(env: BatchedEnv, seed: int) -> Callable:
    """A policy that takes every allowed action with the same probability."""
    space, shape = env.action_space, (env.num_envs, env.num_agents)
    key = rng.keys([rng.derive(seed, "random team")], 1, env.device)

    def policy(obs: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        nonlocal key
        size = (*shape, space.n) if hasattr(space, "n") else (*shape, *space.shape)
        draws, key = rng.uniform(key, torch.Size(size).numel())
        draws = draws.view(size)
        if hasattr(space, "n"):
            return (draws if mask is None else draws.masked_fill(~mask, -1)).argmax(-1)
        low, high = (torch.as_tensor(bound, device=env.device) for bound in (space.low, space.high))
        return low + draws * (high - low)

    return policy


@dataclass(frozen=True)
class Team:
    """Who plays: an environment with B = 1, the policy, and what is written above them."""

    env: BatchedEnv
    policy: Callable
    task: str
    who: str

    @property
    def stem(self) -> str:
        """Of the film's name, where none is given."""
        parts = [envs.folder_name(self.task)]
        return "-".join(parts + ([self.policy.algorithm] if isinstance(self.policy, Policy) else []))


def team(
    what: str,
    seed: int = 0,
    greedy: bool = False,
    policy_seed: int | None = None,
    env: str | None = None,
    lesson: str | None = None,
    is_random: bool = False,
) -> Team:
    """Of a run, a checkpoint, or the name of a task: its installed team, else one that acts at random.

    Args:
        env, lesson: of a run, what is the user's own in it, as they typed it again.

    Raises:
        UsageError: it is none of them.
    """
    task, problem = None, None
    try:
        if ":" not in what or not os.path.exists(what):
            task = envs.find(what)
    except (ValueError, OSError) as error:  # OSError: a path that is too long
        problem = error
    if is_random and not task:
        raise UsageError(f"--random wants the name of a task: {problem}")
    if is_random or (task and not is_trained(what)):
        what_for = "--random" if is_random else f"{what}, for which no team is installed; give a run's folder"
        for flag, is_given in (
            ("--greedy", greedy), ("--policy-seed", policy_seed is not None), ("--env", env), ("--lesson", lesson)
        ):  # fmt: skip
            if is_given:
                raise UsageError(f"{flag} is about a trained policy, not for {what_for}")
        try:
            made = envs.make(task, seed=seed, auto_reset=False)
        except ValueError as error:  # a foreign environment that cannot be trained on
            raise UsageError(str(error)) from None
        return Team(made, random_team(made, seed), task.name, "random team")
    is_name = "/" not in what and not what.endswith(".pt") and not os.path.exists(what)
    if problem and (is_name or ":" in what):
        raise UsageError(f"there is no run {short(what)}; {problem}")
    trained = read(what, env, lesson)
    policy = Policy(trained, "cpu", greedy, seed, policy_seed)
    who = f"{trained.algorithm.upper()}, {trained.what}, seed {policy.training_seed}"
    return Team(trained.make_env(1, "cpu", seed, auto_reset=False), policy, trained.task, who)


# ---- the command ----


def make_parser() -> Parser:
    parser = Parser(
        prog="play",
        description="Film a trained team: of a run, or (given a task) the best that is installed; where none is, or "
        "with --random, a team that acts at random.",
        epilog="examples:\n"
        "  python -m torch_mars.play runs/paxmen_5a/mars/<run>\n"
        "  python -m torch_mars.play runs/paxmen_5a/mars/<run> --out team.mp4 --episodes 3\n"
        "  python -m torch_mars.play paxmen_5a --live",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("what", type=path_argument, metavar="RUN_OR_TASK",
        help="a run's folder, its policy.pt or checkpoint.pt, or the name of a task")  # fmt: skip
    add("--out", type=path_argument, metavar="FILE", help=".gif, .mp4 (film) or .png (sheet of six moments); "
        "left out: <task>-<algorithm>.gif, or <task>.gif for a random team")  # fmt: skip
    add("--random", action="store_true", help="of a task: a team that acts at random")
    add_own(parser)
    add("--live", action="store_true", help="show a window; writes a film only if --out is given too")
    add("--episodes", type=whole_number(1, 10_000), default=1, metavar="N", help="one after the other (default 1)")
    add("--seed", type=whole_number(0), default=0, metavar="N", help="of the episodes and actions (default 0)")
    add("--greedy", action="store_true", help="take the most likely action instead of sampling")
    add("--policy-seed", type=whole_number(0), metavar="N", help="training seed; left out: the best of the run")
    add("--fps", type=whole_number(1, 50), default=10, metavar="N", help="steps shown a second, 1 to 50 (default 10)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.out:
        film.check_path(Path(args.out))
    playing = team(args.what, args.seed, args.greedy, args.policy_seed, args.env, args.lesson, args.random)
    out = Path(args.out or f"{playing.stem}.gif")
    if not args.out and not args.live:
        film.check_path(out)  # before an episode is played for nothing
    stage = film.Stage(playing.env, playing.task, playing.who, args.episodes)
    print(f"{playing.task}: {playing.who}", flush=True)
    played, window = [], None
    for number in range(1, args.episodes + 1):
        for episode in film.play(playing.env, playing.policy, number):
            if args.live:
                window = _show(window, stage, episode, args.fps)
                if window.was_closed:
                    return 0
        played.append(episode)
        print(_line(playing.env, episode), flush=True)
    if args.out or not args.live:
        film.write(out, stage, played, args.fps)
        print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def _show(window: Window | None, stage: film.Stage, episode: film.Episode, frames_per_second: int) -> Window:
    picture = stage.picture(episode, episode.last)
    try:
        window = window or Window(stage.title, picture.shape, frames_per_second)
    except RuntimeError as error:
        raise UsageError(f"--live: {error}; leave it out and watch the film that is written") from None
    for _ in range(round(film.HOLD_SECONDS * frames_per_second) if episode.ending else 1):
        window.show(picture)
    return window


def _line(env: BatchedEnv, episode: film.Episode) -> str:
    last = episode.infos[-1]
    metrics = {name.removeprefix("episode_").replace("_", " "): last[name] for name in env.metrics if last[name]}
    return (
        f"episode {episode.number}: return {last['episode_return']:+.2f} after {episode.last} steps ({episode.ending})"
        + "".join(f", {name} {value:.4g}" for name, value in metrics.items())
    )


if __name__ == "__main__":
    guarded(main, "play")
