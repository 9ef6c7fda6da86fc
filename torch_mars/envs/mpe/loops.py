"""The rules of simple spread once more, as loops: the functions of `env.py` by the same names, in the same order.

A batch on CPU takes them, and so does one environment by itself (`SpreadLoops`, on which
`parallel_env("simple_spread_*")` runs), random numbers included. Other devices and torch.compile take the tensors,
whose sums are in another order and whose roots and exponentials may end in another bit: both agree up to rounding. Few
pairs are near enough to push each other, and only these cost a root.

Axes: B environments, N agents and as many landmarks.
"""

import numpy as np

from torch_mars.envs.core import FURTHEST
from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.loops import compiled
from torch_mars.envs.mpe.task import (
    ACCELERATION,
    AGENT_RADIUS,
    CONTACT_FORCE,
    CONTACT_MARGIN,
    DAMPING,
    DOWN,
    DT,
    LEFT,
    RIGHT,
    THRUSTS,
    TOUCH,
    UP,
)
from torch_mars.envs.rng_loops import next_uniform

F = np.float32
PAIRS = 20_000  # of agents, in a block of environments: 100 to 300 us of work
# single precision throughout, as in the tensors: a plain Python number would make it double
_ZERO, _ONE, _TWO, _FURTHEST = map(F, (0, 1, 2, FURTHEST))
_ACCELERATION, _DT, _KEPT = map(F, (ACCELERATION, DT, 1 - DAMPING))
_TOUCH, _FORCE, _MARGIN = map(F, (TOUCH, CONTACT_FORCE, CONTACT_MARGIN))
_RADIUS2, _TOUCH2 = F(AGENT_RADIUS**2), F(TOUCH**2)
_NEAR2 = F((TOUCH + 105 * CONTACT_MARGIN) ** 2)  # from here on contacts are exactly 0: float32 has no e^-104
_STEEP = F(20)  # where softplus(x) is x
_AS_PARTS = np.eye(len(THRUSTS), dtype=F)  # discrete actions as continuous ones


def parts(actions: np.ndarray) -> np.ndarray:
    """Discrete actions int64 [..., N] as continuous ones float32 [..., N, 5]; those that are continuous as they are."""
    return actions if actions.dtype == F else _AS_PARTS[actions]


# ---- reset ----


@compiled
def initial_state(first, last, rng, agent_pos, landmark_pos):
    """Agents and landmarks anywhere in [-1, 1)^2; they may overlap.

    Args:
        rng, agent_pos, landmark_pos: int64 [B], moved; float32 [B, N, 2] each, the result.
    """
    key = np.zeros((), np.int64)
    for b in range(first, last):
        key[()] = rng[b]
        for place in (agent_pos, landmark_pos):
            for i in range(place.shape[1]):
                for axis in range(2):
                    place[b, i, axis] = _TWO * next_uniform(key) - _ONE
        rng[b] = key[()]


# ---- step ----


@compiled
def advance(first, last, local_ratio, max_steps, actions, landmark_pos, agent_pos, agent_vel, reward, measures):
    """One step of environments `first` to `last - 1`.

    Args:
        local_ratio, max_steps: float32, as in `Options`.
        actions, landmark_pos: float32 [B, N, 5], [B, N, 2].
        agent_pos, agent_vel: float32 [B, N, 2], change.
        reward, measures: float32 [B, N], [3, B] (collisions, coverage, distance), the result.
    """
    N = agent_pos.shape[1]
    push, touching = np.empty((N, 2), F), np.empty(N, F)
    for b in range(first, last):
        _contact(agent_pos, push, b)
        for i in range(N):
            thrust = _thrust(actions, b, i)
            for axis in range(2):
                position, velocity = agent_pos[b, i, axis], agent_vel[b, i, axis]
                force = thrust[axis] + push[i, axis]
                agent_pos[b, i, axis] = _on_plane(position + _DT * velocity)  # thrust moves an agent a step later
                agent_vel[b, i, axis] = _on_plane(_KEPT * velocity + _DT * force)

        distance = covered = _ZERO
        for landmark in range(N):
            nearest2 = _nearest2(landmark_pos, agent_pos, b, landmark)
            distance += np.sqrt(nearest2)
            covered += F(nearest2 < _RADIUS2)
        _touching(agent_pos, touching, b)
        collisions = _ZERO
        for i in range(N):
            reward[b, i] = (_ONE - local_ratio) * -distance - local_ratio * touching[i]
            collisions += touching[i]
        measures[0, b] = collisions / _TWO
        measures[1, b] = covered / F(N)
        measures[2, b] = distance / F(N) / max_steps


@compiled
def _thrust(actions, b, i):
    x, y = actions[b, i, RIGHT] - actions[b, i, LEFT], actions[b, i, UP] - actions[b, i, DOWN]
    return _ACCELERATION * x, _ACCELERATION * y


@compiled
def _contact(position, push, b):
    """Sum of the forces with which the others push each agent away: push [N, 2]; zero between equal positions."""
    for i in range(len(push)):
        push[i, 0] = push[i, 1] = _ZERO
    for i in range(len(push)):
        for j in range(i + 1, len(push)):
            x, y, distance2 = _apart(position, i, position, j, b)
            if _ZERO < distance2 < _NEAR2:
                distance = np.sqrt(distance2)
                force = _FORCE * (_softplus((_TOUCH - distance) / _MARGIN) * _MARGIN) / distance
                push[i, 0] += force * x
                push[i, 1] += force * y
                push[j, 0] -= force * x
                push[j, 1] -= force * y


@compiled
def _nearest2(landmark_pos, agent_pos, b, landmark):
    """Squared distance from a landmark to its nearest agent."""
    nearest2 = _apart(landmark_pos, landmark, agent_pos, 0, b)[2]
    for i in range(1, agent_pos.shape[1]):
        nearest2 = min(nearest2, _apart(landmark_pos, landmark, agent_pos, i, b)[2])
    return nearest2


@compiled
def _touching(position, touching, b):
    """How many others each agent touches: touching [N]."""
    for i in range(len(touching)):
        touching[i] = _ZERO
    for i in range(len(touching)):
        for j in range(i + 1, len(touching)):
            if _apart(position, i, position, j, b)[2] < _TOUCH2:
                touching[i] += _ONE
                touching[j] += _ONE


# ---- what is seen ----


@compiled
def perceive(first, last, landmark_pos, agent_pos, agent_vel, obs):
    """What every agent sees: obs float32 [B, N, 6N]."""
    N = agent_pos.shape[1]
    for b in range(first, last):
        for i in range(N):
            x, y = agent_pos[b, i, 0], agent_pos[b, i, 1]
            obs[b, i, 0], obs[b, i, 1] = agent_vel[b, i, 0], agent_vel[b, i, 1]
            obs[b, i, 2], obs[b, i, 3] = x, y
            k = 4
            for landmark in range(N):
                obs[b, i, k], obs[b, i, k + 1] = landmark_pos[b, landmark, 0] - x, landmark_pos[b, landmark, 1] - y
                k += 2
            for j in range(N):
                if j != i:
                    obs[b, i, k], obs[b, i, k + 1] = agent_pos[b, j, 0] - x, agent_pos[b, j, 1] - y
                    k += 2
            for silent in range(k, obs.shape[2]):
                obs[b, i, silent] = _ZERO


@compiled
def _on_plane(x):
    """Actions may be as large as float32: so that distances are never infinite, there is an end of the plane."""
    return min(max(x, -_FURTHEST), _FURTHEST)


@compiled
def _softplus(x):
    return x if x > _STEEP else np.log1p(np.exp(x))


@compiled
def _apart(to, i, start, j, b):
    """x, y and squared length of the way from place j of start [B, J, 2] to place i of to [B, I, 2]."""
    x, y = to[b, i, 0] - start[b, j, 0], to[b, i, 1] - start[b, j, 1]
    return x, y, x * x + y * y


# ---- one environment ----


class SpreadLoops(LoopEngine):
    """The loops above on one environment, as a batch of one."""

    def start(self) -> None:
        initial_state(0, 1, *self.of_batch("rng", "agent_pos", "landmark_pos"))
        self.fields["agent_vel"][:] = 0

    def transition(self, actions: np.ndarray):
        reward, measures = np.empty((1, self.rules.num_agents), F), np.empty((3, 1), F)
        places = self.of_batch("landmark_pos", "agent_pos", "agent_vel")
        advance(0, 1, *self.rules.numbers, parts(actions[None]), *places, reward, measures)
        return reward[0], False, dict(zip(self.rules.metrics, measures[:, 0]))

    def perceive(self):
        obs = np.empty((1, self.rules.num_agents, self.rules.observation_size), F)
        perceive(0, 1, *self.of_batch("landmark_pos", "agent_pos", "agent_vel"), obs)
        return obs[0], obs.ravel().copy(), None
