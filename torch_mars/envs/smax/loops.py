"""The rules of SMAX once more, as loops: the functions of `scenarios.py`, `opponents.py` and `env.py` by the same
names, in the same order.

A batch on CPU takes them, block by block of environments; so does one environment by itself (`SMAXLoops`, on which
`parallel_env("smax_*")` runs). Other devices and torch.compile take the tensor operations, which sum the pushes on a
unit in another order: results differ by that rounding only, and not at all with the number of environments.

While an environment fights, its units lie side by side (`Units`): work on pairs of units runs along them in vector
instructions. No index needs a check: `SMAX.admitted` let the State in.

Functions without a twin: `rules`, `no_units`, `clipped`.

Axes: B environments, U units, N allies, E enemies, A actions, D numbers drawn for a step.
"""

import math
from typing import NamedTuple

import numpy as np

from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.loops import compiled
from torch_mars.envs.rng_loops import next_integer, next_uniform
from torch_mars.envs.smax.opponents import NOBODY
from torch_mars.envs.smax.scenarios import CENTRE, FIELD_SIZE, NOISE, NUM_TYPES, UNIT_TYPES, Scenario
from torch_mars.envs.smax.task import (
    DIRECTIONS,
    DT,
    FIRST_ATTACK,
    FULL_TURN,
    NO_RADIUS,
    OTHER,
    OWN,
    SHOT_JITTER,
    STOP,
    SUBSTEPS,
    TOUCHING,
    Options,
)

LANES = 8  # float32 numbers of a vector instruction
F = np.float32
# single precision throughout, as in the tensors: a plain Python number would make it double
_DT, _FIELD_SIZE, _CENTRE, _TOUCHING, _NO_RADIUS = map(F, (DT, FIELD_SIZE, CENTRE, TOUCHING, NO_RADIUS))
_ZERO, _HALF, _ONE, _INFINITE = map(F, (0, 0.5, 1, math.inf))
_NOISE, _NOISE_WIDTH = F(NOISE), F(2 * NOISE)
_JITTER, _JITTER_WIDTH = F(SHOT_JITTER[0]), F(SHOT_JITTER[1] - SHOT_JITTER[0])
_DIRECTIONS = np.array(DIRECTIONS, F)
# of the types
_SPEED, _DAMAGE, _ATTACK_RANGE, _SIGHT_RANGE, _RADIUS, _MAX_HEALTH, _SHOT_COOLDOWN = (
    np.array([getattr(kind, name) for kind in UNIT_TYPES], F)
    for name in ("speed", "damage", "attack_range", "sight_range", "radius", "max_health", "cooldown")
)
# places of features, in a unit as seen by another, and in oneself or a unit of the global state
_HEALTH, _WAY_X, _WAY_Y, _MOVE_X, _MOVE_Y, _ATTACK, _COOLDOWN, _TYPE = range(len(OTHER) - len(UNIT_TYPES) + 1)
_OWN_HEALTH, _X, _Y, _OWN_COOLDOWN, _OWN_TYPE = range(len(OWN) - len(UNIT_TYPES) + 1)


class Rules(NamedTuple):
    """A task for the loops."""

    num_allies: int
    types: np.ndarray  # int64 [U]; [0]: they are drawn for every battle, as are the places (smacv2)
    sees_enemy_actions: bool
    walls_cause_death: bool
    attacks_at_random: bool  # the script
    enemy_shoots: bool
    bonus: np.float32
    is_self_play: bool  # the reward


class Situation(NamedTuple):
    """The fields of an SMAXState that say what the units do, all [B, ...]."""

    unit_positions: np.ndarray
    unit_alive: np.ndarray
    unit_health: np.ndarray
    unit_types: np.ndarray
    unit_weapon_cooldowns: np.ndarray
    prev_movement_actions: np.ndarray
    prev_attack_actions: np.ndarray
    enemy_default_target: np.ndarray
    enemy_last_attacked: np.ndarray


class Rows(NamedTuple):
    """What is kept of every unit inside a step: rows of one array, which is quicker to hand on than many."""

    x: int
    y: int
    health: int
    cooldown: int
    way_x: int  # of a sub-step
    way_y: int
    reach: int  # of an attack; -1: there is none
    damage: int
    shot_cooldown: int
    radius: int
    living_radius: int  # in a push
    push_x: int
    push_y: int


ROW = Rows(*range(len(Rows._fields)))


class Units(NamedTuple):
    """The units of one environment inside a step, and a few more, all dead, up to a multiple of LANES."""

    is_alive: np.ndarray  # bool [U ...]
    target: np.ndarray  # int64 [U ...]: a unit
    rows: np.ndarray  # float32 [rows, U ...]


def rules(options: Options, scenario: Scenario) -> Rules:
    """The task for the loops."""
    return Rules(
        scenario.num_allies,
        np.array(scenario.types or (), np.int64),
        options.see_enemy_actions,
        options.walls_cause_death,
        options.attack_mode == "random",
        options.enemy_shoots,
        F(options.won_battle_bonus),
        options.use_self_play_reward,
    )


@compiled
def no_units(count):
    """Units, all dead."""
    size = (count + LANES - 1) // LANES * LANES
    return Units(np.zeros(size, np.bool_), np.zeros(size, np.int64), np.zeros((len(ROW), size), F))


@compiled
def clipped(action):
    return min(max(action, _ZERO), _ONE)


# ---- scenarios.py: positions [U, 2] and types [U] of one environment, written to; key is moved ----


@compiled
def facing_positions(key, num_allies, positions):
    for i in range(len(positions)):
        x = _FIELD_SIZE / F(4) + (_FIELD_SIZE / F(2) if i >= num_allies else _ZERO)
        positions[i, 0] = x + _noise(key)
        positions[i, 1] = _CENTRE + _noise(key)


@compiled
def scattered_positions(key, positions, others):
    """others [U, 2]: room for the positions that the coin is against."""
    is_mirrored = next_uniform(key) < _HALF
    are_allies_inside = next_uniform(key) < _HALF
    _mirrored_positions(key, positions if is_mirrored else others)
    _surrounding_positions(key, are_allies_inside, others if is_mirrored else positions)


@compiled
def drawn_types(key, types):
    team_size = len(types) // 2
    for i in range(team_size):
        types[i] = next_integer(key, NUM_TYPES)
        types[team_size + i] = types[i]


@compiled
def _noise(key):
    return next_uniform(key) * _NOISE_WIDTH - _NOISE


@compiled
def _mirrored_positions(key, positions):
    team_size = len(positions) // 2
    for i in range(team_size):
        x = next_uniform(key) * _FIELD_SIZE / F(2)
        y = next_uniform(key) * _FIELD_SIZE
        positions[i, 0], positions[i, 1] = x, y
        positions[team_size + i, 0], positions[team_size + i, 1] = _FIELD_SIZE - x, y


@compiled
def _surrounding_positions(key, are_allies_inside, positions):
    team_size = len(positions) // 2
    inside, outside = (0, team_size) if are_allies_inside else (team_size, 0)
    for i in range(inside, inside + team_size):
        positions[i, 0] = _CENTRE + _noise(key)
        positions[i, 1] = _CENTRE + _noise(key)
    nearness = next_uniform(key), next_uniform(key), next_uniform(key), next_uniform(key)
    for i in range(outside, outside + team_size):
        group = next_integer(key, 4)
        near, far = nearness[group] * _CENTRE, (_ONE - nearness[group]) * _FIELD_SIZE
        positions[i, 0] = near + far if group // 2 else near
        positions[i, 1] = near + far if group % 2 else near
    for i in range(outside, outside + team_size):
        positions[i, 0] += _noise(key)
        positions[i, 1] += _noise(key)


# ---- opponents.py ----


@compiled
def choose(rules, s, b, draws, units, distance):
    """The orders of the enemies, dead or alive, and what they keep in mind: of environment b, written into s.

    Args:
        units: as they stand at the start of the step.
        distance: [N], room for the distances of one enemy: to number m, infinite if one of the two is dead.
    """
    N, U = len(distance), s.unit_types.shape[1]
    E, is_alive, at_x, at_y = U - N, units.is_alive, units.rows[ROW.x], units.rows[ROW.y]
    for e in range(E):
        i = N + e
        x, y = (at_x[i], at_y[i]) if is_alive[i] else (_ZERO, _ZERO)  # the dead see only zeros
        for m in range(N):
            j = N - 1 - m
            distance[m] = length(at_x[j] - x, at_y[j] - y) if is_alive[i] and is_alive[j] else _INFINITE
        sight_range, attack_range = _SIGHT_RANGE[s.unit_types[b, i]], _ATTACK_RANGE[s.unit_types[b, i]]

        last = s.enemy_last_attacked[b, e]
        if last != NOBODY and distance[last] < attack_range:
            target = last
        elif rules.attacks_at_random:
            target = _drawn(distance, attack_range, draws[b, U + E + e])
        else:
            target = _closest(distance, attack_range)
        default_target = s.enemy_default_target[b, e]
        if default_target[0] == _ZERO and default_target[1] == _ZERO and last == NOBODY:
            # half a turn about the centre
            default_target[0], default_target[1] = _CENTRE - (x - _CENTRE), _CENTRE - (y - _CENTRE)
        s.enemy_last_attacked[b, e] = target

        if target != NOBODY and rules.enemy_shoots:
            action = FIRST_ATTACK + target
        else:
            m = _drawn(distance, sight_range, draws[b, U + e])
            if m != NOBODY:
                action = _move(at_x[N - 1 - m] - x, at_y[N - 1 - m] - y)
            else:
                action = _move(default_target[0] - x, default_target[1] - y)
        _decode_discrete(s, b, i, action)


@compiled
def length(x, y):
    return np.sqrt(x * x + y * y)


@compiled
def _closest(distance, reach):
    """The number with the least distance below `reach`, or NOBODY."""
    closest = NOBODY
    for m in range(len(distance)):
        if distance[m] < reach:
            closest, reach = m, distance[m]
    return closest


@compiled
def _drawn(distance, reach, draw):
    """One of the numbers with a distance below `reach`, or NOBODY."""
    count = 0
    for m in range(len(distance)):
        count += distance[m] < reach
    rank = int(draw * F(count)) + 1
    for m in range(len(distance)):
        rank -= distance[m] < reach
        if rank == 0:
            return m
    return NOBODY


@compiled
def _move(x, y):
    along = max(abs(x), abs(y))
    if y == along:
        return 0
    if x == along:
        return 1
    return 2 if -y == along else 3


# ---- env.py: reset ----


@compiled
def initial_state(first, last, rules, rng, s):
    """The starts of environments first to last - 1, written into s; rng [B] is moved."""
    U = s.unit_types.shape[1]
    units, others = no_units(U), np.empty((U, 2), F)
    for b in range(first, last):
        key = rng[b : b + 1].reshape(())
        if len(rules.types) == 0:
            scattered_positions(key, s.unit_positions[b], others)
            drawn_types(key, s.unit_types[b])
        else:
            facing_positions(key, rules.num_allies, s.unit_positions[b])
            for i in range(U):
                s.unit_types[b, i] = rules.types[i]
        s.unit_alive[b] = True
        for i in range(U):
            s.unit_health[b, i] = _MAX_HEALTH[s.unit_types[b, i]]
        s.unit_weapon_cooldowns[b] = _ZERO
        s.prev_movement_actions[b] = _ZERO
        s.prev_attack_actions[b] = 0
        s.enemy_default_target[b] = _ZERO
        s.enemy_last_attacked[b] = NOBODY
        _line_up(s, b, units)
        push(units)
        for i in range(U):
            s.unit_positions[b, i, 0], s.unit_positions[b, i, 1] = units.rows[ROW.x, i], units.rows[ROW.y, i]


# ---- step ----


@compiled
def advance(first, last, rules, s, draws, actions, reward):
    """One step of environments first to last - 1, in place.

    Args:
        draws: float32 [B, D], as `draw_numbers` gives them.
        actions: int64 [B, N] or float32 [B, N, 4].
        reward: float32 [B, N], written to.
    """
    N, U = rules.num_allies, s.unit_types.shape[1]
    units, distance = no_units(U), np.empty(N, F)
    for b in range(first, last):
        _line_up(s, b, units)
        choose(rules, s, b, draws, units, distance)
        for i in range(N):
            if actions.ndim == 3:
                _decode_continuous(rules, s, b, i, actions, draws, units)
            else:
                _decode_discrete(s, b, i, actions[b, i])
        fight(rules, s, b, draws, units)
        reward[b, :] = _reward(rules, s, b, units)
        for i in range(U):
            s.unit_positions[b, i, 0], s.unit_positions[b, i, 1] = units.rows[ROW.x, i], units.rows[ROW.y, i]
            s.unit_alive[b, i] = units.is_alive[i]
            s.unit_health[b, i] = units.rows[ROW.health, i]
            s.unit_weapon_cooldowns[b, i] = units.rows[ROW.cooldown, i]


@compiled
def _line_up(s, b, units):
    rows = units.rows
    for i in range(s.unit_types.shape[1]):
        kind = s.unit_types[b, i]
        units.is_alive[i] = s.unit_alive[b, i]
        rows[ROW.x, i], rows[ROW.y, i] = s.unit_positions[b, i, 0], s.unit_positions[b, i, 1]
        rows[ROW.health, i], rows[ROW.cooldown, i] = s.unit_health[b, i], s.unit_weapon_cooldowns[b, i]
        rows[ROW.damage, i], rows[ROW.radius, i] = _DAMAGE[kind], _RADIUS[kind]


@compiled
def draw_numbers(rng, draws):
    """draws [B, D], written to; rng [B] is moved."""
    for b in range(len(rng)):
        key = rng[b : b + 1].reshape(())
        for k in range(draws.shape[1]):
            draws[b, k] = next_uniform(key)


@compiled
def _decode_discrete(s, b, i, action):
    """The orders of unit i, into s."""
    move = min(action, STOP)
    s.prev_movement_actions[b, i, 0], s.prev_movement_actions[b, i, 1] = _DIRECTIONS[move, 0], _DIRECTIONS[move, 1]
    s.prev_attack_actions[b, i] = action if action >= FIRST_ATTACK else 0


@compiled
def _decode_continuous(rules, s, b, i, actions, draws, units):
    N, U, D = rules.num_allies, s.unit_types.shape[1], draws.shape[1]
    nearest_chance, move_chance = clipped(actions[b, i, 0]), clipped(actions[b, i, 1])
    distance, angle = clipped(actions[b, i, 2]), FULL_TURN * np.float64(clipped(actions[b, i, 3]))
    x, y = distance * F(math.cos(angle)), distance * F(math.sin(angle))
    if draws[b, D - 2 * N + i] < move_chance:
        s.prev_movement_actions[b, i, 0], s.prev_movement_actions[b, i, 1] = x, y
        s.prev_attack_actions[b, i] = 0
        return
    s.prev_movement_actions[b, i, 0], s.prev_movement_actions[b, i, 1] = _ZERO, _ZERO
    if draws[b, D - N + i] < nearest_chance:
        point_x, point_y = units.rows[ROW.x, i] + x, units.rows[ROW.y, i] + y
        nearest, least = N, _INFINITE
        for j in range(N, U):
            away = length(units.rows[ROW.x, j] - point_x, units.rows[ROW.y, j] - point_y)
            if away < least:
                nearest, least = j, away
        s.prev_attack_actions[b, i] = FIRST_ATTACK + nearest - N


@compiled
def fight(rules, s, b, draws, units):
    """Eight sub-steps of the units of environment b, under the orders in s."""
    is_alive, rows, health = units.is_alive, units.rows, units.rows[ROW.health]
    for i in range(s.unit_types.shape[1]):
        kind, attack = s.unit_types[b, i], s.prev_attack_actions[b, i]
        units.target[i] = targets(rules, i, attack)
        rows[ROW.reach, i] = _ATTACK_RANGE[kind] if attack >= FIRST_ATTACK else -_ONE
        rows[ROW.shot_cooldown, i] = _SHOT_COOLDOWN[kind] + (_JITTER + _JITTER_WIDTH * draws[b, i])
        rows[ROW.way_x, i] = s.prev_movement_actions[b, i, 0] * _SPEED[kind] * _DT
        rows[ROW.way_y, i] = s.prev_movement_actions[b, i, 1] * _SPEED[kind] * _DT
    for _ in range(SUBSTEPS):
        _fire(units)
        _walk(units)
        if rules.walls_cause_death:
            _die_at_the_border(units)
        for i in range(len(is_alive)):
            is_alive[i] = health[i] > _ZERO
        push(units)


@compiled
def targets(rules, i, attack):
    if attack < FIRST_ATTACK:
        return 0
    number = attack - FIRST_ATTACK
    return rules.num_allies + number if i < rules.num_allies else rules.num_allies - 1 - number


@compiled
def _fire(units):
    # rows are taken out one by one: unpacked, numba would forget that they are contiguous, and give up vectors
    is_alive, target, rows = units.is_alive, units.target, units.rows
    x, y, health, cooldown = rows[ROW.x], rows[ROW.y], rows[ROW.health], rows[ROW.cooldown]
    reach, damage, shot_cooldown = rows[ROW.reach], rows[ROW.damage], rows[ROW.shot_cooldown]
    for i in range(len(x)):
        j = target[i]
        is_ready = reach[i] > _ZERO and is_alive[i] and is_alive[j] and cooldown[i] <= _ZERO
        if is_ready and length(x[i] - x[j], y[i] - y[j]) < reach[i]:
            health[j] -= damage[i]
            cooldown[i] = shot_cooldown[i]
        else:
            cooldown[i] -= _DT
    for i in range(len(x)):
        health[i] = max(health[i], _ZERO)


@compiled
def _walk(units):
    is_alive, rows = units.is_alive, units.rows
    x, y, way_x, way_y = rows[ROW.x], rows[ROW.y], rows[ROW.way_x], rows[ROW.way_y]
    for i in range(len(x)):
        to_x = min(max(x[i] + way_x[i], _ZERO), _FIELD_SIZE)
        to_y = min(max(y[i] + way_y[i], _ZERO), _FIELD_SIZE)
        x[i], y[i] = (to_x, to_y) if is_alive[i] else (x[i], y[i])


@compiled
def _die_at_the_border(units):
    x, y, health = units.rows[ROW.x], units.rows[ROW.y], units.rows[ROW.health]
    for i in range(len(x)):
        is_inside = min(x[i], y[i]) > _ZERO and max(x[i], y[i]) < _FIELD_SIZE
        health[i] = health[i] if is_inside else _ZERO


@compiled
def push(units):
    is_alive, rows = units.is_alive, units.rows
    x, y, radius = rows[ROW.x], rows[ROW.y], rows[ROW.living_radius]
    push_x, push_y = rows[ROW.push_x], rows[ROW.push_y]
    for i in range(len(x)):
        radius[i] = rows[ROW.radius, i] if is_alive[i] else _NO_RADIUS
        push_x[i] = push_y[i] = _ZERO
    for j in range(len(x)):
        if not is_alive[j]:
            continue
        other_x, other_y, other_radius = x[j], y[j], radius[j]
        for i in range(len(x)):  # innermost, it becomes vector instructions; and sums stay in the order of the units
            way_x, way_y = x[i] - other_x, y[i] - other_y
            distance = np.sqrt(way_x * way_x + way_y * way_y) + _TOUCHING
            overlap = max((other_radius + radius[i]) / distance - _ONE, _ZERO)
            push_x[i] += way_x * overlap
            push_y[i] += way_y * overlap
    for i in range(len(x)):
        x[i] += push_x[i] * _HALF
        y[i] += push_y[i] * _HALF


@compiled
def _reward(rules, s, b, units):
    """Of the team; the health before the step is still in s."""
    N, U = rules.num_allies, s.unit_types.shape[1]
    ally_lives = enemy_lives = False
    lost = _ZERO
    for i in range(U):
        if i < N:
            ally_lives |= units.is_alive[i]
        else:
            enemy_lives |= units.is_alive[i]
            lost += (units.rows[ROW.health, i] - s.unit_health[b, i]) / _MAX_HEALTH[s.unit_types[b, i]]
    bonus = rules.bonus if ally_lives and not enemy_lives else _ZERO
    if not rules.is_self_play:
        return abs(lost) / F(U - N) + bonus
    return bonus - rules.bonus if enemy_lives and not ally_lives else bonus


# ---- what is seen ----


@compiled
def perceive(first, last, rules, s, obs, state, mask):
    """obs [B, N, O], state [B, S] and mask [B, N, A] of environments first to last - 1, written to."""
    N, U = rules.num_allies, s.unit_types.shape[1]
    features = np.empty((U, len(OTHER)), F)  # as seen by others, but for the way to them
    for b in range(first, last):
        _features_of_others(rules, s, b, features)
        _state_features(rules, s, b, features, state)
        for i in range(N):
            mask[b, i] = s.unit_alive[b, i]
            mask[b, i, STOP] = True
            if not s.unit_alive[b, i]:
                obs[b, i] = _ZERO
                continue
            x, y = s.unit_positions[b, i, 0], s.unit_positions[b, i, 1]
            kind = s.unit_types[b, i]
            start = 0  # of the unit's features
            for j in range(U):
                if j == i:
                    continue
                way_x, way_y = s.unit_positions[b, j, 0] - x, s.unit_positions[b, j, 1] - y
                distance = length(way_x, way_y)
                if j >= N:
                    mask[b, i, FIRST_ATTACK + j - N] = s.unit_alive[b, j] and distance < _ATTACK_RANGE[kind]
                if s.unit_alive[b, j] and distance < _SIGHT_RANGE[kind]:
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
def _features_of_others(rules, s, b, features):
    """What does not depend on the observer."""
    N, U = rules.num_allies, len(features)
    for j in range(U):
        kind = s.unit_types[b, j]
        features[j] = _ZERO
        features[j, _HEALTH] = s.unit_health[b, j] / _MAX_HEALTH[kind]
        if j < N or rules.sees_enemy_actions:
            features[j, _MOVE_X] = s.prev_movement_actions[b, j, 0]
            features[j, _MOVE_Y] = s.prev_movement_actions[b, j, 1]
            largest = FIRST_ATTACK - 1 + (U - N if j < N else N)
            features[j, _ATTACK] = F(s.prev_attack_actions[b, j]) / F(largest)
        cooldown = s.unit_weapon_cooldowns[b, j] / _SHOT_COOLDOWN[kind]
        features[j, _COOLDOWN] = min(max(cooldown, _ZERO), _ONE)
        features[j, _TYPE + kind] = _ONE


@compiled
def _state_features(rules, s, b, features, state):
    U = len(features)
    for j in range(U):
        kind = s.unit_types[b, j]
        unit = state[b, len(OWN) * j : len(OWN) * (j + 1)]
        unit[:] = _ZERO
        if s.unit_alive[b, j]:
            unit[_OWN_HEALTH], unit[_OWN_COOLDOWN] = features[j, _HEALTH], s.unit_weapon_cooldowns[b, j]
            unit[_X], unit[_Y] = s.unit_positions[b, j, 0], s.unit_positions[b, j, 1]
            unit[_OWN_TYPE + kind] = _ONE
        state[b, len(OWN) * U + j] = _ONE if j >= rules.num_allies else _ZERO
        state[b, (len(OWN) + 1) * U + j] = kind


# ---- one environment ----


class SMAXLoops(LoopEngine):
    """The loops above on one environment, as a batch of one."""

    def start(self) -> None:
        initial_state(0, 1, self.rules.for_loops, *self.of_batch("rng"), self._situation())

    def transition(self, actions: np.ndarray):
        rules, is_alive = self.rules, self.fields["unit_alive"]
        draws, reward = np.empty((1, sum(rules.draws.values())), F), np.empty((1, rules.num_agents), F)
        draw_numbers(*self.of_batch("rng"), draws)
        advance(0, 1, rules.for_loops, self._situation(), draws, actions[None], reward)
        allies = np.count_nonzero(is_alive[: rules.num_agents])
        enemies = np.count_nonzero(is_alive) - allies
        metrics = {
            "won": float(allies > 0 and enemies == 0),
            "lost": float(enemies > 0 and allies == 0),
            "draw": float(allies == enemies == 0),
            "timeout": float(self.fields["step"] + 1 >= rules.max_steps and allies > 0 and enemies > 0),
            "allies_alive": allies,
            "enemies_alive": enemies,
            "won_episode": allies > 0 and enemies == 0,
        }
        return reward[0], not (allies and enemies), metrics

    def perceive(self):
        rules = self.rules
        obs = np.empty((1, rules.num_agents, rules.observation_size), F)
        state, mask = np.empty((1, rules.state_size), F), np.empty((1, *rules.mask_shape), np.bool_)
        perceive(0, 1, rules.for_loops, self._situation(), obs, state, mask)
        return obs[0], state[0], None if rules.is_continuous else mask[0].view(np.int8)

    def _situation(self) -> Situation:
        return Situation(*self.of_batch(*Situation._fields))
