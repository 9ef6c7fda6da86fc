"""The scripted enemy as compiled loops: the twins of `opponents.py`, for one aircraft, number i."""

import numpy as np

from torch_mars.envs.aerojax import opponents
from torch_mars.envs.aerojax.opponents import Flyer, Target
from torch_mars.envs.aerojax.physics import GRAVITY
from torch_mars.envs.aerojax.physics_loops import alpha_limits, dynamic_pressure
from torch_mars.envs.aerojax.task import FLYING
from torch_mars.envs.aerojax.vectors_loops import (
    DOWN,
    HALF,
    ONE,
    TINY,
    TWO,
    UP,
    ZERO,
    F,
    across,
    add,
    clamp,
    dot,
    length,
    put,
    scale,
    split,
    subtract,
    unit,
)
from torch_mars.envs.loops import compiled

_GRAVITY, _NEVER = F(GRAVITY), F(opponents.NEVER)
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


@compiled
def fly_team(c, s, w, own, foes):
    """The controls of one team; zeros for the dead."""
    for i in range(own.start, own.stop):
        if s.status[i] != FLYING:
            put(w.controls, i, (ZERO, ZERO, ZERO))
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
    target, least, distance, ata, is_threat, exists = foes.start, F(np.inf), ZERO, ZERO, False, False
    for j in range(foes.start, foes.stop):
        if s.status[j] != FLYING:
            if _NEVER < least:
                least, target = _NEVER, j
            continue
        exists = not c.is_passive
        r = subtract(split(s.position, j), me.position)
        d = max(length(r), ONE)
        my_ata, its_aot = dot(r, me.nose) / d, -dot(r, split(w.nose, j)) / d
        threatens = d < _THREAT_RANGE * c.weapon_range and its_aot > _THREAT_COS and my_ata < ZERO
        cost = d * (ONE + _ATA_WEIGHT * (ONE - my_ata)) - (_THREAT_BONUS if threatens else ZERO)
        if cost < least:
            target, least, distance, ata, is_threat = j, cost, d, my_ata, threatens
    if exists:
        return Target(True, split(s.position, target), split(s.velocity, target), distance, ata, is_threat)
    return Target(False, (ZERO, ZERO, c.ceiling / TWO), (ZERO, ZERO, ZERO), distance, ata, is_threat)


@compiled
def _aim(me, target):
    to_aim = subtract(target.position, me.position)
    nearness = ONE / max(length(to_aim), ONE)
    e = scale(nearness, to_aim)
    turning = scale(nearness, across(subtract(target.velocity, me.velocity), e))
    if dot(e, me.nose) < ZERO:
        e = unit(across(e, me.nose))
    return e, turning


@compiled
def _limit_height(e, me, c):
    soon = me.position[2] + TWO * me.velocity[2]
    top = min((c.ceiling - _ROOF - soon) / F(500), (me.speed - _V_SLOW) / F(60))
    bottom = -clamp((soon - _FLOOR_SOFT) / F(500), -HALF, _DIVE_MAX)
    e_z = max(min(e[2], clamp(top, -HALF, ONE)), bottom)
    return unit((e[0], e[1], e_z)), e_z != e[2]


@compiled
def _keep_clear(e, me, s, i, foes):
    soonest, miss, k = F(np.inf), e, -1
    for j in range(len(s.status)):
        if j == i or s.status[j] != FLYING:
            continue
        r, rv = subtract(split(s.position, j), me.position), subtract(split(s.velocity, j), me.velocity)
        closing = -dot(r, rv)
        if not closing > ZERO:  # the nearest it comes is now
            continue
        tca = min(closing / max(dot(rv, rv), ONE), _AVOID_TIME)
        passing = add(r, scale(tca, rv))
        is_risk = dot(passing, passing) < _AVOID_MISS2 and ZERO < tca < _AVOID_TIME
        if is_risk and tca < soonest:
            soonest, miss, k = tca, passing, j
    if k < 0:
        return e, False
    bias = UP if k > i else DOWN
    if foes.start <= k < foes.stop:
        bias = me.right
    m = across(subtract(miss, scale(_AVOID_BIAS, bias)), me.direction)
    strength = clamp(_AVOID_MISS / (me.speed * max(soonest, F(0.2))), ZERO, _AVOID_MAX)
    return unit(subtract(me.direction, scale(strength, unit(m)))), True


@compiled
def unit_level(x, y):
    size = max(np.sqrt(x * x + y * y), TINY)
    return x / size, y / size


@compiled
def _avoid_walls(e, me, c):
    heading_x, heading_y = unit_level(me.direction[0], me.direction[1])
    is_out = False
    for axis in range(2):
        room = c.half_size - me.position[axis] * np.sign(me.velocity[axis])
        towards = abs(me.velocity[axis])
        sine = min(towards / me.speed, ONE)
        turn = me.speed * me.speed / _WALL_TURN * (ONE - np.sqrt(ONE - sine * sine))
        is_out = is_out or room < turn + _WALL_REACT * towards + _WALL_MARGIN
    if not is_out:
        return e, (heading_x, heading_y), False
    x, y = unit_level(-me.position[0], -me.position[1])
    ahead = x * heading_x + y * heading_y
    if ahead < ZERO:
        x, y = unit_level(x - ahead * heading_x, y - ahead * heading_y)
    return (x, y, ZERO), (x, y), True


@compiled
def _avoid_ground(e, level, me):
    sink = -me.velocity[2]
    cosine = np.sqrt(max(ONE - me.direction[2] * me.direction[2], ZERO))
    circle = me.speed * me.speed * (ONE - cosine) / _PULL_TURN
    drop = circle + _PULL_REACT * max(sink, ZERO)
    if sink > ZERO and me.position[2] - drop < _FLOOR_HARD:
        return unit((level[0], level[1], HALF)), True
    return e, False


@compiled
def _acceleration(e, turning, me, target, is_guarding):
    steer = across(e, me.nose)
    if dot(e, me.nose) < ZERO:
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
    limit = ONE if is_guarding else c.opponent_skill
    lift = dot(a, me.lift_dir)
    phi = np.arctan2(dot(a, me.right), lift)
    aileron = clamp(_GAIN_ROLL * phi / c.roll, -limit, limit)

    _, high = alpha_limits(me.speed, c)
    high = min(high, _ALPHA_FRAC * c.alpha_stall) * limit
    pressure_area = dynamic_pressure(me.speed, c) * c.wing_area
    alpha_want = lift * c.mass / (pressure_area * c.cl_alpha)
    alpha_want = min(max(alpha_want, _ALPHA_LEAST), high)
    elevator = clamp((alpha_want - me.alpha) / c.alpha, -ONE, ONE)

    v_want = _V_CRUISE
    if target.exists and target.distance < F(0.8) * c.weapon_range and target.ata > F(0.8):
        v_want = length(target.velocity) + F(0.1) * (target.distance - F(0.4) * c.weapon_range)
    v_want = clamp(v_want, _V_MIN, _V_MAX)
    return aileron, elevator, clamp(TWO * (HALF + F(0.05) * (v_want - me.speed)) - ONE, -ONE, ONE)
