"""The scripted pilot: a stateless function of the situation, the same for every aircraft, flying through the controls.

It knows where everybody is, draws nothing, and decides in the order of the functions below: target, direction, height,
keep clear, walls, ground, controls; a later rule replaces the direction of an earlier one. Aircraft I of one team look
at all aircraft A. Tensors are [B, I] or [B, I, A]; vectors [3, B, I] or [3, B, I, A].
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torch_mars.envs.aerojax.physics import (
    GRAVITY,
    Motion,
    acceleration_of_one,
    alpha_limits,
    body_axes,
    velocity_of,
)
from torch_mars.envs.aerojax.task import Options
from torch_mars.envs.aerojax.vectors import Vector, across, dot, fixed, length, less, unit
from torch_mars.envs.constants import scalar
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
    moves = torch.stack([motion.position, velocity_of(motion)])
    everybody = _flyer(motion, moves)
    me, them = (Flyer(*(x[..., team] for x in everybody)) for team in (own, foes))
    target = _target(me, them, moves[..., foes], is_alive[:, foes], is_passive, c)
    e, turning = _aim(me, target)
    e, is_limited = _limit_height(e, me, c)
    e, is_dodging = _keep_clear(e, me, moves, is_alive, own, foes)
    e, level, is_out = _avoid_walls(e, me, c)
    e, is_pulling = _avoid_ground(e, level, me)
    is_guarding = is_limited | is_dodging | is_out | is_pulling
    return _controls(_acceleration(e, turning, me, target, is_guarding), me, target, is_guarding, skill, c)


def _flyer(motion: Motion, moves: Tensor) -> Flyer:
    """`moves`: position and velocity, [2, 3, B, A]."""
    position, velocity = moves
    nose, right, _ = body_axes(motion)
    return Flyer(position, motion.direction, motion.speed, velocity, motion.lift_dir, motion.alpha, nose, right)


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    """b_j - a_i, [..., I, J] of [..., I] and [..., J]."""
    return b[..., None, :] - a[..., :, None]


def _target(me: Flyer, foes: Flyer, moves: Tensor, foe_alive: Tensor, is_passive: bool, c: Options) -> Target:
    """1. The foe of least cost: near, ahead, and first of all whoever threatens from behind. `moves`: the foes'."""
    r = _pairs(me.position, foes.position)
    d = length(r).clamp(min=1)
    ata = dot(r, me.nose[..., :, None]) / d
    towards_me = dot(r, foes.nose[..., None, :]) / d  # -1: its nose points at me
    # it points at me from behind
    is_threat = (d < THREAT_RANGE * c.weapon_range) & (towards_me < -THREAT_COS) & (ata < 0)
    cost = d * (1 + ATA_WEIGHT * (1 - ata)) - THREAT_BONUS * is_threat.float()
    target = torch.where(foe_alive[:, None], cost, scalar(NEVER, cost)).argmin(2, keepdim=True)

    def of_target(x: Tensor) -> Tensor:
        return x.gather(2, target).squeeze(2)

    exists = foe_alive.any(1, keepdim=True) & (not is_passive)
    moves = moves.gather(3, target.squeeze(2).expand(2, 3, *me.speed.shape)) * exists
    position = torch.where(exists, moves[0], fixed((0.0, 0.0, c.ceiling / 2), me.speed))
    return Target(exists, position, moves[1], of_target(d), of_target(ata), of_target(is_threat))


def _aim(me: Flyer, target: Target) -> tuple[Vector, Vector]:
    """2. The direction to the target, and the rate at which it turns (the lead), 1/s."""
    to_aim = target.position - me.position
    nearness = length(to_aim).clamp(min=1).reciprocal()
    e = nearness * to_aim
    turning = nearness * across(target.velocity - me.velocity, e)
    # 3. turn at right angles first if it lies behind
    ahead = dot(e, me.nose)
    return torch.where(ahead < 0, unit(less(e, ahead, me.nose)), e), turning


def _limit_height(e: Vector, me: Flyer, c: Options) -> tuple[Vector, Tensor]:
    """4. Not above what height and speed allow, not below the floor."""
    soon = torch.add(me.position[2], me.velocity[2], alpha=2)
    top = torch.minimum((c.ceiling - ROOF - soon) / 500, (me.speed - V_SLOW) / 60).clamp(-0.5, 1)
    bottom = ((FLOOR_SOFT - soon) / 500).clamp(-DIVE_MAX, 0.5)
    e_z = torch.maximum(torch.minimum(e[2], top), bottom)
    return unit(torch.cat([e[:2], e_z[None]])), e_z != e[2]


def _keep_clear(
    e: Vector, me: Flyer, moves: Tensor, is_alive: Tensor, own: slice, foes: slice
) -> tuple[Vector, Tensor]:
    """5. Away from where the soonest too close passage would be. `moves`: of all, [2, 3, B, A]."""
    both = _pairs(moves[..., own], moves)
    r, rv = both
    r_rv, rv_rv = (both * rv).sum(1)
    tca = (-r_rv / rv_rv.clamp(min=1)).clamp(0, AVOID_TIME)  # 0 with itself
    miss = torch.addcmul(r, tca, rv)
    is_risk = (length(miss) < AVOID_MISS) & (tca > 0) & (tca < AVOID_TIME) & is_alive[:, None]
    soonest, k = torch.where(is_risk, tca, scalar(NEVER, tca)).min(2)
    is_dodging = soonest < NEVER
    is_foe = (k >= foes.start) & (k < foes.stop)
    mine = torch.arange(own.start, own.stop, device=k.device)
    up_or_down = torch.where(k > mine, scalar(1.0, tca), scalar(-1.0, tca))
    bias = torch.where(is_foe, me.right, up_or_down * fixed((0.0, 0.0, 1.0), tca))
    miss = miss.gather(3, k[..., None].expand(3, *k.shape, 1)).squeeze(3)
    m = across(torch.sub(miss, bias, alpha=AVOID_BIAS), me.direction)
    strength = (scalar(AVOID_MISS, tca) / (me.speed * soonest.clamp(min=0.2))).clamp(0, AVOID_MAX)
    return torch.where(is_dodging, unit(less(me.direction, strength, unit(m))), e), is_dodging


def _unit_level(a: Vector) -> Tensor:
    """The unit vector of the level part, [2, ...]."""
    return unit(a[:2], 1e-6)


def _avoid_walls(e: Vector, me: Flyer, c: Options) -> tuple[Vector, Tensor, Tensor]:
    """6. Level and inwards, if a wall is nearer than the turn away from it needs. Also the level direction to fly."""
    velocity = me.velocity[:2]
    room = c.half_size - me.position[:2] * velocity.sign()
    towards = velocity.abs()
    sine = (towards / me.speed).clamp(max=1)
    turn = me.speed.square() / (WALL_G * GRAVITY) * (1 - (1 - sine.square()).sqrt())
    is_out = (room < torch.add(turn, towards, alpha=WALL_REACT) + WALL_MARGIN).any(0)
    heading, inwards = _unit_level(me.direction), -_unit_level(me.position)
    ahead = dot(inwards, heading)
    sideways = unit(less(inwards, ahead, heading), 1e-6)
    level = torch.where(is_out, torch.where(ahead < 0, sideways, inwards), heading)
    return torch.where(is_out, _at(level, 0.0), e), level, is_out


def _at(level: Tensor, z: float) -> Vector:
    """[2, ...] with a third component."""
    return torch.cat([level, torch.full_like(level[:1], z)])


def _avoid_ground(e: Vector, level: Tensor, me: Flyer) -> tuple[Vector, Tensor]:
    """7. Pull up, if what the pull-up needs would take it too low."""
    sink = -me.velocity[2]
    circle = me.speed.square() * (1 - (1 - me.direction[2].square()).clamp(min=0).sqrt()) / (PULL_G * GRAVITY)
    drop = torch.add(circle, sink.clamp(min=0), alpha=PULL_REACT)
    is_pulling = (sink > 0) & (me.position[2] - drop < FLOOR_HARD)
    return torch.where(is_pulling, unit(_at(level, 0.5)), e), is_pulling


def _acceleration(e: Vector, turning: Vector, me: Flyer, target: Target, is_guarding: Tensor) -> Vector:
    """9. What the lift shall do, m/s^2: turn the nose, lead the target, or break away; and carry the weight."""
    ahead = dot(e, me.nose)
    steer = less(e, ahead, me.nose)
    steer = torch.where(ahead < 0, unit(steer), steer)
    leads = target.exists & ~is_guarding
    a = me.speed * torch.add(leads * turning, steer, alpha=GAIN_TURN)
    a = torch.where(leads & target.is_threat, BREAK * unit(a), a)
    # g (z - t_z t), new before it is written to
    a = torch.addcmul(a, me.direction[2], me.direction, value=-GRAVITY)
    a[2].add_(GRAVITY)
    return a


def _controls(a: Vector, me: Flyer, target: Target, is_guarding: Tensor, skill: float, c: Options) -> Tensor:
    """10. Aileron, elevator and throttle [B, I, 3]: roll the lift to the acceleration, pull, keep the speed."""
    limit = torch.where(is_guarding, scalar(1.0, me.speed), scalar(skill, me.speed))
    lift = dot(a, me.lift_dir)
    phi = direction_of(dot(a, me.right), lift)
    aileron = torch.clamp(GAIN_ROLL * phi / (math.radians(c.roll_rate) * c.dt), -limit, limit)

    of_one = acceleration_of_one(me.speed, c)
    _, high = alpha_limits(of_one, c)
    high = high.clamp(max=ALPHA_FRAC * math.radians(c.alpha_stall)) * limit
    alpha_want = torch.minimum((lift / (c.cl_alpha * of_one)).clamp(min=-0.05), high)
    elevator = (alpha_want - me.alpha) / (math.radians(c.alpha_rate) * c.dt)

    is_closing = target.exists & (target.distance < 0.8 * c.weapon_range) & (target.ata > 0.8)
    matched = length(target.velocity) + 0.1 * (target.distance - 0.4 * c.weapon_range)
    v_want = torch.where(is_closing, matched, scalar(V_CRUISE, matched)).clamp(V_MIN, V_MAX)
    throttle = 0.1 * (v_want - me.speed)  # 0 is half of it
    return torch.stack([aileron, elevator, throttle], -1).clamp(-1, 1)
