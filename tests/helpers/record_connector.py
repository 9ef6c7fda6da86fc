"""Whole episodes of the original Connector, jumanji 1.1.2 (extra [parity]), and ways to play it.

python tests/helpers/record_connector.py     # writes tests/fixtures/connector_{5x5x3a,7x7x5a,10x10x10a}.npz again
"""

from pathlib import Path

import numpy as np

import torch_mars.envs as envs
from torch_mars.envs.connector.task import MOVES

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECORDED = {"connector_5x5x3a": 48, "connector_7x7x5a": 24, "connector_10x10x10a": 12}  # task -> episodes
FIELDS = ("grid", "agent_pos", "target_pos", "step")


# ---- how to play, without the original ----


def greedy(fields: dict, mask: np.ndarray) -> np.ndarray:
    """int64 [B, N]: of the allowed moves the one that leads nearest to the target, the lowest on ties; else stay."""
    ways = fields["target_pos"][:, :, None] - fields["agent_pos"][:, :, None] - np.array(MOVES)
    distance = np.where(mask, np.abs(ways).sum(3), 10_000)
    distance[..., 0] = 9_999
    return distance.argmin(2)


def mixed_actions(rng: np.random.Generator, fields: dict, mask: np.ndarray) -> np.ndarray:
    """int64 [B, N]: greedy, any allowed move, or anything at all, each environment by its own mixture."""
    anything = rng.integers(5, size=mask.shape[:2])
    legal = np.where(mask, rng.random(mask.shape), -1).argmax(2)
    kind = (rng.random(mask.shape[:2]) * 3 + np.linspace(-1, 1, len(mask))[:, None]).clip(0, 2.9).astype(int)
    return np.choose(kind, [greedy(fields, mask), legal, anything])


def scrawled(count: int, size: int, agents: int, seed: int) -> dict[str, np.ndarray]:
    """Situations that need not be reachable by play: trails anywhere, some agents connected, crowded together."""
    rng = np.random.default_rng(seed)
    grid = np.zeros((count, size * size), int)
    cells = np.stack([rng.permutation(size * size)[: 2 * agents] for _ in range(count)])
    heads, targets = cells[:, :agents], cells[:, agents:].copy()
    is_connected = rng.random(heads.shape) < 0.2
    targets[is_connected] = heads[is_connected]
    is_trail = rng.random(grid.shape) < rng.choice([0.0, 0.2, 0.5], (count, 1))
    grid[is_trail] = 3 * rng.integers(agents, size=is_trail.sum()) + 1
    rows = np.arange(count)[:, None]
    grid[rows, targets] = 3 * np.arange(agents) + 3
    grid[rows, heads] = 3 * np.arange(agents) + 2
    places = (np.stack(np.divmod(x, size), 2) for x in (heads, targets))
    values = (grid.reshape(count, size, size), *places, rng.integers(size * size, size=count))
    return dict(zip(FIELDS, values))


# ---- the vector observation, cell by cell ----


def vector_observation(fields: dict) -> np.ndarray:
    """float32 [B, N, 54], written from its description: the original package has none."""
    size, reach = fields["grid"].shape[1], 2
    obs = np.zeros((*fields["agent_pos"].shape[:2], 54), np.float32)
    for b, grid in enumerate(fields["grid"]):
        for i, (row, column) in enumerate(fields["agent_pos"][b]):
            target = np.argwhere(grid == 3 * i + 3)  # looked up on the board: none once it is reached
            obs[b, i, :2] = np.float32([row, column]) / np.float32(size**2)
            obs[b, i, 2:4] = (target[0] if len(target) else np.zeros(2)).astype(np.float32) / np.float32(size**2)
            for k in range(25):
                r, c = row + k // 5 - reach, column + k % 5 - reach
                if not (0 <= r < size and 0 <= c < size):
                    obs[b, i, [4 + k, 29 + k]] = 1
                elif grid[r, c] > 0:
                    kind = grid[r, c] % 3
                    obs[b, i, 4 + k] = {1: -1, 2: 1, 0: 0}[kind]
                    obs[b, i, 29 + k] = 0 if kind else (1 if grid[r, c] == 3 * i + 3 else -1)
    return obs


# ---- the original ----


class Original:
    """B environments of the original; situations as dictionaries of NumPy arrays under our names."""

    def __init__(self, size: int, agents: int):
        import jax
        from jumanji.environments import Connector
        from jumanji.environments.routing.connector.generator import RandomWalkGenerator

        self.agents = agents
        self.env = Connector(RandomWalkGenerator(size, agents), time_limit=size * size)
        self._reset = jax.jit(jax.vmap(lambda key: self._fields(self.env.reset(key)[0])))
        self._step = jax.jit(jax.vmap(self._step_one))
        self._see = jax.jit(jax.vmap(lambda fields: self._state(fields).action_mask))

    def reset(self, seed: int, count: int) -> dict[str, np.ndarray]:
        import jax

        return _arrays(self._reset(jax.random.split(jax.random.PRNGKey(seed), count)))

    def mask(self, fields: dict) -> np.ndarray:
        return np.asarray(self._see(_small(fields)))

    def step(self, fields: dict, actions: np.ndarray):
        """The next situation, each agent's own reward [B, N], terminated and truncated [B], the mask after it."""
        fields, *outcome = self._step(_small(fields), actions.astype(np.int32))
        return (_arrays(fields), *map(np.asarray, outcome))

    def _fields(self, state):
        values = (state.grid, state.agents.position, state.agents.target, state.step_count)
        return dict(zip(FIELDS, values))

    def _state(self, fields):
        import jax
        import jax.numpy as jnp
        from jumanji.environments.routing.connector.types import Agent, State
        from jumanji.environments.routing.connector.utils import get_action_masks

        pos, target = fields["agent_pos"], fields["target_pos"]
        agents = Agent(id=jnp.arange(self.agents), start=pos, target=target, position=pos)
        mask = get_action_masks(agents, fields["grid"])
        parts = {"grid": fields["grid"], "step_count": fields["step"], "agents": agents, "action_mask": mask}
        return State(**parts, key=jax.random.PRNGKey(0))

    def _step_one(self, fields, actions):
        state, step = self.env.step(self._state(fields), actions)
        is_over, is_terminated = step.last(), (step.discount == 0).all()
        return self._fields(state), step.reward, is_over & is_terminated, is_over & ~is_terminated, state.action_mask


def _arrays(fields: dict) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in fields.items()}


def _small(fields: dict) -> dict[str, np.ndarray]:
    return {name: np.asarray(fields[name], np.int32) for name in FIELDS}


def size_of(task: str) -> tuple[int, int]:
    options = envs.task_options(task)
    return options["grid_size"], options["num_agents"]


def record(task: str, episodes: int, seed: int) -> dict[str, np.ndarray]:
    """Steps [K, ...] of whole episodes, one after another, from the original's boards and from scrawled ones."""
    size, agents = size_of(task)
    original, rng = Original(size, agents), np.random.default_rng(seed)
    boards, odd = original.reset(seed, episodes), scrawled(episodes, size, agents, seed)
    fields = {name: np.concatenate([boards[name], odd[name][::2]]) for name in FIELDS}
    is_over, kept = np.zeros(len(fields["step"]), bool), []
    while not is_over.all():
        mask = original.mask(fields)
        action = mixed_actions(rng, fields, mask)
        after, reward, terminated, truncated, mask_after = original.step(fields, action)
        step = {**fields, "mask": mask, "action": action, "reward": reward, "terminated": terminated}
        step |= {"truncated": truncated, "mask_after": mask_after}
        step |= {f"after_{name}": value for name, value in after.items()}
        kept.append({name: value[~is_over] for name, value in step.items()})
        is_over |= terminated | truncated
        fields = after
    joined = {name: np.concatenate([step[name] for step in kept]) for name in kept[0]}
    return {name: value if value.dtype == bool else _narrow(value) for name, value in joined.items()}


def _narrow(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int16)


if __name__ == "__main__":
    for number, (task, episodes) in enumerate(RECORDED.items()):
        arrays = record(task, episodes, seed=number)
        print(task, "steps", len(arrays["step"]), "ends", arrays["terminated"].sum(), arrays["truncated"].sum())
        np.savez_compressed(FIXTURES / f"{task}.npz", **arrays)
