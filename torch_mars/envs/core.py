"""What every environment shares: reset, step, time limit, auto-reset, episode statistics, spaces, `load_state`.

An environment is a subclass that writes only its rules, as functions of tensors (see `BatchedEnv`). This file knows no
rules, no task names (`torch_mars.envs.make` does) and no PettingZoo (`torch_mars.envs.pettingzoo` does).

Axes: B environments, N agents, O observation, S global state, A actions.
"""

import copy
import dataclasses
import functools
import math
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs import rng, rules
from torch_mars.envs.given import as_kind, check_values, device_named, tensors_of
from torch_mars.envs.options import MOST, make_options, shown, whole

FURTHEST = 1e18  # of a place in a State: float32 holds squares of it, int64 its whole part
MOST_COUNTED = 2**62  # steps, in a State: int64 can go on from there


@dataclass
class State:
    """All mutable state of B environments. A subclass adds the fields that its specification names."""

    rng: Tensor  # int64 [B]: the key of the environment's next random number
    step: Tensor  # int64 [B]: steps taken in this episode
    totals: Tensor  # float32 [B, 1 + M]: return of this episode so far, then its summed metrics


@dataclass
class TimeStep:
    """What `reset`, `step` and `observe` hand out, on the environment's device.

    No tensor is memory of the State: who writes to one changes nothing that is to come. Two of them may be one, such as
    `obs` and `final_obs` where no episode ended.
    """

    obs: Tensor  # float32 [B, N, O]
    state: Tensor  # float32 [B, S]: global state for a centralised critic
    action_mask: Tensor | None  # bool [B, N, A], True = allowed; None where everything always is
    is_active: Tensor | None  # bool [B, N], False = out: its action changes nothing; None where nobody ever is
    reward: Tensor  # float32 [B, N]
    terminated: Tensor  # bool [B]: the rules ended the episode in this step
    truncated: Tensor  # bool [B]: the time limit did
    final_obs: Tensor  # as obs, before any auto-reset
    final_state: Tensor  # as state, before any auto-reset
    info: dict[str, Tensor]  # [B] each


class BatchedEnv(ABC):
    """B independent copies of one task, stepped together as tensors.

    A subclass provides the class attributes below, `setup` (which sets `num_agents`, `max_steps`, `observation_space`,
    `action_space`, `state_space` and constant tensors on `self.device`), and the rules:

    - `initial_state(rng) -> State`: a start for each key in rng [B]; begins with `**self.episode_start(rng)`;
    - `transition(state, actions) -> (state, reward [B, N], terminated [B], metrics)`: one step, without counting it;
    - `observation(state) -> [B, N, O]`, `global_state(state) -> [B, S]`, `action_mask(state) -> [B, N, A] or None`;
    - where agents are out before their episode ends: `is_active(state) -> bool [B, N]`;
    - `draw(state, index, trail) -> uint8 [H, W, 3]`, and where it helps `draw_text(state, index) -> str` and
      `draw_observation(obs [O], agent) -> uint8 [h, h, 3]`;
    - where the rules stand as loops, too (`loops.py`): `engine()`.

    Where the critic sees what the agents see, say `state_is_obs = True`: learners then keep it once.

    Rules treat every environment by itself and B as free: they are also called with a few rows of the batch, and by
    several threads at once. So they keep nothing in `self`: what lasts is in the State.

    Where they say what nan and infinite actions mean, say `takes_any_action = True`: elsewhere these are refused.

    Where only the present State can be drawn, say `draws_later = False`; where a saved one cannot be gone on with, say
    in `resume_note` what a resumed training does instead.

    Args:
        num_envs: B >= 1.
        device: "cpu", "cuda", "cuda:1", ...
        seed: an int, or P ints for P equal blocks of consecutive environments.
        auto_reset: whether an environment whose episode ended starts the next one within the same step.
        options: fields of the environment's `Options`.
    """

    Options: ClassVar[type]  # dataclass of the task's options
    metrics: ClassVar[dict[str, str]] = {}  # worth logging at an episode's end -> "sum" over its steps or "last"
    headline: ClassVar[str] = ""  # of the metrics the one that says most, shown beside returns
    has_shared_reward: bool = True  # every column of the reward is the team's; False where agents are paid apart
    state_is_obs: bool = False  # the global state is the observations of agent 0, 1, ...: obs.flatten(1)
    takes_any_action: ClassVar[bool] = False  # the rules of a Box say what nan and infinite actions mean
    draws_later: bool = True  # States of the past can be drawn, too
    resume_note: ClassVar[str] = ""  # what becomes of the episodes that a resumed training cannot go on with

    num_agents: int
    max_steps: int
    observation_space: gymnasium.spaces.Box
    action_space: gymnasium.spaces.Discrete | gymnasium.spaces.Box
    state_space: gymnasium.spaces.Box

    def __init__(
        self,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        seed: int | Sequence[int] = 0,
        auto_reset: bool = True,
        **options: Any,
    ):
        self.num_envs = whole(num_envs, "num_envs")
        if not 1 <= self.num_envs <= MOST:
            raise ValueError(f"num_envs is {shown(num_envs)}; it must be a whole number from 1 to {MOST}")
        self.device = device_named(device)
        if not isinstance(auto_reset, bool | np.bool_):
            raise ValueError(f"auto_reset is {shown(auto_reset)}; it must be true or false")
        self.auto_reset = bool(auto_reset)
        self.options = make_options(self.Options, options)
        self._is_of_user = not type(self).__module__.startswith("torch_mars.")
        self.setup()
        if self._is_of_user:
            rules.check_setup(self, BatchedEnv)
        if not 1 <= self.max_steps <= MOST:
            raise ValueError(f"max_steps is {shown(self.max_steps)}; it must be between 1 and {MOST}")
        self.agents = [f"agent_{i}" for i in range(self.num_agents)]
        self.observation_size = self.observation_space.shape[0]
        self.state_size = self.state_space.shape[0]
        self._summed = [name for name, kind in self.metrics.items() if kind == "sum"]
        self._number_in_all, self._rows = self.num_envs, None  # of a share: which of how many environments it has
        self._seed(seed)
        self.state: State | None = None

    # ---- the rules: a subclass writes these ----

    @abstractmethod
    def setup(self) -> None:
        """Set the sizes, spaces and constants of the task that `self.options` describe."""

    @abstractmethod
    def initial_state(self, rng: Tensor) -> State:
        """The start of an episode for each key in rng [B]."""

    @abstractmethod
    def transition(self, state: State, actions: Tensor) -> tuple[State, Tensor, Tensor, dict[str, Tensor]]:
        """One step: the new State, reward [B, N], terminated [B], and metrics [B] by name."""

    @abstractmethod
    def observation(self, state: State) -> Tensor:
        """What each agent sees, [B, N, O]."""

    @abstractmethod
    def global_state(self, state: State) -> Tensor:
        """What the critic sees, [B, S]."""

    def action_mask(self, state: State) -> Tensor | None:
        """Which actions are allowed, [B, N, A]; None where everything always is."""
        return None

    def is_active(self, state: State) -> Tensor | None:
        """Who still acts, bool [B, N]: what the others do changes nothing; None where everybody acts to the end."""
        return None

    def draw(self, state: State, index: int = 0, trail: Sequence[State] = ()) -> np.ndarray:
        """A picture of environment number `index`, uint8 [H, W, 3]: its characters, unless it draws something better.

        `trail`: earlier States of the episode, oldest first, for environments that show where things came from.
        """
        from torch_mars.envs.canvas import of_text, summary

        check_index(state, index)
        return of_text(summary(state, index), self.draw_text(state, index) or "")

    def draw_text(self, state: State, index: int = 0) -> str | None:
        """Environment number `index` in characters; None where characters make no picture."""
        return None

    def draw_observation(self, obs: Tensor, agent: int) -> np.ndarray | None:
        """What agent number `agent` sees, from its obs [O]: uint8 [h, h, 3]; None where numbers make no picture."""
        return None

    def next_episode(self, state: State) -> State:
        """The start that follows an ended episode; overridden where starts are prepared during the episode."""
        return self.initial_state(state.rng)

    def perceive(self, state: State) -> tuple[Tensor, Tensor, Tensor | None]:
        """Observation, global state and action mask at once; overridden where they share work."""
        return self.observation(state), self.global_state(state), self.action_mask(state)

    def admitted(self, state: State, given: Collection[str]) -> State:
        """A State whose fields `given` came from outside, with what follows from them made anew.

        Raises:
            ValueError: it cannot be. Overridden where fields have bounds, or follow from others.
        """
        return state

    def engine(self) -> Any:
        """The `engine.LoopEngine` of these rules (B = 1), where they stand as loops, too; None: the batch of one."""
        return None

    # ---- what users call ----

    def reset(self, seed: int | Sequence[int] | None = None) -> TimeStep:
        """Start a new episode in every environment; without a seed, the random numbers go on where they were."""
        if seed is not None:
            self._seed(seed)
        elif self.state is not None:
            self._keys = self.state.rng
        self.state = self.initial_state(self._keys)
        return self.observe()

    def step(self, actions: Tensor) -> TimeStep:
        """Move every environment by one step. With `auto_reset=False`, call `reset` once an episode has ended.

        Args:
            actions: int64 [B, N] for a Discrete action space, float32 [B, N, d] for a Box.

        Raises:
            RuntimeError: before the first `reset`.
            ValueError: actions of another shape or kind, or (looked at on CPU only) outside a Discrete space, or nan or
                infinite.
            ForeignError: rules of a user's own make something of another shape or kind, or (likewise) numbers that are
                not finite.
        """
        if self.state is None:
            raise RuntimeError("step() before reset(): call reset() first")
        self.state, ts = self._next(self.state, self._checked(actions))
        if self._is_of_user and may_look(ts.obs):
            rules.check_values(self, ts)
        return ts

    def sample_actions(self) -> Tensor:
        """Actions at random, as `step` takes them: every allowed action alike, or evenly within the bounds of a Box.

        Each call draws further numbers, which are no part of the State: what comes next is the same however many were
        drawn. Environment i draws the same in a batch of any size, and `reset(seed)` begins anew.

        Returns:
            int64 [B, N] for a Discrete action space, float32 [B, N, d] for a Box.

        Raises:
            RuntimeError: before the first `reset`.
            ValueError: a Box without bounds.
        """
        if self.state is None:
            raise RuntimeError("sample_actions() before reset(): call reset() first")
        space = self.action_space
        is_discrete = isinstance(space, gymnasium.spaces.Discrete)
        if not is_discrete and not space.is_bounded():
            raise ValueError(f"actions at random need bounds, which {shown(space)} has not")
        shape = (self.num_agents, int(space.n)) if is_discrete else (self.num_agents, *space.shape)
        draws, self._action_keys = rng.uniform(self._action_keys, math.prod(shape))
        draws = draws.view(self.num_envs, *shape)
        if is_discrete:
            mask = self.action_mask(self.state)
            return (draws if mask is None else draws.masked_fill(~mask, -1)).argmax(-1)
        low, high = (torch.as_tensor(bound, device=self.device) for bound in (space.low, space.high))
        return torch.minimum(low + draws * (high - low), high)  # rounding must not leave the space

    def compile(self, by: Callable[[Callable], Callable] | None = None) -> None:
        """Step compiled from now on: on a GPU with a tenth of the kernels. The first step compiles.

        Floats may then differ by rounding from those of steps that are not compiled.

        Args:
            by: from the function of State and actions to its compiled form; left out: `torch.compile`.

        Raises:
            ValueError: on a CPU, unless `by` is given: loops are faster, and PyTorch 2.13 compiles some rules wrongly.
        """
        if by is None and self.device.type == "cpu":
            raise ValueError("environments on a CPU are not compiled: their loops are faster")
        compiler = by or functools.partial(torch.compile, fullgraph=True, dynamic=False)
        plain = BatchedEnv._next
        # what is compiled is kept with the code, and only for so many environments: so each has code of its own
        own = types.FunctionType(plain.__code__.replace(), plain.__globals__)
        step = compiler(types.MethodType(own, self))
        # a start's fields may be slices, with other strides than a step's: those would be compiled for, too
        self._next = lambda state, actions: step(tree_map(Tensor.contiguous, state), actions)

    def observe(self) -> TimeStep:
        """The TimeStep of the present state, without moving: reward 0, nothing ended."""
        if self.state is None:
            raise RuntimeError("observe() before reset(): call reset() first")
        obs, global_state, mask = self.perceive(self.state)
        active = self.is_active(self.state)
        reward = torch.zeros(self.num_envs, self.num_agents, dtype=torch.float32, device=self.device)
        ended = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        info = self.episode_info(self.state.step, self.state.totals)
        ts = TimeStep(obs, global_state, mask, active, reward, ended, ended, obs, global_state, info)
        if self._is_of_user:
            rules.check_seen(self, ts)
            if may_look(ts.obs):
                rules.check_values(self, ts)
        return unshared(ts, self.state)

    def load_state(self, fields: dict[str, Any]) -> None:
        """Put B situations in place; fields left out keep their value.

        Args:
            fields: State field name -> array-like [B, ...] of the field's shape.

        Raises:
            ValueError: an unknown field, one of another shape, values that its numbers cannot be, or a situation with
                which the rules cannot go on. The State stays. Odd situations are taken: robots inside one another, the
                dead in good health, a step beyond the time limit.
        """
        if self.state is None:
            self.reset()
        self.state = self.with_fields(self.state, fields)

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all fields of the State; `load_state` takes them back and continues identically."""
        if self.state is None:
            self.reset()
        return {name: tensor.clone() for name, tensor in fields_of(self.state).items()}

    def close(self) -> None:  # noqa: B027 - only foreign ones hold something
        """Let go of what is outside this process: of nothing, where an environment does not say otherwise."""

    # ---- some of the environments by themselves ----

    def share(self, rows: Tensor) -> "BatchedEnv":
        """The environments `rows` [B'] from where they are, with a State of their own, until `join` or for good."""
        share = copy.copy(self)
        share._rows = rows if self._rows is None else self._rows[rows]
        share.num_envs, share._keys, share._action_keys = len(rows), self._keys[rows], self._action_keys[rows]
        share.state = tree_map(lambda field: field[rows], self.state)
        return share

    def join(self, shares: Sequence["BatchedEnv"], rows: Sequence[Tensor]) -> None:
        """Go on from where `shares` are, which hold the environments `rows` each: together all."""
        order = torch.cat(list(rows)).argsort()
        self._action_keys = torch.cat([share._action_keys for share in shares])[order]
        self.state = tree_map(lambda *fields: torch.cat(fields)[order], *(share.state for share in shares))

    # ---- the frame of a step: the same for tensors [B, ...] and for the arrays of one environment ----

    def count(self, step: Any, totals: Any, reward: Any, terminated: Any, metrics: dict, join: Callable) -> tuple:
        """What a step adds to step [...] and totals [..., 1 + M], and whether the time limit ends the episode.

        Args:
            reward: [..., N]. terminated: [...]. metrics: [...] by name.
            join: from numbers [...] to [..., numbers], of the kind of totals.
        """
        step = step + 1
        is_truncated = (step >= self.max_steps) & ~terminated
        team_reward = reward[..., 0] if self.has_shared_reward else reward.mean(-1)
        return step, totals + join([team_reward, *(metrics[name] for name in self._summed)]), is_truncated

    def episode_info(self, step: Any, totals: Any) -> dict[str, Any]:
        """Of the episodes so far, [...] each: `episode_return`, `episode_length`, and the metrics that are sums."""
        sums = {name: totals[..., 1 + i] for i, name in enumerate(self._summed)}
        return {"episode_return": totals[..., 0], "episode_length": step, **sums}

    def with_fields(self, state: State, fields: dict[str, Any]) -> State:
        """`state` with copies of `fields` in place of its own: what `load_state` means."""
        current, loaded = fields_of(state), {}
        for name, tensor in tensors_of(fields, current).items():
            loaded[name] = as_kind(name, tensor, current[name].dtype).to(current[name].device, copy=True)
        state = dataclasses.replace(state, **loaded)
        if "step" in loaded:
            check_values(state, ["step"], step=(-MOST_COUNTED, MOST_COUNTED))
        return self.admitted(state, loaded.keys())

    # ---- for subclasses ----

    def episode_start(self, rng: Tensor) -> dict[str, Tensor]:
        """The fields of the base State at the start of an episode."""
        count = rng.shape[0]
        return {
            "rng": rng,
            "step": torch.zeros(count, dtype=torch.int64, device=rng.device),
            "totals": torch.zeros(count, 1 + len(self._summed), dtype=torch.float32, device=rng.device),
        }

    # ---- inside ----

    def _seed(self, seed: int | Sequence[int]) -> None:
        """The keys of the first episodes, and those of `sample_actions`, unrelated to them."""
        self._keys = rng.keys(seed, self._number_in_all, self.device)
        if self._rows is not None:
            self._keys = self._keys[self._rows]
        self._action_keys = rng.mix(self._keys ^ rng.signed(rng.derive(0, "actions at random")))

    def _next(self, state: State, actions: Tensor) -> tuple[State, TimeStep]:
        """A step, without changing anything."""
        outcome = self.transition(state, actions)
        if self._is_of_user:
            rules.check_step(self, outcome)
        state, reward, terminated, metrics = outcome
        if self._is_of_user and self.has_shared_reward and may_look(reward):
            rules.check_rewards(self, reward)
        step, totals, truncated = self.count(state.step, state.totals, reward, terminated, metrics, _columns)
        state = dataclasses.replace(state, step=step, totals=totals)
        info = {**metrics, **self.episode_info(step, totals)}

        final_obs, final_state, final_mask = self.perceive(state)
        obs, global_state, mask = final_obs, final_state, final_mask
        if self.auto_reset:
            own_state = None if self.state_is_obs else global_state
            state, obs, own_state, mask = where_rows(
                terminated | truncated, self._restart, state, (state, obs, own_state, mask)
            )
            global_state = obs.flatten(1) if self.state_is_obs else own_state
        active = self.is_active(state)
        ts = TimeStep(obs, global_state, mask, active, reward, terminated, truncated, final_obs, final_state, info)
        if self._is_of_user:
            rules.check_seen(self, ts)
        return state, unshared(ts, state)

    def _restart(self, state: State) -> tuple[State, Tensor, Tensor | None, Tensor | None]:
        """The next episode and what is seen of it; no global state where it is the observations."""
        state = self.next_episode(state)
        obs, global_state, mask = self.perceive(state)
        return state, obs, None if self.state_is_obs else global_state, mask

    def _checked(self, actions: Tensor) -> Tensor:
        is_discrete = isinstance(self.action_space, gymnasium.spaces.Discrete)
        shape = (self.num_envs, self.num_agents) + (() if is_discrete else self.action_space.shape)
        if not isinstance(actions, Tensor) or actions.shape != shape:
            got = f"a tensor {list(actions.shape)}" if isinstance(actions, Tensor) else type(actions).__name__
            raise ValueError(f"actions are {got}; they must be a tensor {list(shape)}")
        if actions.is_complex() or is_discrete and (actions.is_floating_point() or actions.dtype == torch.bool):
            space, kind = ("Discrete", "int64") if is_discrete else ("Box", "float32")
            raise ValueError(f"actions are {actions.dtype}; a {space} space takes torch.{kind}")
        actions = actions.to(self.device, torch.int64 if is_discrete else torch.float32)
        if may_look(actions):
            self._check_values(actions, is_discrete)
        return actions

    def _check_values(self, actions: Tensor, is_discrete: bool) -> None:
        if is_discrete:
            low, high = (int(bound) for bound in torch.aminmax(actions))
            if low < 0 or high >= self.action_space.n:
                wrong = low if low < 0 else high
                raise ValueError(
                    f"action {wrong} is outside the action space; allowed are 0 to {self.action_space.n - 1}"
                )
        # one pass: whatever is not finite leaves a sum that is not; only then is each looked at
        elif not self.takes_any_action and not math.isfinite(actions.sum().item()):
            wrong = (~actions.isfinite()).nonzero()
            if len(wrong):
                b, agent, *place = wrong[0].tolist()
                value = actions[(b, agent, *place)].item()
                where = f"number {place[0]} of agent {agent}" if place else f"agent {agent}"
                raise ValueError(f"action {value} ({where} in environment {b}) is refused; allowed are finite numbers")


def _columns(values: list[Tensor]) -> Tensor:
    """Tensors [B] as the columns of one, float32 [B, len]."""
    return torch.stack([value.float() for value in values], 1)


def check_index(state: Any, index: Any) -> None:
    """ValueError unless a State has an environment number `index`."""
    if not isinstance(state, State):
        raise ValueError(f"the state is {shown(state)}; it must be a State, which env.state is after reset()")
    last = len(state.step) - 1
    if not -last - 1 <= whole(index, "index") <= last:
        raise ValueError(f"index is {shown(index)}; allowed are 0 to {last}, or from the end -1 to {-last - 1}")


# ---- the same numbers whatever the batch ----


def direction_of(y: Tensor, x: Tensor) -> Tensor:
    """atan2, rad, the same for an environment in batches of any size.

    PyTorch's vector instructions round it in another way than what is left over beside them is rounded. Numbers that do
    not lie side by side are all taken one by one.
    """
    return torch.atan2(*torch.stack([y, x], -1).unbind(-1))


# ---- masked work ----


def may_look(tensor: Tensor) -> bool:
    """Whether a value may be looked at for free: on CPU and not inside torch.compile."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def runs_in_loops(tensor: Tensor) -> bool:
    """The switch between the two forms of a rule: whether the loops of `loops.py` are taken, not the tensors.

    They read the tensor's memory, so it must be on CPU, and torch.compile could not follow them.
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors for the loops: contiguous arrays of the same memory, or copies of tensors that are not contiguous."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def own_copies(state: State, names: Iterable[str]) -> dict[str, Tensor]:
    """Fields of a State that the loops may write to: contiguous, in memory of their own."""
    return {name: getattr(state, name).clone(memory_format=torch.contiguous_format) for name in names}


def where_rows(rows: Tensor, compute: Callable[[Any], Any], source: Any, otherwise: Any) -> Any:
    """`otherwise`, but `compute(source)` in the rows where `rows` holds.

    On CPU only those rows are computed; elsewhere all are, with static shapes. The result is the same, because
    `compute` treats every row by itself.

    Args:
        rows: bool [B].
        compute: from a tree of tensors [B', ...] (any B') to one shaped like `otherwise`.
        source, otherwise: trees (tensors, tuples, dataclasses, None) of tensors [B, ...].
    """
    if not may_look(rows):
        return tree_map(lambda new, old: torch.where(like(rows, old), new, old), compute(source), otherwise)
    index = rows.nonzero().squeeze(1)
    if len(index) == 0:
        return otherwise
    if len(index) == len(rows):
        return compute(source)
    computed = compute(tree_map(lambda leaf: leaf[index], source))
    return tree_map(lambda new, old: old.index_copy(0, index, new), computed, otherwise)


def unshared(ts: TimeStep, state: State) -> TimeStep:
    """With copies of what is memory of the State, such as an episode's sums in `info`, or flags of who is alive."""
    if torch.compiler.is_compiling():  # where memory has no address; a copy costs nothing there
        info = {name: value.clone() for name, value in ts.info.items()}
        return dataclasses.replace(ts, is_active=tree_map(Tensor.clone, ts.is_active), info=info)
    own = {tensor.untyped_storage().data_ptr() for tensor in fields_of(state).values()} - {0}  # 0: of no memory

    def apart(tensor: Tensor) -> Tensor:
        return tensor.clone() if tensor.untyped_storage().data_ptr() in own else tensor

    seen = {name: tree_map(apart, value) for name, value in fields_of(ts).items() if name != "info"}
    return TimeStep(**seen, info={name: apart(value) for name, value in ts.info.items()})


def like(rows: Tensor, leaf: Tensor) -> Tensor:
    """One value per row, [B] -> [B, 1, ...] with as many axes as leaf [B, ...]."""
    return rows.view(-1, *[1] * (leaf.dim() - 1))


def tree_map(function: Callable, tree: Any, *others: Any) -> Any:
    """Apply `function` to the tensors of equal trees of tuples, dataclasses and None."""
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if isinstance(tree, tuple):
        return tuple(tree_map(function, *leaves) for leaves in zip(tree, *others))
    branches = {
        field.name: tree_map(function, getattr(tree, field.name), *(getattr(other, field.name) for other in others))
        for field in dataclasses.fields(tree)
    }
    return type(tree)(**branches)


def fields_of(state: State | TimeStep) -> dict[str, Any]:
    """The State's tensors by field name (no copies); likewise of a TimeStep."""
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
