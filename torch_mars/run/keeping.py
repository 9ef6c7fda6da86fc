"""What a training begins with, and leaves besides its checkpoint: first weights; policies and films on the way."""

import copy
import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from torch_mars import envs
from torch_mars.envs import rng
from torch_mars.run import film as films
from torch_mars.run.cli import UsageError, short
from torch_mars.run.files import load_checkpoint
from torch_mars.run.finding import find_policy

FRAMES_PER_SECOND = 10


def policy_file(folder: Path, step: int) -> Path:
    """Where a run keeps its policy after so many steps."""
    return folder / "policies" / f"step_{step}.pt"


def film_file(folder: Path, step: int) -> Path:
    """Where a run keeps a film of its policy after so many steps."""
    return folder / "films" / f"step_{step}.gif"


# ---- first weights ----


def start_from(path: str, networks: dict[str, nn.Module]) -> str:
    """Give networks the weights of a saved policy.

    A run's folder (its best policy) and a policy have an actor; a checkpoint brings a critic, too. Where as many seeds
    were trained as are to be, each goes on with its own weights, otherwise all with those of the best.

    Args:
        path: a run's folder, policy.pt, checkpoint.pt, a kept policy, or the name of a task with an installed team.
        networks: by name, "actor" among them; every weight has a leading P axis.

    Returns:
        what was taken, for the screen.

    Raises:
        UsageError: there is none, or a shape does not fit.
    """
    try:
        file = find_policy(path)
    except UsageError as error:
        raise UsageError(f"--start-from: {error}") from None
    content = load_checkpoint(file)
    try:
        saved, returns = _weights_in(content, is_best=os.path.isdir(path))
        taken = [name for name in networks if saved.get(name)]
        if "actor" not in taken:
            raise UsageError(f"--start-from: {short(file)} holds no policy")
        which = ""
        for name in taken:
            own, weights = networks[name].state_dict(), saved[name]
            _check_shapes(file, name, own, weights)
            seeds, wanted = (len(next(iter(state.values()))) for state in (weights, own))
            if seeds != wanted:
                best = max(range(seeds), key=lambda p: float(returns[p])) if len(returns) == seeds else 0
                one = {key: weight[best : best + 1] for key, weight in weights.items()}
                weights = {key: weight.expand(wanted, *weight.shape[1:]) for key, weight in one.items()}
                which = f", the best of {seeds} seeds" if seeds > 1 else ""
            networks[name].load_state_dict(weights)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        RuntimeError,
    ) as error:  # of a lesson unlike ours
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"--start-from: {short(file)} holds no policy to begin with: {short(reason)}") from None
    anew = [name for name in networks if name not in taken]
    return f"{' and '.join(taken)} of {file}{which}" + f"; {' and '.join(anew)} begins anew" * bool(anew)


def _weights_in(content: dict[str, Any], is_best: bool) -> tuple[dict[str, Any], Any]:
    """Weights by network, and returns by seed. `is_best`: of a checkpoint the best policy so far, not the latest."""
    if "learner" not in content:
        return content, content.get("returns", ())
    best = content.get("best", {})
    returns = best.get("returns", ())
    if is_best and len(returns) and min(returns) > -math.inf:
        return {"actor": best["weights"]}, returns
    return content["learner"], returns


def _check_shapes(file: Path, network: str, own: dict[str, Tensor], weights: dict[str, Any]) -> None:
    """UsageError unless there is each weight, with one seed's shape as here, of as many seeds as the others."""
    seeds = {len(weight) for weight in weights.values() if isinstance(weight, Tensor) and weight.dim()}
    for name in (*own, *weights):
        shapes = [
            list(weight.shape[1:]) if isinstance(weight, Tensor) else None
            for weight in (weights.get(name), own.get(name))
        ]
        if shapes[0] != shapes[1] or len(seeds) != 1 or 0 in seeds:
            there, here = ("none" if shape is None else str(shape) for shape in shapes)
            raise UsageError(
                f"--start-from: {network} of {short(file)} does not fit: its {name} is {there}, this run's {here}; "
                "task, options, --hidden-size, --independent and --value-per-agent decide"
            )


# ---- films ----


def film(path: Path, title: str, args: Any, actor: nn.Module, p: int, evaluate: Callable, update: int) -> None:
    """Write one episode of a seed's policy as a .gif.

    Args:
        path: of the film; its folder is made.
        title: who plays.
        args: of the run.
        actor: every weight has a leading P axis.
        p: which of the P seeds.
        evaluate: the lesson's: it plays the episode.
        update: after which one; every film shows another episode.
    """
    seed = rng.derive(args.seed + p, "film", update)
    env = Recorder(envs.make(args.env, 1, "cpu", seed, auto_reset=False, **args.env_options))
    evaluate(env, alone(actor, p), [seed], dataclasses.replace(args, num_seeds=1, device="cpu", cuda_graphs=False))
    path.parent.mkdir(exist_ok=True)
    films.write(path, films.Stage(env.env, args.env, title, 1), [env.episode], FRAMES_PER_SECOND)


class Recorder:
    """An environment with B = 1 that keeps its episode for a film; in all else the environment itself."""

    def __init__(self, env: Any):
        self.env, self.episode = env, films.Episode(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    @property
    def state(self) -> Any:
        return self.env.state

    @state.setter
    def state(self, state: Any) -> None:
        self.env.state = state

    def reset(self, seed: Any = None) -> Any:
        return self._kept(self.env.reset(seed=seed))

    def step(self, actions: Tensor) -> Any:
        return self._kept(self.env.step(actions))

    def _kept(self, ts: Any) -> Any:
        self.episode.add(self.env, ts)
        return ts


def alone(network: nn.Module, p: int) -> nn.Module:
    """A copy, on the CPU, of one seed's network: P = 1."""
    one = copy.deepcopy(network).to("cpu")
    for weight in one.state_dict(keep_vars=True).values():
        weight.data = weight.data[p : p + 1].clone()
    return one
