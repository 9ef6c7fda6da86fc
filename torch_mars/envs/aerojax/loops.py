"""The rules of AeroJAX once more, as loops over the aircraft of one environment, compiled.

Equal to the tensors up to float32 rounding from equal states, random numbers included. `parallel_env("aerojax_*")` runs
on it, and tests hold the two against each other. The functions bear the names of their twins in `vectors.py`,
`physics.py`, `opponents.py` and `env.py`, where their meaning is described, and stand in the same order; most treat one
aircraft, number i. What is here only is `clamp`.

Vectors are triples of numbers, computed in float64 and stored in the float32 of the State.
"""

import dataclasses
import math
from collections import namedtuple
from typing import NamedTuple

import numpy as np

from torch_mars.envs.aerojax import opponents, vectors
from torch_mars.envs.aerojax.opponents import Flyer, Target
from torch_mars.envs.aerojax.physics import GRAVITY, Controls, Motion
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
from torch_mars.envs.core import BatchedEnv
from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.loops import compiled
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
_KINDS = {f.name: f.type for f in dataclasses.fields(Options) if f.type in (int, float)}
Constants = namedtuple("Constants", _KINDS)  # the numbers of Options, angles in rad
VERTICAL = (0.0, 0.0, 1.0)


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


@compiled
def clamp(x, low, high):
    return min(max(x, low), high)


# ---- vectors.py: what is written with operators alone is compiled as it stands there ----


@compiled
def split(row):
    return np.float64(row[0]), np.float64(row[1]), np.float64(row[2])


add = compiled(vectors.add)
subtract = compiled(vectors.subtract)
scale = compiled(vectors.scale)
dot = compiled(vectors.dot)
cross = compiled(vectors.cross)


@compiled
def length(a):
    return math.sqrt(dot(a, a))


@compiled
def unit(a):
    return scale(1 / max(length(a), 1e-9), a)


@compiled
def across(a, axis):
    return subtract(a, scale(dot(a, axis), axis))


# ---- physics.py ----


@compiled
def motion_of(s, i):
    velocity = split(s.velocity[i])
    speed = length(velocity)
    direction = scale(1 / speed, velocity)
    alpha, throttle = np.float64(s.alpha[i]), np.float64(s.throttle[i])
    return Motion(split(s.position[i]), direction, speed, split(s.lift_dir[i]), alpha, throttle)


@compiled
def velocity_of(motion):
    return scale(motion.speed, motion.direction)


@compiled
def body_axes(motion):
    t, n = motion.direction, motion.lift_dir
    cos, sin = math.cos(motion.alpha), math.sin(motion.alpha)
    return add(scale(cos, t), scale(sin, n)), cross(t, n), subtract(scale(cos, n), scale(sin, t))


@compiled
def dynamic_pressure(speed, c):
    return 0.5 * c.rho * speed * speed


@compiled
def alpha_limits(speed, c):
    alpha_at_1g = c.mass * GRAVITY / (dynamic_pressure(speed, c) * c.wing_area * c.cl_alpha)
    return max(c.alpha_min, c.n_min * alpha_at_1g), min(c.alpha_max, c.n_max * alpha_at_1g)


@compiled
def lift_coefficient(alpha, c):
    return c.cl_alpha * (c.alpha_stall - abs(alpha - c.alpha_stall))


@compiled
def drag_coefficient(alpha, c):
    return c.cd0 + c.k_ind * (c.cl_alpha * alpha) ** 2


@compiled
def fly(motion, action, max_thrust, c):
    h = c.dt / c.substeps
    aileron, elevator, throttle = action
    roll, alpha_step = h * c.roll_rate * aileron, h * c.alpha_rate * elevator
    engine_gain = 1 - math.exp(-h / c.throttle_tau)
    u = Controls(math.cos(roll), math.sin(roll), alpha_step, (throttle + 1) / 2, engine_gain, max_thrust)
    is_grounded = False
    for _ in range(c.substeps):
        motion = _substep(motion, u, h, c)
        is_grounded = is_grounded or motion.position[2] <= 0
    return motion, is_grounded


@compiled
def _substep(motion, u, h, c):
    position, t, speed, n, alpha, throttle = motion
    low, high = alpha_limits(speed, c)
    alpha = clamp(alpha + u.alpha_step, low, high)
    throttle = throttle + u.engine_gain * (u.command - throttle)
    n = add(scale(u.cos_roll, n), scale(u.sin_roll, cross(t, n)))

    pressure_area = dynamic_pressure(speed, c) * c.wing_area
    thrust = throttle * u.max_thrust
    lift_acceleration = (pressure_area * lift_coefficient(alpha, c) + thrust * math.sin(alpha)) / c.mass
    path_acceleration = (thrust * math.cos(alpha) - pressure_area * drag_coefficient(alpha, c)) / c.mass

    a_across = subtract(scale(lift_acceleration, n), scale(GRAVITY, across(VERTICAL, t)))
    t2 = unit(add(t, scale(h / speed, a_across)))
    speed2 = max(c.v_floor, speed + h * (path_acceleration - GRAVITY * (t[2] + t2[2]) / 2))

    n = subtract(n, scale(dot(n, t2) / max(1 + dot(t, t2), 1e-6), add(t, t2)))
    n = unit(across(n, t2))
    position = add(position, scale(h / 2, add(scale(speed, t), scale(speed2, t2))))
    return Motion(position, t2, speed2, n, alpha, throttle)


# ---- opponents.py ----


@compiled
def fly_team(s, own, foes, skill, is_passive, c):
    """Controls [I, 3]; zeros for the dead."""
    controls = np.zeros((own.stop - own.start, 3))
    for i in range(own.start, own.stop):
        if s.status[i] != FLYING:
            continue
        me = _flyer(motion_of(s, i))
        target = _target(me, s, foes, is_passive, c)
        e, turning = _aim(me, target)
        e, is_limited = _limit_height(e, me, c)
        e, is_dodging = _keep_clear(e, me, s, i, foes)
        e, level, is_out = _avoid_walls(e, me, c)
        e, is_pulling = _avoid_ground(e, level, me)
        is_guarding = is_limited or is_dodging or is_out or is_pulling
        a = _acceleration(e, turning, me, target, is_guarding)
        controls[i - own.start] = _controls(a, me, target, is_guarding, skill, c)
    return controls


@compiled
def _flyer(motion):
    nose, right, _ = body_axes(motion)
    t, speed = motion.direction, motion.speed
    return Flyer(motion.position, t, speed, velocity_of(motion), motion.lift_dir, motion.alpha, nose, right)


@compiled
def _target(me, s, foes, is_passive, c):
    target, least, distance, ata, is_threat = -1, np.inf, 0.0, 0.0, False
    for j in range(foes.start, foes.stop):
        if s.status[j] != FLYING or is_passive:
            continue
        its_nose, _, _ = body_axes(motion_of(s, j))
        r = subtract(split(s.position[j]), me.position)
        d = max(length(r), 1.0)
        my_ata, its_aot = dot(r, me.nose) / d, -dot(r, its_nose) / d
        threatens = d < opponents.THREAT_RANGE * c.weapon_range and its_aot > opponents.THREAT_COS and my_ata < 0
        cost = d * (1 + opponents.ATA_WEIGHT * (1 - my_ata)) - opponents.THREAT_BONUS * threatens
        if cost < least:
            target, least, distance, ata, is_threat = j, cost, d, my_ata, threatens
    if target < 0:
        return Target(False, (0.0, 0.0, c.ceiling / 2), (0.0, 0.0, 0.0), distance, ata, is_threat)
    return Target(True, split(s.position[target]), split(s.velocity[target]), distance, ata, is_threat)


@compiled
def _aim(me, target):
    to_aim = subtract(target.position, me.position)
    far = max(length(to_aim), 1.0)
    e = scale(1 / far, to_aim)
    turning = scale(1 / far, across(subtract(target.velocity, me.velocity), e))
    if dot(e, me.nose) < 0:
        e = unit(across(e, me.nose))
    return e, turning


@compiled
def _limit_height(e, me, c):
    soon = me.position[2] + 2 * me.velocity[2]
    top = min((c.ceiling - opponents.ROOF - soon) / 500, (me.speed - opponents.V_SLOW) / 60)
    bottom = -clamp((soon - opponents.FLOOR_SOFT) / 500, -0.5, opponents.DIVE_MAX)
    e_z = max(min(e[2], clamp(top, -0.5, 1.0)), bottom)
    return unit((e[0], e[1], e_z)), e_z != e[2]


@compiled
def _keep_clear(e, me, s, i, foes):
    soonest, miss, k = np.inf, e, -1
    for j in range(len(s.alpha)):
        if j == i or s.status[j] != FLYING:
            continue
        r, rv = subtract(split(s.position[j]), me.position), subtract(split(s.velocity[j]), me.velocity)
        tca = clamp(-dot(r, rv) / max(dot(rv, rv), 1.0), 0.0, opponents.AVOID_TIME)
        passing = add(r, scale(tca, rv))
        is_risk = length(passing) < opponents.AVOID_MISS and 0 < tca < opponents.AVOID_TIME
        if is_risk and tca < soonest:
            soonest, miss, k = tca, passing, j
    if k < 0:
        return e, False
    bias = VERTICAL if k > i else (0.0, 0.0, -1.0)
    if foes.start <= k < foes.stop:
        bias = me.right
    m = across(subtract(miss, scale(opponents.AVOID_BIAS, bias)), me.direction)
    strength = clamp(opponents.AVOID_MISS / (me.speed * max(soonest, 0.2)), 0.0, opponents.AVOID_MAX)
    return unit(subtract(me.direction, scale(strength, unit(m)))), True


@compiled
def _unit_level(x, y):
    size = max(math.sqrt(x * x + y * y), 1e-6)
    return x / size, y / size


@compiled
def _avoid_walls(e, me, c):
    heading_x, heading_y = _unit_level(me.direction[0], me.direction[1])
    is_out = False
    for axis in range(2):
        room = c.half_size - me.position[axis] * np.sign(me.velocity[axis])
        towards = abs(me.velocity[axis])
        sine = min(towards / me.speed, 1.0)
        turn = me.speed * me.speed / (opponents.WALL_G * GRAVITY) * (1 - math.sqrt(1 - sine * sine))
        is_out = is_out or room < turn + opponents.WALL_REACT * towards + opponents.WALL_MARGIN
    if not is_out:
        return e, (heading_x, heading_y), False
    x, y = _unit_level(-me.position[0], -me.position[1])
    ahead = x * heading_x + y * heading_y
    if ahead < 0:
        x, y = _unit_level(x - ahead * heading_x, y - ahead * heading_y)
    return (x, y, 0.0), (x, y), True


@compiled
def _avoid_ground(e, level, me):
    sink = -me.velocity[2]
    cosine = math.sqrt(max(1 - me.direction[2] * me.direction[2], 0.0))
    circle = me.speed * me.speed * (1 - cosine) / (opponents.PULL_G * GRAVITY)
    drop = circle + opponents.PULL_REACT * max(sink, 0.0)
    if sink > 0 and me.position[2] - drop < opponents.FLOOR_HARD:
        return unit((level[0], level[1], 0.5)), True
    return e, False


@compiled
def _acceleration(e, turning, me, target, is_guarding):
    steer = across(e, me.nose)
    if dot(e, me.nose) < 0:
        steer = unit(steer)
    a = scale(opponents.GAIN_TURN, steer)
    if target.exists and not is_guarding:
        a = add(a, turning)
    a = scale(me.speed, a)
    if target.exists and target.is_threat and not is_guarding:
        a = scale(opponents.BREAK, unit(a))
    return add(a, scale(GRAVITY, across(VERTICAL, me.direction)))


@compiled
def _controls(a, me, target, is_guarding, skill, c):
    limit = 1.0 if is_guarding else skill
    lift = dot(a, me.lift_dir)
    phi = math.atan2(dot(a, me.right), lift)
    aileron = clamp(opponents.GAIN_ROLL * phi / (c.roll_rate * c.dt), -limit, limit)

    _, high = alpha_limits(me.speed, c)
    high = min(high, opponents.ALPHA_FRAC * c.alpha_stall) * limit
    alpha_want = lift * c.mass / (dynamic_pressure(me.speed, c) * c.wing_area * c.cl_alpha)
    alpha_want = min(max(alpha_want, -0.05), high)
    elevator = clamp((alpha_want - me.alpha) / (c.alpha_rate * c.dt), -1.0, 1.0)

    v_want = opponents.V_CRUISE
    if target.exists and target.distance < 0.8 * c.weapon_range and target.ata > 0.8:
        v_want = length(target.velocity) + 0.1 * (target.distance - 0.4 * c.weapon_range)
    v_want = clamp(v_want, opponents.V_MIN, opponents.V_MAX)
    return aileron, elevator, clamp(2 * (0.5 + 0.05 * (v_want - me.speed)) - 1, -1.0, 1.0)


# ---- env.py: reset ----


@compiled
def initial_state(c, fleet, s):
    n, aircraft = c.n_allies, len(s.alpha)
    draws = np.empty((4, aircraft))
    for k in range(4):
        for i in range(aircraft):
            draws[k, i] = next_uniform(s.rng)
    size = c.half_size / 2000
    for i in range(aircraft):
        u1, u2, u3, u4 = draws[0, i], draws[1, i], draws[2, i], draws[3, i]
        side, lane, team = (-1, i, n) if i < n else (1, i - n, c.n_enemies)
        x = side * (400 + 1200 * u1) * size
        y = (-1600 + 3200 * (lane + 0.1 + 0.8 * u2) / team) * size
        course = math.pi / 6 * (2 * u4 - 1)
        s.position[i] = (x, y, 1000 + 1000 * u3)
        s.velocity[i] = (c.v0 * -side * math.cos(course), c.v0 * math.sin(course), 0.0)
        s.lift_dir[i] = VERTICAL
    s.alpha[:] = fleet.trim_alpha
    s.throttle[:] = fleet.trim_throttle
    s.health[:] = fleet.max_health
    s.status[:] = FLYING
    s.lock_steps[:] = 0
    s.under_fire[:] = False
    _sense(c, fleet, s)


# ---- env.py: the step ----


@compiled
def transition(c, fleet, s, actions, is_passive):
    """Losses [2 teams, causes], and the damage dealt to enemies."""
    n, aircraft = c.n_allies, len(s.alpha)
    was_alive, before = s.status == FLYING, s.position.copy()
    controls = _decide(c, s, actions, is_passive)
    is_grounded = _fly(c, fleet, s, was_alive, controls)
    _lose(c, s, before, is_grounded)

    in_weapon = _sense(c, fleet, s)
    taken, hits = np.zeros(aircraft), 0.0
    for i in range(aircraft):
        for j in range(aircraft):
            s.lock_steps[i, j] = s.lock_steps[i, j] + 1 if s.detected[i, j] and in_weapon[i, j] else 0
            damage = _damage(c, s.lock_steps[i, j])
            taken[j] += damage
            if i < n:
                hits += damage
    for i in range(aircraft):
        health = _health(c, fleet, s, i, taken[i])
        if s.status[i] == FLYING and np.float32(health) <= 0:
            s.status[i] = SHOT
        is_alive = s.status[i] == FLYING
        s.health[i] = health if is_alive else 0.0
        s.under_fire[i] = is_alive and taken[i] > 0

    for i in range(aircraft):
        if s.status[i] != FLYING:
            s.lock_steps[i, :] = s.lock_steps[:, i] = 0
            s.detected[i, :] = s.detected[:, i] = False
    return _outcome(c, s, was_alive), hits


@compiled
def _decide(c, s, actions, is_passive):
    n, aircraft = c.n_allies, len(s.alpha)
    controls = np.empty((aircraft, 3))
    for i in range(n):
        for k in range(3):
            controls[i, k] = 0.0 if np.isnan(actions[i, k]) else clamp(actions[i, k], -1.0, 1.0)
    controls[n:] = fly_team(s, slice(n, aircraft), slice(0, n), c.opponent_skill, is_passive, c)
    return controls


@compiled
def _fly(c, fleet, s, was_alive, controls):
    is_grounded = np.zeros(len(was_alive), np.bool_)
    for i in range(len(was_alive)):
        if was_alive[i]:
            after, is_grounded[i] = fly(motion_of(s, i), split(controls[i]), fleet.max_thrust[i], c)
            s.position[i], s.velocity[i], s.lift_dir[i] = after.position, velocity_of(after), after.lift_dir
            s.alpha[i], s.throttle[i] = after.alpha, after.throttle
            if is_grounded[i]:
                s.position[i, 2] = max(after.position[2], 0.0)
    return is_grounded


@compiled
def _lose(c, s, before, is_grounded):
    for i in range(len(s.status)):
        if s.status[i] == FLYING and is_grounded[i]:
            s.status[i] = GROUND
        elif s.status[i] == FLYING and _is_outside(c, s, i):
            s.status[i] = LEFT
    collides = _collides(c, s, before)
    for i in range(len(s.status)):
        if collides[i]:
            s.status[i] = COLLIDED


@compiled
def _is_outside(c, s, i):
    x, y, z = split(s.position[i])
    return abs(x) > c.half_size or abs(y) > c.half_size or z > c.ceiling


@compiled
def _collides(c, s, before):
    collides = np.zeros(len(before), np.bool_)
    for i in range(len(before)):
        for j in range(i + 1, len(before)):
            if s.status[i] != FLYING or s.status[j] != FLYING:
                continue
            r0 = subtract(split(before[j]), split(before[i]))
            dr = subtract(subtract(split(s.position[j]), split(s.position[i])), r0)
            tau = clamp(-dot(r0, dr) / max(dot(dr, dr), 1e-9), 0.0, 1.0)
            if length(add(r0, scale(tau, dr))) < c.collision_range:
                collides[i] = collides[j] = True
    return collides


@compiled
def _geometry(position, axes, other):
    r = subtract(other, position)
    return Geometry(length(r), dot(r, axes[0]), dot(r, axes[1]), dot(r, axes[2]))


@compiled
def _in_cone(g, horizontal, vertical):
    level = math.sqrt(g.ahead * g.ahead + g.right * g.right)
    across, above = math.tan(horizontal / 2), math.tan(vertical / 2)
    return g.ahead > 0 and abs(g.right) <= g.ahead * across and abs(g.up) <= level * above


@compiled
def _sense(c, fleet, s):
    """Fill `detected`; whether j is in i's weapon cone [A, A]. One number is drawn for every ordered pair."""
    aircraft = len(s.alpha)
    in_weapon = np.zeros((aircraft, aircraft), np.bool_)
    for i in range(aircraft):
        me = motion_of(s, i)
        axes = body_axes(me)
        for j in range(aircraft):
            draw = next_uniform(s.rng)
            s.detected[i, j] = False
            is_hostile = (i < c.n_allies) != (j < c.n_allies)
            if not is_hostile or s.status[i] != FLYING or s.status[j] != FLYING:
                continue
            g = _geometry(me.position, axes, split(s.position[j]))
            share2 = g.distance * g.distance / fleet.view_range2[i]
            in_weapon[i, j] = _in_cone(g, c.weapon_h, c.weapon_v) and g.distance <= c.weapon_range
            in_view = _in_cone(g, c.view_h, c.view_v) and share2 <= 1 and draw < 1 - share2
            s.detected[i, j] = g.distance < c.close_range or in_view or (in_weapon[i, j] and share2 <= 1)
    return in_weapon


@compiled
def _damage(c, lock_steps):
    return (clamp(lock_steps, c.lock_min, c.lock_max) - c.lock_min) * c.damage_rate * c.dt


@compiled
def _health(c, fleet, s, i, taken):
    return clamp(s.health[i] - taken + c.heal_rate * c.dt, 0.0, fleet.max_health[i])


@compiled
def _outcome(c, s, was_alive):
    """How many of [allies, enemies] were lost in this step by each of CAUSES."""
    losses = np.zeros((2, len(CAUSES)), np.int64)
    for i in range(len(was_alive)):
        for k in range(len(CAUSES)):
            losses[int(i >= c.n_allies), k] += was_alive[i] and s.status[i] == CAUSES[k]
    return losses


# ---- env.py: what is seen ----


@compiled
def perceive(c, fleet, s, enemy_slots, ally_slots):
    return _observation(c, fleet, s, enemy_slots, ally_slots), _global_state(c, fleet, s)


@compiled
def _time_left(c, s):
    return 1 - s.step[()] / c.max_steps


@compiled
def _observation(c, fleet, s, enemy_slots, ally_slots):
    n, aircraft = c.n_allies, len(s.alpha)
    obs = np.zeros((n, EGO_FEATURES + ENTITY_FEATURES * (enemy_slots + ally_slots)), np.float32)
    for i in range(n):
        if s.status[i] != FLYING:
            continue
        me = motion_of(s, i)
        axes = body_axes(me)
        obs[i, :EGO_FEATURES] = _ego(c, fleet, s, i, me, axes)
        place = EGO_FEATURES
        for first, last, slots in ((n, aircraft, enemy_slots), (0, n, ally_slots)):
            key = np.full(last - first, np.inf)
            for j in range(first, last):
                if _knows(c, s, i, j):
                    key[j - first] = np.float32(length(subtract(split(s.position[j]), me.position)))
            order = _nearest(key, slots)
            for slot in range(slots):
                if key[order[slot]] < np.inf:
                    entity = _entities(c, fleet, s, i, first + order[slot], me, axes)
                    obs[i, place : place + ENTITY_FEATURES] = entity
                place += ENTITY_FEATURES
    return obs


@compiled
def _knows(c, s, i, j):
    """Whether ally i, alive, knows of j."""
    if s.status[j] != FLYING or i == j:
        return False
    if j < c.n_allies:
        return length(subtract(split(s.position[j]), split(s.position[i]))) <= c.comm_range
    if s.detected[i, j]:
        return True
    for k in range(c.n_allies):
        if s.detected[k, j] and k != i and _knows(c, s, i, k):
            return True
    return False


@compiled
def _ego(c, fleet, s, i, me, axes):
    nose, right, up = axes
    load = dynamic_pressure(me.speed, c) * c.wing_area * lift_coefficient(me.alpha, c)
    wall_ahead, wall_right, wall_behind, wall_left = _walls(c, me)
    return Ego(
        alive=1.0,
        health=s.health[i] / fleet.max_health[i],
        height=me.position[2] / c.ceiling,
        speed=me.speed / SPEED_UNIT,
        nose_up=nose[2],
        right_wing_down=-right[2],
        upright=up[2],
        alpha=me.alpha / c.alpha_max,
        climb=me.direction[2],
        throttle=me.throttle,
        load=load / (c.mass * GRAVITY * c.n_max),
        wall_ahead=wall_ahead,
        wall_right=wall_right,
        wall_behind=wall_behind,
        wall_left=wall_left,
        time_left=_time_left(c, s),
        under_fire=np.float64(s.under_fire[i]),
        type=fleet.types[i] / TYPE_UNIT,
    )


@compiled
def _walls(c, me):
    x, y, _ = me.position
    tx, ty, _ = me.direction
    hx, hy = 1.0, 0.0
    if math.sqrt(tx * tx + ty * ty) > 1e-6:
        hx, hy = _unit_level(tx, ty)
    return _ray(c, x, y, hx, hy), _ray(c, x, y, hy, -hx), _ray(c, x, y, -hx, -hy), _ray(c, x, y, -hy, hx)


@compiled
def _ray(c, x, y, dx, dy):
    to_x = (c.half_size - x * np.sign(dx)) / max(abs(dx), 1e-6)
    to_y = (c.half_size - y * np.sign(dy)) / max(abs(dy), 1e-6)
    return clamp(min(to_x, to_y) / c.half_size, 0.0, 2.0)


@compiled
def _entities(c, fleet, s, i, j, me, axes):
    """Aircraft j as ally i sees it."""
    nose, right, up = axes
    it = motion_of(s, j)
    g = _geometry(me.position, axes, it.position)
    return Entity(
        team=1.0 if j < c.n_allies else -1.0,
        ahead=g.ahead / c.view_range,
        right=g.right / c.view_range,
        up=g.up / c.view_range,
        distance=g.distance / c.view_range,
        flies_ahead=dot(it.direction, nose),
        flies_right=dot(it.direction, right),
        flies_up=dot(it.direction, up),
        faster=(it.speed - me.speed) / SPEED_UNIT,
        health=s.health[j] / fleet.max_health[j],
        type=fleet.types[j] / TYPE_UNIT,
        lock=min(s.lock_steps[i, j] / c.lock_max, 1.0),
    )


@compiled
def _global_state(c, fleet, s):
    aircraft = len(s.alpha)
    state = np.zeros(AIRCRAFT_FEATURES * aircraft + 1, np.float32)
    for i in range(aircraft):
        if s.status[i] == FLYING:
            state[AIRCRAFT_FEATURES * i : AIRCRAFT_FEATURES * (i + 1)] = _aircraft(c, fleet, s, i)
    state[-1] = _time_left(c, s)
    return state


@compiled
def _aircraft(c, fleet, s, i):
    x, y, z = split(s.position[i])
    velocity_x, velocity_y, velocity_z = scale(1 / SPEED_UNIT, split(s.velocity[i]))
    lift_x, lift_y, lift_z = split(s.lift_dir[i])
    return Aircraft(
        alive=1.0,
        x=x / c.half_size,
        y=y / c.half_size,
        z=z / c.ceiling,
        velocity_x=velocity_x,
        velocity_y=velocity_y,
        velocity_z=velocity_z,
        lift_x=lift_x,
        lift_y=lift_y,
        lift_z=lift_z,
        alpha=s.alpha[i] / c.alpha_max,
        throttle=np.float64(s.throttle[i]),
        health=s.health[i] / fleet.max_health[i],
        lock=min(s.lock_steps[i].max() / c.lock_max, 1.0),
        type=fleet.types[i] / TYPE_UNIT,
    )


@compiled
def _nearest(key, slots):
    """Indices of the `slots` least keys, ties in order."""
    return np.argsort(key, kind="mergesort")[:slots]


class AeroJAXLoops(LoopEngine):
    """The functions above behind the engine interface."""

    def __init__(self, rules: BatchedEnv):
        super().__init__(rules)
        options = dataclasses.asdict(rules.options)
        numbers = {name: math.radians(options[name]) if name in _ANGLES else options[name] for name in _KINDS}
        self._constants = Constants(**{name: _KINDS[name](value) for name, value in numbers.items()})
        self._fleet = Fleet(*(getattr(rules, f"_{name}").numpy().astype(np.float64) for name in Fleet._fields))
        self._situation = Situation(*(self.fields[name] for name in Situation._fields))
        self._is_passive = rules.options.opponent == "passive"

    def start(self) -> None:
        initial_state(self._constants, self._fleet, self._situation)

    def transition(self, actions: np.ndarray):
        c, n = self._constants, self.rules.num_agents
        losses, hits = transition(c, self._fleet, self._situation, actions, self._is_passive)
        is_alive = self.fields["status"] == FLYING
        allies, enemies = int(is_alive[:n].sum()), int(is_alive[n:].sum())
        terminated = allies == 0 or enemies == 0
        is_over = terminated or int(self.fields["step"]) + 1 >= self.rules.max_steps
        won = is_over and allies > enemies
        lost_allies, lost_enemies = losses.sum(1)
        reward = c.reward_kill * lost_enemies / c.n_enemies - c.reward_death * lost_allies / n + c.reward_win * won
        by_cause = dict(zip((*ALLY_LOSSES, *ENEMY_LOSSES), losses.flatten().tolist()))
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
        return *perceive(self._constants, self._fleet, self._situation, rules.enemy_slots, rules.ally_slots), None
