"""Flight: a point mass with lift across its path, in coordinated (no-sideslip) flight, without Euler angles.

An aircraft is its position (m), flight direction `t` and speed (m/s), the unit vector `n` across t in which lift pulls
(the pilot's "up"), angle of attack `alpha` (rad) and throttle (0..1). Roll turns n about t; elevator moves alpha; only
the tilted lift turns the path, so a turn costs energy exactly through induced drag. x, y horizontal, z up.

Tensors are [B, A]; vectors are triples of them (`vectors.py`). Nothing here knows teams, sensors or weapons.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torch_mars.envs.aerojax.task import AeroState, Options
from torch_mars.envs.aerojax.vectors import Vector, add, cross, dot, length, scale, split, subtract, unit

GRAVITY = 9.81  # m/s^2


class Motion(NamedTuple):
    """How every aircraft moves."""

    position: Vector  # m
    direction: Vector  # unit vector t of the velocity
    speed: Tensor  # m/s
    lift_dir: Vector  # unit vector n across t
    alpha: Tensor  # rad
    throttle: Tensor  # 0..1, after the engine's lag


class Controls(NamedTuple):
    """What pilot and engine do in a substep."""

    cos_roll: Tensor
    sin_roll: Tensor
    alpha_step: Tensor  # rad
    command: Tensor  # throttle wanted, 0..1
    engine_gain: float  # share of the way to it
    max_thrust: Tensor  # N


def motion_of(state: AeroState) -> Motion:
    velocity = split(state.velocity)
    speed = length(velocity)
    direction = scale(1 / speed, velocity)
    return Motion(split(state.position), direction, speed, split(state.lift_dir), state.alpha, state.throttle)


def velocity_of(motion: Motion) -> Vector:
    """m/s"""
    return scale(motion.speed, motion.direction)


def body_axes(motion: Motion) -> tuple[Vector, Vector, Vector]:
    """Nose, right and up of the airframe: unit vectors, turned by alpha against the path."""
    t, n = motion.direction, motion.lift_dir
    cos, sin = motion.alpha.cos(), motion.alpha.sin()
    return add(scale(cos, t), scale(sin, n)), cross(t, n), subtract(scale(cos, n), scale(sin, t))


def dynamic_pressure(speed: Tensor, c: Options) -> Tensor:
    """Pa."""
    return 0.5 * c.rho * speed.square()


def alpha_limits(speed: Tensor, c: Options) -> tuple[Tensor, Tensor]:
    """rad: hard limits, and those that keep the load factor within n_min and n_max."""
    alpha_at_1g = c.mass * GRAVITY / (dynamic_pressure(speed, c) * c.wing_area * c.cl_alpha)
    low = (c.n_min * alpha_at_1g).clamp(min=math.radians(c.alpha_min))
    return low, (c.n_max * alpha_at_1g).clamp(max=math.radians(c.alpha_max))


def lift_coefficient(alpha: Tensor, c: Options) -> Tensor:
    """Rises in a straight line to the stall angle and falls as steeply beyond it."""
    stall = math.radians(c.alpha_stall)
    return c.cl_alpha * (stall - (alpha - stall).abs())


def drag_coefficient(alpha: Tensor, c: Options) -> Tensor:
    """Keeps rising past the stall."""
    return c.cd0 + c.k_ind * (c.cl_alpha * alpha).square()


def fly(motion: Motion, actions: Tensor, max_thrust: Tensor, c: Options) -> tuple[Motion, Tensor]:
    """One environment step of `substeps` substeps for everybody.

    Args:
        actions: [B, A, 3] in [-1, 1]: aileron (positive rolls right), elevator (positive raises alpha), throttle.
        max_thrust: N, [A].

    Returns:
        The motion after it, and bool [B, A]: whether the ground was touched.
    """
    h = c.dt / c.substeps
    aileron, elevator, throttle = actions.unbind(-1)
    roll_rad = h * math.radians(c.roll_rate) * aileron
    alpha_step = h * math.radians(c.alpha_rate) * elevator
    engine_gain = 1 - math.exp(-h / c.throttle_tau)
    u = Controls(roll_rad.cos(), roll_rad.sin(), alpha_step, (throttle + 1) / 2, engine_gain, max_thrust)
    is_grounded = torch.zeros_like(motion.speed, dtype=torch.bool)
    for _ in range(c.substeps):
        motion = _substep(motion, u, h, c)
        is_grounded = is_grounded | (motion.position[2] <= 0)
    x, y, z = motion.position
    return motion._replace(position=(x, y, torch.where(is_grounded, z.clamp(min=0), z))), is_grounded


def _substep(motion: Motion, u: Controls, h: float, c: Options) -> Motion:
    """The motion `h` seconds later."""
    position, t, speed, n, alpha, throttle = motion
    low, high = alpha_limits(speed, c)
    alpha = torch.minimum(torch.maximum(alpha + u.alpha_step, low), high)
    throttle = throttle + u.engine_gain * (u.command - throttle)
    n = add(scale(u.cos_roll, n), scale(u.sin_roll, cross(t, n)))

    pressure_area = dynamic_pressure(speed, c) * c.wing_area
    thrust = throttle * u.max_thrust
    lift_acceleration = (pressure_area * lift_coefficient(alpha, c) + thrust * alpha.sin()) / c.mass
    path_acceleration = (thrust * alpha.cos() - pressure_area * drag_coefficient(alpha, c)) / c.mass

    # everything across the path: lift, and gravity's part g (z - t_z t)
    gravity_across = (-GRAVITY * -t[2] * t[0], -GRAVITY * -t[2] * t[1], -GRAVITY * (1 - t[2] * t[2]))
    a_across = add(scale(lift_acceleration, n), gravity_across)
    t2 = unit(add(t, scale(h / speed, a_across)))
    # the mean of the slopes before and after keeps energy
    speed2 = (speed + h * (path_acceleration - GRAVITY * (t[2] + t2[2]) / 2)).clamp(min=c.v_floor)

    n = subtract(n, scale(dot(n, t2) / (1 + dot(t, t2)).clamp(min=1e-6), add(t, t2)))  # carried along without twist
    n = unit(subtract(n, scale(dot(n, t2), t2)))
    position = add(position, scale(h / 2, add(scale(speed, t), scale(speed2, t2))))
    return Motion(position, t2, speed2, n, alpha, throttle)


def trim(thrust_factor: float, c: Options) -> tuple[float, float]:
    """Angle of attack (rad) and throttle of level flight at speed v0, by fixed-point iteration in float64."""
    pressure_area = 0.5 * c.rho * c.v0**2 * c.wing_area
    weight = c.mass * GRAVITY
    alpha = thrust = 0.0
    for _ in range(50):
        thrust = pressure_area * (c.cd0 + c.k_ind * (c.cl_alpha * alpha) ** 2) / math.cos(alpha)
        alpha = (weight - thrust * math.sin(alpha)) / (pressure_area * c.cl_alpha)
    return alpha, thrust / (thrust_factor * c.max_thrust)
