"""The scripted pilot: a stateless function of the situation, the same for every aircraft, flying through the controls.

It knows where everybody is, draws nothing, and decides in the order of the functions below: target, direction, height,
keep clear, walls, ground, controls; a later rule replaces the direction of an earlier one. Aircraft I of one team look
at all aircraft A. Tensors are [B, I] or [B, I, A]; vectors are triples of them.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_mars.envs.aerojax.physics import GRAVITY, Motion, alpha_limits, body_axes, dynamic_pressure
from torch_mars.envs.aerojax.vectors import (
    Vector,
    across,
    add,
    dot,
    length,
    pick,
    rows,
    scale,
    subtract,
    unit,
    where,
)

if TYPE_CHECKING:
    from torch_mars.envs.aerojax.env import Options

NEVER = 1e9  # larger than any cost or time


def fly_team(
    motion: Motion, is_alive: Tensor, own: slice, foes: slice, skill: float, is_passive: bool, c: "Options"
) -> Tensor:
    """What the pilots of one team do now: [B, I, 3] in [-1, 1].

    Args:
        motion, is_alive: of all aircraft [B, A].
        own, foes: which of them are the team and its enemies.
        skill: share of roll and lift that unguarded manoeuvres use, 0..1.
        is_passive: whether it never has a target and only flies around the centre.
    """
    nose, right, _ = body_axes(motion)
    velocity = scale(motion.speed, motion.direction)
    me = Motion(
        rows(motion.position, own), rows(motion.direction, own), motion.speed[:, own], rows(motion.lift_dir, own),
        motion.alpha[:, own], motion.throttle[:, own],
    )  # fmt: skip
    my_nose, my_right, my_velocity = rows(nose, own), rows(right, own), rows(velocity, own)

    # 1. target, 2. direction to it, with the rate at which the line of sight turns (the lead)
    target, ata, distance, is_threat = _target(
        me.position, my_nose, rows(motion.position, foes), rows(nose, foes), is_alive[:, foes], c
    )
    has_target = is_alive[:, foes].any(1, keepdim=True).expand_as(target) & (not is_passive)
    home = (torch.zeros_like(me.speed), torch.zeros_like(me.speed), torch.full_like(me.speed, c.ceiling / 2))
    aim = where(has_target, pick(rows(motion.position, foes), target), home)
    target_velocity = where(has_target, pick(rows(velocity, foes), target), scale(0.0, home))
    to_aim = subtract(aim, me.position)
    far = length(to_aim).clamp(min=1)
    e = scale(1 / far, to_aim)
    turning = scale(1 / far, across(subtract(target_velocity, my_velocity), e))
    # 3. turn at right angles first if it lies behind
    e = where(dot(e, my_nose) < 0, unit(across(e, my_nose)), e)

    e, is_limited = _limit_height(e, me, my_velocity, c)
    e, is_dodging = _keep_clear(e, me, my_velocity, my_right, motion.position, velocity, is_alive, own, foes, c)
    e, level, is_out = _avoid_walls(e, me, my_velocity, c)
    e, is_pulling = _avoid_ground(e, level, me, my_velocity, c)
    is_guarding = is_limited | is_dodging | is_out | is_pulling

    # 9. wanted acceleration: steer the lift vector
    steer = across(e, my_nose)
    steer = where(dot(e, my_nose) < 0, unit(steer), steer)
    leads = (has_target & ~is_guarding).float()
    a = scale(me.speed, add(scale(c.gain_turn, steer), scale(leads, turning)))
    breaks = has_target & is_threat & ~is_guarding
    a = where(breaks, scale(100.0, unit(a)), a)
    t = me.direction
    a = (a[0] - GRAVITY * t[2] * t[0], a[1] - GRAVITY * t[2] * t[1], a[2] + GRAVITY * (1 - t[2] * t[2]))

    # 10. controls
    limit = torch.where(is_guarding, 1.0, skill)
    lift = dot(a, me.lift_dir)
    phi = torch.atan2(dot(a, my_right), lift)
    aileron = c.gain_roll * phi / (math.radians(c.roll_rate) * c.dt)
    aileron = torch.minimum(torch.maximum(aileron, -limit), limit)
    _, high = alpha_limits(me.speed, c)
    high = high.clamp(max=c.alpha_frac * math.radians(c.alpha_stall)) * limit
    alpha_want = lift * c.mass / (dynamic_pressure(me.speed, c) * c.wing_area * c.cl_alpha)
    alpha_want = torch.minimum(alpha_want.clamp(min=-0.05), high)
    elevator = ((alpha_want - me.alpha) / (math.radians(c.alpha_rate) * c.dt)).clamp(-1, 1)
    is_closing = has_target & (distance < 0.8 * c.weapon_range) & (ata > 0.8)
    matched = length(target_velocity) + 0.1 * (distance - 0.4 * c.weapon_range)
    v_want = torch.where(is_closing, matched, c.v_cruise).clamp(c.v_min, c.v_max)
    throttle = (2 * (0.5 + 0.05 * (v_want - me.speed)) - 1).clamp(-1, 1)
    return torch.stack([aileron, elevator, throttle], -1)


def _pairs(a: Vector, b: Vector) -> Vector:
    """b_j - a_i: [B, I, J]."""
    return tuple(y[:, None, :] - x[:, :, None] for x, y in zip(a, b))


def _each(a: Vector) -> Vector:
    """[B, I] -> [B, I, 1]."""
    return a[0][:, :, None], a[1][:, :, None], a[2][:, :, None]


def _target(position: Vector, nose: Vector, foe_position: Vector, foe_nose: Vector, foe_alive: Tensor, c: "Options"):
    """The foe of least cost [B, I]: index, cosine off the nose, distance, whether it threatens."""
    r = _pairs(position, foe_position)
    d = length(r).clamp(min=1)
    ata = dot(r, _each(nose)) / d
    aot = -(r[0] * foe_nose[0][:, None] + r[1] * foe_nose[1][:, None] + r[2] * foe_nose[2][:, None]) / d
    # it points at me from behind
    is_threat = (d < c.threat_range * c.weapon_range) & (aot > c.threat_cos) & (ata < 0)
    cost = d * (1 + c.ata_weight * (1 - ata)) - c.threat_bonus * is_threat.float()
    target = torch.where(foe_alive[:, None], cost, NEVER).argmin(2)

    def of_target(x: Tensor) -> Tensor:
        return x.gather(2, target[..., None]).squeeze(2)

    return target, of_target(ata), of_target(d), of_target(is_threat)


def _limit_height(e: Vector, me: Motion, velocity: Vector, c: "Options") -> tuple[Vector, Tensor]:
    """4. Not above what height and speed allow, not below the floor."""
    soon = me.position[2] + 2 * velocity[2]
    top = torch.minimum((c.ceiling - c.roof - soon) / 500, (me.speed - c.v_slow) / 60).clamp(-0.5, 1)
    bottom = -((soon - c.floor_soft) / 500).clamp(-0.5, c.dive_max)
    e_z = torch.maximum(torch.minimum(e[2], top), bottom)
    return unit((e[0], e[1], e_z)), e_z != e[2]


def _keep_clear(
    e: Vector, me: Motion, my_velocity: Vector, my_right: Vector, position: Vector, velocity: Vector,
    is_alive: Tensor, own: slice, foes: slice, c: "Options",
) -> tuple[Vector, Tensor]:  # fmt: skip
    """5. Away from where the soonest too close passage would be."""
    r, rv = _pairs(me.position, position), _pairs(my_velocity, velocity)
    tca = (-dot(r, rv) / dot(rv, rv).clamp(min=1)).clamp(0, c.avoid_time)
    miss = add(r, scale(tca, rv))
    index = torch.arange(is_alive.shape[1], device=is_alive.device)
    mine = index[own]
    is_risk = (dot(miss, miss) < c.avoid_miss**2) & (tca > 0) & (tca < c.avoid_time)
    is_risk = is_risk & is_alive[:, None] & (index != mine[:, None])
    soonest = torch.where(is_risk, tca, NEVER).argmin(2, keepdim=True)

    def of_soonest(x: Tensor) -> Tensor:
        return x.gather(2, soonest).squeeze(2)

    k = soonest.squeeze(2)
    is_foe = (k >= foes.start) & (k < foes.stop)
    up_or_down = torch.where(k > mine, 1.0, -1.0)
    level = torch.zeros_like(up_or_down)
    bias = where(is_foe, my_right, (level, level, up_or_down))
    m = subtract(tuple(of_soonest(x) for x in miss), scale(c.avoid_bias, bias))
    m = across(m, me.direction)
    strength = (c.avoid_miss / (me.speed * of_soonest(tca).clamp(min=0.2))).clamp(0, c.avoid_max)
    is_dodging = is_risk.any(2)
    return where(is_dodging, unit(subtract(me.direction, scale(strength, unit(m)))), e), is_dodging


def _unit_level(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    size = (x * x + y * y).sqrt().clamp(min=1e-6)
    return x / size, y / size


def _avoid_walls(e: Vector, me: Motion, velocity: Vector, c: "Options"):
    """6. Level and inwards, if a wall is nearer than the turn away from it needs. Also the level direction to fly."""
    heading_x, heading_y = _unit_level(me.direction[0], me.direction[1])
    is_out = torch.zeros_like(me.speed, dtype=torch.bool)
    for axis in (0, 1):
        room = c.half_size - me.position[axis] * velocity[axis].sign()
        towards = velocity[axis].abs()
        sine = (towards / me.speed).clamp(max=1)
        turn = me.speed.square() / (c.wall_g * GRAVITY) * (1 - (1 - sine * sine).sqrt())
        is_out = is_out | (room < turn + c.wall_react * towards + c.wall_margin)
    x, y = _unit_level(-me.position[0], -me.position[1])
    ahead = x * heading_x + y * heading_y
    side_x, side_y = _unit_level(x - ahead * heading_x, y - ahead * heading_y)
    x, y = torch.where(ahead < 0, side_x, x), torch.where(ahead < 0, side_y, y)
    level = (torch.where(is_out, x, heading_x), torch.where(is_out, y, heading_y))
    return where(is_out, (x, y, torch.zeros_like(x)), e), level, is_out


def _avoid_ground(e: Vector, level: tuple[Tensor, Tensor], me: Motion, velocity: Vector, c: "Options"):
    """7. Pull up, if what the pull-up needs would take it too low."""
    sink = -velocity[2]
    circle = me.speed.square() * (1 - (1 - me.direction[2].square()).clamp(min=0).sqrt()) / (c.pull_g * GRAVITY)
    drop = circle + c.pull_react * sink.clamp(min=0)
    is_pulling = (sink > 0) & (me.position[2] - drop < c.floor_hard)
    return where(is_pulling, unit((*level, torch.full_like(sink, 0.5))), e), is_pulling
