"""What takes time on CPU, as plain loops compiled by numba: the sub-steps of a step, and what the allies see.

They follow `SMAX._fight` and `SMAX.perceive`, which other devices and torch.compile take. Tensor operations write every
distance between two units to memory; here a block of environments stays in the cache through all sub-steps. Results
differ by rounding only, and not at all with the number of environments.

Axes: U units, N allies, B environments. A block holds WIDTH environments: the innermost loops become vector
instructions.
"""

import numba
import numpy as np

from torch_mars.envs.smax.scenarios import (
    DT,
    FIELD_SIZE,
    FIRST_ATTACK,
    NO_RADIUS,
    OTHER_FEATURES,
    OWN_FEATURES,
    STOP,
    SUBSTEPS,
    TOUCHING,
)

WIDTH = 64

# single precision throughout, as in the tensors: a plain Python number would make it double
_DT, _FIELD_SIZE, _TOUCHING, _NO_RADIUS = map(np.float32, (DT, FIELD_SIZE, TOUCHING, NO_RADIUS))
_ZERO, _HALF, _ONE = map(np.float32, (0, 0.5, 1))
_compiled = numba.njit(cache=True, error_model="numpy", nogil=True)


@_compiled
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


@_compiled
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


@_compiled
def _walk(x, y, is_alive, way_x, way_y):
    for i in range(len(x)):
        for b in range(WIDTH):
            if is_alive[i, b]:
                x[i, b] = min(max(x[i, b] + way_x[i, b], _ZERO), _FIELD_SIZE)
                y[i, b] = min(max(y[i, b] + way_y[i, b], _ZERO), _FIELD_SIZE)


@_compiled
def _die_at_the_border(x, y, health):
    for i in range(len(x)):
        for b in range(WIDTH):
            if min(x[i, b], y[i, b]) <= _ZERO or max(x[i, b], y[i, b]) >= _FIELD_SIZE:
                health[i, b] = _ZERO


@_compiled
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


@_compiled
def see(positions, is_alive, health, types, cooldowns, moves, attacks, of_type, sees_enemy_actions, obs, state, mask):
    """What `SMAX.perceive` gives, written into obs [B, N, O], state [B, S] and mask [B, N, A].

    Args:
        positions, is_alive, health, types, cooldowns, moves, attacks: of the State, [B, U] or [B, U, 2].
        of_type: float32 [types, 4]: maximum health, cooldown, sight range, attack range.
    """
    B, U = is_alive.shape
    N, A = mask.shape[1:]
    num_types = len(of_type)
    features = np.empty((U, OTHER_FEATURES), np.float32)  # as seen by others, but for the place
    for b in range(B):
        for j in range(U):
            kind = types[b, j]
            features[j] = _ZERO
            features[j, 0] = health[b, j] / of_type[kind, 0]
            if j < N or sees_enemy_actions:
                features[j, 3], features[j, 4] = moves[b, j, 0], moves[b, j, 1]
                largest = A - 1 if j < N else FIRST_ATTACK + N - 1
                features[j, 5] = np.float32(attacks[b, j]) / np.float32(largest)
            features[j, 6] = min(max(cooldowns[b, j] / of_type[kind, 1], _ZERO), _ONE)
            features[j, 7 + kind] = _ONE
            unit = state[b, OWN_FEATURES * j : OWN_FEATURES * (j + 1)]
            unit[:] = _ZERO
            if is_alive[b, j]:
                unit[0], unit[1], unit[2] = features[j, 0], positions[b, j, 0], positions[b, j, 1]
                unit[3], unit[4 + kind] = cooldowns[b, j], _ONE
            state[b, OWN_FEATURES * U + j] = _ONE if j >= N else _ZERO
            state[b, (OWN_FEATURES + 1) * U + j] = kind
        for i in range(N):
            mask[b, i] = is_alive[b, i]
            mask[b, i, STOP] = True
            if not is_alive[b, i]:
                obs[b, i] = _ZERO
                continue
            x, y = positions[b, i]
            sight_range, attack_range = of_type[types[b, i], 2], of_type[types[b, i], 3]
            start = 0  # of the unit's features
            for j in range(U):
                if j == i:
                    continue
                way_x, way_y = positions[b, j, 0] - x, positions[b, j, 1] - y
                distance = np.sqrt(way_x * way_x + way_y * way_y)
                if j >= N:
                    mask[b, i, FIRST_ATTACK + j - N] = is_alive[b, j] and distance < attack_range
                if is_alive[b, j] and distance < sight_range:
                    for f in range(OTHER_FEATURES):
                        obs[b, i, start + f] = features[j, f]
                    obs[b, i, start + 1], obs[b, i, start + 2] = way_x / sight_range, way_y / sight_range
                else:
                    for f in range(OTHER_FEATURES):
                        obs[b, i, start + f] = _ZERO
                start += OTHER_FEATURES
            obs[b, i, start], obs[b, i, start + 3] = features[i, 0], features[i, 6]
            obs[b, i, start + 1], obs[b, i, start + 2] = x / _FIELD_SIZE, y / _FIELD_SIZE
            for kind in range(num_types):
                obs[b, i, start + 4 + kind] = features[i, 7 + kind]
