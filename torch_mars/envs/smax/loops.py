"""What takes time on CPU, as loops: the sub-steps of a step, and what the allies see.

The functions of `env.py` by the same names, in the same order; other devices and torch.compile take those. Tensor
operations write every distance between two units to memory; here a block of environments stays in the cache through all
sub-steps. Results differ by rounding only, and not at all with the number of environments.

Axes: U units, N allies, B environments. A block holds WIDTH environments: the innermost loops become vector
instructions.
"""

from typing import NamedTuple

import numpy as np

from torch_mars.envs.loops import compiled
from torch_mars.envs.smax.scenarios import FIELD_SIZE, UNIT_TYPES
from torch_mars.envs.smax.task import DT, FIRST_ATTACK, NO_RADIUS, OTHER, OWN, STOP, SUBSTEPS, TOUCHING

WIDTH = 64

# single precision throughout, as in the tensors: a plain Python number would make it double
_DT, _FIELD_SIZE, _TOUCHING, _NO_RADIUS = map(np.float32, (DT, FIELD_SIZE, TOUCHING, NO_RADIUS))
_ZERO, _HALF, _ONE = map(np.float32, (0, 0.5, 1))
# of the types
_MAX_HEALTH, _SIGHT_RANGE, _ATTACK_RANGE, _SHOT_COOLDOWN = (
    np.array([getattr(kind, name) for kind in UNIT_TYPES], np.float32)
    for name in ("max_health", "sight_range", "attack_range", "cooldown")
)
# places of features, in a unit as seen by another, and in oneself or a unit of the global state
_HEALTH, _WAY_X, _WAY_Y, _MOVE_X, _MOVE_Y, _ATTACK, _COOLDOWN, _TYPE = range(len(OTHER) - len(UNIT_TYPES) + 1)
_OWN_HEALTH, _X, _Y, _OWN_COOLDOWN, _OWN_TYPE = range(len(OWN) - len(UNIT_TYPES) + 1)


class Seen(NamedTuple):
    """What the loops see of the State: [B, U] or [B, U, 2]."""

    positions: np.ndarray
    is_alive: np.ndarray
    health: np.ndarray
    types: np.ndarray
    cooldowns: np.ndarray
    moves: np.ndarray
    attacks: np.ndarray


@compiled
def fight(planes, is_alive, target, walls_cause_death):
    """Eight sub-steps, in place.

    Args:
        planes: float32 [10, U, B]: x, y, health, cooldown, which change; then the step's way in x and y, reach, damage,
            cooldown after a shot, radius.
        is_alive: bool [U, B], changes.
        target: int64 [U, B].
    """
    U, B = is_alive.shape
    block = np.zeros((len(planes), U, WIDTH), np.float32)
    block_alive, block_target = np.zeros((U, WIDTH), np.bool_), np.zeros((U, WIDTH), np.int64)
    for first in range(0, B, WIDTH):
        count = min(WIDTH, B - first)
        block[:, :, :count] = planes[:, :, first : first + count]
        block_alive[:, :count] = is_alive[:, first : first + count]
        block_target[:, :count] = target[:, first : first + count]
        # not unpacked at once: numba would forget that the planes are contiguous, and give up vector instructions
        x, y, health, cooldown, way_x, way_y = block[0], block[1], block[2], block[3], block[4], block[5]
        reach, damage, shot_cooldown, radius = block[6], block[7], block[8], block[9]
        for _ in range(SUBSTEPS):
            _fire(x, y, health, cooldown, block_alive, block_target, reach, damage, shot_cooldown)
            _walk(x, y, block_alive, way_x, way_y)
            if walls_cause_death:
                _die_at_the_border(x, y, health)
            for i in range(U):
                for b in range(WIDTH):
                    block_alive[i, b] = health[i, b] > _ZERO
            push(x, y, block_alive, radius)
        planes[:4, :, first : first + count] = block[:4, :, :count]
        is_alive[:, first : first + count] = block_alive[:, :count]


@compiled
def _fire(x, y, health, cooldown, is_alive, target, reach, damage, shot_cooldown):
    for i in range(len(x)):
        for b in range(WIDTH):
            j = target[i, b]
            way_x, way_y = x[i, b] - x[j, b], y[i, b] - y[j, b]
            distance = np.sqrt(way_x * way_x + way_y * way_y)
            if is_alive[i, b] and is_alive[j, b] and cooldown[i, b] <= _ZERO and distance < reach[i, b]:
                health[j, b] -= damage[i, b]
                cooldown[i, b] = shot_cooldown[i, b]
            else:
                cooldown[i, b] -= _DT
    for i in range(len(x)):
        for b in range(WIDTH):
            health[i, b] = max(health[i, b], _ZERO)


@compiled
def _walk(x, y, is_alive, way_x, way_y):
    for i in range(len(x)):
        for b in range(WIDTH):
            if is_alive[i, b]:
                x[i, b] = min(max(x[i, b] + way_x[i, b], _ZERO), _FIELD_SIZE)
                y[i, b] = min(max(y[i, b] + way_y[i, b], _ZERO), _FIELD_SIZE)


@compiled
def _die_at_the_border(x, y, health):
    for i in range(len(x)):
        for b in range(WIDTH):
            if min(x[i, b], y[i, b]) <= _ZERO or max(x[i, b], y[i, b]) >= _FIELD_SIZE:
                health[i, b] = _ZERO


@compiled
def push(x, y, is_alive, radius):
    """One push, in place. x, y, radius: float32 [U, B]; is_alive: bool [U, B]."""
    U, B = x.shape
    living_radius = np.where(is_alive, radius, _NO_RADIUS)
    push_x, push_y = np.zeros_like(x), np.zeros_like(y)
    for i in range(U):
        for j in range(U):
            for b in range(B):
                way_x, way_y = x[i, b] - x[j, b], y[i, b] - y[j, b]
                distance = np.sqrt(way_x * way_x + way_y * way_y) + _TOUCHING
                overlap = max((living_radius[j, b] + living_radius[i, b]) / distance - _ONE, _ZERO)
                push_x[i, b] += way_x * overlap
                push_y[i, b] += way_y * overlap
    for i in range(U):
        for b in range(B):
            x[i, b] += push_x[i, b] * _HALF
            y[i, b] += push_y[i, b] * _HALF


@compiled
def perceive(seen, sees_enemy_actions, obs, state, mask):
    """What `SMAX.perceive` gives, written into obs [B, N, O], state [B, S] and mask [B, N, A]."""
    B, U = seen.is_alive.shape
    N = mask.shape[1]
    features = np.empty((U, len(OTHER)), np.float32)  # as seen by others, but for the way to them
    for b in range(B):
        _features_of_others(seen, sees_enemy_actions, mask.shape[2] - 1, N, features, b)
        _state_features(seen, features, N, state, b)
        for i in range(N):
            mask[b, i] = seen.is_alive[b, i]
            mask[b, i, STOP] = True
            if not seen.is_alive[b, i]:
                obs[b, i] = _ZERO
                continue
            x, y = seen.positions[b, i]
            kind = seen.types[b, i]
            start = 0  # of the unit's features
            for j in range(U):
                if j == i:
                    continue
                way_x, way_y = seen.positions[b, j, 0] - x, seen.positions[b, j, 1] - y
                distance = np.sqrt(way_x * way_x + way_y * way_y)
                if j >= N:
                    mask[b, i, FIRST_ATTACK + j - N] = seen.is_alive[b, j] and distance < _ATTACK_RANGE[kind]
                if seen.is_alive[b, j] and distance < _SIGHT_RANGE[kind]:
                    for f in range(len(OTHER)):
                        obs[b, i, start + f] = features[j, f]
                    obs[b, i, start + _WAY_X] = way_x / _SIGHT_RANGE[kind]
                    obs[b, i, start + _WAY_Y] = way_y / _SIGHT_RANGE[kind]
                else:
                    for f in range(len(OTHER)):
                        obs[b, i, start + f] = _ZERO
                start += len(OTHER)
            _own_features(features, x, y, obs, b, i, start)


@compiled
def _own_features(features, x, y, obs, b, i, start):
    obs[b, i, start + _OWN_HEALTH] = features[i, _HEALTH]
    obs[b, i, start + _X], obs[b, i, start + _Y] = x / _FIELD_SIZE, y / _FIELD_SIZE
    obs[b, i, start + _OWN_COOLDOWN] = features[i, _COOLDOWN]
    for kind in range(len(UNIT_TYPES)):
        obs[b, i, start + _OWN_TYPE + kind] = features[i, _TYPE + kind]


@compiled
def _features_of_others(seen, sees_enemy_actions, largest_of_allies, N, features, b):
    """What does not depend on the observer."""
    for j in range(len(features)):
        kind = seen.types[b, j]
        features[j] = _ZERO
        features[j, _HEALTH] = seen.health[b, j] / _MAX_HEALTH[kind]
        if j < N or sees_enemy_actions:
            features[j, _MOVE_X], features[j, _MOVE_Y] = seen.moves[b, j, 0], seen.moves[b, j, 1]
            largest = largest_of_allies if j < N else FIRST_ATTACK + N - 1
            features[j, _ATTACK] = np.float32(seen.attacks[b, j]) / np.float32(largest)
        features[j, _COOLDOWN] = min(max(seen.cooldowns[b, j] / _SHOT_COOLDOWN[kind], _ZERO), _ONE)
        features[j, _TYPE + kind] = _ONE


@compiled
def _state_features(seen, features, N, state, b):
    U = len(features)
    for j in range(U):
        kind = seen.types[b, j]
        unit = state[b, len(OWN) * j : len(OWN) * (j + 1)]
        unit[:] = _ZERO
        if seen.is_alive[b, j]:
            unit[_OWN_HEALTH], unit[_OWN_COOLDOWN] = features[j, _HEALTH], seen.cooldowns[b, j]
            unit[_X], unit[_Y] = seen.positions[b, j, 0], seen.positions[b, j, 1]
            unit[_OWN_TYPE + kind] = _ONE
        state[b, len(OWN) * U + j] = _ONE if j >= N else _ZERO
        state[b, (len(OWN) + 1) * U + j] = kind
