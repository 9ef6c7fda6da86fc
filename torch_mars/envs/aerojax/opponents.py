"""The scripted pilot: a stateless function of the situation, the same for every aircraft, flying through the controls.

It knows where everybody is, draws nothing, and decides in the order of the functions below: target, direction, height,
keep clear, walls, ground, controls; a later rule replaces the direction of an earlier one. Aircraft I of one team look
at all aircraft A. Tensors are [B, I] or [B, I, A]; vectors are triples of them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torch_mars.envs.aerojax.physics import GRAVITY, Motion, alpha_limits, body_axes, dynamic_pressure, velocity_of
from torch_mars.envs.aerojax.task import Options
from torch_mars.envs.aerojax.vectors import Vector, across, add, dot, length, pick, rows, scale, subtract, unit, where
from torch_mars.envs.core import direction_of

NEVER = 1e9  # larger than any cost or time

# target: its cost is its distance, more of it off the nose
ATA_WEIGHT = 0.5
THREAT_RANGE = 1.3  # weapon ranges
THREAT_COS = math.cos(math.radians(30))
THREAT_BONUS = 1e5  # m of cost
# steering
GAIN_TURN = 2.0  # 1/s
GAIN_ROLL = 0.6
ALPHA_FRAC = 0.95  # of the stall angle, at most
BREAK = 100.0  # m/s^2, away from a threat
# speed, m/s
V_CRUISE = 110.0
V_MIN = 80.0
V_MAX = 170.0
V_SLOW = 80.0  # no climbing below it
# height, m
ROOF = 250.0  # kept below the ceiling
FLOOR_SOFT = 300.0
FLOOR_HARD = 120.0
DIVE_MAX = 0.7  # sine of the path angle
PULL_G = 3.0  # of a pull-up
PULL_REACT = 1.0  # s
# walls
WALL_G = 3.0  # of the turn away
WALL_REACT = 1.5  # s
WALL_MARGIN = 200.0  # m
# passages
AVOID_TIME = 2.0  # s
AVOID_MISS = 50.0  # m
AVOID_BIAS = 20.0  # m
AVOID_MAX = 1.0  # of the direction, sideways


class Flyer(NamedTuple):
    """An aircraft as the pilots think of it."""

    position: Vector  # m
    direction: Vector  # unit vector of the velocity
    speed: Tensor  # m/s
    velocity: Vector  # m/s
    lift_dir: Vector  # unit vector
    alpha: Tensor  # rad
    nose: Vector  # unit vector
    right: Vector  # unit vector


class Target(NamedTuple):
    """Whom a pilot flies at; home, the middle of the arena, if `exists` is not true."""

    exists: Tensor  # bool
    position: Vector  # m
    velocity: Vector  # m/s
    distance: Tensor  # m
    ata: Tensor  # cosine of its angle off the nose
    is_threat: Tensor  # bool


def fly_team(
    motion: Motion, is_alive: Tensor, own: slice, foes: slice, skill: float, is_passive: bool, c: Options
) -> Tensor:
    """What the pilots of one team do now: [B, I, 3] in [-1, 1].

    Args:
        motion, is_alive: of all aircraft [B, A].
        own, foes: which of them are the team and its enemies.
        skill: share of roll and lift that unguarded manoeuvres use, 0..1.
        is_passive: whether it never has a target and only flies around the centre.
    """
    everybody = _flyer(motion)
    me, them = _of_team(everybody, own), _of_team(everybody, foes)
    target = _target(me, them, is_alive[:, foes], is_passive, c)
    e, turning = _aim(me, target)
    e, is_limited = _limit_height(e, me, c)
    e, is_dodging = _keep_clear(e, me, everybody, is_alive, own, foes)
    e, level, is_out = _avoid_walls(e, me, c)
    e, is_pulling = _avoid_ground(e, level, me)
    is_guarding = is_limited | is_dodging | is_out | is_pulling
    return _controls(_acceleration(e, turning, me, target, is_guarding), me, target, is_guarding, skill, c)


def _flyer(motion: Motion) -> Flyer:
    nose, right, _ = body_axes(motion)
    t, speed = motion.direction, motion.speed
    return Flyer(motion.position, t, speed, velocity_of(motion), motion.lift_dir, motion.alpha, nose, right)


def _of_team(everybody: Flyer, team: slice) -> Flyer:
    return Flyer(*(rows(x, team) if isinstance(x, tuple) else x[:, team] for x in everybody))


def _pairs(a: Vector, b: Vector) -> Vector:
    """b_j - a_i: [B, I, J]."""
    return tuple(y[:, None, :] - x[:, :, None] for x, y in zip(a, b))


def _target(me: Flyer, foes: Flyer, foe_alive: Tensor, is_passive: bool, c: Options) -> Target:
    """1. The foe of least cost: near, ahead, and first of all whoever threatens from behind."""
    r = _pairs(me.position, foes.position)
    d = length(r).clamp(min=1)
    ata = dot(r, tuple(x[:, :, None] for x in me.nose)) / d
    aot = -dot(r, tuple(x[:, None] for x in foes.nose)) / d
    # it points at me from behind
    is_threat = (d < THREAT_RANGE * c.weapon_range) & (aot > THREAT_COS) & (ata < 0)
    cost = d * (1 + ATA_WEIGHT * (1 - ata)) - THREAT_BONUS * is_threat.float()
    target = torch.where(foe_alive[:, None], cost, NEVER).argmin(2)

    def of_target(x: Tensor) -> Tensor:
        return x.gather(2, target[..., None]).squeeze(2)

    exists = foe_alive.any(1, keepdim=True).expand_as(target) & (not is_passive)
    level = torch.zeros_like(me.speed)
    home = (level, level, torch.full_like(level, c.ceiling / 2))
    position = where(exists, pick(foes.position, target), home)
    velocity = where(exists, pick(foes.velocity, target), (level, level, level))
    return Target(exists, position, velocity, of_target(d), of_target(ata), of_target(is_threat))


def _aim(me: Flyer, target: Target) -> tuple[Vector, Vector]:
    """2. The direction to the target, and the rate at which it turns (the lead), 1/s."""
    to_aim = subtract(target.position, me.position)
    far = length(to_aim).clamp(min=1)
    e = scale(1 / far, to_aim)
    turning = scale(1 / far, across(subtract(target.velocity, me.velocity), e))
    # 3. turn at right angles first if it lies behind
    return where(dot(e, me.nose) < 0, unit(across(e, me.nose)), e), turning


def _limit_height(e: Vector, me: Flyer, c: Options) -> tuple[Vector, Tensor]:
    """4. Not above what height and speed allow, not below the floor."""
    soon = me.position[2] + 2 * me.velocity[2]
    top = torch.minimum((c.ceiling - ROOF - soon) / 500, (me.speed - V_SLOW) / 60).clamp(-0.5, 1)
    bottom = -((soon - FLOOR_SOFT) / 500).clamp(-0.5, DIVE_MAX)
    e_z = torch.maximum(torch.minimum(e[2], top), bottom)
    return unit((e[0], e[1], e_z)), e_z != e[2]


def _keep_clear(
    e: Vector, me: Flyer, everybody: Flyer, is_alive: Tensor, own: slice, foes: slice
) -> tuple[Vector, Tensor]:
    """5. Away from where the soonest too close passage would be."""
    r, rv = _pairs(me.position, everybody.position), _pairs(me.velocity, everybody.velocity)
    tca = (-dot(r, rv) / dot(rv, rv).clamp(min=1)).clamp(0, AVOID_TIME)
    miss = add(r, scale(tca, rv))
    index = torch.arange(is_alive.shape[1], device=is_alive.device)
    mine = index[own]
    is_risk = (dot(miss, miss) < AVOID_MISS**2) & (tca > 0) & (tca < AVOID_TIME)
    is_risk = is_risk & is_alive[:, None] & (index != mine[:, None])
    soonest = torch.where(is_risk, tca, NEVER).argmin(2, keepdim=True)

    def of_soonest(x: Tensor) -> Tensor:
        return x.gather(2, soonest).squeeze(2)

    k = soonest.squeeze(2)
    is_foe = (k >= foes.start) & (k < foes.stop)
    up_or_down = torch.where(k > mine, torch.ones_like(me.speed), -1.0)
    level = torch.zeros_like(up_or_down)
    bias = where(is_foe, me.right, (level, level, up_or_down))
    m = across(subtract(tuple(of_soonest(x) for x in miss), scale(AVOID_BIAS, bias)), me.direction)
    strength = (AVOID_MISS / (me.speed * of_soonest(tca).clamp(min=0.2))).clamp(0, AVOID_MAX)
    is_dodging = is_risk.any(2)
    return where(is_dodging, unit(subtract(me.direction, scale(strength, unit(m)))), e), is_dodging


def _unit_level(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    size = (x * x + y * y).sqrt().clamp(min=1e-6)
    return x / size, y / size


def _avoid_walls(e: Vector, me: Flyer, c: Options) -> tuple[Vector, tuple[Tensor, Tensor], Tensor]:
    """6. Level and inwards, if a wall is nearer than the turn away from it needs. Also the level direction to fly."""
    heading_x, heading_y = _unit_level(me.direction[0], me.direction[1])
    is_out = torch.zeros_like(me.speed, dtype=torch.bool)
    for axis in (0, 1):
        room = c.half_size - me.position[axis] * me.velocity[axis].sign()
        towards = me.velocity[axis].abs()
        sine = (towards / me.speed).clamp(max=1)
        turn = me.speed.square() / (WALL_G * GRAVITY) * (1 - (1 - sine * sine).sqrt())
        is_out = is_out | (room < turn + WALL_REACT * towards + WALL_MARGIN)
    x, y = _unit_level(-me.position[0], -me.position[1])
    ahead = x * heading_x + y * heading_y
    side_x, side_y = _unit_level(x - ahead * heading_x, y - ahead * heading_y)
    x, y = torch.where(ahead < 0, side_x, x), torch.where(ahead < 0, side_y, y)
    level = (torch.where(is_out, x, heading_x), torch.where(is_out, y, heading_y))
    return where(is_out, (x, y, torch.zeros_like(x)), e), level, is_out


def _avoid_ground(e: Vector, level: tuple[Tensor, Tensor], me: Flyer) -> tuple[Vector, Tensor]:
    """7. Pull up, if what the pull-up needs would take it too low."""
    sink = -me.velocity[2]
    circle = me.speed.square() * (1 - (1 - me.direction[2].square()).clamp(min=0).sqrt()) / (PULL_G * GRAVITY)
    drop = circle + PULL_REACT * sink.clamp(min=0)
    is_pulling = (sink > 0) & (me.position[2] - drop < FLOOR_HARD)
    return where(is_pulling, unit((*level, torch.full_like(sink, 0.5))), e), is_pulling


def _acceleration(e: Vector, turning: Vector, me: Flyer, target: Target, is_guarding: Tensor) -> Vector:
    """9. What the lift shall do, m/s^2: turn the nose, lead the target, or break away; and carry the weight."""
    steer = across(e, me.nose)
    steer = where(dot(e, me.nose) < 0, unit(steer), steer)
    leads = (target.exists & ~is_guarding).float()
    a = scale(me.speed, add(scale(GAIN_TURN, steer), scale(leads, turning)))
    breaks = target.exists & target.is_threat & ~is_guarding
    a = where(breaks, scale(BREAK, unit(a)), a)
    t = me.direction
    return a[0] - GRAVITY * t[2] * t[0], a[1] - GRAVITY * t[2] * t[1], a[2] + GRAVITY * (1 - t[2] * t[2])


def _controls(a: Vector, me: Flyer, target: Target, is_guarding: Tensor, skill: float, c: Options) -> Tensor:
    """10. Aileron, elevator and throttle [B, I, 3]: roll the lift to the acceleration, pull, keep the speed."""
    limit = torch.where(is_guarding, torch.ones_like(me.speed), skill)
    lift = dot(a, me.lift_dir)
    phi = direction_of(dot(a, me.right), lift)
    aileron = GAIN_ROLL * phi / (math.radians(c.roll_rate) * c.dt)
    aileron = torch.minimum(torch.maximum(aileron, -limit), limit)

    _, high = alpha_limits(me.speed, c)
    high = high.clamp(max=ALPHA_FRAC * math.radians(c.alpha_stall)) * limit
    alpha_want = lift * c.mass / (dynamic_pressure(me.speed, c) * c.wing_area * c.cl_alpha)
    alpha_want = torch.minimum(alpha_want.clamp(min=-0.05), high)
    elevator = ((alpha_want - me.alpha) / (math.radians(c.alpha_rate) * c.dt)).clamp(-1, 1)

    is_closing = target.exists & (target.distance < 0.8 * c.weapon_range) & (target.ata > 0.8)
    matched = length(target.velocity) + 0.1 * (target.distance - 0.4 * c.weapon_range)
    v_want = torch.where(is_closing, matched, V_CRUISE).clamp(V_MIN, V_MAX)
    throttle = (2 * (0.5 + 0.05 * (v_want - me.speed)) - 1).clamp(-1, 1)
    return torch.stack([aileron, elevator, throttle], -1)
