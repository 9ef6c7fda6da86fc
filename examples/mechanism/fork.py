"""One update, forked: every objective starts from the same weights, Adam's moments, rollout and order of minibatches.

    python examples/mechanism/fork.py runs/paxmen_5a/maspo/<run> --out forks.jsonl
    python examples/mechanism/fork.py runs/paxmen_5a/maspo/<run> --out forks.jsonl --objectives mars,mymethod.py

From the checkpoint of a run of one seed: a rollout of 64k environment steps is stored, and each objective makes its one
update of it, at several strengths, with noise on the advantages or without. How good the new policy is, is then not
guessed from the rollout but played: the old and the new policy play 2,048 episodes with the same random numbers, as
nothing random in the environments or the policies has a state. Improvement is the mean difference of their returns. It
is played after 1, 2, 4, 8, ... minibatches, so that objectives which go further can be compared at equal KL, too.

Noise is A + sigma std(A) eps before the normalisation, eps normal, one for all agents of a step (joint) or one each
(agent): what a worse critic would do, the same numbers for every objective.

The file has a line of JSON for every fork. The same command again goes on where it was stopped. The lines of a run
belong to the machine that wrote them: elsewhere float32 rounds differently, and the rollout is another one.
"""

import copy
import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_mars import algos, envs
from torch_mars.algos import mappo, mars, maspo
from torch_mars.envs import rng
from torch_mars.nn import speed
from torch_mars.nn.diagnostics import weights_of
from torch_mars.protocol import methods, saved
from torch_mars.run.cli import Parser, UsageError, guarded
from torch_mars.run.files import CHECKPOINT, load_checkpoint, write_whole

LINEAR = Path(__file__).with_name("tails.py")
QUANTILES = (0.0, 0.001, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999, 1.0)  # of the ratio
LOOKED_AT = 8192  # environment steps, of those trained on and of others, looked at after every minibatch
BATCH = 2048  # episodes played at once
GROUPS = 16  # of episodes, whose mean gains are kept: the same for all forks, so that two can be compared in pairs


# ---- objectives of one strength ----


def mean_targets(strength: float) -> tuple[float, float]:
    """Targets rho and 1 / rho at which asymmetric MASPO's slope at l = 0, over both signs of A, is -|A| / strength."""
    rho = (2 + strength) / (2 - strength)
    return rho, 1 / rho


def additive_clip(strength: float) -> float | None:
    """e of MARS with targets 1 + e and 1 - e of a strength: e (4 - e^2) / 4 = strength; above 3/4 there is none."""
    low, high = 0.0, 1.0
    if strength >= high * (4 - high**2) / 4:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * (4 - middle**2) / 4 < strength else (low, middle)
    return low


def objective(name: str, strength: float) -> tuple[Any, dict[str, Any]] | None:
    """The lesson and its settings of one strength (docs/protocol.md); None where the objective has none.

    MARS with r* and 1/r*, the paper's third ablation, is MARS itself at matched strengths; a linear force stands in its
    place. A lesson of one's own is a module that has a setting `strength`.
    """
    try:
        matched = methods.matched(strength)
    except ValueError as error:
        raise UsageError(f"--strengths: {error}") from None
    high, low = mean_targets(strength)
    asymmetric = {"clip_high": high - 1, "clip_low": 1 - low}
    known = {
        "mappo": (mappo, {"clip": strength}),
        "maspo": (maspo, {"clip": strength}),
        "mars": (mars, {"expand": matched["expand"], "contract": matched["contract"]}),
        "mappo_asymmetric": (mappo, asymmetric),
        "maspo_asymmetric": (maspo, asymmetric),
        "mars_additive": (mars, {"additive_clip": additive_clip(strength)}),
    }
    if name == "mars_additive" and additive_clip(strength) is None:
        return None
    if name in known:
        return known[name]
    if name == "linear":
        pieces = dict.fromkeys(("core", "tail_low", "tail_high"), "linear")
        return algos.lesson(str(LINEAR)), {**pieces, "strength": strength}
    try:
        lesson = algos.lesson(name)
    except ValueError as error:
        raise UsageError(f"--objectives: {error}; those of the package are {', '.join(NAMES)}") from None
    if not any(field.name == "strength" for field in dataclasses.fields(lesson.Args)):
        raise UsageError(f"--objectives: Args of {name} has no setting `strength`, by which objectives are compared")
    return lesson, {"strength": strength}


NAMES = ("mappo", "maspo", "mars", "mappo_asymmetric", "maspo_asymmetric", "mars_additive", "linear")


# ---- where all forks start ----


class Start:
    """A checkpoint, a rollout of its policy to train on and one to look at, and how well it plays.

    Args:
        folder: of the run, with config.yaml and checkpoint.pt.
        rows: environment steps of the rollout.
        episodes: that a policy plays.
        seed: of everything random here.

    Raises:
        UsageError: it is not a run of one seed, or one of a lesson that is not like the three.
    """

    def __init__(self, folder: Path, rows: int, episodes: int, seed: int):
        run = saved.open_run(folder)
        checkpoint = load_checkpoint(folder / CHECKPOINT)
        if run.settings["num_seeds"] != 1 or run.algorithm not in methods.MAIN:
            raise UsageError(f"{folder} must be a run of mappo, maspo or mars with one seed")
        self.update, self.seed, self.episodes = checkpoint["update"], seed, episodes
        self.steps = self.update * run.settings["rollout_length"] * run.settings["num_envs"]
        self.settings = {**run.settings, "num_envs": rows // run.settings["rollout_length"], "device": "cpu"}
        if rows % run.settings["rollout_length"]:
            raise UsageError(f"--rows is {rows}; it must be a multiple of {run.settings['rollout_length']}")
        self.content = checkpoint["learner"]
        lesson, args = algos.known(run.algorithm), self.args(algos.known(run.algorithm))
        self.env = self.environments(args.num_envs)
        self.env.reset()
        learner = self.learner(lesson, args)
        self.rollout, self.others = (lesson.Rollout(args, self.env, learner.actor) for _ in range(2))
        for rollout in (self.others, self.rollout, self.others):  # the first one only parts the environments
            lesson.collect(rollout, self.env, learner)
        self.advantage, self.value, self.target = lesson.advantages(self.rollout, learner, args)
        self.order_key = rng.keys([rng.derive(seed, "order")], 1, self.env.device)
        self.returns = self.play(learner.actor)

    def args(self, lesson: Any, **more: Any) -> Any:
        names = {field.name for field in dataclasses.fields(lesson.Args)}
        return lesson.Args(**{name: x for name, x in {**self.settings, **more}.items() if name in names})

    def environments(self, count: int) -> envs.BatchedEnv:
        seeds = [rng.derive(self.seed, "fork")]
        return envs.make(self.settings["env"], count, seed=seeds, **self.settings["env_options"])

    def learner(self, lesson: Any, args: Any) -> Any:
        learner = lesson.Learner(args, self.env, [self.seed])
        learner.load_state_dict(copy.deepcopy(self.content))
        return learner

    def play(self, actor: Any) -> Tensor:
        """Returns of the policy in episodes that begin alike, and meet the same random numbers, for every policy."""
        found = []
        for first in range(0, self.episodes, BATCH):
            env = self.environments(min(BATCH, self.episodes - first))
            seeds = [rng.derive(self.seed, "play", first)]
            found += mars.evaluate(env, actor, seeds, self.args(mars, eval_greedy=False))["episode_return"][0]
        return torch.tensor(found, dtype=torch.float64)

    def noisy(self, sigma: float, noise: str) -> Tensor:
        """The advantages with noise of `sigma` of their standard deviations, [1, T, B, 1 or N]."""
        size = list(self.advantage.shape)
        size[3] = 1 if noise == "joint" else self.env.num_agents
        generator = torch.Generator().manual_seed(rng.signed(rng.derive(self.seed, "noise", noise)))
        return self.advantage + sigma * self.advantage.std() * torch.randn(size, generator=generator)


# ---- one fork ----


def update(start: Start, lesson: Any, learner: Any, args: Any, advantage: Tensor) -> Iterator[tuple[Tensor, dict]]:
    """The lesson's own update, minibatch by minibatch: the rows [1, rows] and what was seen of them before the step."""
    parameters = [*learner.actor.parameters(), *learner.critic.parameters()]
    rollout, key, noise = start.rollout, start.order_key, None
    experience = (rollout, start.value, start.target)
    losses = partial(lesson.losses, experience=experience, learner=learner, args=args)
    for _ in range(args.epochs):
        order, key = rng.permutation(key, rollout.log_prob[0, ..., 0].numel())
        for rows in order.chunk(args.minibatches, 1):
            weight = None if rollout.is_active is None else weights_of(lesson.take(rollout.is_active, rows))
            normalised = lesson.normalise(lesson.take(advantage, rows), weight)
            if not learner.actor.is_discrete:
                noise, key = learner.actor.noise(key, rows.shape[1], start.env.num_agents)
            seen = speed.differentiate(losses, (rows, normalised, weight, noise), start.env.num_agents, parameters)
            learner.actor_optimizer.apply_gradients(args.max_grad_norm)
            learner.critic_optimizer.apply_gradients(args.max_grad_norm)
            yield rows, seen


@torch.no_grad()
def log_ratios(actor: Any, rollout: Any, rows: Tensor | None = None) -> Tensor:
    """log r [R, N] of the policy as it is now, in some environment steps of a rollout or all."""
    T, B = rollout.log_prob.shape[1:3]
    rows = torch.arange(T * B) if rows is None else rows

    def of(part: Tensor) -> Tensor:
        part = part.view(1, -1)
        mask = None if rollout.mask is None else mars.take(rollout.mask, part)
        policy = actor(mars.take(rollout.obs, part), mask)
        return (policy.log_prob(mars.take(rollout.action, part)) - mars.take(rollout.log_prob, part))[0]

    return torch.cat([of(part) for part in rows.split(2048)])


def kl(log_ratio: Tensor) -> float:
    """The estimate of every lesson: the mean of r - 1 - log r."""
    return (log_ratio.expm1() - log_ratio).mean().item()


def quantiles(log_ratio: Tensor) -> list[float]:
    """Of the ratio, without interpolation."""
    ordered = log_ratio.flatten().sort().values
    return [math.exp(ordered[round(q * (len(ordered) - 1))]) for q in QUANTILES]


@dataclasses.dataclass
class Drift:
    """Samples that MAPPO left without force, since the first minibatch in which it did, by epoch: [epochs, R, N]."""

    is_lost: Tensor
    then: Tensor  # log r of every sample in each epoch, before the minibatch that it was in

    def until(self, end: Tensor) -> dict[str, float | int]:
        """How they moved from then until the update's `end` [R, N]: away from r = 1 is positive."""
        away = (end.abs() - self.then.abs())[self.is_lost]
        if not len(away):
            return {"lost": 0}
        spread = away.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
        return {"lost": len(away), "away": (away > 0).float().mean().item(), "drift": spread}


def fork(
    start: Start, lesson: Any, more: dict[str, Any], advantage: Tensor, lost: Tensor | None
) -> tuple[dict[str, Any], Tensor]:
    """One update of a copy; what came of it, and the samples it first left without force, [epochs, R, N].

    Args:
        lesson: whose objective.
        more: its settings.
        advantage: [1, T, B, 1 or N]
        lost: the samples whose drift is told; None: its own.
    """
    args = start.args(lesson, **more)
    lesson.ratio_range(args)  # refuses settings out of range
    learner = start.learner(lesson, args)
    T, B, N = start.rollout.log_prob.shape[1:]
    then, had_none = torch.zeros(args.epochs, T * B, N), torch.zeros(args.epochs, T * B, N, dtype=torch.bool)
    rows_looked_at = torch.arange(T * B)[:: max(1, T * B // LOOKED_AT)]
    course: dict[str, list[float]] = {"no_force": [], "kl": [], "kl_others": [], "least": [], "least_others": []}
    played, last = {}, args.epochs * args.minibatches
    for number, (rows, seen) in enumerate(update(start, lesson, learner, args, advantage), 1):
        epoch, is_idle = (number - 1) // args.minibatches, seen["force"][0] == 0
        then[epoch, rows[0]], had_none[epoch, rows[0]] = seen["log_ratio"][0], is_idle
        course["no_force"].append(is_idle.float().mean().item())
        for name, rollout in (("", start.rollout), ("_others", start.others)):
            log_ratio = log_ratios(learner.actor, rollout, rows_looked_at)
            course["kl" + name].append(kl(log_ratio))
            course["least" + name].append(log_ratio.min().exp().item())
        if number == last or number & (number - 1) == 0:
            played[number] = start.play(learner.actor) - start.returns
    had_none &= had_none.cumsum(0) == 1  # the first time
    end, of_others = (log_ratios(learner.actor, rollout) for rollout in (start.rollout, start.others))
    gained = played[last]
    found = {
        "improvement": gained.mean().item(),
        "error": (gained.std() / math.sqrt(len(gained))).item(),
        "kl": kl(end),
        "kl_others": kl(of_others),
        "quantiles": quantiles(end),
        "quantiles_others": quantiles(of_others),
        **Drift(had_none if lost is None else lost, then).until(end),
        "course": course,
        "played": list(played),
        "gained": [gain.view(GROUPS, -1).mean(1).tolist() for gain in played.values()],
    }
    return found, had_none


# ---- all forks of a start ----


def rounded(value: Any) -> Any:
    """Numbers with five digits, which is more than they are worth."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [rounded(x) for x in value]
    return {name: rounded(x) for name, x in value.items()} if isinstance(value, dict) else value


def forks_of(
    start: Start, names: list[str], strengths: list[float], noises: list[tuple[float, str]], there: set[tuple]
) -> Iterator[dict[str, Any]]:
    """Lines for the file, of all forks that are not `there`."""
    about = {"task": start.settings["env"], "steps": start.steps, "seed": start.seed, "episodes": start.episodes}
    for (sigma, noise), strength in itertools.product(noises, strengths):
        lines = {
            name: {**about, "objective": name, "strength": strength, "sigma": sigma, "noise": noise} for name in names
        }
        missing = [name for name in names if objective(name, strength) and identity(lines[name]) not in there]
        advantage, lost = start.noisy(sigma, noise), None
        for name in dict.fromkeys(("mappo", *missing)) if missing else ():  # all others need what MAPPO lost
            began = time.monotonic()
            result, own = fork(start, *objective(name, strength), advantage, lost)
            lost = own if name == "mappo" else lost
            if name in missing:
                yield rounded({**lines[name], **result, "seconds": time.monotonic() - began})


def identity(line: dict[str, Any]) -> tuple:
    return tuple(line[name] for name in ("task", "steps", "seed", "objective", "strength", "sigma", "noise"))


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="fork", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs of one seed, each a start")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where a line is added for every fork")
    parser.add_argument("--objectives", default=",".join(NAMES), metavar="LIST", help="or modules of your own lessons")
    parser.add_argument("--strengths", type=numbers, default=[0.1, 0.2, 0.4, 0.6, 0.8, 0.9], metavar="LIST")
    parser.add_argument("--sigmas", type=numbers, default=[0.0, 1.0, 2.0, 4.0], metavar="LIST", help="of the noise")
    parser.add_argument("--noise", default="joint,agent", metavar="LIST", help="joint, agent or both")
    parser.add_argument("--rows", type=int, default=65536, metavar="N", help="environment steps of the rollout")
    parser.add_argument("--episodes", type=int, default=2048, metavar="N", help="that show what a policy is worth")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(argv)
    kinds = args.noise.split(",")
    if set(kinds) - {"joint", "agent"}:
        raise UsageError(f"--noise is {args.noise}; it must be joint, agent or both")
    if args.episodes % GROUPS or args.episodes < 2 * GROUPS:
        raise UsageError(f"--episodes is {args.episodes}; it must be a multiple of {GROUPS}, {2 * GROUPS} at least")
    noises = [(sigma, kind) for sigma in args.sigmas for kind in (kinds if sigma else ["joint"])]
    names = args.objectives.split(",")
    for strength in args.strengths:
        for name in names:
            objective(name, strength)
    speed.prepare("cpu")
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    there = {identity(json.loads(line)) for line in lines}
    for folder in args.runs:
        start = Start(folder, args.rows, args.episodes, args.seed)
        print(f"{folder}: after {start.steps:,} steps, return {start.returns.mean():.3f}", flush=True)
        for line in forks_of(start, names, args.strengths, noises, there):
            lines.append(json.dumps(line))
            write_whole(args.out, "".join(f"{line}\n" for line in lines).encode())
            about = " ".join(f"{line[name]}" for name in ("objective", "strength", "sigma", "noise"))
            print(f"  {about}: improvement {line['improvement']:.3f} at KL {line['kl']:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    guarded(main, "fork")
