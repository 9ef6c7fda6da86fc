"""What a training begins with, and leaves besides its checkpoint: first weights; policies and films on the way."""

import copy
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from torch_mars import envs
from torch_mars.envs import rng
from torch_mars.run import film as films
from torch_mars.run.cli import UsageError, short
from torch_mars.run.files import CHECKPOINT, POLICY, load_checkpoint

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

    A run's folder and a policy have an actor; a checkpoint brings a critic, too. Where as many seeds were trained as
    are to be, each goes on with its own weights, otherwise all with those of the best.

    Args:
        path: a run's folder, policy.pt, checkpoint.pt, or a kept policy.
        networks: by name, "actor" among them; every weight has a leading P axis.

    Returns:
        what was taken, for the screen.

    Raises:
        UsageError: there is none, or a shape does not fit.
    """
    file = _policy_of(Path(path))
    content = load_checkpoint(file)
    saved = dict(content["learner"]) if "learner" in content else content
    returns = content["best"]["returns"] if "learner" in content else content.get("returns", ())
    taken = [name for name in networks if isinstance(saved.get(name), dict)]
    if "actor" not in taken:
        raise UsageError(f"--start-from: {short(file)} holds no policy")
    which = ""
    for name in taken:
        own, weights = networks[name].state_dict(), saved[name]
        _check_shapes(file, name, own, weights)
        seeds, wanted = (len(next(iter(state.values()))) for state in (weights, own))
        if seeds != wanted:
            best = max(range(seeds), key=lambda place: float(returns[place])) if len(returns) == seeds else 0
            one = {key: weight[best : best + 1] for key, weight in weights.items()}
            weights = {key: weight.expand(wanted, *weight.shape[1:]) for key, weight in one.items()}
            which = f", the best of {seeds} seeds" if seeds > 1 else ""
        networks[name].load_state_dict(weights)
    anew = [name for name in networks if name not in taken]
    return f"{' and '.join(taken)} of {file}{which}" + f"; {' and '.join(anew)} begins anew" * bool(anew)


def _policy_of(path: Path) -> Path:
    """The file to read."""
    found = next((file for file in (path, path / POLICY, path / CHECKPOINT) if os.path.isfile(file)), None)
    if found is None:
        raise UsageError(f"--start-from: there is no policy or run at {short(path)}")
    return found


def _check_shapes(file: Path, network: str, own: dict[str, Tensor], weights: dict[str, Any]) -> None:
    """UsageError unless there is each weight, with one seed's shape as here."""
    for name in (*own, *weights):
        here, there = own.get(name), weights.get(name)
        if here is None or not isinstance(there, Tensor) or there.shape[1:] != here.shape[1:] or not len(there):
            sizes = [
                "none" if not isinstance(weight, Tensor) else str(list(weight.shape[1:])) for weight in (there, here)
            ]
            raise UsageError(
                f"--start-from: {network} of {short(file)} does not fit: its {name} is {sizes[0]}, this run's "
                f"{sizes[1]}; task, options, --hidden-size, --independent and --value-per-agent decide"
            )


# ---- films ----


def film(path: Path, title: str, args: Any, actor: nn.Module, place: int, evaluate: Callable, update: int) -> None:
    """Write one episode of a seed's policy as a .gif.

    Args:
        path: of the film; its folder is made.
        title: who plays.
        args: of the run.
        actor: every weight has a leading P axis.
        place: of the seed among P.
        evaluate: the lesson's: it plays the episode.
        update: after which one; every film shows another episode.
    """
    seed = rng.derive(args.seed + place, "film", update)
    env = Recorder(envs.make(args.env, 1, "cpu", seed, auto_reset=False, **args.env_options))
    evaluate(env, alone(actor, place), [seed], dataclasses.replace(args, num_seeds=1, device="cpu", cuda_graphs=False))
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


def alone(network: nn.Module, place: int) -> nn.Module:
    """A copy, on the CPU, of one seed's network: P = 1."""
    one = copy.deepcopy(network).to("cpu")
    for weight in one.state_dict(keep_vars=True).values():
        weight.data = weight.data[place : place + 1].clone()
    return one
