"""Record whole battles of the original SMAX (JaxMARL 0.2.0, extra [parity]) for tests/envs/test_smax.py.

    python tests/helpers/record_smax.py

Writes tests/fixtures/smax_<scenario>.npz. Per step: the situation before it, the allies' actions, what the step gave.
Observations would be too large: a weighted sum of each is kept, and the full ones of some steps.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario
from jaxmarl.environments.smax.heuristic_enemy import HeuristicPolicyState
from jaxmarl.environments.smax.heuristic_enemy_smax_env import State
from jaxmarl.environments.smax.smax_env import State as BattleState
from smax_comparison import FIELDS, mixed_actions

FIXTURES = Path(__file__).parents[1] / "fixtures"
EPISODES = {"2s3z": 12, "3s_vs_5z": 12, "10m_vs_11m": 12, "27m_vs_30m": 4, "smacv2_5_units": 18, "smacv2_10_units": 6}
FULL_STEPS = (0, 6, 12)  # whose observations are recorded in full
LATE = 85  # the step counter at which some battles begin, to see it end by time


class Original:
    """B battles of the original; situations as dictionaries of NumPy arrays."""

    def __init__(self, scenario, **options):
        self.env = HeuristicEnemySMAX(scenario=map_name_to_scenario(scenario), **options)
        self.num_agents = self.env.num_allies
        self._reset = jax.jit(jax.vmap(self._reset_one))
        self._step = jax.jit(jax.vmap(self._step_one))
        self._perceive = jax.jit(jax.vmap(lambda fields: self._see(self._state(fields))))

    def reset(self, seed, count):
        return _arrays(self._reset(jax.random.split(jax.random.PRNGKey(seed), count)))

    def step(self, seed, fields, actions):
        """The next situation, the team's reward [B], whether it ended [B]."""
        keys = jax.random.split(jax.random.PRNGKey(seed), len(actions))
        fields, reward, done = self._step(keys, {name: jnp.asarray(value) for name, value in fields.items()}, actions)
        return _arrays(fields), np.asarray(reward), np.asarray(done)

    def perceive(self, fields):
        """Observations, global states and, for discrete actions, masks."""
        return tuple(map(np.asarray, self._perceive(fields)))

    def _reset_one(self, key):
        return self._fields(self.env.reset(key)[1])

    def _step_one(self, key, fields, actions):
        by_name = dict(zip(self.env.agents, actions))
        _, state, reward, done, _ = self.env.step_env(key, self._state(fields), by_name)
        return self._fields(state), reward[self.env.agents[0]], done["__all__"]

    def _see(self, state):
        by_name = self.env.get_obs(state), self.env.get_avail_actions(state)
        obs, mask = (jnp.stack([values[name] for name in self.env.agents]) for values in by_name)
        return obs, self.env.get_world_state(state), mask.astype(bool)

    def _fields(self, state):
        script = state.enemy_policy_state
        fields = {name: getattr(state.state, name) for name in FIELDS if not name.startswith("enemy")}
        return {
            **fields,
            "enemy_default_target": script.default_target,
            "enemy_last_attacked": script.last_attacked_enemy,
        }

    def _state(self, fields):
        script = HeuristicPolicyState(fields["enemy_default_target"], fields["enemy_last_attacked"].astype(jnp.int32))
        battle = {name: fields[name] for name in FIELDS if not name.startswith("enemy")}
        battle["unit_types"] = battle["unit_types"].astype(jnp.uint8)
        battle["prev_attack_actions"] = battle["prev_attack_actions"].astype(jnp.int32)
        teams = jnp.arange(len(battle["unit_types"])) >= self.num_agents
        return State(BattleState(**battle, unit_teams=teams.astype(jnp.float32), done=jnp.array(False)), script)


def _arrays(fields):
    return {name: np.array(value) for name, value in fields.items()}


def weighted_sum(obs):
    """float32 [B, N]: notices any change of an observation [B, N, O]."""
    return (obs.astype(np.float64) * np.cos(1 + np.arange(obs.shape[-1]))).sum(-1).astype(np.float32)


def record(scenario, episodes, seed=0):
    original, rng = Original(scenario), np.random.default_rng(seed)
    fields = original.reset(seed, episodes)
    fields["step"][3::5] = LATE
    is_running = np.ones(episodes, bool)
    steps = []
    while is_running.any():
        obs, state, mask = original.perceive(fields)
        actions = mixed_actions(fields, mask, rng)
        after, reward, done = original.step(len(steps), fields, actions)
        done = is_running & done
        row = {**fields, "action": actions, "reward": reward, "done": done, "is_running": is_running, "mask": mask}
        steps.append({**row, "obs_sum": weighted_sum(obs), "obs": obs, "state": state})
        fields, is_running = after, is_running & ~done
    steps.append({**fields})
    arrays = {name: np.stack([step[name] for step in steps if name in step]) for name in steps[0]}
    for name in ("obs", "state"):
        arrays[name] = arrays[name][list(FULL_STEPS)].astype(np.float32)
    ended = ~arrays["is_running"]
    for name, array in arrays.items():  # what follows an end is not compared: zeros take no room
        if name not in ("obs", "state", "is_running"):
            first = 1 if name in FIELDS else 0
            array[first:][ended[: len(array) - first]] = 0
    small = dict.fromkeys(("action", "unit_types", "prev_attack_actions", "step"), np.uint8)
    small["enemy_last_attacked"] = np.int8
    return {name: array.astype(small.get(name, array.dtype)) for name, array in arrays.items()}


if __name__ == "__main__":
    for scenario, episodes in EPISODES.items():
        path = FIXTURES / f"smax_{scenario}.npz"
        arrays = record(scenario, episodes)
        np.savez_compressed(path, **arrays)
        print(path.name, arrays["is_running"].shape, f"{path.stat().st_size / 1000:.0f} kB")
