"""The rules of AeroJAX once more, as loops over the aircraft of one environment after another, compiled.

A batch on CPU takes them: what `AeroJAX.transition` and `perceive` do as tensor operations, which other devices and
torch.compile take, without looking closely at aircraft that are out of each other's reach. So does one environment by
itself (`AeroJAXLoops`, on which `parallel_env("aerojax_*")` runs). Both forms compute in float32, in the same order
where it matters, and draw the same random numbers: from equal states they are equal up to rounding.

The functions bear the names of their twins in `vectors.py`, `physics.py`, `opponents.py` and `env.py`, where their
meaning is described, and stand in the same order; most treat one aircraft, number i. Those lost have no motion here:
nobody looks at it. Functions without a twin: what torch has or tensors need no function for (`larger`, `smaller`,
`clamp`, `cosine_sine`, `add`, `subtract`, `scale`, `put`, `lane`, `put_lane`, `situation`, `scratch`), `orient` and
`orient_all`, which keep the axes that many look along, and `_board`.

numba checks no index, so none depends on what a State holds; and nothing here raises an error: functions that may
raise count references, which takes long.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from torch_mars.envs.aerojax import opponents
from torch_mars.envs.aerojax.opponents import Flyer, Target
from torch_mars.envs.aerojax.physics import GRAVITY, Motion
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
from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.loops import compiled
from torch_mars.envs.rng_loops import key_behind, uniform_behind

F = np.float32
# single precision throughout, as in the tensors: a plain Python number would make it double
_ZERO, _HALF, _ONE, _TWO = map(F, (0, 0.5, 1, 2))
_GRAVITY, _SPEED_UNIT, _NEVER = map(F, (GRAVITY, SPEED_UNIT, opponents.NEVER))
UP, DOWN = (_ZERO, _ZERO, _ONE), (_ZERO, _ZERO, -_ONE)
_TYPE_UNIT = F(TYPE_UNIT)
_PI, _TURNS_PER_RAD = F(math.pi), F(1 / (2 * math.pi))
_TURN_0 = F(6.28125)  # a full turn in two parts: whole multiples of the first are exact
_TURN_1 = F(2 * math.pi - 6.28125)
_SINE_3, _SINE_5, _SINE_7, _SINE_9, _SINE_11 = (F((-1) ** (n // 2) / math.factorial(n)) for n in range(3, 12, 2))
_COS_2, _COS_4, _COS_6, _COS_8, _COS_10, _COS_12 = (F((-1) ** (n // 2) / math.factorial(n)) for n in range(2, 13, 2))
_COURSE = F(math.pi / 6)  # rad, at most, off the way to the middle at a start
_TINIEST, _TINY = F(1e-9), F(1e-6)
_THREAT_RANGE, _THREAT_COS, _THREAT_BONUS, _ATA_WEIGHT = (
    F(x) for x in (opponents.THREAT_RANGE, opponents.THREAT_COS, opponents.THREAT_BONUS, opponents.ATA_WEIGHT)
)
_GAIN_TURN, _GAIN_ROLL, _ALPHA_FRAC, _BREAK = (
    F(x) for x in (opponents.GAIN_TURN, opponents.GAIN_ROLL, opponents.ALPHA_FRAC, opponents.BREAK)
)
_ALPHA_LEAST = F(-0.05)  # rad, that a pilot asks for
_V_CRUISE, _V_MIN, _V_MAX, _V_SLOW = map(F, (opponents.V_CRUISE, opponents.V_MIN, opponents.V_MAX, opponents.V_SLOW))
_ROOF, _FLOOR_SOFT, _FLOOR_HARD = map(F, (opponents.ROOF, opponents.FLOOR_SOFT, opponents.FLOOR_HARD))
_DIVE_MAX, _PULL_REACT, _PULL_TURN = map(F, (opponents.DIVE_MAX, opponents.PULL_REACT, opponents.PULL_G * GRAVITY))
_WALL_TURN, _WALL_REACT, _WALL_MARGIN = (
    F(x) for x in (opponents.WALL_G * GRAVITY, opponents.WALL_REACT, opponents.WALL_MARGIN)
)
_AVOID_TIME, _AVOID_MISS, _AVOID_MISS2 = map(F, (opponents.AVOID_TIME, opponents.AVOID_MISS, opponents.AVOID_MISS**2))
_AVOID_BIAS, _AVOID_MAX = map(F, (opponents.AVOID_BIAS, opponents.AVOID_MAX))


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


class Airframe(NamedTuple):
    """The CONSTANTS of flight, each in a register."""

    h: np.float32
    half_h: np.float32
    engine_gain: np.float32
    half_rho: np.float32
    wing_area: np.float32
    cl_alpha: np.float32
    cd0: np.float32
    k_ind: np.float32
    mass: np.float32
    weight: np.float32
    v_floor: np.float32
    alpha_min: np.float32
    alpha_max: np.float32
    alpha_stall: np.float32
    n_min: np.float32
    n_max: np.float32


LANES = 8  # aircraft that a processor moves at once
# the rows of `flights`: where each begins
_POSITION, _DIRECTION, _LIFT_DIR = (LANES * row for row in (0, 3, 6))
_SPEED, _ALPHA, _THROTTLE, _COS_ROLL, _SIN_ROLL, _ALPHA_STEP, _COMMAND, _MAX_THRUST, _LOWEST, _ROWS = (
    LANES * row for row in range(9, 19)
)


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
def larger(a, b):
    return a if a > b else b


@compiled
def smaller(a, b):
    return a if a < b else b


@compiled
def clamp(x, low, high):
    return smaller(larger(x, low), high)


@compiled
def cosine_sine(angle):
    """By the cosine and sine of half of it, which series give."""
    turns = np.floor(angle * _TURNS_PER_RAD + _HALF)
    x = clamp(angle - turns * _TURN_0 - turns * _TURN_1, -_PI, _PI) * _HALF
    x2 = x * x
    sine = x * (_ONE + x2 * (_SINE_3 + x2 * (_SINE_5 + x2 * (_SINE_7 + x2 * (_SINE_9 + x2 * _SINE_11)))))
    cosine = _ONE + x2 * (_COS_2 + x2 * (_COS_4 + x2 * (_COS_6 + x2 * (_COS_8 + x2 * (_COS_10 + x2 * _COS_12)))))
    return (cosine - sine) * (cosine + sine), _TWO * sine * cosine


@compiled
def lane(m, i):
    """The vector of an aircraft from rows [rows, LANES], flattened."""
    return m[i], m[i + LANES], m[i + 2 * LANES]


@compiled
def put_lane(m, i, vector):
    m[i], m[i + LANES], m[i + 2 * LANES] = vector


@compiled
def put(rows, i, vector):
    """Write a vector to row i of float32 [A, 3]."""
    rows[i, 0], rows[i, 1], rows[i, 2] = vector


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
        np.ones(((aircraft + LANES - 1) // LANES, _ROWS), F),
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


# ---- vectors.py: here triples of numbers ----


@compiled
def split(rows, i):
    return rows[i, 0], rows[i, 1], rows[i, 2]


@compiled
def add(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@compiled
def subtract(a, b):
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@compiled
def scale(s, a):
    return s * a[0], s * a[1], s * a[2]


@compiled
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled
def cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@compiled
def length(a):
    return np.sqrt(dot(a, a))


@compiled
def unit(a):
    return scale(_ONE / larger(length(a), _TINIEST), a)


@compiled
def across(a, axis):
    return subtract(a, scale(dot(a, axis), axis))


# ---- physics.py ----


@compiled
def motion_of(s, i):
    velocity = split(s.velocity, i)
    speed = length(velocity)
    direction = scale(_ONE / speed, velocity)
    return Motion(split(s.position, i), direction, speed, split(s.lift_dir, i), s.alpha[i], s.throttle[i])


@compiled
def body_axes(motion):
    t, n = motion.direction, motion.lift_dir
    cos, sin = cosine_sine(motion.alpha)
    return add(scale(cos, t), scale(sin, n)), cross(t, n), subtract(scale(cos, n), scale(sin, t))


@compiled
def orient(w, i, motion):
    """Note which way aircraft i flies and how its airframe lies."""
    nose, right, up = body_axes(motion)
    put(w.direction, i, motion.direction)
    w.speed[i] = motion.speed
    put(w.nose, i, nose)
    put(w.right, i, right)
    put(w.up, i, up)


@compiled
def orient_all(s, w):
    """The same of all the living."""
    for i in range(len(s.status)):
        if s.status[i] == FLYING:
            orient(w, i, motion_of(s, i))


@compiled
def dynamic_pressure(speed, c):
    return c.half_rho * (speed * speed)


@compiled
def alpha_limits(speed, c):
    alpha_at_1g = c.weight / (dynamic_pressure(speed, c) * c.wing_area * c.cl_alpha)
    return larger(c.n_min * alpha_at_1g, c.alpha_min), smaller(c.n_max * alpha_at_1g, c.alpha_max)


@compiled
def lift_coefficient(alpha, c):
    return c.cl_alpha * (c.alpha_stall - abs(alpha - c.alpha_stall))


@compiled
def drag_coefficient(alpha, c):
    slope = c.cl_alpha * alpha
    return c.cd0 + c.k_ind * (slope * slope)


@compiled
def fly(c, fleet, s, w):
    """One step of everybody who `was_alive`: `flights` [A / LANES, rows], and `is_grounded`."""
    for i in range(len(s.status)):
        if w.was_alive[i]:
            _board(c, fleet, s, w, i)
    for group in range(len(w.flights)):
        for _ in range(c.substeps):
            _substep(w.flights[group], c)
    for i in range(len(s.status)):
        w.is_grounded[i] = w.was_alive[i] and w.flights[i // LANES, _LOWEST + i % LANES] <= _ZERO


@compiled
def _board(c, fleet, s, w, i):
    """How aircraft i flies, and what its pilot does, into its place in `flights`."""
    m, lane = w.flights[i // LANES], i % LANES
    motion = motion_of(s, i)
    roll = c.roll_step * w.controls[i, 0]
    put_lane(m, _POSITION + lane, motion.position)
    put_lane(m, _DIRECTION + lane, motion.direction)
    put_lane(m, _LIFT_DIR + lane, motion.lift_dir)
    m[_SPEED + lane], m[_ALPHA + lane], m[_THROTTLE + lane] = motion.speed, motion.alpha, motion.throttle
    m[_COS_ROLL + lane], m[_SIN_ROLL + lane] = np.cos(roll), np.sin(roll)
    m[_ALPHA_STEP + lane] = c.alpha_step * w.controls[i, 1]
    m[_COMMAND + lane] = (w.controls[i, 2] + _ONE) / _TWO
    m[_MAX_THRUST + lane] = fleet[i].max_thrust
    m[_LOWEST + lane] = F(np.inf)


@compiled
def _substep(m, c):
    """Of LANES aircraft at once: no branches and no calls, so that the compiler makes vector instructions of it."""
    k = Airframe(
        c.h, c.half_h, c.engine_gain, c.half_rho, c.wing_area, c.cl_alpha, c.cd0, c.k_ind, c.mass, c.weight, c.v_floor,
        c.alpha_min, c.alpha_max, c.alpha_stall, c.n_min, c.n_max,
    )  # fmt: skip
    for i in range(LANES):
        position, t, n = lane(m, _POSITION + i), lane(m, _DIRECTION + i), lane(m, _LIFT_DIR + i)
        speed = m[_SPEED + i]
        low, high = alpha_limits(speed, k)
        alpha = clamp(m[_ALPHA + i] + m[_ALPHA_STEP + i], low, high)
        throttle = m[_THROTTLE + i] + k.engine_gain * (m[_COMMAND + i] - m[_THROTTLE + i])
        n = add(scale(m[_COS_ROLL + i], n), scale(m[_SIN_ROLL + i], cross(t, n)))

        pressure_area = dynamic_pressure(speed, k) * k.wing_area
        thrust = throttle * m[_MAX_THRUST + i]
        cos, sin = cosine_sine(alpha)
        lift_acceleration = (pressure_area * lift_coefficient(alpha, k) + thrust * sin) / k.mass
        path_acceleration = (thrust * cos - pressure_area * drag_coefficient(alpha, k)) / k.mass

        a_across = subtract(scale(lift_acceleration, n), scale(_GRAVITY, across(UP, t)))
        t2 = unit(add(t, scale(k.h / speed, a_across)))
        speed2 = larger(speed + k.h * (path_acceleration - _GRAVITY * (t[2] + t2[2]) / _TWO), k.v_floor)

        n = subtract(n, scale(dot(n, t2) / larger(_ONE + dot(t, t2), _TINY), add(t, t2)))
        n = unit(across(n, t2))
        position = add(position, scale(k.half_h, add(scale(speed, t), scale(speed2, t2))))
        put_lane(m, _POSITION + i, position)
        put_lane(m, _DIRECTION + i, t2)
        put_lane(m, _LIFT_DIR + i, n)
        m[_SPEED + i], m[_ALPHA + i], m[_THROTTLE + i] = speed2, alpha, throttle
        m[_LOWEST + i] = smaller(position[2], m[_LOWEST + i])


# ---- opponents.py ----


@compiled
def fly_team(c, s, w, own, foes):
    """The controls of one team; zeros for the dead."""
    for i in range(own.start, own.stop):
        if s.status[i] != FLYING:
            put(w.controls, i, (_ZERO, _ZERO, _ZERO))
            continue
        me = _flyer(s, w, i)
        target = _target(c, s, w, me, foes)
        e, turning = _aim(me, target)
        e, is_limited = _limit_height(e, me, c)
        e, is_dodging = _keep_clear(e, me, s, i, foes)
        e, level, is_out = _avoid_walls(e, me, c)
        e, is_pulling = _avoid_ground(e, level, me)
        is_guarding = is_limited or is_dodging or is_out or is_pulling
        a = _acceleration(e, turning, me, target, is_guarding)
        put(w.controls, i, _controls(a, me, target, is_guarding, c))


@compiled
def _flyer(s, w, i):
    return Flyer(
        split(s.position, i),
        split(w.direction, i),
        w.speed[i],
        split(s.velocity, i),
        split(s.lift_dir, i),
        s.alpha[i],
        split(w.nose, i),
        split(w.right, i),
    )


@compiled
def _target(c, s, w, me, foes):
    target, least, distance, ata, is_threat, exists = foes.start, F(np.inf), _ZERO, _ZERO, False, False
    for j in range(foes.start, foes.stop):
        if s.status[j] != FLYING:
            if _NEVER < least:
                least, target = _NEVER, j
            continue
        exists = not c.is_passive
        r = subtract(split(s.position, j), me.position)
        d = max(length(r), _ONE)
        my_ata, its_aot = dot(r, me.nose) / d, -dot(r, split(w.nose, j)) / d
        threatens = d < _THREAT_RANGE * c.weapon_range and its_aot > _THREAT_COS and my_ata < _ZERO
        cost = d * (_ONE + _ATA_WEIGHT * (_ONE - my_ata)) - (_THREAT_BONUS if threatens else _ZERO)
        if cost < least:
            target, least, distance, ata, is_threat = j, cost, d, my_ata, threatens
    if exists:
        return Target(True, split(s.position, target), split(s.velocity, target), distance, ata, is_threat)
    return Target(False, (_ZERO, _ZERO, c.ceiling / _TWO), (_ZERO, _ZERO, _ZERO), distance, ata, is_threat)


@compiled
def _aim(me, target):
    to_aim = subtract(target.position, me.position)
    nearness = _ONE / max(length(to_aim), _ONE)
    e = scale(nearness, to_aim)
    turning = scale(nearness, across(subtract(target.velocity, me.velocity), e))
    if dot(e, me.nose) < _ZERO:
        e = unit(across(e, me.nose))
    return e, turning


@compiled
def _limit_height(e, me, c):
    soon = me.position[2] + _TWO * me.velocity[2]
    top = min((c.ceiling - _ROOF - soon) / F(500), (me.speed - _V_SLOW) / F(60))
    bottom = -clamp((soon - _FLOOR_SOFT) / F(500), -_HALF, _DIVE_MAX)
    e_z = max(min(e[2], clamp(top, -_HALF, _ONE)), bottom)
    return unit((e[0], e[1], e_z)), e_z != e[2]


@compiled
def _keep_clear(e, me, s, i, foes):
    soonest, miss, k = F(np.inf), e, -1
    for j in range(len(s.status)):
        if j == i or s.status[j] != FLYING:
            continue
        r, rv = subtract(split(s.position, j), me.position), subtract(split(s.velocity, j), me.velocity)
        closing = -dot(r, rv)
        if not closing > _ZERO:  # the nearest it comes is now
            continue
        tca = min(closing / max(dot(rv, rv), _ONE), _AVOID_TIME)
        passing = add(r, scale(tca, rv))
        is_risk = dot(passing, passing) < _AVOID_MISS2 and _ZERO < tca < _AVOID_TIME
        if is_risk and tca < soonest:
            soonest, miss, k = tca, passing, j
    if k < 0:
        return e, False
    bias = UP if k > i else DOWN
    if foes.start <= k < foes.stop:
        bias = me.right
    m = across(subtract(miss, scale(_AVOID_BIAS, bias)), me.direction)
    strength = clamp(_AVOID_MISS / (me.speed * max(soonest, F(0.2))), _ZERO, _AVOID_MAX)
    return unit(subtract(me.direction, scale(strength, unit(m)))), True


@compiled
def _unit_level(x, y):
    size = max(np.sqrt(x * x + y * y), _TINY)
    return x / size, y / size


@compiled
def _avoid_walls(e, me, c):
    heading_x, heading_y = _unit_level(me.direction[0], me.direction[1])
    is_out = False
    for axis in range(2):
        room = c.half_size - me.position[axis] * np.sign(me.velocity[axis])
        towards = abs(me.velocity[axis])
        sine = min(towards / me.speed, _ONE)
        turn = me.speed * me.speed / _WALL_TURN * (_ONE - np.sqrt(_ONE - sine * sine))
        is_out = is_out or room < turn + _WALL_REACT * towards + _WALL_MARGIN
    if not is_out:
        return e, (heading_x, heading_y), False
    x, y = _unit_level(-me.position[0], -me.position[1])
    ahead = x * heading_x + y * heading_y
    if ahead < _ZERO:
        x, y = _unit_level(x - ahead * heading_x, y - ahead * heading_y)
    return (x, y, _ZERO), (x, y), True


@compiled
def _avoid_ground(e, level, me):
    sink = -me.velocity[2]
    cosine = np.sqrt(max(_ONE - me.direction[2] * me.direction[2], _ZERO))
    circle = me.speed * me.speed * (_ONE - cosine) / _PULL_TURN
    drop = circle + _PULL_REACT * max(sink, _ZERO)
    if sink > _ZERO and me.position[2] - drop < _FLOOR_HARD:
        return unit((level[0], level[1], _HALF)), True
    return e, False


@compiled
def _acceleration(e, turning, me, target, is_guarding):
    steer = across(e, me.nose)
    if dot(e, me.nose) < _ZERO:
        steer = unit(steer)
    a = scale(_GAIN_TURN, steer)
    if target.exists and not is_guarding:
        a = add(a, turning)
    a = scale(me.speed, a)
    if target.exists and target.is_threat and not is_guarding:
        a = scale(_BREAK, unit(a))
    return add(a, scale(_GRAVITY, across(UP, me.direction)))


@compiled
def _controls(a, me, target, is_guarding, c):
    limit = _ONE if is_guarding else c.opponent_skill
    lift = dot(a, me.lift_dir)
    phi = np.arctan2(dot(a, me.right), lift)
    aileron = clamp(_GAIN_ROLL * phi / c.roll, -limit, limit)

    _, high = alpha_limits(me.speed, c)
    high = min(high, _ALPHA_FRAC * c.alpha_stall) * limit
    pressure_area = dynamic_pressure(me.speed, c) * c.wing_area
    alpha_want = lift * c.mass / (pressure_area * c.cl_alpha)
    alpha_want = min(max(alpha_want, _ALPHA_LEAST), high)
    elevator = clamp((alpha_want - me.alpha) / c.alpha, -_ONE, _ONE)

    v_want = _V_CRUISE
    if target.exists and target.distance < F(0.8) * c.weapon_range and target.ata > F(0.8):
        v_want = length(target.velocity) + F(0.1) * (target.distance - F(0.4) * c.weapon_range)
    v_want = clamp(v_want, _V_MIN, _V_MAX)
    return aileron, elevator, clamp(_TWO * (_HALF + F(0.05) * (v_want - me.speed)) - _ONE, -_ONE, _ONE)


# ---- env.py: reset ----


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
            side, lane, team = (-_ONE, i, c.n_allies) if i < c.n_allies else (_ONE, i - c.n_allies, c.n_enemies)
            x = side * (F(400) + F(1200) * u1) * c.lanes
            y = (F(-1600) + F(3200) * (F(lane) + F(0.1) + F(0.8) * u2) / F(team)) * c.lanes
            course = _COURSE * (_TWO * u4 - _ONE)
            put(s.position, i, (x, y, F(1000) + F(1000) * u3))
            put(s.velocity, i, (c.v0 * -side * np.cos(course), c.v0 * np.sin(course), _ZERO))
            put(s.lift_dir, i, UP)
            s.alpha[i], s.throttle[i], s.health[i] = fleet[i].trim_alpha, fleet[i].trim_throttle, fleet[i].max_health
            s.status[i], s.under_fire[i] = FLYING, False
            for j in range(aircraft):
                s.lock_steps[i, j] = 0
        s.rng[0] = key_behind(key, 4 * aircraft)
        orient_all(s, w)
        _sense(c, fleet, s, w)


# ---- env.py: the step ----


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
            w.controls[i, k] = clamp(action, -_ONE, _ONE) if action == action else _ZERO
    fly_team(c, s, w, slice(n, n + c.n_enemies), slice(0, n))


@compiled
def _fly(c, fleet, s, w):
    fly(c, fleet, s, w)
    for i in range(len(s.status)):
        if not w.was_alive[i]:
            continue
        m, place = w.flights[i // LANES], i % LANES
        direction, speed = lane(m, _DIRECTION + place), m[_SPEED + place]
        put(s.position, i, lane(m, _POSITION + place))
        if w.is_grounded[i]:
            s.position[i, 2] = max(s.position[i, 2], _ZERO)
        put(s.velocity, i, scale(speed, direction))
        put(s.lift_dir, i, lane(m, _LIFT_DIR + place))
        s.alpha[i], s.throttle[i] = m[_ALPHA + place], m[_THROTTLE + place]
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
            tau = clamp(-dot(r0, dr) / max(dot(dr, dr), _TINIEST), _ZERO, _ONE)
            nearest = add(r0, scale(tau, dr))
            if dot(nearest, nearest) < c.collision_range2:
                w.is_struck[i] = w.is_struck[j] = True


@compiled
def _geometry(r, w, i):
    return Geometry(length(r), dot(r, split(w.nose, i)), dot(r, split(w.right, i)), dot(r, split(w.up, i)))


@compiled
def _in_cone(g, across, above):
    level = np.sqrt(g.ahead * g.ahead + g.right * g.right)
    return g.ahead > _ZERO and abs(g.right) <= g.ahead * across and abs(g.up) <= level * above


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
            if s.status[j] != FLYING or not (is_close or is_near or share2 <= _ONE):
                continue
            g = _geometry(r, w, i)
            w.in_weapon[i, j] = is_near and _in_cone(g, c.weapon_across, c.weapon_above)
            s.detected[i, j] = is_close or (
                share2 <= _ONE
                and (
                    w.in_weapon[i, j]
                    or (
                        _in_cone(g, c.view_across, c.view_above)
                        and uniform_behind(key, i * aircraft + j + 1) < _ONE - share2
                    )
                )
            )
    s.rng[0] = key_behind(key, aircraft * aircraft)


@compiled
def _damage(c, s, w):
    """Count the steps of every lock; fill `taken`; the damage dealt to enemies."""
    aircraft, hits = len(s.status), _ZERO
    for j in range(aircraft):
        w.taken[j] = _ZERO
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
        health = max(min(s.health[i] - w.taken[i] + c.healed, fleet[i].max_health), _ZERO)
        if s.status[i] == FLYING and health <= _ZERO:
            s.status[i] = SHOT
        is_alive = s.status[i] == FLYING
        s.health[i] = health if is_alive else _ZERO
        s.under_fire[i] = is_alive and w.taken[i] > _ZERO
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


# ---- env.py: what is seen ----


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
    return _ONE - F(s.step) / F(c.max_steps)


@compiled
def _observation(c, fleet, s, w, obs):
    n, aircraft = c.n_allies, len(s.status)
    for i in range(n):
        row = obs[i]
        for k in range(len(row)):
            row[k] = _ZERO
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
        alive=_ONE,
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
    hx, hy = _ONE, _ZERO
    if np.sqrt(tx * tx + ty * ty) > _TINY:
        hx, hy = _unit_level(tx, ty)
    return _ray(c, x, y, hx, hy), _ray(c, x, y, hy, -hx), _ray(c, x, y, -hx, -hy), _ray(c, x, y, -hy, hx)


@compiled
def _ray(c, x, y, dx, dy):
    to_x = (c.half_size - x * np.sign(dx)) / max(abs(dx), _TINY)
    to_y = (c.half_size - y * np.sign(dy)) / max(abs(dy), _TINY)
    return clamp(min(to_x, to_y) / c.half_size, _ZERO, _TWO)


@compiled
def _entities(c, fleet, s, w, i, j, row, place):
    """Write aircraft j as ally i sees it, from `place` on."""
    g = _geometry(subtract(split(s.position, j), split(s.position, i)), w, i)
    direction = split(w.direction, j)
    features = Entity(
        team=_ONE if j < c.n_allies else -_ONE,
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
        lock=min(F(s.lock_steps[i, j]) / F(c.lock_max), _ONE),
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
                state[AIRCRAFT_FEATURES * i + k] = _ZERO
    state[AIRCRAFT_FEATURES * aircraft] = _time_left(c, s)


@compiled
def _aircraft(c, fleet, s, i, state):
    lock_steps = s.lock_steps[i, 0]
    for j in range(1, len(s.status)):
        lock_steps = max(lock_steps, s.lock_steps[i, j])
    features = Aircraft(
        alive=_ONE,
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
        lock=min(F(lock_steps) / F(c.lock_max), _ONE),
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
