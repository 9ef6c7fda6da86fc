"""The rules of AeroJAX once more, as loops over the aircraft of one environment after another, compiled.

A batch on CPU takes them: what `AeroJAX.transition` and `perceive` do as tensor operations, which other devices and
torch.compile take, without looking closely at aircraft that are out of each other's reach. So does one environment by
itself (`AeroJAXLoops`, on which `parallel_env("aerojax_*")` runs). Both forms compute in float32, in the same order
where it matters, and draw the same random numbers: from equal states they are equal up to rounding.

The functions bear the names of their twins in `env.py`, where their meaning is described, and stand in the same order;
most treat one aircraft, number i. Without a twin are `situation` and `scratch`. What `vectors.py`, `physics.py` and
`opponents.py` have, is beside this in `vectors_loops.py`, `physics_loops.py` and `opponents_loops.py`.

numba checks no index, so none depends on what a State holds; and nothing here raises an error: functions that may
raise count references, which takes long.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from torch_mars.envs.aerojax.opponents_loops import fly_team, unit_level
from torch_mars.envs.aerojax.physics import GRAVITY, Motion
from torch_mars.envs.aerojax.physics_loops import (
    ALPHA,
    DIRECTION,
    LANES,
    LIFT_DIR,
    POSITION,
    ROWS,
    SPEED,
    THROTTLE,
    dynamic_pressure,
    fly,
    lane,
    lift_coefficient,
    orient,
    orient_all,
)
from torch_mars.envs.aerojax.task import (
    AIRCRAFT_FEATURES,
    ALLY_LOSSES,
    CAUSES,
    COLLIDED,
    EGO_FEATURES,
    ENEMY_LOSSES,
    ENTITY_FEATURES,
    FLYING,
    GROUND,
    LEFT,
    SHOT,
    SPEED_UNIT,
    TYPE_UNIT,
    Aircraft,
    Ego,
    Entity,
    Geometry,
    Options,
)
from torch_mars.envs.aerojax.vectors_loops import (
    ONE,
    TINIEST,
    TINY,
    TWO,
    UP,
    ZERO,
    F,
    add,
    clamp,
    dot,
    length,
    put,
    scale,
    split,
    subtract,
)
from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.loops import compiled
from torch_mars.envs.rng_loops import key_behind, uniform_behind

_SPEED_UNIT, _TYPE_UNIT = F(SPEED_UNIT), F(TYPE_UNIT)
_COURSE = F(math.pi / 6)  # rad, at most, off the way to the middle at a start

# What the loops know of the options, and of each aircraft: records, which cost a call nothing.
CONSTANTS = {
    **dict.fromkeys(("n_allies", "n_enemies", "enemy_slots", "ally_slots", "max_steps", "substeps"), np.int64),
    **dict.fromkeys(("lock_min", "lock_max"), np.int64),
    "is_passive": np.bool_,  # the opponent
    **dict.fromkeys(("h", "half_h"), F),  # s, of a substep
    **dict.fromkeys(("roll_step", "alpha_step", "roll", "alpha"), F),  # rad at most, in a substep and in a step
    **dict.fromkeys(
        ("engine_gain", "half_rho", "wing_area", "cl_alpha", "cd0", "k_ind", "mass", "weight", "v_floor"), F
    ),
    **dict.fromkeys(("alpha_min", "alpha_max", "alpha_stall"), F),  # rad
    **dict.fromkeys(("n_min", "n_max", "opponent_skill", "half_size", "ceiling", "v0", "collision_range2"), F),
    "lanes": F,  # the size of the arena beside that for which starts are laid out
    **dict.fromkeys(("view_range", "close_range", "weapon_range", "comm_range"), F),
    **dict.fromkeys(("view_across", "view_above", "weapon_across", "weapon_above"), F),  # tangents of half the angles
    **dict.fromkeys(("damage", "healed"), F),  # in a step; damage for each step of lock
    **dict.fromkeys(("reward_kill", "reward_death", "reward_win"), F),
}
FLEET = ("types", "max_thrust", "max_health", "view_range2", "trim_alpha", "trim_throttle")


class Situation(NamedTuple):
    """The State fields that rules look at, [B, ...]; or of one environment, without the batch axis."""

    rng: np.ndarray  # of one environment: [1]
    step: np.ndarray  # of one environment: a number
    position: np.ndarray
    velocity: np.ndarray
    lift_dir: np.ndarray
    alpha: np.ndarray
    throttle: np.ndarray
    health: np.ndarray
    status: np.ndarray
    lock_steps: np.ndarray
    detected: np.ndarray
    under_fire: np.ndarray


class Scratch(NamedTuple):
    """What is worked out about one environment after another."""

    was_alive: np.ndarray  # bool [A]: before the step
    start: np.ndarray  # float32 [A, 3]: positions before the step
    controls: np.ndarray  # float32 [A, 3]
    is_grounded: np.ndarray  # bool [A]
    flights: np.ndarray  # float32 [A / LANES, rows * LANES]: how all move in a step
    is_struck: np.ndarray  # bool [A]: in a collision
    direction: np.ndarray  # float32 [A, 3] of the living, as all below
    speed: np.ndarray  # float32 [A]
    nose: np.ndarray  # float32 [A, 3]
    right: np.ndarray  # float32 [A, 3]
    up: np.ndarray  # float32 [A, 3]
    in_weapon: np.ndarray  # bool [A, A]
    taken: np.ndarray  # float32 [A]: damage
    knows: np.ndarray  # bool [A]: whom an ally knows of
    key: np.ndarray  # float32 [A]: its distance from all
    order: np.ndarray  # int64 [A]: whom it sees in its slots


class Results(NamedTuple):
    """What comes of a step beside the State."""

    reward: np.ndarray  # float32 [B, N]
    terminated: np.ndarray  # bool [B]
    ends: np.ndarray  # bool [3, B]: won, lost, draw
    counts: np.ndarray  # int64 [len(COUNTS), B]
    hits: np.ndarray  # float32 [B]: damage dealt to enemies


ENDS = ("won", "lost", "draw")
LOSSES = tuple(name for names in zip(ENEMY_LOSSES, ALLY_LOSSES) for name in names)  # of CAUSES, one after another
COUNTS = ("allies_alive", "enemies_alive", *LOSSES)


def constants(c: Options, enemy_slots: int, ally_slots: int) -> np.ndarray:
    """A record of the options: [1] of CONSTANTS."""
    h, roll_rate, alpha_rate = c.dt / c.substeps, math.radians(c.roll_rate), math.radians(c.alpha_rate)
    angles = {"view_across": c.view_h, "view_above": c.view_v, "weapon_across": c.weapon_h, "weapon_above": c.weapon_v}
    worked_out = {
        "enemy_slots": enemy_slots,
        "ally_slots": ally_slots,
        "is_passive": c.opponent == "passive",
        "h": h,
        "half_h": h / 2,
        "roll_step": h * roll_rate,
        "alpha_step": h * alpha_rate,
        "roll": roll_rate * c.dt,
        "alpha": alpha_rate * c.dt,
        "engine_gain": 1 - math.exp(-h / c.throttle_tau),
        "half_rho": 0.5 * c.rho,
        "weight": c.mass * GRAVITY,
        "collision_range2": c.collision_range**2,
        "lanes": c.half_size / 2000,
        "damage": c.damage_rate * c.dt,
        "healed": c.heal_rate * c.dt,
        **{name: math.radians(getattr(c, name)) for name in ("alpha_min", "alpha_max", "alpha_stall")},
        **{name: math.tan(math.radians(angle / 2)) for name, angle in angles.items()},
    }
    record = np.zeros(1, list(CONSTANTS.items()))
    for name in CONSTANTS:
        record[name] = worked_out[name] if name in worked_out else getattr(c, name)
    return record


def fleet_of(**values: list[float]) -> np.ndarray:
    """Records of what differs between the aircraft and never changes, [A] of FLEET, from [A] by name."""
    records = np.zeros(len(values["types"]), [(name, F) for name in FLEET])
    for name in FLEET:
        records[name] = values[name]
    return records


def new_results(num_envs: int, num_agents: int) -> Results:
    """To be written to."""
    return Results(
        reward=np.empty((num_envs, num_agents), F),
        terminated=np.empty(num_envs, np.bool_),
        ends=np.empty((len(ENDS), num_envs), np.bool_),
        counts=np.empty((len(COUNTS), num_envs), np.int64),
        hits=np.empty(num_envs, F),
    )


def metrics(ends: Sequence, counts: Sequence, hits: Any) -> dict[str, Any]:
    """What the environment tells of a step, by name: from `Results` of a batch, or of one environment."""
    named = {**dict(zip(ENDS, ends)), **dict(zip(COUNTS, counts))}
    return {**named, **{f"episode_{name}": named[name] for name in LOSSES}, "episode_hits": hits}


def environments_at_once(aircraft: int) -> int:
    """How many environments are a block of work for a thread: about 200 us of it."""
    return max(1, 250 // aircraft)


@compiled
def situation(states, b):
    """Environment b of a batch: the same memory."""
    return Situation(
        states.rng[b : b + 1],
        states.step[b],
        states.position[b],
        states.velocity[b],
        states.lift_dir[b],
        states.alpha[b],
        states.throttle[b],
        states.health[b],
        states.status[b],
        states.lock_steps[b],
        states.detected[b],
        states.under_fire[b],
    )


@compiled
def scratch(aircraft):
    return Scratch(
        np.empty(aircraft, np.bool_),
        np.empty((aircraft, 3), F),
        np.empty((aircraft, 3), F),
        np.empty(aircraft, np.bool_),
        np.ones(((aircraft + LANES - 1) // LANES, ROWS), F),
        np.empty(aircraft, np.bool_),
        np.empty((aircraft, 3), F),
        np.empty(aircraft, F),
        np.empty((aircraft, 3), F),
        np.empty((aircraft, 3), F),
        np.empty((aircraft, 3), F),
        np.empty((aircraft, aircraft), np.bool_),
        np.empty(aircraft, F),
        np.empty(aircraft, np.bool_),
        np.empty(aircraft, F),
        np.empty(aircraft, np.int64),
    )


# ---- reset ----


@compiled
def initial_state(first, last, constants, fleet, states):
    aircraft = states.alpha.shape[1]
    c, w = constants[0], scratch(aircraft)
    for b in range(first, last):
        s = situation(states, b)
        key = s.rng[0]
        for i in range(aircraft):
            u1, u2 = uniform_behind(key, i + 1), uniform_behind(key, aircraft + i + 1)
            u3, u4 = uniform_behind(key, 2 * aircraft + i + 1), uniform_behind(key, 3 * aircraft + i + 1)
            side, lane, team = (-ONE, i, c.n_allies) if i < c.n_allies else (ONE, i - c.n_allies, c.n_enemies)
            x = side * (F(400) + F(1200) * u1) * c.lanes
            y = (F(-1600) + F(3200) * (F(lane) + F(0.1) + F(0.8) * u2) / F(team)) * c.lanes
            course = _COURSE * (TWO * u4 - ONE)
            put(s.position, i, (x, y, F(1000) + F(1000) * u3))
            put(s.velocity, i, (c.v0 * -side * np.cos(course), c.v0 * np.sin(course), ZERO))
            put(s.lift_dir, i, UP)
            s.alpha[i], s.throttle[i], s.health[i] = fleet[i].trim_alpha, fleet[i].trim_throttle, fleet[i].max_health
            s.status[i], s.under_fire[i] = FLYING, False
            for j in range(aircraft):
                s.lock_steps[i, j] = 0
        s.rng[0] = key_behind(key, 4 * aircraft)
        orient_all(s, w)
        _sense(c, fleet, s, w)


# ---- the step ----


@compiled
def transition(first, last, constants, fleet, states, actions, results):
    """One step of environments `first` to `last - 1`: `states` are moved, `results` written."""
    aircraft = states.alpha.shape[1]
    c, w = constants[0], scratch(aircraft)
    for b in range(first, last):
        s = situation(states, b)
        for i in range(aircraft):
            w.was_alive[i] = s.status[i] == FLYING
            put(w.start, i, split(s.position, i))
        orient_all(s, w)
        _decide(c, s, w, actions[b])
        _fly(c, fleet, s, w)
        _lose(c, s, w)
        _sense(c, fleet, s, w)
        results.hits[b] = _damage(c, s, w)
        _health(c, fleet, s, w)
        _outcome(c, s, w, results, b)


@compiled
def _decide(c, s, w, actions):
    n = c.n_allies
    for i in range(n):
        for k in range(3):
            action = actions[i, k]
            w.controls[i, k] = clamp(action, -ONE, ONE) if action == action else ZERO
    fly_team(c, s, w, slice(n, n + c.n_enemies), slice(0, n))


@compiled
def _fly(c, fleet, s, w):
    fly(c, fleet, s, w)
    for i in range(len(s.status)):
        if not w.was_alive[i]:
            continue
        m, place = w.flights[i // LANES], i % LANES
        direction, speed = lane(m, DIRECTION + place), m[SPEED + place]
        put(s.position, i, lane(m, POSITION + place))
        if w.is_grounded[i]:
            s.position[i, 2] = max(s.position[i, 2], ZERO)
        put(s.velocity, i, scale(speed, direction))
        put(s.lift_dir, i, lane(m, LIFT_DIR + place))
        s.alpha[i], s.throttle[i] = m[ALPHA + place], m[THROTTLE + place]
        orient(w, i, Motion(split(s.position, i), direction, speed, split(s.lift_dir, i), s.alpha[i], s.throttle[i]))


@compiled
def _lose(c, s, w):
    for i in range(len(s.status)):
        if s.status[i] == FLYING and w.is_grounded[i]:
            s.status[i] = GROUND
        elif s.status[i] == FLYING and _is_outside(c, s, i):
            s.status[i] = LEFT
    _collides(c, s, w)
    for i in range(len(s.status)):
        if w.is_struck[i]:
            s.status[i] = COLLIDED


@compiled
def _is_outside(c, s, i):
    x, y, z = split(s.position, i)
    return abs(x) > c.half_size or abs(y) > c.half_size or z > c.ceiling


@compiled
def _collides(c, s, w):
    """Fill `is_struck`."""
    aircraft = len(s.status)
    for i in range(aircraft):
        w.is_struck[i] = False
    for i in range(aircraft):
        if s.status[i] != FLYING:
            continue
        my_start, my_end = split(w.start, i), split(s.position, i)
        for j in range(i + 1, aircraft):
            if s.status[j] != FLYING:
                continue
            r0, r1 = subtract(split(w.start, j), my_start), subtract(split(s.position, j), my_end)
            dr = subtract(r1, r0)
            tau = clamp(-dot(r0, dr) / max(dot(dr, dr), TINIEST), ZERO, ONE)
            nearest = add(r0, scale(tau, dr))
            if dot(nearest, nearest) < c.collision_range2:
                w.is_struck[i] = w.is_struck[j] = True


@compiled
def _geometry(r, w, i):
    return Geometry(length(r), dot(r, split(w.nose, i)), dot(r, split(w.right, i)), dot(r, split(w.up, i)))


@compiled
def _in_cone(g, across, above):
    level = np.sqrt(g.ahead * g.ahead + g.right * g.right)
    return g.ahead > ZERO and abs(g.right) <= g.ahead * across and abs(g.up) <= level * above


@compiled
def _sense(c, fleet, s, w):
    """Fill `detected` and `in_weapon`. Every ordered pair has a random number, which few look at."""
    aircraft, key = len(s.status), s.rng[0]
    for i in range(aircraft):
        for j in range(aircraft):
            s.detected[i, j] = w.in_weapon[i, j] = False
        if s.status[i] != FLYING:
            continue
        first, last = (c.n_allies, aircraft) if i < c.n_allies else (0, c.n_allies)
        position, view_range2 = split(s.position, i), fleet[i].view_range2
        for j in range(first, last):
            r = subtract(split(s.position, j), position)
            distance = length(r)
            share2 = distance * distance / view_range2
            is_close, is_near = distance < c.close_range, distance <= c.weapon_range
            if s.status[j] != FLYING or not (is_close or is_near or share2 <= ONE):
                continue
            g = _geometry(r, w, i)
            w.in_weapon[i, j] = is_near and _in_cone(g, c.weapon_across, c.weapon_above)
            s.detected[i, j] = is_close or (
                share2 <= ONE
                and (
                    w.in_weapon[i, j]
                    or (
                        _in_cone(g, c.view_across, c.view_above)
                        and uniform_behind(key, i * aircraft + j + 1) < ONE - share2
                    )
                )
            )
    s.rng[0] = key_behind(key, aircraft * aircraft)


@compiled
def _damage(c, s, w):
    """Count the steps of every lock; fill `taken`; the damage dealt to enemies."""
    aircraft, hits = len(s.status), ZERO
    for j in range(aircraft):
        w.taken[j] = ZERO
    for i in range(aircraft):
        for j in range(aircraft):
            lock_steps = s.lock_steps[i, j] + 1 if s.detected[i, j] and w.in_weapon[i, j] else 0
            s.lock_steps[i, j] = lock_steps
            damage = F(clamp(lock_steps, c.lock_min, c.lock_max) - c.lock_min) * c.damage
            w.taken[j] += damage
            if i < c.n_allies:
                hits += damage
    return hits


@compiled
def _health(c, fleet, s, w):
    """Take what was `taken`. Those lost in this step are out of every lock and every sensor."""
    aircraft = len(s.status)
    for i in range(aircraft):
        health = max(min(s.health[i] - w.taken[i] + c.healed, fleet[i].max_health), ZERO)
        if s.status[i] == FLYING and health <= ZERO:
            s.status[i] = SHOT
        is_alive = s.status[i] == FLYING
        s.health[i] = health if is_alive else ZERO
        s.under_fire[i] = is_alive and w.taken[i] > ZERO
    for i in range(aircraft):
        if s.status[i] != FLYING:
            for j in range(aircraft):
                s.lock_steps[i, j] = s.lock_steps[j, i] = 0
                s.detected[i, j] = s.detected[j, i] = False


@compiled
def _outcome(c, s, w, results, b):
    counts, ends = results.counts, results.ends
    allies = enemies = lost_allies = lost_enemies = 0
    for k in range(len(CAUSES)):
        counts[2 + 2 * k, b] = counts[3 + 2 * k, b] = 0
    for i in range(len(s.status)):
        is_ally, is_alive = i < c.n_allies, s.status[i] == FLYING
        allies += is_alive and is_ally
        enemies += is_alive and not is_ally
        if w.was_alive[i] and not is_alive:
            lost_allies += is_ally
            lost_enemies += not is_ally
            for k in range(len(CAUSES)):
                counts[2 + 2 * k + is_ally, b] += s.status[i] == CAUSES[k]
    counts[0, b], counts[1, b] = allies, enemies
    terminated = allies == 0 or enemies == 0
    is_over = terminated or s.step + 1 >= c.max_steps
    won = is_over and allies > enemies
    results.terminated[b] = terminated
    ends[0, b], ends[1, b], ends[2, b] = won, is_over and allies < enemies, is_over and allies == enemies
    reward = c.reward_kill * F(lost_enemies) / F(c.n_enemies) - c.reward_death * F(lost_allies) / F(c.n_allies)
    for i in range(c.n_allies):
        results.reward[b, i] = reward + c.reward_win * F(won)


# ---- what is seen ----


@compiled
def perceive(first, last, constants, fleet, states, obs, state):
    """What environments `first` to `last - 1` show: obs float32 [B, N, O], state float32 [B, S], the result."""
    c, w = constants[0], scratch(states.alpha.shape[1])
    for b in range(first, last):
        s = situation(states, b)
        orient_all(s, w)
        _observation(c, fleet, s, w, obs[b])
        _global_state(c, fleet, s, state[b])


@compiled
def _time_left(c, s):
    return ONE - F(s.step) / F(c.max_steps)


@compiled
def _observation(c, fleet, s, w, obs):
    n, aircraft = c.n_allies, len(s.status)
    for i in range(n):
        row = obs[i]
        for k in range(len(row)):
            row[k] = ZERO
        if s.status[i] != FLYING:
            continue
        _ego(c, fleet, s, w, i, row)
        position = split(s.position, i)
        for j in range(aircraft):
            w.key[j] = length(subtract(split(s.position, j), position))
        _knows(c, s, w, i)
        place = EGO_FEATURES
        count = _nearest(w, n, aircraft, c.enemy_slots)
        for k in range(count):
            _entities(c, fleet, s, w, i, w.order[k], row, place + ENTITY_FEATURES * k)
        place += ENTITY_FEATURES * c.enemy_slots
        count = _nearest(w, 0, n, c.ally_slots)
        for k in range(count):
            _entities(c, fleet, s, w, i, w.order[k], row, place + ENTITY_FEATURES * k)


@compiled
def _knows(c, s, w, i):
    """Fill `knows` for ally i, alive."""
    n, aircraft = c.n_allies, len(s.status)
    for j in range(n):
        w.knows[j] = j != i and s.status[j] == FLYING and w.key[j] <= c.comm_range
    for j in range(n, aircraft):
        w.knows[j] = s.detected[i, j]
    for k in range(n):
        if w.knows[k]:
            for j in range(n, aircraft):
                w.knows[j] |= s.detected[k, j]
    for j in range(n, aircraft):
        w.knows[j] &= s.status[j] == FLYING


@compiled
def _ego(c, fleet, s, w, i, row):
    speed, alpha = w.speed[i], s.alpha[i]
    load = dynamic_pressure(speed, c) * c.wing_area * lift_coefficient(alpha, c)
    wall_ahead, wall_right, wall_behind, wall_left = _walls(c, split(s.position, i), split(w.direction, i))
    features = Ego(
        alive=ONE,
        health=s.health[i] / fleet[i].max_health,
        height=s.position[i, 2] / c.ceiling,
        speed=speed / _SPEED_UNIT,
        nose_up=w.nose[i, 2],
        right_wing_down=-w.right[i, 2],
        upright=w.up[i, 2],
        alpha=alpha / c.alpha_max,
        climb=w.direction[i, 2],
        throttle=s.throttle[i],
        load=load / (c.weight * c.n_max),
        wall_ahead=wall_ahead,
        wall_right=wall_right,
        wall_behind=wall_behind,
        wall_left=wall_left,
        time_left=_time_left(c, s),
        under_fire=F(s.under_fire[i]),
        type=fleet[i].types / _TYPE_UNIT,
    )
    for k in range(EGO_FEATURES):
        row[k] = features[k]


@compiled
def _walls(c, position, direction):
    x, y, _ = position
    tx, ty, _ = direction
    hx, hy = ONE, ZERO
    if np.sqrt(tx * tx + ty * ty) > TINY:
        hx, hy = unit_level(tx, ty)
    return _ray(c, x, y, hx, hy), _ray(c, x, y, hy, -hx), _ray(c, x, y, -hx, -hy), _ray(c, x, y, -hy, hx)


@compiled
def _ray(c, x, y, dx, dy):
    to_x = (c.half_size - x * np.sign(dx)) / max(abs(dx), TINY)
    to_y = (c.half_size - y * np.sign(dy)) / max(abs(dy), TINY)
    return clamp(min(to_x, to_y) / c.half_size, ZERO, TWO)


@compiled
def _entities(c, fleet, s, w, i, j, row, place):
    """Write aircraft j as ally i sees it, from `place` on."""
    g = _geometry(subtract(split(s.position, j), split(s.position, i)), w, i)
    direction = split(w.direction, j)
    features = Entity(
        team=ONE if j < c.n_allies else -ONE,
        ahead=g.ahead / c.view_range,
        right=g.right / c.view_range,
        up=g.up / c.view_range,
        distance=g.distance / c.view_range,
        flies_ahead=dot(direction, split(w.nose, i)),
        flies_right=dot(direction, split(w.right, i)),
        flies_up=dot(direction, split(w.up, i)),
        faster=(w.speed[j] - w.speed[i]) / _SPEED_UNIT,
        health=s.health[j] / fleet[j].max_health,
        type=fleet[j].types / _TYPE_UNIT,
        lock=min(F(s.lock_steps[i, j]) / F(c.lock_max), ONE),
    )
    for k in range(ENTITY_FEATURES):
        row[place + k] = features[k]


@compiled
def _global_state(c, fleet, s, state):
    aircraft = len(s.status)
    for i in range(aircraft):
        if s.status[i] == FLYING:
            _aircraft(c, fleet, s, i, state)
        else:
            for k in range(AIRCRAFT_FEATURES):
                state[AIRCRAFT_FEATURES * i + k] = ZERO
    state[AIRCRAFT_FEATURES * aircraft] = _time_left(c, s)


@compiled
def _aircraft(c, fleet, s, i, state):
    lock_steps = s.lock_steps[i, 0]
    for j in range(1, len(s.status)):
        lock_steps = max(lock_steps, s.lock_steps[i, j])
    features = Aircraft(
        alive=ONE,
        x=s.position[i, 0] / c.half_size,
        y=s.position[i, 1] / c.half_size,
        z=s.position[i, 2] / c.ceiling,
        velocity_x=s.velocity[i, 0] / _SPEED_UNIT,
        velocity_y=s.velocity[i, 1] / _SPEED_UNIT,
        velocity_z=s.velocity[i, 2] / _SPEED_UNIT,
        lift_x=s.lift_dir[i, 0],
        lift_y=s.lift_dir[i, 1],
        lift_z=s.lift_dir[i, 2],
        alpha=s.alpha[i] / c.alpha_max,
        throttle=s.throttle[i],
        health=s.health[i] / fleet[i].max_health,
        lock=min(F(lock_steps) / F(c.lock_max), ONE),
        type=fleet[i].types / _TYPE_UNIT,
    )
    for k in range(AIRCRAFT_FEATURES):
        state[AIRCRAFT_FEATURES * i + k] = features[k]


@compiled
def _nearest(w, first, last, slots):
    """Fill `order` with the known of aircraft `first` to `last - 1`, nearest first, ties in order; at most `slots`."""
    count = 0
    for j in range(first, last):
        if not w.knows[j]:
            continue
        place = count
        while place > 0 and w.key[w.order[place - 1]] > w.key[j]:
            if place < slots:
                w.order[place] = w.order[place - 1]
            place -= 1
        if place < slots:
            w.order[place] = j
            count = min(count + 1, slots)
    return count


# ---- one environment ----


class AeroJAXLoops(LoopEngine):
    """The loops above on one environment, as a batch of one."""

    def start(self) -> None:
        initial_state(0, 1, *self.rules.numbers, self._states())

    def transition(self, actions: np.ndarray):
        results = new_results(1, self.rules.num_agents)
        transition(0, 1, *self.rules.numbers, self._states(), actions[None], results)
        told = metrics(results.ends[:, 0].tolist(), results.counts[:, 0].tolist(), results.hits[0])
        return results.reward[0], bool(results.terminated[0]), told

    def perceive(self):
        obs = np.empty((1, self.rules.num_agents, self.rules.observation_size), F)
        state = np.empty((1, self.rules.state_size), F)
        perceive(0, 1, *self.rules.numbers, self._states(), obs, state)
        return obs[0], state[0], None

    def _states(self) -> Situation:
        return Situation(*self.of_batch(*Situation._fields))
