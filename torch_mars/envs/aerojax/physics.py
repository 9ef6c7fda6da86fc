"""Flight: a point mass with lift across its path, in coordinated (no-sideslip) flight, without Euler angles.

An aircraft is its position (m), flight direction `t` and speed (m/s), the unit vector `n` across t in which lift pulls
(the pilot's "up"), angle of attack `alpha` (rad) and throttle (0..1). Roll turns n about t; elevator moves alpha; only
the tilted lift turns the path, so a turn costs energy exactly through induced drag. x, y horizontal, z up.

Tensors are [B, A]; vectors [3, B, A] (`vectors.py`). Nothing here knows teams, sensors or weapons.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torch_mars.envs.aerojax.task import AeroState, Options
from torch_mars.envs.aerojax.vectors import Vector, across, cross, dot, length, less, split, unit

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
    max_thrust: Tensor  # N/kg


def motion_of(state: AeroState) -> Motion:
    vectors = torch.cat([split(x) for x in (state.position, state.velocity, state.lift_dir)])
    position, velocity, lift_dir = vectors.chunk(3)
    speed = length(velocity)
    direction = speed.reciprocal() * velocity  # as the loops do: pilots' controls magnify how it is rounded
    return Motion(position, direction, speed, lift_dir, state.alpha, state.throttle)


def velocity_of(motion: Motion) -> Vector:
    """m/s"""
    return motion.speed * motion.direction


def body_axes(motion: Motion) -> Tensor:
    """Nose, right and up of the airframe: unit vectors, turned by alpha against the path, [3, 3, B, A]."""
    t, n = motion.direction, motion.lift_dir
    cos, sin = motion.alpha.cos(), motion.alpha.sin()
    return torch.stack([torch.addcmul(cos * t, sin, n), cross(t, n), less(cos * n, sin, t)])


def dynamic_pressure(speed: Tensor, c: Options, times: float = 1.0) -> Tensor:
    """Pa, times a number."""
    return (0.5 * c.rho * times) * speed.square()


def acceleration_of_one(speed: Tensor, c: Options) -> Tensor:
    """m/s^2, from a lift or drag coefficient of 1."""
    return dynamic_pressure(speed, c, c.wing_area / c.mass)


def alpha_limits(of_one: Tensor, c: Options) -> tuple[Tensor, Tensor]:
    """rad: hard limits, and those that keep the load factor within n_min and n_max; of `acceleration_of_one`."""
    alpha_at_1g = (c.cl_alpha / GRAVITY * of_one).reciprocal()
    low = (c.n_min * alpha_at_1g).clamp(min=math.radians(c.alpha_min))
    return low, (c.n_max * alpha_at_1g).clamp(max=math.radians(c.alpha_max))


def lift_coefficient(alpha: Tensor, c: Options) -> Tensor:
    """Rises in a straight line to the stall angle and falls as steeply beyond it."""
    stall = math.radians(c.alpha_stall)
    return torch.rsub((alpha - stall).abs(), c.cl_alpha * stall, alpha=c.cl_alpha)


def drag_coefficient(alpha: Tensor, c: Options) -> Tensor:
    """Keeps rising past the stall."""
    return c.cd0 + (c.k_ind * c.cl_alpha**2) * alpha.square()


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
    u = Controls(roll_rad.cos(), roll_rad.sin(), alpha_step, (throttle + 1) / 2, engine_gain, max_thrust / c.mass)
    lowest = torch.full_like(motion.speed, math.inf)
    for _ in range(c.substeps):
        motion = _substep(motion, u, h, c)
        lowest = torch.minimum(lowest, motion.position[2])
    motion.position[2].clamp_(min=0)
    return motion, lowest <= 0


def _substep(motion: Motion, u: Controls, h: float, c: Options) -> Motion:
    """The motion `h` seconds later."""
    position, t, speed, n, alpha, throttle = motion
    of_one = acceleration_of_one(speed, c)
    alpha = torch.clamp(alpha + u.alpha_step, *alpha_limits(of_one, c))
    throttle = torch.lerp(throttle, u.command, u.engine_gain)
    n = torch.addcmul(u.cos_roll * n, u.sin_roll, cross(t, n))

    thrust = throttle * u.max_thrust
    lift = torch.addcmul(of_one * lift_coefficient(alpha, c), thrust, alpha.sin())
    along_path = less(thrust * alpha.cos(), of_one, drag_coefficient(alpha, c))

    # the way it turns: by lift, and by gravity's part across the path, g (z - t_z t)
    velocity = torch.addcmul(torch.add(speed, t[2], alpha=h * GRAVITY) * t, lift, n, value=h)
    velocity[2].sub_(h * GRAVITY)
    t2 = unit(velocity)
    # the mean of the slopes before and after keeps energy
    along_path = torch.sub(along_path, t[2] + t2[2], alpha=GRAVITY / 2)
    speed2 = torch.add(speed, along_path, alpha=h).clamp(min=c.v_floor)

    n = less(n, dot(n, t2) / (1 + dot(t, t2)).clamp(min=1e-6), t + t2)  # carried along without twist
    n = unit(across(n, t2))
    position = torch.add(position, torch.addcmul(speed * t, speed2, t2), alpha=h / 2)
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
