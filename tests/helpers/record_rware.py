"""Whole episodes of the original RWARE, jumanji 1.1.2 (extra [parity]), and the situations from which tests step.

python tests/helpers/record_rware.py     # writes tests/fixtures/rware_{tiny_2ag,small_4ag_hard,large_8ag}.npz again
"""

from pathlib import Path

import numpy as np

import torch_mars.envs as envs
from torch_mars.envs.rware.layouts import layout
from torch_mars.envs.rware.task import FORWARD, LEFT, RIGHT, Options

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECORDED = {"rware_tiny_2ag": 24, "rware_small_4ag_hard": 24, "rware_large_8ag": 12}  # task -> episodes
FIELDS = ("agent_pos", "agent_dir", "is_carrying", "shelf_grid", "request_queue", "step")


def options_of(task: str, **overrides) -> Options:
    return Options(**{**envs.task_options(task), **overrides})


# ---- situations and actions, without the original ----


def situations(options: Options, count: int, seed: int, crowded: bool = True) -> dict[str, np.ndarray]:
    """State fields [count, ...] of what random play hardly ever meets: robots close together, above all before the
    goals, loads carried everywhere, shelves on other storage cells than their own, carried ones asked for.

    Not crowded: loads are carried, but by robots that stand anywhere.
    """
    plan, rng = layout(options), np.random.default_rng(seed)
    N, Q, cells = options.num_agents, options.request_queue_size, plan.rows * plan.columns
    storage = np.flatnonzero(~plan.is_highway)
    made = {name: [] for name in FIELDS}
    for _ in range(count):
        centre = rng.choice([*plan.goals, rng.integers(cells)])
        near = _nearest(plan, centre, max(2 * N, 9))
        pool = near if crowded and rng.random() < 0.8 else np.arange(cells)
        cell = rng.choice(pool, N, replace=False)
        carries = rng.random(N) < rng.choice([0.0, 0.4, 0.8])
        shelves = rng.permutation(plan.num_shelves) + 1
        grid = np.zeros(cells, np.int16)
        grid[cell[carries]] = shelves[: carries.sum()]
        free = storage[~np.isin(storage, cell[carries])]
        standing = min(len(free), plan.num_shelves - carries.sum())
        grid[rng.choice(free, standing, replace=False)] = shelves[carries.sum() : carries.sum() + standing]
        wanted = shelves[: carries.sum()] - 1  # those carried are often asked for
        queue = np.concatenate([rng.permutation(wanted)[: rng.integers(Q + 1)], rng.permutation(plan.num_shelves)])
        queue = queue[np.sort(np.unique(queue, return_index=True)[1])][:Q]
        fields = (np.stack(np.divmod(cell, plan.columns), 1), rng.integers(4, size=N), carries)
        fields += (grid.reshape(plan.rows, plan.columns), rng.permutation(queue), rng.integers(options.max_steps))
        for name, value in zip(FIELDS, fields):
            made[name].append(value)
    return {name: np.stack(values) for name, values in made.items()}


def _nearest(plan, cell: int, count: int) -> np.ndarray:
    row, column = np.divmod(np.arange(plan.rows * plan.columns), plan.columns)
    away = abs(row - cell // plan.columns) + abs(column - cell % plan.columns)
    return np.argsort(away, kind="stable")[:count]


def busy_actions(rng: np.random.Generator, options: Options, fields: dict, aim: float = 0.6) -> np.ndarray:
    """int64 [B, N]: forward, anything, or (with the probability `aim`) a load's way to the nearest goal."""
    plan, position = layout(options), fields["agent_pos"]
    anything = rng.choice(5, p=[0.1, 0.35, 0.15, 0.15, 0.25], size=position.shape[:2])
    goals = np.stack(np.divmod(plan.goals, plan.columns), 1)
    ways = goals[np.abs(goals - position[:, :, None]).sum(3).argmin(2)] - position
    down, right = ways[..., 0], ways[..., 1]
    wanted = np.where(np.abs(down) > np.abs(right), 2, np.where(right > 0, 1, 3))
    turn = (wanted - fields["agent_dir"]) % 4
    steered = np.where(turn == 0, FORWARD, np.where(turn == 3, LEFT, RIGHT))
    return np.where(fields["is_carrying"] & (rng.random(turn.shape) < aim), steered, anything)


# ---- the original ----


class Original:
    """B environments of the original; situations as dictionaries of NumPy arrays under our names."""

    def __init__(self, options: Options):
        import jax
        from jumanji.environments import RobotWarehouse
        from jumanji.environments.routing.robot_warehouse.generator import RandomGenerator

        names = ("shelf_rows", "shelf_columns", "column_height", "num_agents", "request_queue_size")
        generator = RandomGenerator(**{name: getattr(options, name) for name in names}, sensor_range=1)
        self.env, self.plan = RobotWarehouse(generator, time_limit=options.max_steps), layout(options)
        self._reset = jax.jit(jax.vmap(lambda key: self._fields(self.env.reset(key)[0])))
        self._step = jax.jit(jax.vmap(self._step_one))
        self._see = jax.jit(jax.vmap(self._see_one))

    def reset(self, seed: int, count: int) -> dict[str, np.ndarray]:
        import jax

        return _arrays(self._reset(jax.random.split(jax.random.PRNGKey(seed), count)))

    def step(self, fields: dict, actions: np.ndarray, seed: int):
        """The next situation, the team's reward [B], whether it ended [B], observations and masks after it."""
        import jax

        keys = jax.random.split(jax.random.PRNGKey(seed), len(actions))
        fields, *outcome = self._step(self._whole(fields), actions.astype(np.int32), keys)
        return (_arrays(fields), *map(np.asarray, outcome))

    def see(self, fields: dict) -> tuple[np.ndarray, np.ndarray]:
        """Observations and masks."""
        return tuple(map(np.asarray, self._see(self._whole(fields))))

    def _whole(self, fields: dict) -> dict[str, np.ndarray]:
        """With the shelves' places [B, M]; a shelf that is nowhere is put at (0, 0), but not on the grid."""
        flat = fields["shelf_grid"].reshape(len(fields["shelf_grid"]), -1)
        place = np.zeros((len(flat), self.plan.num_shelves), np.int32)
        row, cell = flat.nonzero()
        place[row, flat[row, cell] - 1] = cell
        return {name: np.asarray(value, np.int32) for name, value in fields.items()} | {"shelf_place": place}

    def _fields(self, state):
        import jax.numpy as jnp

        values = (jnp.stack([*state.agents.position], -1), state.agents.direction, state.agents.is_carrying)
        return dict(zip(FIELDS, (*values, state.grid[0], state.request_queue, state.step_count)))

    def _state(self, fields, key):
        import jax.numpy as jnp
        from jumanji.environments.routing.robot_warehouse import utils
        from jumanji.environments.routing.robot_warehouse.types import Agent, Position, Shelf, State

        pos = Position(fields["agent_pos"][:, 0], fields["agent_pos"][:, 1])
        agents = Agent(pos, fields["agent_dir"], fields["is_carrying"])
        place, queue = fields["shelf_place"], fields["request_queue"]
        is_requested = jnp.zeros_like(place).at[queue].set(1)
        shelves = Shelf(Position(place // self.plan.columns, place % self.plan.columns), is_requested)
        grid = jnp.stack([fields["shelf_grid"], jnp.zeros_like(fields["shelf_grid"])])
        grid = grid.at[1, pos.x, pos.y].set(jnp.arange(len(pos.x)) + 1)
        mask = utils.compute_action_mask(grid, agents)
        parts = {"grid": grid, "agents": agents, "shelves": shelves, "request_queue": queue}
        return State(**parts, step_count=fields["step"], action_mask=mask, key=key)

    def _step_one(self, fields, actions, key):
        state, step = self.env.step(self._state(fields, key), actions)
        seen = step.observation
        return self._fields(state), step.reward, step.step_type == 2, seen.agents_view, seen.action_mask

    def _see_one(self, fields):
        import jax

        state = self._state(fields, jax.random.PRNGKey(0))
        return self.env._make_observations(state.grid, state.agents, state.shelves), state.action_mask


def _arrays(fields: dict) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in fields.items()}


def record(options: Options, episodes: int, seed: int, most: int = 120) -> dict[str, np.ndarray]:
    """Arrays [T, E, ...] of steps, fields and what is seen [T + 1, E, ...]; steps after an episode's end count for
    nothing. Half of the episodes begin where the original starts them, half in busy situations.
    """
    original, rng = Original(options), np.random.default_rng(seed)
    starts, busy = original.reset(seed, episodes), situations(options, episodes, seed, crowded=False)
    fields = {name: np.concatenate([starts[name][::2], busy[name][::2]]) for name in FIELDS}
    fields["step"] = np.where(rng.random(episodes) < 0.3, options.max_steps - 40, fields["step"])
    obs, mask = original.see(fields)
    kept = {name: [] for name in (*FIELDS, "obs", "mask", "action", "reward", "done")}

    def keep(**values):
        for name, value in values.items():
            kept[name].append(value)

    for t in range(most):
        keep(**fields, obs=obs, mask=mask)
        action = busy_actions(rng, options, fields)
        after, reward, done, obs, mask = original.step(fields, action, seed + t)
        keep(action=action, reward=reward, done=done)
        fields = after
    keep(**fields, obs=obs, mask=mask)
    return _small({name: np.stack(values) for name, values in kept.items()})


def record_steps(options: Options, count: int, seed: int) -> dict[str, np.ndarray]:
    """Single steps [count, ...] from crowded situations: fields before and after, what was done and seen."""
    original, rng = Original(options), np.random.default_rng(seed)
    before = situations(options, count, seed)
    action = busy_actions(rng, options, before)
    after, reward, done, obs, mask = original.step(before, action, seed)
    outcome = {"action": action, "reward": reward, "done": done, "obs": obs, "mask": mask}
    return _small(before) | {f"after_{name}": value for name, value in _small(after).items()} | _small(outcome)


def _small(arrays: dict) -> dict[str, np.ndarray]:
    small = {"action": np.int8, "obs": np.uint8, "agent_pos": np.int8, "agent_dir": np.int8, "reward": np.int8}
    small |= {"shelf_grid": np.int16, "request_queue": np.int16, "step": np.int16, "is_carrying": bool}
    return {name: values.astype(small.get(name, bool)) for name, values in arrays.items()}


if __name__ == "__main__":
    for number, (task, episodes) in enumerate(RECORDED.items()):
        arrays = record(options_of(task), episodes, seed=number)
        alive = ~np.concatenate([np.zeros_like(arrays["done"][:1]), arrays["done"]]).cumsum(0).astype(bool)
        for values in arrays.values():  # nothing of what comes after the end
            counts = alive[:-1] if len(values) == len(alive) - 1 else np.roll(alive, 1, 0) | alive
            values[~counts] = 0
        print(task, "steps", alive[:-1].sum(), "deliveries", arrays["reward"].sum(), "ends", arrays["done"].sum())
        steps = record_steps(options_of(task), 20_000 // layout(options_of(task)).front.shape[1], seed=number)
        print("single steps", len(steps["done"]), "deliveries", steps["reward"].sum(), "ends", steps["done"].sum())
        np.savez_compressed(FIXTURES / f"{task}.npz", **arrays, **{f"one_{key}": value for key, value in steps.items()})
