"""The rules of AeroJAX once more, as a rule book: one environment, plain loops, compiled with numba.

Equal to `env.py` up to float32 rounding from equal states, random numbers included. `parallel_env("aerojax_*")` runs
on it, and tests hold the two against each other. What the rules mean is described in `env.py`, `physics.py` and
`opponents.py`.

Vectors are triples of numbers, computed in float64 and stored in the float32 of the State. The compiled loops are
cached on disk. numba renews them when this file changes, but not for a changed constant elsewhere: touch it then.
"""

import dataclasses
import math
from collections import namedtuple
from typing import NamedTuple

import numpy as np
from numba import njit

from torch_mars.envs.aerojax.env import (
    COLLIDED,
    EGO_FEATURES,
    ENTITY_FEATURES,
    FLYING,
    GROUND,
    LEFT,
    SHOT,
    STATE_FEATURES,
    AeroJAX,
    Options,
)
from torch_mars.envs.aerojax.physics import GRAVITY
from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.rng_loops import next_uniform

_ANGLES = (
    "alpha_min",
    "alpha_max",
    "alpha_stall",
    "alpha_rate",
    "roll_rate",
    "view_h",
    "view_v",
    "weapon_h",
    "weapon_v",
)
_NAMES = [f.name for f in dataclasses.fields(Options) if f.type in (int, float)]
Constants = namedtuple("Constants", _NAMES)  # the numbers of Options, angles in rad
LEVEL = (0.0, 0.0, 1.0)


class Fleet(NamedTuple):
    """What differs between the A aircraft and never changes."""

    types: np.ndarray  # float64 [A]
    max_thrust: np.ndarray  # N
    max_health: np.ndarray
    view_range2: np.ndarray  # m^2
    trim_alpha: np.ndarray  # rad
    trim_throttle: np.ndarray


class Situation(NamedTuple):
    """The State fields, moved in place."""

    rng: np.ndarray
    step: np.ndarray
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


# ---- vectors ----


@njit(cache=True)
def vector(row):
    return (np.float64(row[0]), np.float64(row[1]), np.float64(row[2]))


@njit(cache=True)
def add(a, b):
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


@njit(cache=True)
def scale(s, a):
    return (s * a[0], s * a[1], s * a[2])


@njit(cache=True)
def subtract(a, b):
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


@njit(cache=True)
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True)
def cross(a, b):
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@njit(cache=True)
def length(a):
    return math.sqrt(dot(a, a))


@njit(cache=True)
def unit(a):
    return scale(1 / max(length(a), 1e-9), a)


@njit(cache=True)
def across(a, axis):
    return subtract(a, scale(dot(a, axis), axis))


@njit(cache=True)
def clamp(x, low, high):
    return min(max(x, low), high)


@njit(cache=True)
def unit_level(x, y):
    size = max(math.sqrt(x * x + y * y), 1e-6)
    return x / size, y / size


@njit(cache=True)
def body_axes(s, i):
    """Speed, flight direction, nose, right and up of aircraft i."""
    velocity, n = vector(s.velocity[i]), vector(s.lift_dir[i])
    speed = length(velocity)
    t = scale(1 / speed, velocity)
    cos, sin = math.cos(s.alpha[i]), math.sin(s.alpha[i])
    nose = add(scale(cos, t), scale(sin, n))
    return speed, t, nose, cross(t, n), subtract(scale(cos, n), scale(sin, t))


# ---- reset ----


@njit(cache=True)
def start(c, fleet, s):
    """Allies in the west flying east, enemies in the east flying west, each in a lane of its own."""
    n, aircraft = c.n_allies, len(s.alpha)
    draws = np.empty((4, aircraft))
    for k in range(4):
        for i in range(aircraft):
            draws[k, i] = next_uniform(s.rng)
    size = c.half_size / 2000
    for i in range(aircraft):
        side, lane, team = (-1, i, n) if i < n else (1, i - n, c.n_enemies)
        s.position[i, 0] = side * (400 + 1200 * draws[0, i]) * size
        s.position[i, 1] = (-1600 + 3200 * (lane + 0.1 + 0.8 * draws[1, i]) / team) * size
        s.position[i, 2] = 1000 + 1000 * draws[2, i]
        course = math.pi / 6 * (2 * draws[3, i] - 1)
        s.velocity[i, 0], s.velocity[i, 1], s.velocity[i, 2] = (
            c.v0 * -side * math.cos(course),
            c.v0 * math.sin(course),
            0,
        )
        s.lift_dir[i, 0], s.lift_dir[i, 1], s.lift_dir[i, 2] = 0, 0, 1
        s.alpha[i], s.throttle[i], s.health[i] = fleet.trim_alpha[i], fleet.trim_throttle[i], fleet.max_health[i]
    s.status[:] = FLYING
    s.lock_steps[:] = 0
    s.under_fire[:] = False
    sense(c, fleet, s)


# ---- flight ----


@njit(cache=True)
def fly(c, max_thrust, s, i, action):
    """Aircraft i for one step; whether it touched the ground."""
    h = c.dt / c.substeps
    speed, t, _, _, _ = body_axes(s, i)
    n, position = vector(s.lift_dir[i]), vector(s.position[i])
    alpha, throttle = np.float64(s.alpha[i]), np.float64(s.throttle[i])
    roll = h * c.roll_rate * action[0]
    is_grounded = False
    for _ in range(c.substeps):
        pressure_area = 0.5 * c.rho * speed * speed * c.wing_area
        alpha_at_1g = c.mass * GRAVITY / (pressure_area * c.cl_alpha)
        low, high = max(c.alpha_min, c.n_min * alpha_at_1g), min(c.alpha_max, c.n_max * alpha_at_1g)
        alpha = clamp(alpha + h * c.alpha_rate * action[1], low, high)
        throttle += (1 - math.exp(-h / c.throttle_tau)) * ((action[2] + 1) / 2 - throttle)
        n = add(scale(math.cos(roll), n), scale(math.sin(roll), cross(t, n)))

        lift = c.cl_alpha * (c.alpha_stall - abs(alpha - c.alpha_stall))
        drag = c.cd0 + c.k_ind * (c.cl_alpha * alpha) ** 2
        thrust = throttle * max_thrust
        lift_acceleration = (pressure_area * lift + thrust * math.sin(alpha)) / c.mass
        path_acceleration = (thrust * math.cos(alpha) - pressure_area * drag) / c.mass
        a = subtract(scale(lift_acceleration, n), scale(GRAVITY, across(LEVEL, t)))
        t2 = unit(add(t, scale(h / speed, a)))
        speed2 = max(c.v_floor, speed + h * (path_acceleration - GRAVITY * (t[2] + t2[2]) / 2))

        n = subtract(n, scale(dot(n, t2) / (1 + dot(t, t2)), add(t, t2)))
        n = unit(across(n, t2))
        position = add(position, scale(h / 2, add(scale(speed, t), scale(speed2, t2))))
        t, speed = t2, speed2
        is_grounded = is_grounded or position[2] <= 0
    for k in range(3):
        s.position[i, k], s.velocity[i, k], s.lift_dir[i, k] = position[k], speed * t[k], n[k]
    if is_grounded:
        s.position[i, 2] = max(position[2], 0)
    s.alpha[i], s.throttle[i] = alpha, throttle
    return is_grounded


# ---- the scripted pilot ----


@njit(cache=True)
def pilot(c, s, i, first_foe, last_foe, skill, is_passive):
    """The controls of aircraft i: aileron, elevator, throttle."""
    speed, t, nose, right, _ = body_axes(s, i)
    position, velocity, lift_dir = vector(s.position[i]), vector(s.velocity[i]), vector(s.lift_dir[i])

    # 1. target: near, ahead, and first of all whoever threatens from behind
    target, least, ata, distance, is_threat = -1, np.inf, 0.0, 0.0, False
    for j in range(first_foe, last_foe):
        if s.status[j] != FLYING or is_passive:
            continue
        r = subtract(vector(s.position[j]), position)
        d = max(length(r), 1)
        _, _, its_nose, _, _ = body_axes(s, j)
        my_ata, its_aot = dot(r, nose) / d, -dot(r, its_nose) / d
        threat = d < c.threat_range * c.weapon_range and its_aot > c.threat_cos and my_ata < 0
        cost = d * (1 + c.ata_weight * (1 - my_ata)) - c.threat_bonus * threat
        if cost < least:
            target, least, ata, distance, is_threat = j, cost, my_ata, d, threat
    has_target = target >= 0

    # 2. direction, and the turning of the line of sight; 3. at right angles first if it lies behind
    aim, target_velocity = (0.0, 0.0, c.ceiling / 2), (0.0, 0.0, 0.0)
    if has_target:
        aim, target_velocity = vector(s.position[target]), vector(s.velocity[target])
    to_aim = subtract(aim, position)
    far = max(length(to_aim), 1)
    e = scale(1 / far, to_aim)
    turning = scale(1 / far, across(subtract(target_velocity, velocity), e))
    if dot(e, nose) < 0:
        e = unit(across(e, nose))

    # 4. height and energy
    soon = position[2] + 2 * velocity[2]
    top = clamp(min((c.ceiling - c.roof - soon) / 500, (speed - c.v_slow) / 60), -0.5, 1)
    bottom = -clamp((soon - c.floor_soft) / 500, -0.5, c.dive_max)
    e_z = max(min(e[2], top), bottom)
    is_guarding = e_z != e[2]
    e = unit((e[0], e[1], e_z))

    # 5. keep clear of the soonest too close passage
    soonest, miss, other = np.inf, e, -1
    for k in range(len(s.alpha)):
        if k == i or s.status[k] != FLYING:
            continue
        r, rv = subtract(vector(s.position[k]), position), subtract(vector(s.velocity[k]), velocity)
        tca = clamp(-dot(r, rv) / max(dot(rv, rv), 1), 0, c.avoid_time)
        passing = add(r, scale(tca, rv))
        if length(passing) < c.avoid_miss and 0 < tca < c.avoid_time and tca < soonest:
            soonest, miss, other = tca, passing, k
    if other >= 0:
        bias = LEVEL if other > i else (0.0, 0.0, -1.0)
        if first_foe <= other < last_foe:
            bias = right
        m = across(subtract(miss, scale(c.avoid_bias, bias)), t)
        strength = clamp(c.avoid_miss / (speed * max(soonest, 0.2)), 0, c.avoid_max)
        e = unit(subtract(t, scale(strength, unit(m))))
        is_guarding = True

    # 6. walls
    heading_x, heading_y = unit_level(t[0], t[1])
    is_out = False
    for axis in range(2):
        room = c.half_size - position[axis] * np.sign(velocity[axis])
        towards = abs(velocity[axis])
        sine = min(towards / speed, 1)
        turn = speed * speed / (c.wall_g * GRAVITY) * (1 - math.sqrt(1 - sine * sine))
        is_out = is_out or room < turn + c.wall_react * towards + c.wall_margin
    level_x, level_y = heading_x, heading_y
    if is_out:
        level_x, level_y = unit_level(-position[0], -position[1])
        ahead = level_x * heading_x + level_y * heading_y
        if ahead < 0:
            level_x, level_y = unit_level(level_x - ahead * heading_x, level_y - ahead * heading_y)
        e = (level_x, level_y, 0.0)

    # 7. ground
    circle = speed * speed * (1 - math.sqrt(max(1 - t[2] * t[2], 0))) / (c.pull_g * GRAVITY)
    drop = circle + c.pull_react * max(-velocity[2], 0)
    is_pulling = velocity[2] < 0 and position[2] - drop < c.floor_hard
    if is_pulling:
        e = unit((level_x, level_y, 0.5))
    is_guarding = is_guarding or is_out or is_pulling  # 8.

    # 9. wanted acceleration
    steer = across(e, nose)
    if dot(e, nose) < 0:
        steer = unit(steer)
    a = scale(c.gain_turn, steer)
    if has_target and not is_guarding:
        a = add(a, turning)
    a = scale(speed, a)
    if has_target and is_threat and not is_guarding:
        a = scale(100, unit(a))
    a = add(a, scale(GRAVITY, across(LEVEL, t)))

    # 10. controls
    limit = 1.0 if is_guarding else skill
    lift = dot(a, lift_dir)
    aileron = clamp(c.gain_roll * math.atan2(dot(a, right), lift) / (c.roll_rate * c.dt), -limit, limit)
    alpha_per_lift = c.mass / (0.5 * c.rho * speed * speed * c.wing_area * c.cl_alpha)
    high = min(c.alpha_max, c.n_max * GRAVITY * alpha_per_lift, c.alpha_frac * c.alpha_stall) * limit
    alpha_want = min(max(lift * alpha_per_lift, -0.05), high)
    elevator = clamp((alpha_want - s.alpha[i]) / (c.alpha_rate * c.dt), -1, 1)
    v_want = c.v_cruise
    if has_target and distance < 0.8 * c.weapon_range and ata > 0.8:
        v_want = length(target_velocity) + 0.1 * (distance - 0.4 * c.weapon_range)
    throttle = clamp(2 * (0.5 + 0.05 * (clamp(v_want, c.v_min, c.v_max) - speed)) - 1, -1, 1)
    return aileron, elevator, throttle


# ---- sensors ----


@njit(cache=True)
def in_cone(ahead, right, up, horizontal, vertical):
    level = math.sqrt(ahead * ahead + right * right)
    return ahead > 0 and abs(right) <= ahead * math.tan(horizontal / 2) and abs(up) <= level * math.tan(vertical / 2)


@njit(cache=True)
def sense(c, fleet, s):
    """Fill `detected`; whether j is in i's weapon cone [A, A]. One number is drawn for every ordered pair."""
    aircraft = len(s.alpha)
    in_weapon = np.zeros((aircraft, aircraft), np.bool_)
    for i in range(aircraft):
        _, _, nose, right_axis, up_axis = body_axes(s, i)
        for j in range(aircraft):
            draw = next_uniform(s.rng)
            s.detected[i, j] = False
            if (i < c.n_allies) == (j < c.n_allies) or s.status[i] != FLYING or s.status[j] != FLYING:
                continue
            r = subtract(vector(s.position[j]), vector(s.position[i]))
            d, ahead, right, up = length(r), dot(r, nose), dot(r, right_axis), dot(r, up_axis)
            share2 = d * d / fleet.view_range2[i]
            in_weapon[i, j] = in_cone(ahead, right, up, c.weapon_h, c.weapon_v) and d <= c.weapon_range
            in_view = in_cone(ahead, right, up, c.view_h, c.view_v) and share2 <= 1 and draw < 1 - share2
            s.detected[i, j] = d < c.close_range or in_view or (in_weapon[i, j] and share2 <= 1)
    return in_weapon


# ---- the step ----


@njit(cache=True)
def step(c, fleet, s, actions, is_passive):
    """One step in the order of the rules. Returns losses [2 teams, 5 causes] and the damage dealt to enemies."""
    n, aircraft = c.n_allies, len(s.alpha)
    was_alive = s.status == FLYING

    # opponents decide before anybody moves
    controls = np.zeros((aircraft, 3))
    for i in range(aircraft):
        if i < n:
            for k in range(3):
                value = actions[i, k]
                controls[i, k] = 0 if np.isnan(value) else clamp(value, -1, 1)
        elif was_alive[i]:
            controls[i, 0], controls[i, 1], controls[i, 2] = pilot(c, s, i, 0, n, c.opponent_skill, is_passive)

    # flight; losses at the ground, beyond the arena, and in collisions
    before = s.position.copy()
    for i in range(aircraft):
        if was_alive[i] and fly(c, fleet.max_thrust[i], s, i, controls[i]):
            s.status[i] = GROUND
    for i in range(aircraft):
        x, y, z = s.position[i]
        if s.status[i] == FLYING and (abs(x) > c.half_size or abs(y) > c.half_size or z > c.ceiling):
            s.status[i] = LEFT
    collides = np.zeros(aircraft, np.bool_)
    for i in range(aircraft):
        for j in range(i + 1, aircraft):
            if s.status[i] != FLYING or s.status[j] != FLYING:
                continue
            r0 = subtract(vector(before[j]), vector(before[i]))
            dr = subtract(subtract(vector(s.position[j]), vector(s.position[i])), r0)
            tau = clamp(-dot(r0, dr) / max(dot(dr, dr), 1e-9), 0, 1)
            if length(add(r0, scale(tau, dr))) < c.collision_range:
                collides[i] = collides[j] = True
    for i in range(aircraft):
        if collides[i]:
            s.status[i] = COLLIDED

    # sense, lock, damage
    in_weapon = sense(c, fleet, s)
    taken = np.zeros(aircraft)
    hits = 0.0
    for i in range(aircraft):
        for j in range(aircraft):
            s.lock_steps[i, j] = s.lock_steps[i, j] + 1 if s.detected[i, j] and in_weapon[i, j] else 0
            damage = (clamp(s.lock_steps[i, j], c.lock_min, c.lock_max) - c.lock_min) * c.damage_rate * c.dt
            taken[j] += damage
            if i < n:
                hits += damage
    for i in range(aircraft):
        health = clamp(s.health[i] - taken[i] + c.heal_rate * c.dt, 0, fleet.max_health[i])
        if s.status[i] == FLYING and np.float32(health) <= 0:
            s.status[i] = SHOT
        is_alive = s.status[i] == FLYING
        s.health[i] = health if is_alive else 0
        s.under_fire[i] = is_alive and taken[i] > 0

    # those lost in this step are out of every lock and every sensor
    losses = np.zeros((2, 5), np.int64)
    for i in range(aircraft):
        if s.status[i] != FLYING:
            s.lock_steps[i, :] = s.lock_steps[:, i] = 0
            s.detected[i, :] = s.detected[:, i] = False
            if was_alive[i]:
                losses[0 if i < n else 1, s.status[i]] += 1
    return losses, hits


# ---- what is seen ----


@njit(cache=True)
def wall_distance(c, x, y, dx, dy):
    to_x = (c.half_size - x * np.sign(dx)) / max(abs(dx), 1e-6)
    to_y = (c.half_size - y * np.sign(dy)) / max(abs(dy), 1e-6)
    return clamp(min(to_x, to_y) / c.half_size, 0, 2)


@njit(cache=True)
def observe(c, fleet, s, enemy_slots, ally_slots):
    """obs [N, O] and state [S]."""
    n, aircraft = c.n_allies, len(s.alpha)
    obs = np.zeros((n, EGO_FEATURES + ENTITY_FEATURES * (enemy_slots + ally_slots)), np.float32)
    state = np.zeros(STATE_FEATURES * aircraft + 1, np.float32)
    time_left = 1 - s.step[()] / c.max_steps
    state[STATE_FEATURES * aircraft] = time_left
    for i in range(aircraft):
        if s.status[i] != FLYING:
            continue
        speed, t, nose, right, up = body_axes(s, i)
        x, y, z = vector(s.position[i])
        health, lock = s.health[i] / fleet.max_health[i], min(s.lock_steps[i].max() / c.lock_max, 1)
        row = state[STATE_FEATURES * i : STATE_FEATURES * (i + 1)]
        row[0], row[1], row[2], row[3] = 1, x / c.half_size, y / c.half_size, z / c.ceiling
        row[4:7] = s.velocity[i] / np.float32(100)
        row[7:10] = s.lift_dir[i]
        row[10], row[11], row[12] = s.alpha[i] / c.alpha_max, s.throttle[i], health
        row[13], row[14] = lock, fleet.types[i] / 4
        if i >= n:
            continue

        hx, hy = 1.0, 0.0
        if math.sqrt(t[0] * t[0] + t[1] * t[1]) > 1e-6:
            hx, hy = unit_level(t[0], t[1])
        lift = c.cl_alpha * (c.alpha_stall - abs(s.alpha[i] - c.alpha_stall))
        ego = obs[i]
        ego[0], ego[1], ego[2], ego[3] = 1, health, z / c.ceiling, speed / 100
        ego[4], ego[5], ego[6], ego[7] = nose[2], -right[2], up[2], s.alpha[i] / c.alpha_max
        ego[8], ego[9] = t[2], s.throttle[i]
        ego[10] = 0.5 * c.rho * speed * speed * c.wing_area * lift / (c.mass * GRAVITY * c.n_max)
        ego[11], ego[12] = wall_distance(c, x, y, hx, hy), wall_distance(c, x, y, hy, -hx)
        ego[13], ego[14] = wall_distance(c, x, y, -hx, -hy), wall_distance(c, x, y, -hy, hx)
        ego[15], ego[16], ego[17] = time_left, s.under_fire[i], fleet.types[i] / 4

        place = EGO_FEATURES
        for first, last, slots in ((n, aircraft, enemy_slots), (0, n, ally_slots)):
            place = list_nearest(c, fleet, s, i, first, last, slots, obs[i], place)
    return obs, state


@njit(cache=True)
def knows(c, s, i, j):
    """Whether ally i knows of j: an ally in communication range, or an enemy that it or such an ally detects."""
    if s.status[j] != FLYING or i == j:
        return False
    if j < c.n_allies:
        return length(subtract(vector(s.position[j]), vector(s.position[i]))) <= c.comm_range
    if s.detected[i, j]:
        return True
    for k in range(c.n_allies):
        if s.detected[k, j] and k != i and knows(c, s, i, k):
            return True
    return False


@njit(cache=True)
def list_nearest(c, fleet, s, i, first, last, slots, obs, place):
    """Write the known aircraft of first .. last - 1 nearest first, 12 numbers each; where the next block begins."""
    my_speed, _, nose, right, up = body_axes(s, i)
    distances = np.full(last - first, np.inf)
    for j in range(first, last):
        if knows(c, s, i, j):
            distances[j - first] = np.float32(length(subtract(vector(s.position[j]), vector(s.position[i]))))
    order = np.argsort(distances, kind="mergesort")
    for slot in range(slots):
        j = first + order[slot]
        if distances[order[slot]] < np.inf:
            r = subtract(vector(s.position[j]), vector(s.position[i]))
            speed, t, _, _, _ = body_axes(s, j)
            entity = obs[place + ENTITY_FEATURES * slot :]
            entity[0] = 1 if j < c.n_allies else -1
            entity[1], entity[2], entity[3] = dot(r, nose), dot(r, right), dot(r, up)
            entity[4] = length(r)
            entity[1:5] /= np.float32(c.view_range)
            entity[5], entity[6], entity[7] = dot(t, nose), dot(t, right), dot(t, up)
            entity[8], entity[9] = (speed - my_speed) / 100, s.health[j] / fleet.max_health[j]
            entity[10], entity[11] = fleet.types[j] / 4, min(s.lock_steps[i, j] / c.lock_max, 1)
    return place + ENTITY_FEATURES * slots


class ScalarAeroJAX(LoopEngine):
    """The functions above behind the engine interface."""

    def __init__(self, rules: AeroJAX):
        super().__init__(rules)
        options = dataclasses.asdict(rules.options)
        numbers = {name: math.radians(options[name]) if name in _ANGLES else options[name] for name in _NAMES}
        kinds = {f.name: f.type for f in dataclasses.fields(Options)}
        self._constants = Constants(**{name: kinds[name](value) for name, value in numbers.items()})
        per_aircraft = ("types", "max_thrust", "max_health", "view_range2", "trim_alpha", "trim_throttle")
        self._fleet = Fleet(*(getattr(rules, f"_{name}").numpy().astype(np.float64) for name in per_aircraft))
        self._situation = Situation(*(self.fields[name] for name in Situation._fields))
        self._is_passive = rules.options.opponent == "passive"

    def start(self) -> None:
        start(self._constants, self._fleet, self._situation)

    def transition(self, actions: np.ndarray):
        c, n = self._constants, self.rules.num_agents
        losses, hits = step(c, self._fleet, self._situation, actions, self._is_passive)
        is_alive = self.fields["status"] == FLYING
        allies, enemies = int(is_alive[:n].sum()), int(is_alive[n:].sum())
        terminated = allies == 0 or enemies == 0
        is_over = terminated or int(self.fields["step"]) + 1 >= self.rules.max_steps
        won = is_over and allies > enemies
        lost_allies, lost_enemies = losses.sum(1)
        reward = c.reward_kill * lost_enemies / c.n_enemies - c.reward_death * lost_allies / n + c.reward_win * won
        names = ("losses", "ally_ground", "ally_bounds", "ally_collided")
        names += ("kills", "enemy_ground", "enemy_bounds", "enemy_collided")
        by_cause = dict(zip(names, losses[:, 1:].flatten().tolist()))
        metrics = {
            "won": won,
            "lost": is_over and allies < enemies,
            "draw": is_over and allies == enemies,
            "allies_alive": allies,
            "enemies_alive": enemies,
            **by_cause,
            **{f"episode_{name}": count for name, count in by_cause.items()},
            "episode_hits": hits,
        }
        return np.full(n, reward, np.float32), terminated, metrics

    def perceive(self):
        rules = self.rules
        return *observe(self._constants, self._fleet, self._situation, rules.enemy_slots, rules.ally_slots), None
