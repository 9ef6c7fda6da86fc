"""A process that steps some copies of a foreign `pettingzoo.ParallelEnv`, run as a program by `workers.py`.

It imports what the foreign module needs, NumPy and Gymnasium: no PyTorch, nothing of this package, so that it starts
soon. Arrays are shared with the owner; a command is one byte on the standard input, an answer on the standard output is
`ANSWER` and its text or picture. It ends with its owner, however that ends.

Axes: B copies of all workers, N agents, O observation, S state, A actions.
"""

import contextlib
import importlib
import mmap
import os
import pickle
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

RESET, STEP, DRAW = b"r", b"s", b"d"
DONE, FAILED = b".", b"!"
ANSWER = struct.Struct("<cQ")  # DONE or FAILED, and how many bytes follow
MOST_SAID = 300  # characters of a foreign error
LOOKS_EVERY = 1.0  # s: whether the owner is still there


class Unfit(Exception):
    """The environment cannot be trained on, or broke its contract: one sentence."""


# ---- what kind of environment it is ----


def form_of(env: Any) -> dict[str, Any]:
    """Of an environment that was reset: agents, sizes and bounds, as plain arrays and numbers (see `foreign.Form`).

    Raises:
        Unfit: its agents cannot share a policy, or it has spaces that the lessons do not know.
    """
    agents = list(getattr(env, "possible_agents", None) or [])
    if not agents:
        raise Unfit("it has no possible_agents; which agents there can be must be known from the start")
    seen, has_mask = _equal_space(env, agents, "observation", "pad_observations_v0")
    action, _ = _equal_space(env, agents, "action", "pad_action_space_v0")
    low, high = bounds_of(seen, "observation")
    form = dict.fromkeys(("actions", "start", "action_low", "action_high", "state_low", "state_high"))
    form |= {"agents": agents, "obs_low": low, "obs_high": high, "is_nested": has_mask, "has_mask": has_mask}
    if isinstance(action, spaces.Discrete):
        form |= {"actions": int(action.n), "start": int(action.start)}
    elif isinstance(action, spaces.Box) and len(action.shape) == 1 and action.dtype.kind == "f":
        low, high = np.asarray(action.low, np.float32), np.asarray(action.high, np.float32)
        if not (np.isfinite(low) & np.isfinite(high)).all():
            raise Unfit(f"its action space is {action}; bounds must be finite, such as with supersuit.clip_actions_v0")
        form |= {"action_low": low, "action_high": high, "has_mask": False}
    else:
        raise Unfit(f"its action space is {action}; the lessons know Discrete and Box of floats with one axis")
    state = getattr(env, "state_space", None)
    if isinstance(state, spaces.Box) and len(state.shape) == 1:  # a picture is no state for a critic without eyes
        form["state_low"], form["state_high"] = bounds_of(state, "state")
    return form


def _equal_space(env: Any, agents: list, kind: str, padding: str) -> tuple[spaces.Space, bool]:
    """The one space of all agents, without an action mask in it; and whether there was one."""
    of = getattr(env, f"{kind}_space")
    first = of(agents[0])
    for agent in agents[1:]:
        other = of(agent)
        # bounds say nothing of what is seen, but of what can be done
        is_alike = kind == "observation" and isinstance(first, spaces.Box) and isinstance(other, spaces.Box)
        if not (first.shape == other.shape if is_alike else first == other):
            raise Unfit(
                f"agents {agents[0]!r} and {agent!r} have different {kind} spaces, {_short(first)} and "
                f"{_short(other)}; make them equal in a parallel_env of your own, such as with supersuit.{padding}"
            )
    if kind == "observation" and isinstance(first, spaces.Dict) and set(first) == {"observation", "action_mask"}:
        return first["observation"], True
    return first, False


def bounds_of(space: spaces.Space, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest values of a flattened space and of zeros, float32 each."""
    try:
        flat = spaces.flatten_space(space)
        low, high = np.asarray(flat.low, np.float32).reshape(-1), np.asarray(flat.high, np.float32).reshape(-1)
    except (NotImplementedError, AttributeError, ValueError):  # Gymnasium's, of its Text, Graph, Sequence and the like
        raise Unfit(f"its {what} space is {_short(space)}, which is no list of numbers of one length") from None
    if not low.size:
        raise Unfit(f"its {what} space is {_short(space)}, which is empty")
    return np.minimum(low, 0), np.maximum(high, 0)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def look(make: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Make an environment, reset it once, and say what it is."""
    env = made(make, kwargs)
    _, infos = _pair(env.reset(seed=0))
    form = form_of(env)
    if form["actions"] is not None:
        form["has_mask"] |= any("action_mask" in (info or {}) for info in infos.values())
    modes = (getattr(env, "metadata", None) or {}).get("render_modes", [])
    _close(env)
    form["has_pictures"] = False
    if "rgb_array" in modes:
        with contextlib.suppress(Exception):  # then there are none
            _close(make(**kwargs, render_mode="rgb_array"))
            form["has_pictures"] = True
    return form


def made(make: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    env = make(**kwargs)
    for needed in ("reset", "step", "observation_space", "action_space"):
        if not callable(getattr(env, needed, None)):
            raise Unfit(f"what parallel_env makes is a {type(env).__name__}, which lacks {needed}()")
    return env


def _pair(answer: Any) -> tuple[dict, dict]:
    if not (isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(part, Mapping) for part in answer)):
        raise Unfit("reset() must return two dictionaries: observations and infos")
    return answer


def _close(env: Any) -> None:
    with contextlib.suppress(Exception):  # it has done its work
        env.close()


# ---- one environment ----


class Copy:
    """One environment, whose agents are rows of arrays.

    Agents that have left, or are not there yet, are rows of zeros that may do anything.

    Args:
        env: the foreign environment.
        form: what it is.
        arrays: of this copy alone: obs [N, O], state [S], mask [N, A], acting [N], reward [N], action [N] or [N, d],
            and of shape [] seed, step, terminated, truncated. All but action and seed are written here.
    """

    def __init__(self, env: Any, form: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.env, self.form, self.arrays = env, form, arrays
        self.agents: list = form["agents"]
        self.acting: set = set()
        self.gone: set = set()
        space = env.observation_space(self.agents[0])
        self.space = space["observation"] if form["is_nested"] else space

    def reset(self) -> None:
        """A new episode of the seed in the array."""
        obs, infos = _pair(self.env.reset(seed=int(self.arrays["seed"])))
        self.gone = set()
        self._count_agents()
        if not self.acting:
            raise Unfit("after reset() there are no agents")
        self.arrays["step"][()] = 0
        self.arrays["terminated"][()] = self.arrays["truncated"][()] = False
        self._perceive(obs, infos)

    def step(self) -> None:
        """One step with the actions in the array; what is over stays so."""
        a = self.arrays
        a["step"] += 1
        a["reward"][:] = 0
        if not self.acting:
            return
        answer = self.env.step({agent: self._action(i) for i, agent in enumerate(self.agents) if agent in self.acting})
        if not (isinstance(answer, tuple) and len(answer) == 5 and all(isinstance(part, Mapping) for part in answer)):
            raise Unfit("step() must return five dictionaries: observations, rewards, terminations, truncations, infos")
        obs, rewards, terminations, truncations, infos = answer
        before = self.acting
        self.gone |= {agent for agent in before if terminations.get(agent) or truncations.get(agent)}
        self._count_agents()
        for i, agent in enumerate(self.agents):
            if agent in before:
                a["reward"][i] = self._number(rewards.get(agent, 0.0), agent)
        if not np.isfinite(a["reward"]).all():
            wrong = int((~np.isfinite(a["reward"])).argmax())
            raise Unfit(f"the reward of agent {self.agents[wrong]!r} is {a['reward'][wrong]}")
        is_over = not self.acting
        # of those who left last: whether one of them could have gone on
        is_cut = is_over and any(truncations.get(agent) and not terminations.get(agent) for agent in before)
        a["truncated"][()], a["terminated"][()] = is_cut, is_over and not is_cut
        self._perceive(obs, infos, before if is_over else None)

    def _count_agents(self) -> None:
        """Who is to act next."""
        here = set(self.env.agents)
        if not here <= set(self.agents):
            raise Unfit(f"agent {next(iter(here - set(self.agents)))!r} is not one of possible_agents")
        self.acting = here - self.gone
        self.arrays["acting"][:] = [agent in self.acting for agent in self.agents]

    @staticmethod
    def _number(reward: Any, agent: Any) -> float:
        """Some give an array of one number."""
        array = np.asarray(reward)
        if array.size != 1 or array.dtype.kind not in "biuf":
            raise Unfit(f"the reward of agent {agent!r} is {_short(repr(reward))}; it must be a number")
        return array.item()

    def _action(self, i: int) -> Any:
        """That of agent number i, as the foreign space wants it."""
        action = self.arrays["action"][i]
        if self.form["actions"] is not None:
            return int(action) + self.form["start"]
        return np.clip(action, self.form["action_low"], self.form["action_high"])

    def _perceive(self, obs: Mapping, infos: Mapping, last: set | None = None) -> None:
        """Write what is seen. `last`: those who acted last, where the episode is over."""
        a = self.arrays
        a["obs"][:] = 0
        a["mask"][:] = True
        for i, agent in enumerate(self.agents):
            if agent not in (self.acting if last is None else last):
                continue
            if agent not in obs:
                if last is not None:
                    continue  # of one who has left, nothing need be told
                raise Unfit(f"there is no observation of agent {agent!r}, who is in agents")
            own = obs[agent]
            a["obs"][i] = self._flat(self.space, own["observation"] if self.form["is_nested"] else own, agent)
            if self.form["has_mask"] and last is None:
                mask = (own if self.form["is_nested"] else infos.get(agent) or {}).get("action_mask")
                if mask is not None:
                    a["mask"][i] = self._mask(mask, agent)
        if not np.isfinite(a["obs"]).all():
            i, place = np.argwhere(~np.isfinite(a["obs"]))[0]
            raise Unfit(f"number {place} of what agent {self.agents[i]!r} sees is {a['obs'][i, place]}")
        if a["state"].size:
            a["state"][:] = self._state()
            if not np.isfinite(a["state"]).all():
                raise Unfit(f"number {int((~np.isfinite(a['state'])).argmax())} of state() is not finite")

    def _state(self) -> Any:
        """That of the team; zeros of an end by the rules that state() cannot tell: nothing is expected after it."""
        try:
            return self._flat(self.env.state_space, self.env.state(), None)
        except Exception:
            if self.arrays["terminated"]:
                return 0
            raise

    def _flat(self, space: spaces.Space, value: Any, agent: Any) -> np.ndarray:
        flat = np.asarray(value).reshape(-1) if isinstance(space, spaces.Box) else spaces.flatten(space, value)
        wanted = self.arrays["state" if agent is None else "obs"].shape[-1]
        if flat.shape != (wanted,):
            what = "state()" if agent is None else f"the observation of agent {agent!r}"
            raise Unfit(f"{what} has {flat.size} numbers; its space has {wanted}")
        return flat

    def _mask(self, mask: Any, agent: Any) -> np.ndarray:
        mask = np.asarray(mask).astype(bool)
        if mask.shape != (self.form["actions"],):
            raise Unfit(f"the action_mask of agent {agent!r} has shape {list(mask.shape)}; "
                        f"it must be {[self.form['actions']]}")  # fmt: skip
        if not mask.any():
            raise Unfit(f"the action_mask of agent {agent!r} forbids every action")
        return mask

    def picture(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        picture = np.asarray(self.env.render())
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4):
            raise Unfit(f"render() gave {picture.dtype} {list(picture.shape)}; it must be uint8 [H, W, 3]")
        return picture[..., :3]


# ---- shared memory ----


def shared_arrays(memory: Any, fields: list[tuple[str, str, tuple[int, ...]]]) -> tuple[dict[str, np.ndarray], int]:
    """Arrays by name one behind the other in a buffer, and how many bytes they take; without a buffer only that.

    Args:
        fields: name, dtype and shape of each.
    """
    arrays, start = {}, 0
    for name, dtype, shape in fields:
        count = int(np.prod(shape))
        if memory is not None:
            arrays[name] = np.frombuffer(memory, dtype, count, start).reshape(shape)
        start += -(-count * np.dtype(dtype).itemsize // 64) * 64  # each begins a line of the cache
    return arrays, max(start, 64)


# ---- the process ----


class Worker:
    """Copies `first` to `last - 1` of all."""

    def __init__(self, make: Callable[..., Any], job: dict[str, Any]):
        self.first, form = job["first"], job["form"]
        self.arrays, _ = shared_arrays(mmap.mmap(job["memory"], job["size"]), job["fields"])
        self.copies = []
        for b in range(job["first"], job["last"]):
            own = {name: array[b : b + 1].reshape(array.shape[1:]) for name, array in self.arrays.items()}
            self.copies.append(Copy(made(make, job["kwargs"]), form, own))

    def each(self, do: Callable[[Copy], None]) -> bytes:
        """With every copy that is wanted."""
        wanted = self.arrays["wanted"][self.first : self.first + len(self.copies)]
        for place in wanted.nonzero()[0].tolist():
            copy = self.copies[place]
            try:
                do(copy)
            except Exception as error:
                when = f"step {int(copy.arrays['step'])} of the episode with seed {int(copy.arrays['seed'])}"
                raise Unfit(f"{said(error)}, in {when}") from None
        return b""

    def draw(self) -> bytes:
        return pickle.dumps(self.copies[0].picture())


def said(error: BaseException) -> str:
    """One sentence on an error, with the place in the foreign code."""
    what = " ".join(str(error).split())[:MOST_SAID]
    if isinstance(error, Unfit):
        return what
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {what} ({frame.filename}, line {frame.lineno})"


def watch(owner: int) -> None:
    """End with the owner, also where it cannot say so: in the middle of a long step."""
    while os.getppid() == owner:
        time.sleep(LOOKS_EVERY)
    os._exit(1)


def serve(commands: Any, answers: Any) -> None:
    """Until the owner has nothing more to ask."""

    def answer(do: Callable[[], bytes]) -> bool:
        kind = DONE
        try:
            content = do()
        except Exception as error:
            kind, content = FAILED, said(error).encode()
        answers.write(ANSWER.pack(kind, len(content)) + content)
        answers.flush()
        return kind == DONE

    owner = pickle.load(commands)
    sys.path[:] = owner["path"]
    threading.Thread(target=watch, args=(owner["process"],), daemon=True).start()
    job, worker = pickle.load(commands), None

    def begin() -> bytes:
        nonlocal worker
        make = importlib.import_module(job["module"]).parallel_env
        if "form" not in job:
            return pickle.dumps(look(make, job["kwargs"]))
        worker = Worker(make, job)
        return b""

    if not answer(begin) or worker is None:
        return
    do = {
        RESET: lambda: worker.each(Copy.reset),
        STEP: lambda: worker.each(Copy.step),
        DRAW: worker.draw,
    }
    while command := commands.read(1):
        answer(do[command])
    for copy in worker.copies:
        _close(copy.env)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whether Ctrl-C ends something, the owner decides
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what foreign code prints is no answer
    with contextlib.suppress(BrokenPipeError, EOFError):  # the owner has gone
        serve(commands, answers)


if __name__ == "__main__":
    main()
