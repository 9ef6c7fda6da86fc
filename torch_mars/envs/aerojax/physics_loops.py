"""Flight as compiled loops: the twins of `physics.py`, for one aircraft, number i, and in `fly` for LANES at once.

Without a twin are `orient` and `orient_all`, which keep the axes that many look along, `_board`, and `lane` and
`put_lane`. Those lost have no motion here: nobody looks at it.
"""

from typing import NamedTuple

import numpy as np

from torch_mars.envs.aerojax.physics import GRAVITY, Motion
from torch_mars.envs.aerojax.task import FLYING
from torch_mars.envs.aerojax.vectors_loops import (
    ONE,
    TINY,
    TWO,
    UP,
    ZERO,
    F,
    across,
    add,
    clamp,
    cosine_sine,
    cross,
    dot,
    larger,
    length,
    put,
    scale,
    smaller,
    split,
    subtract,
    unit,
)
from torch_mars.envs.loops import compiled

_GRAVITY = F(GRAVITY)
LANES = 8  # aircraft that a processor moves at once
# the rows of `flights`: where each begins
POSITION, DIRECTION, LIFT_DIR = (LANES * row for row in (0, 3, 6))
SPEED, ALPHA, THROTTLE, COS_ROLL, SIN_ROLL, ALPHA_STEP, COMMAND, MAX_THRUST, LOWEST, ROWS = (
    LANES * row for row in range(9, 19)
)


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


@compiled
def lane(m, i):
    """The vector of an aircraft from rows [rows, LANES], flattened."""
    return m[i], m[i + LANES], m[i + 2 * LANES]


@compiled
def put_lane(m, i, vector):
    m[i], m[i + LANES], m[i + 2 * LANES] = vector


@compiled
def motion_of(s, i):
    velocity = split(s.velocity, i)
    speed = length(velocity)
    direction = scale(ONE / speed, velocity)
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
        w.is_grounded[i] = w.was_alive[i] and w.flights[i // LANES, LOWEST + i % LANES] <= ZERO


@compiled
def _board(c, fleet, s, w, i):
    """How aircraft i flies, and what its pilot does, into its place in `flights`."""
    m, lane = w.flights[i // LANES], i % LANES
    motion = motion_of(s, i)
    roll = c.roll_step * w.controls[i, 0]
    put_lane(m, POSITION + lane, motion.position)
    put_lane(m, DIRECTION + lane, motion.direction)
    put_lane(m, LIFT_DIR + lane, motion.lift_dir)
    m[SPEED + lane], m[ALPHA + lane], m[THROTTLE + lane] = motion.speed, motion.alpha, motion.throttle
    m[COS_ROLL + lane], m[SIN_ROLL + lane] = np.cos(roll), np.sin(roll)
    m[ALPHA_STEP + lane] = c.alpha_step * w.controls[i, 1]
    m[COMMAND + lane] = (w.controls[i, 2] + ONE) / TWO
    m[MAX_THRUST + lane] = fleet[i].max_thrust
    m[LOWEST + lane] = F(np.inf)


@compiled
def _substep(m, c):
    """Of LANES aircraft at once: no branches and no calls, so that the compiler makes vector instructions of it."""
    k = Airframe(
        c.h, c.half_h, c.engine_gain, c.half_rho, c.wing_area, c.cl_alpha, c.cd0, c.k_ind, c.mass, c.weight, c.v_floor,
        c.alpha_min, c.alpha_max, c.alpha_stall, c.n_min, c.n_max,
    )  # fmt: skip
    for i in range(LANES):
        position, t, n = lane(m, POSITION + i), lane(m, DIRECTION + i), lane(m, LIFT_DIR + i)
        speed = m[SPEED + i]
        low, high = alpha_limits(speed, k)
        alpha = clamp(m[ALPHA + i] + m[ALPHA_STEP + i], low, high)
        throttle = m[THROTTLE + i] + k.engine_gain * (m[COMMAND + i] - m[THROTTLE + i])
        n = add(scale(m[COS_ROLL + i], n), scale(m[SIN_ROLL + i], cross(t, n)))

        pressure_area = dynamic_pressure(speed, k) * k.wing_area
        thrust = throttle * m[MAX_THRUST + i]
        cos, sin = cosine_sine(alpha)
        lift_acceleration = (pressure_area * lift_coefficient(alpha, k) + thrust * sin) / k.mass
        path_acceleration = (thrust * cos - pressure_area * drag_coefficient(alpha, k)) / k.mass

        a_across = subtract(scale(lift_acceleration, n), scale(_GRAVITY, across(UP, t)))
        t2 = unit(add(t, scale(k.h / speed, a_across)))
        speed2 = larger(speed + k.h * (path_acceleration - _GRAVITY * (t[2] + t2[2]) / TWO), k.v_floor)

        n = subtract(n, scale(dot(n, t2) / larger(ONE + dot(t, t2), TINY), add(t, t2)))
        n = unit(across(n, t2))
        position = add(position, scale(k.half_h, add(scale(speed, t), scale(speed2, t2))))
        put_lane(m, POSITION + i, position)
        put_lane(m, DIRECTION + i, t2)
        put_lane(m, LIFT_DIR + i, n)
        m[SPEED + i], m[ALPHA + i], m[THROTTLE + i] = speed2, alpha, throttle
        m[LOWEST + i] = smaller(position[2], m[LOWEST + i])
