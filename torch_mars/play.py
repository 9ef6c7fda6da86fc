"""Watch a team: a film of what a run has learned, of the team installed for a task, or of one that acts at random.

    python -m torch_mars.play paxmen_5a
    python -m torch_mars.play runs/paxmen_5a/mars/<run> --out team.gif

One episode may be luck. So a batch of them is played, and the one with the median return is shown, with its rank.
What is in the pictures and how they become a file is in `run/film.py`.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from torch_mars import envs
from torch_mars.envs.core import BatchedEnv, TimeStep
from torch_mars.envs.window import Window
from torch_mars.run import film
from torch_mars.run.cli import Parser, UsageError, add_list_tasks, guarded, note, path_argument, whole_number
from torch_mars.run.finding import has_policy
from torch_mars.run.settings import typed_task
from torch_mars.teams.policies import Policy, add_own, read, task_or_path

PLAYED = 64  # episodes, of which a few are shown: seconds on a CPU for every task


@dataclass(frozen=True)
class Team:
    """Who plays, in environments of whose episodes one is shown, and what is written above them."""

    make_env: Callable[[int], BatchedEnv]  # of so many copies that do not restart by themselves
    act: film.Act
    task: str
    who: str
    algorithm: str = ""  # "" of a random team

    @property
    def stem(self) -> str:
        """Of the film's name, where none is given."""
        return "-".join(filter(None, [envs.folder_name(self.task), self.algorithm]))


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
    task = typed_task(what, "--random wants the name of a task") if is_random else task_or_path(what)
    if is_random or (task and not has_policy(what)):
        what_for = "--random" if is_random else f"{what}, for which no team is installed; give a run's folder"
        for flag, is_given in (
            ("--greedy", greedy), ("--policy-seed", policy_seed is not None), ("--env", env), ("--lesson", lesson)
        ):  # fmt: skip
            if is_given:
                raise UsageError(f"{flag} is about a trained policy, not for {what_for}")

        def make(count: int) -> BatchedEnv:
            try:
                return envs.make(task, count, seed=seed, auto_reset=False)
            except ValueError as error:  # a foreign environment that cannot be trained on
                raise UsageError(str(error)) from None

        return Team(make, lambda env, *_: (env.sample_actions(), None), task.name, "random team")
    trained = read(what, env, lesson)
    policy = Policy(trained, "cpu", greedy, seed, policy_seed)
    who = f"{trained.algorithm.upper()}, {trained.what}, seed {policy.training_seed}"

    def make_same(count: int) -> BatchedEnv:
        return trained.make_env(count, "cpu", seed, auto_reset=False)

    def act(env: BatchedEnv, ts: TimeStep, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        policy.memory = memory
        return policy(ts.obs, ts.action_mask), policy.memory

    return Team(make_same, act, trained.task, who, policy.algorithm)


# ---- which episodes ----


def ranks(count: int, wanted: int, which: str) -> list[int]:
    """Which of `count` ranks are shown, 1 for the highest return.

    Args:
        wanted: how many; "best" and "worst" begin at their end. "typical": the median, or the middles of so many equal
            parts of the ranking, which together show what happens how often.
    """
    if which == "best":
        return list(range(1, wanted + 1))
    if which == "worst":
        return list(range(count, count - wanted, -1))
    return [-(-(2 * part + 1) * count // (2 * wanted)) for part in range(wanted)]


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `11th`, ..."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number // 10 % 10 == 1 else ending}"


def ranked_episodes(playing: Team, env: BatchedEnv, wanted: int, which: str) -> Iterator[Iterator[film.Episode]]:
    """`wanted` of the episodes that are played now, each again in `env` for everybody to see."""
    count = max(PLAYED, wanted)
    recording = film.record(playing.make_env(count), playing.act)
    order = recording.ranked()
    best, worst = recording.returns[order[0]], recording.returns[order[-1]]
    print(f"{count} episodes played, returns from {worst:+.2f} to {best:+.2f}", flush=True)
    for number, rank in enumerate(ranks(count, wanted, which), 1):
        row = order[rank - 1]
        yield _checked(recording.replay(env, row, number, f"{ordinal(rank)} of {count}"), recording.returns[row])


def _checked(moments: Iterator[film.Episode], named: float) -> Iterator[film.Episode]:
    """An episode played again. A note where it came out in another way, as it may with rules of a user's own."""
    for episode in moments:
        yield episode
    found = episode.infos[-1]["episode_return"]
    if found != named and not (math.isnan(found) and math.isnan(named)):
        note(f"alone, this episode has the return {found:+.4f}, among the others it had {named:+.4f}: the environment "
             "computes a batch in another way than one alone")  # fmt: skip


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
    add_list_tasks(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--best", dest="which", action="store_const", const="best", default="typical",
        help=f"of {PLAYED} episodes the one with the highest return; left out: the median")  # fmt: skip
    which.add_argument("--worst", dest="which", action="store_const", const="worst", help="the one with the lowest")
    which.add_argument("--seed", type=whole_number(0), metavar="N",
        help="the first episodes of this seed, whatever their returns, not a choice")  # fmt: skip
    add("--live", action="store_true", help="show a window; writes a film only if --out is given too")
    add("--episodes", type=whole_number(1, 10_000), default=1, metavar="N", help="how many: the middles of N equal "
        "parts of the ranking, from the best down; with --best or --worst N from that end; with --seed one after the "
        "other (default 1)")  # fmt: skip
    add("--greedy", action="store_true", help="take the most likely action instead of sampling")
    add("--policy-seed", type=whole_number(0), metavar="N", help="training seed; left out: the best of the run")
    add("--fps", type=whole_number(1, 50), default=10, metavar="N", help="steps shown a second, 1 to 50 (default 10)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.out:
        film.check_path(Path(args.out))
    playing = team(args.what, args.seed or 0, args.greedy, args.policy_seed, args.env, args.lesson, args.random)
    out = Path(args.out or f"{playing.stem}.gif")
    if not args.out and not args.live:
        film.check_path(out)  # before an episode is played for nothing
    env = playing.make_env(1)
    stage = film.Stage(env, playing.task, playing.who, args.episodes)
    print(f"{playing.task}: {playing.who}", flush=True)
    if args.seed is None:
        shown = ranked_episodes(playing, env, args.episodes, args.which)
    else:
        shown = (film.play(env, playing.act, number) for number in range(1, args.episodes + 1))
    played, window = [], None
    for moments in shown:
        for episode in moments:
            if args.live:
                window = _show(window, stage, episode, args.fps)
                if window.was_closed:
                    return 0
        played.append(episode)
        print(_line(env, episode), flush=True)
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
        f"episode {episode.number}: return {last['episode_return']:+.2f}"
        + (f" ({episode.place})" if episode.place else "")
        + f" after {episode.last} steps ({episode.ending})"
        + "".join(f", {name} {value:.4g}" for name, value in metrics.items())
    )


if __name__ == "__main__":
    guarded(main, "play")
