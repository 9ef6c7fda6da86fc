"""The rules of Search & Rescue once more, as loops: the functions of `env.py` by the same names, in the same order.

A batch on CPU takes them: bit for bit what `SearchAndRescue.advance` and `perceive` do as tensor operations, which
other devices and torch.compile take. A searcher has a hundred rays and seldom sees more than two or three entities;
here only those are looked at closely, and only the rays that they meet. One environment by itself runs on
`SearchAndRescueLoops`, random numbers included.

Functions without a twin in `env.py`: `numbers`, `remainder`, `clipped`, `noise`, `draw_ranks`, `_advance`.

Axes: B environments, N searchers, T targets, V rays.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from torch_mars.envs.angles_loops import angle_of, cosine_sine
from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.loops import compiled
from torch_mars.envs.rng_loops import next_rank, next_uniform
from torch_mars.envs.search_and_rescue.task import MOVING, NOTHING, SEEN, Options

AGENTS = 256  # in a block of environments: 150 us of work and more
F = np.float32
# single precision throughout, as in the tensors: a plain Python number would make it double
_ZERO, _HALF, _ONE, _NOTHING = map(F, (0, 0.5, 1, NOTHING))
_PI, _FULL_TURN = map(F, (math.pi, 2 * math.pi))


class Numbers(NamedTuple):
    """The options for the loops: float32, angles in rad."""

    max_steps: np.int64
    max_rotate: np.float32  # as a fraction of pi
    max_accelerate: np.float32
    min_speed: np.float32
    speed_range: np.float32
    max_speed: np.float32
    acc_std: np.float32
    vel_max: np.float32
    contact: np.float32
    contact2: np.float32
    cone: np.float32  # half its opening
    searcher_range: np.float32
    searcher_range2: np.float32
    target_range: np.float32
    target_range2: np.float32
    is_shared: np.bool_  # the reward
    rays: np.ndarray  # float32 [V]: bearings, from the left
    rays_per_rad: np.float32


def numbers(c: Options) -> Numbers:
    """The options for the loops."""
    half = c.view_angle * math.pi
    return Numbers(
        np.int64(c.max_steps),
        F(c.searcher_max_rotate),
        F(c.searcher_max_accelerate),
        F(c.searcher_min_speed),
        F(c.searcher_max_speed - c.searcher_min_speed),
        F(c.searcher_max_speed),
        F(c.target_acc_std),
        F(c.target_vel_max),
        F(c.target_contact_range),
        F(c.target_contact_range**2),
        F(half),
        F(c.searcher_vision_range),
        F(c.searcher_vision_range**2),
        F(c.target_vision_range),
        F(c.target_vision_range**2),
        np.bool_(c.shared_reward),
        np.linspace(-half, half, c.num_vision).astype(F),
        F((c.num_vision - 1) / (2 * half) if half > 0 else 0),
    )


# ---- what torch has ----


@compiled
def remainder(x, period):
    rest = x if abs(x) < period else np.fmod(x, period)
    return rest + period if rest < _ZERO else rest


@compiled
def clipped(action):
    """An action within [-1, 1]; nan counts as 0."""
    return min(max(action, -_ONE), _ONE) if action == action else _ZERO


# ---- reset ----


@compiled
def initial_state(c, rng, searcher_pos, searcher_heading, searcher_speed, target_pos, target_vel, target_found):
    """The State fields of one environment, written to; rng is moved."""
    for i in range(len(searcher_pos)):
        for axis in range(2):
            searcher_pos[i, axis] = next_uniform(rng)
    for i in range(len(searcher_heading)):
        searcher_heading[i] = next_uniform(rng) * _FULL_TURN
    for i in range(len(searcher_speed)):
        searcher_speed[i] = c.min_speed + c.speed_range * next_uniform(rng)
    for j in range(len(target_pos)):
        for axis in range(2):
            target_pos[j, axis] = next_uniform(rng)
            target_vel[j, axis] = _ZERO
        target_found[j] = False


# ---- step ----


def noise(rng: np.ndarray, num_targets: int) -> np.ndarray:
    """What `rng.normal` draws behind the keys rng [B], which are moved: [B, T, 2], not yet rounded to float32."""
    ranks = np.empty((len(rng), num_targets, 2))
    draw_ranks(rng, ranks)
    return torch.special.ndtri(torch.from_numpy(ranks)).numpy()


@compiled
def draw_ranks(rng, ranks):
    for b in range(len(rng)):
        key = rng[b : b + 1].reshape(())
        for j in range(ranks.shape[1]):
            for axis in range(2):
                ranks[b, j, axis] = next_rank(key)


def advance(first, last, c, rng, actions, step, position, heading, speed, target_pos, target_vel, is_found, reward):
    """One step of environments `first` to `last - 1`.

    Args:
        rng: int64 [B], moved.
        actions, step: float32 [B, N, 2], int64 [B].
        position, heading, speed: float32 [B, N, 2], [B, N], [B, N], change.
        target_pos, target_vel, is_found: float32 [B, T, 2], [B, T, 2], bool [B, T], change.
        reward: float32 [B, N], the result.
    """
    drawn = noise(rng[first:last], target_pos.shape[1])  # partly PyTorch's work, which compiled code cannot call
    fields = (actions, step, position, heading, speed, target_pos, target_vel, is_found, reward)
    _advance(first, last, c, drawn, *fields)


@compiled
def _advance(first, last, c, noise, actions, step, position, heading, speed, target_pos, target_vel, is_found, reward):
    """As `advance`; noise: float64 [last - first, T, 2], that of these environments."""
    N = heading.shape[1]
    cos, sin = np.empty(N, F), np.empty(N, F)  # of the headings
    finds = np.empty(N, np.bool_)  # who finds a target
    share = np.empty(N, np.float64)  # double: as in the tensors
    for b in range(first, last):
        _fly(c, actions, position, heading, speed, cos, sin, b)
        _drift(c, noise[b - first], target_pos, target_vel, b)
        _find(c, position, cos, sin, target_pos, is_found, finds, share, b)
        _reward(c, share, step, reward, b)


@compiled
def _fly(c, actions, position, heading, speed, cos, sin, b):
    for i in range(len(cos)):
        turn, acceleration = clipped(actions[b, i, 0]), clipped(actions[b, i, 1])
        heading[b, i] = remainder(heading[b, i] + turn * c.max_rotate * _PI, _FULL_TURN)
        speed[b, i] = min(max(speed[b, i] + acceleration * c.max_accelerate, c.min_speed), c.max_speed)
        cos[i], sin[i] = cosine_sine(heading[b, i])
        position[b, i, 0] = remainder(position[b, i, 0] + speed[b, i] * cos[i], _ONE)
        position[b, i, 1] = remainder(position[b, i, 1] + speed[b, i] * sin[i], _ONE)


@compiled
def _drift(c, noise, target_pos, target_vel, b):
    for j in range(target_pos.shape[1]):
        x, y = target_vel[b, j, 0] + c.acc_std * F(noise[j, 0]), target_vel[b, j, 1] + c.acc_std * F(noise[j, 1])
        size = np.sqrt(x * x + y * y)
        if size > c.vel_max:
            x, y = c.vel_max * x / size, c.vel_max * y / size
        target_vel[b, j, 0], target_vel[b, j, 1] = x, y
        target_pos[b, j, 0] = remainder(target_pos[b, j, 0] + x, _ONE)
        target_pos[b, j, 1] = remainder(target_pos[b, j, 1] + y, _ONE)


@compiled
def _find(c, position, cos, sin, target_pos, is_found, finds, share, b):
    """Mark the targets that anybody finds; share [N]: what everybody is paid for them before the decay."""
    for i in range(len(share)):
        share[i] = 0
    for j in range(is_found.shape[1]):
        if is_found[b, j]:
            continue
        finders = 0
        for i in range(len(share)):
            x, y = _short_way(position[b, i, 0], position[b, i, 1], target_pos[b, j, 0], target_pos[b, j, 1])
            finds[i] = x * x + y * y <= c.contact2 and abs(_bearing(x, y, cos[i], sin[i])) <= c.cone
            finders += finds[i]
        if finders > 0:
            is_found[b, j] = True
            for i in range(len(share)):
                if c.is_shared:
                    share[i] += 1
                elif finds[i]:
                    share[i] += 1 / finders


@compiled
def _reward(c, share, step, reward, b):
    decay = F(c.max_steps - step[b]) / F(c.max_steps)
    for i in range(len(share)):
        reward[b, i] = F(share[i]) * decay


# ---- what is seen ----


@compiled
def perceive(first, last, c, step, position, heading, target_pos, is_found, obs):
    """What every searcher of environments `first` to `last - 1` sees.

    Args:
        step, position, heading, target_pos, is_found: of the State.
        obs: float32 [B, N, O], the result.
    """
    N, T, V = heading.shape[1], is_found.shape[1], len(c.rays)
    for b in range(first, last):
        num_found = 0
        for j in range(T):
            num_found += is_found[b, j]
        remaining, time = _ONE - F(num_found) / F(T), F(step[b]) / F(c.max_steps)
        for i in range(N):
            for k in range(3 * V):
                obs[b, i, k] = _NOTHING
            obs[b, i, 3 * V], obs[b, i, 3 * V + 1] = remaining, time
            at_x, at_y = position[b, i, 0], position[b, i, 1]
            cos, sin = cosine_sine(heading[b, i])
            for k in range(N):
                x, y = _short_way(at_x, at_y, position[b, k, 0], position[b, k, 1])
                if x * x + y * y <= c.searcher_range2 and k != i:
                    _view(c, x, y, cos, sin, c.searcher_range, obs, b, i, 0)
            for j in range(T):
                x, y = _short_way(at_x, at_y, target_pos[b, j, 0], target_pos[b, j, 1])
                if x * x + y * y <= c.target_range2:
                    _view(c, x, y, cos, sin, c.target_range, obs, b, i, V if is_found[b, j] else 2 * V)


@compiled
def _view(c, x, y, cos, sin, vision_range, obs, b, i, first):
    """Write an entity at (x, y) from searcher i into the rays that meet it, those of a channel from `first` on."""
    bearing, distance = _bearing(x, y, cos, sin), np.sqrt(x * x + y * y)
    half_width = angle_of(c.contact, distance)
    left, right = bearing - half_width, bearing + half_width
    reading = min(distance / vision_range, _ONE)
    rays = c.rays
    # near the first ray to the right of the left edge, then to it
    k = int(min(max((left - rays[0]) * c.rays_per_rad, _ZERO), F(len(rays) - 1)))
    while k > 0 and rays[k - 1] > left:
        k -= 1
    while k < len(rays) and rays[k] <= left:
        k += 1
    while k < len(rays) and rays[k] < right:
        if obs[b, i, first + k] < _ZERO or reading < obs[b, i, first + k]:
            obs[b, i, first + k] = reading
        k += 1


@compiled
def _bearing(x, y, cos, sin):
    if x == _ZERO and y == _ZERO:
        x = -_ONE
    return angle_of(x * sin - y * cos, x * cos + y * sin)


@compiled
def _short_way(from_x, from_y, to_x, to_y):
    x, y = to_x - from_x, to_y - from_y
    x = x - np.copysign(_ONE, x) if abs(x) >= _HALF else x
    y = y - np.copysign(_ONE, y) if abs(y) >= _HALF else y
    return x, y


# ---- one environment ----


class SearchAndRescueLoops(LoopEngine):
    """The loops above on one environment, as a batch of one where they run over a batch."""

    def start(self) -> None:
        initial_state(self.rules.numbers, self.fields["rng"], *(self.fields[name] for name in MOVING))

    def transition(self, actions: np.ndarray):
        rng, step, *moving = self.of_batch("rng", "step", *MOVING)
        reward = np.empty((1, len(actions)), F)
        advance(0, 1, self.rules.numbers, rng, actions[None], step, *moving, reward)
        targets_found, num_targets = int(np.count_nonzero(self.fields["target_found"])), self.rules.num_targets
        metrics = {"targets_found": targets_found, "found_fraction": F(targets_found) / F(num_targets)}
        return reward[0], targets_found == num_targets, metrics

    def perceive(self):
        obs = np.empty((1, self.rules.num_agents, self.rules.observation_size), F)
        perceive(0, 1, self.rules.numbers, *self.of_batch(*SEEN), obs)
        return obs[0], obs[0].flatten(), None
