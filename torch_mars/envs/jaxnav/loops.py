"""The rules of JaxNav once more, as loops: the functions of `lidar.py`, `maps.py`, `env.py` by the same names.

A batch on CPU takes them: bit for bit what `JaxNav.advance`, `next_episode` and `perceive` do as tensor operations,
which other devices and torch.compile take. One environment by itself runs on `JaxNavLoops`, random numbers included.

The LiDAR is most of the work. Its loops over the beams have neither branches nor 64-bit numbers in them, so that the
compiler does 4, 8 or 16 beams at once.

Whatever the floats are, every loop ends and no index leaves the map. Functions without a twin: `numbers`, `room`,
`_draw_lines`, `_is_wall`, `_beams_towards`, `_fits`.

Axes: B environments, N robots, V beams, W cells along a side of the map, K candidates of a robot.
"""

import math
from typing import NamedTuple

import numpy as np

from torch_mars.envs.angles_loops import angle_of, cosine_sine
from torch_mars.envs.engine import LoopEngine
from torch_mars.envs.jaxnav.maps import (
    CANDIDATES,
    GOAL_CLEARANCE,
    LEAST_DISTANCE,
    MOST_MAPS,
    MOST_ROUNDS,
    NO_MAP,
    RADIUS,
    SEPARATION,
    START_CLEARANCE,
    most_walls,
    no_places,
)
from torch_mars.envs.jaxnav.task import (
    BEARINGS,
    CHANGED,
    DRAFT,
    DT,
    EVENTS,
    HALF_SIDE,
    LAST,
    MAX_RANGE,
    MOST_CELLS,
    MOST_LINES,
    NUM_BEAMS,
    OWN,
    RESOLUTION,
    SEEN,
    SPACING,
    STARTED,
    TINY,
    Options,
)
from torch_mars.envs.loops import compiled
from torch_mars.envs.rng_loops import next_bits, next_integer, next_permutation, next_uniform

F = np.float32
# single precision throughout, as in the tensors: a plain Python number would make it double
_ZERO, _HALF, _ONE, _TWO, _PI, _FULL_TURN = map(F, (0, 0.5, 1, 2, math.pi, 2 * math.pi))
_DT, _HALF_SIDE, _MAX_RANGE, _RANGE_STEP = map(F, (DT, HALF_SIDE, MAX_RANGE, SPACING / MAX_RANGE))
_LAST, _SPACING, _RESOLUTION, _MOST_CELLS = map(F, (LAST, SPACING, RESOLUTION, MOST_CELLS))
_TINY, _LARGEST = F(TINY), F(1 / TINY)
_START_CLEARANCE, _GOAL_CLEARANCE, _SEPARATION, _LEAST_DISTANCE = map(
    F, (START_CLEARANCE, GOAL_CLEARANCE, SEPARATION, LEAST_DISTANCE)
)
_BEAM_COS, _BEAM_SIN = np.cos(BEARINGS).astype(F), np.sin(BEARINGS).astype(F)
_BEAMS_PER_RAD = F((NUM_BEAMS - 1) / (2 * math.pi))
_AROUND = F(1.5) * _HALF_SIDE  # radius of a circle around a robot: most beams miss it
_BIT, _LANE = np.uint32(1), np.uint32(MOST_CELLS)  # the latter says that a shift is of less than 32 bits


class Numbers(NamedTuple):
    """The options for the loops."""

    max_steps: np.int64
    goal_radius: np.float32
    rew_lambda: np.float32
    team_share: np.float32  # 1 - rew_lambda
    seen_share: np.float32  # rew_lambda as a robot sees it
    goal_rew: np.float32
    weight_g: np.float32
    coll_rew: np.float32
    dt_rew: np.float32
    lidar_rew: np.float32
    closest: np.int64  # the last sample that counts as too close
    max_v: np.float32
    max_w: np.float32
    max_v_acc: np.float32
    max_w_acc: np.float32
    map_size: np.float32
    most_walls: np.int64  # one more than there are inside a map
    low: np.float32  # bounds of the places drawn
    high: np.float32
    width: np.float32


def numbers(c: Options, closest: int) -> Numbers:
    """The options for the loops."""
    low, high = 1 + RADIUS, c.map_size - 1 - RADIUS
    return Numbers(
        np.int64(c.max_steps),
        F(c.goal_radius),
        F(c.rew_lambda),
        F(1 - c.rew_lambda),
        F(c.rew_lambda - 0.5),
        F(c.goal_rew),
        F(c.weight_g),
        F(c.coll_rew),
        F(c.dt_rew),
        F(c.lidar_rew),
        np.int64(closest),
        F(c.max_v),
        F(c.max_w),
        F(c.max_v_acc),
        F(c.max_w_acc),
        F(c.map_size),
        np.int64(most_walls(c.map_size, c.fill)),
        F(low),
        F(high),
        F(high - low),
    )


class Room(NamedTuple):
    """For the LiDAR of one robot after the other."""

    lines: np.ndarray  # uint32 [2, W]: columns, bit y of number x is the wall (x, y); and rows
    near: np.ndarray  # uint32 [2, MOST_LINES]: the lines ahead of a robot and behind it, the nearest first
    beam: np.ndarray  # float32 [2, V]: directions x and y
    sample: np.ndarray  # float32 [V]


@compiled
def room(num_cells):
    lines, near = np.empty((2, num_cells), np.uint32), np.empty((2, MOST_LINES), np.uint32)
    return Room(lines, near, np.empty((2, NUM_BEAMS), F), np.empty(NUM_BEAMS, F))


# ---- lidar.py ----


@compiled
def read(room, pos, heading, map_data, beams, b):
    """Write the samples of all beams of environment b; heading: float32 [2, N], cosines and sines."""
    lines, near, beam, sample = room.lines, room.near, room.beam, room.sample
    _draw_lines(map_data, lines, b)
    for i in range(pos.shape[1]):
        x, y, cos, sin = pos[b, i, 0], pos[b, i, 1], heading[0, i], heading[1, i]
        if _is_wall(lines, int(np.floor(x)), int(np.floor(y))):
            for v in range(NUM_BEAMS):
                beams[b, i, v] = 0
            continue
        for v in range(NUM_BEAMS):
            beam[0, v] = cos * _BEAM_COS[v] - sin * _BEAM_SIN[v]
            beam[1, v] = sin * _BEAM_COS[v] + cos * _BEAM_SIN[v]
            sample[v] = _LAST
        _first_in_wall(x, y, 0, lines, near, beam, sample)
        _first_in_wall(y, x, 1, lines, near, beam, sample)
        for j in range(pos.shape[1]):
            if j != i:
                _first_in_robot(x - pos[b, j, 0], y - pos[b, j, 1], heading, i, j, beam, sample)
        for v in range(NUM_BEAMS):
            beams[b, i, v] = np.uint8(sample[v])


@compiled
def _draw_lines(map_data, lines, b):
    """The walls of environment b as bits."""
    size = lines.shape[1]
    for k in range(size):
        lines[0, k] = lines[1, k] = 0
    for y in range(size):
        for x in range(size):
            is_wall = np.uint32(map_data[b, y, x])
            lines[0, x] |= is_wall << np.uint32(y)
            lines[1, y] |= is_wall << np.uint32(x)


@compiled
def _is_wall(lines, column, row):
    """Outside the map, columns count as the outermost one, and so do rows below it; above it is nothing."""
    size = lines.shape[1]
    return row < size and (lines[0, min(max(column, 0), size - 1)] >> np.uint32(max(row, 0))) & _BIT == _BIT


@compiled
def _first_in_wall(place, across, axis, lines, near, beam, sample):
    """Lower the samples [V] to the first behind a grid line that is in a wall.

    The beams cross the lines of an axis from `place` on; beside them they go from `across`.
    """
    size = lines.shape[1]
    cell = np.floor(place)
    inside, here = place - cell, int(cell)
    for q in range(MOST_LINES):
        is_near = q < size - 2
        near[0, q] = lines[axis, min(max(here + q + 1, 0), size - 1)] if is_near else 0
        near[1, q] = lines[axis, min(max(here - q - 1, 0), size - 1)] if is_near else 0
    for v in range(NUM_BEAMS):
        along, reach = beam[axis, v], _SPACING * beam[1 - axis, v]
        samples_per_cell = _ONE / max(_SPACING * abs(along), _TINY)
        crossing = (_ONE - inside if along > _ZERO else inside) * samples_per_cell
        first = sample[v]
        for q in range(MOST_LINES):
            behind = min(max(np.ceil(crossing), _ONE), _LAST)  # the first sample behind the line
            lane = np.uint32(np.int32(min(max(across + behind * reach, _ZERO), _MOST_CELLS))) & _LANE
            walls = near[0, q] if along > _ZERO else near[1, q]
            is_wall = np.uint32(walls >> lane) & _BIT
            first = min(first, behind if is_wall else _LAST)
            crossing = crossing + samples_per_cell
        sample[v] = first


@compiled
def _first_in_robot(apart_x, apart_y, heading, i, j, beam, sample):
    """Lower robot i's samples [V] to where its beams meet robot j; `apart` is from j to i."""
    away = np.sqrt(apart_x * apart_x + apart_y * apart_y)
    if not away <= _MAX_RANGE + _AROUND:
        return
    first, last = _beams_towards(-apart_x, -apart_y, away, heading[0, i], heading[1, i])
    cos, sin = heading[0, j], heading[1, j]
    origin_x, origin_y = apart_x * cos + apart_y * sin, apart_y * cos - apart_x * sin
    for turns in range(-1, 2):  # the first and the last beam look the same way
        shift = turns * (NUM_BEAMS - 1)
        for v in range(max(first + shift, 0), min(last + shift, NUM_BEAMS - 1) + 1):
            x, y = beam[0, v], beam[1, v]
            enter_x, leave_x = _slab(origin_x, x * cos + y * sin)
            enter_y, leave_y = _slab(origin_y, y * cos - x * sin)
            enter, leave = max(enter_x, enter_y), min(leave_x, leave_y)
            way = enter if enter >= _ZERO else leave  # from inside, a beam meets the side where it leaves
            if leave >= enter and leave >= _ZERO and way <= _MAX_RANGE:
                sample[v] = min(sample[v], np.floor(way / _RESOLUTION))


@compiled
def _beams_towards(x, y, away, cos, sin):
    """The first and the last beam that a circle at (x, y) may reach, counted around: from -V to 2 V."""
    if away <= _AROUND:
        return 0, NUM_BEAMS - 1
    middle = angle_of(y * cos - x * sin, x * cos + y * sin) + _PI  # from straight back
    half = angle_of(_AROUND, np.sqrt(away * away - _AROUND * _AROUND))
    return int(np.floor((middle - half) * _BEAMS_PER_RAD)) - 1, int(np.ceil((middle + half) * _BEAMS_PER_RAD)) + 1


@compiled
def _slab(origin, direction):
    """Distances along the beam at which it enters and leaves |coordinate| <= HALF_SIDE."""
    inverse = min(max(_ONE / direction, -_LARGEST), _LARGEST)
    low, high = (-_HALF_SIDE - origin) * inverse, (_HALF_SIDE - origin) * inverse
    return min(low, high), max(low, high)


# ---- maps.py: the level of an environment's next episode, cursor, map_data, robots, placed and rounds of a Draft ----


@compiled
def new_draft(rng, cursor, map_data, robots, placed, rounds, b):
    """The untouched level behind rng[b]."""
    key = cursor[b : b + 1].reshape(())
    key[()] = rng[b]
    next_bits(key)  # the key of the following level
    map_data[b] = True
    robots[b] = _ZERO
    placed[b], rounds[b] = NO_MAP, 0


@compiled
def following(rng, b):
    """Go to the key of the next level."""
    key = rng[b : b + 1].reshape(())
    key[()] = next_bits(key)


@compiled
def next_round(c, candidates, cursor, map_data, robots, placed, rounds, b):
    """One round, if the level is not complete: the map, if it has none, and candidates for all robots."""
    if placed[b] == NO_MAP:
        _draw_map(c, cursor, map_data, placed, rounds, b)
    if placed[b] != robots.shape[1]:
        _place_robots(c, candidates, cursor, map_data, robots, placed, rounds, b)


@compiled
def finish(c, candidates, cursor, map_data, robots, placed, rounds, b):
    """All rounds that are left: whether the robots fit on one of the maps."""
    for _ in range(MOST_ROUNDS * MOST_MAPS):
        if placed[b] == robots.shape[1]:
            return True
        next_round(c, candidates, cursor, map_data, robots, placed, rounds, b)
    return placed[b] == robots.shape[1]


@compiled
def _draw_map(c, cursor, map_data, placed, rounds, b):
    """Walls around, inside 0 .. most_walls - 1 more at random places."""
    key = cursor[b : b + 1].reshape(())
    inner = map_data.shape[1] - 2
    count = next_integer(key, c.most_walls)
    order = next_permutation(key, inner * inner)
    map_data[b] = True
    for k in range(inner * inner):
        map_data[b, 1 + k // inner, 1 + k % inner] = order[k] < count
    placed[b], rounds[b] = 0, 0


@compiled
def _place_robots(c, candidates, cursor, map_data, robots, placed, rounds, b):
    """Robot by robot, the first valid one of K candidates each, up to the first robot for which none is valid."""
    key = cursor[b : b + 1].reshape(())
    for i in range(robots.shape[1]):
        heading = _candidates(c, key, candidates)
        if placed[b] != i:
            continue
        for k in range(CANDIDATES):
            if _fits(map_data, robots, candidates, b, i, k):
                robots[b, i, 0], robots[b, i, 1], robots[b, i, 2] = candidates[k, 0], candidates[k, 1], heading
                robots[b, i, 3], robots[b, i, 4] = candidates[k, 2], candidates[k, 3]
                placed[b] = i + 1
                break
    rounds[b] += 1
    if placed[b] < robots.shape[1] and rounds[b] >= MOST_ROUNDS:
        placed[b] = NO_MAP


@compiled
def _fits(map_data, robots, candidates, b, i, k):
    """Whether candidate k of robot i is valid, robots 0 .. i - 1 being placed."""
    x, y, goal_x, goal_y = candidates[k, 0], candidates[k, 1], candidates[k, 2], candidates[k, 3]
    if touches_wall(map_data, x, y, _START_CLEARANCE, b) or touches_wall(map_data, goal_x, goal_y, _GOAL_CLEARANCE, b):
        return False
    if distance(x, y, goal_x, goal_y) <= _LEAST_DISTANCE:
        return False
    for j in range(i):
        if distance(x, y, robots[b, j, 0], robots[b, j, 1]) <= _SEPARATION:
            return False
        if distance(goal_x, goal_y, robots[b, j, 3], robots[b, j, 4]) <= _SEPARATION:
            return False
    return True


@compiled
def _candidates(c, key, candidates):
    """A robot's heading; its starts and goals: candidates [K, 4]."""
    for axis in range(2):
        for k in range(CANDIDATES):
            candidates[k, axis] = c.low + c.width * next_uniform(key)
    for k in range(CANDIDATES):
        candidates[k, 2] = c.low + c.width * next_uniform(key)  # how far the goal is
    for k in range(CANDIDATES):
        cos, sin = cosine_sine(_PI * (_TWO * next_uniform(key) - _ONE))
        far = candidates[k, 2]
        candidates[k, 2] = min(max(candidates[k, 0] + far * cos, c.low), c.high)
        candidates[k, 3] = min(max(candidates[k, 1] + far * sin, c.low), c.high)
    return _PI * (_TWO * next_uniform(key) - _ONE)


@compiled
def distance(x, y, other_x, other_y):
    """m."""
    x, y = x - other_x, y - other_y
    return np.sqrt(x * x + y * y)


@compiled
def touches_wall(map_data, x, y, radius, b):
    """Whether the closed circle around (x, y) meets a wall cell; radius < 1 m."""
    column, row = int(np.floor(x)), int(np.floor(y))
    for cell_x in range(max(column - 1, 0), min(column + 2, map_data.shape[1])):
        for cell_y in range(max(row - 1, 0), min(row + 2, map_data.shape[1])):
            if map_data[b, cell_y, cell_x]:
                centre_x, centre_y = F(cell_x) + _HALF, F(cell_y) + _HALF
                nearest_x = min(max(x - centre_x, -_HALF), _HALF) + centre_x
                nearest_y = min(max(y - centre_y, -_HALF), _HALF) + centre_y
                if distance(nearest_x, nearest_y, x, y) <= radius:
                    return True
    return False


# ---- env.py: reset ----


@compiled
def next_episode(
    first,
    last,
    c,
    rng,
    cursor,
    next_map,
    next_robots,
    placed,
    rounds,
    pos,
    theta,
    vel,
    goal,
    map_data,
    goal_reached,
    crashed,
    done,
    beams,
    start,
):
    """Start the episode behind rng in environments `first` to `last - 1`: whether there is one for everybody.

    Args:
        rng, cursor, next_map, next_robots, placed, rounds: the level of this episode, moved on to that of the next.
        pos, theta, vel, goal, map_data, goal_reached, crashed, done, beams, start: State fields, the result.
    """
    lidar, heading, candidates = room(map_data.shape[1]), np.empty((2, pos.shape[1]), F), np.empty((CANDIDATES, 4), F)
    are_complete = True
    for b in range(first, last):
        are_complete &= finish(c, candidates, cursor, next_map, next_robots, placed, rounds, b)
        _episode(next_map, next_robots, pos, theta, heading, vel, goal, map_data, start, b)
        read(lidar, pos, heading, map_data, beams, b)
        goal_reached[b] = crashed[b] = done[b] = False
        following(rng, b)
        new_draft(rng, cursor, next_map, next_robots, placed, rounds, b)
    return are_complete


@compiled
def _episode(next_map, next_robots, pos, theta, heading, vel, goal, map_data, start, b):
    """Robots and map as the level has them."""
    for y in range(map_data.shape[1]):
        for x in range(map_data.shape[1]):
            map_data[b, y, x] = next_map[b, y, x]
    for i in range(pos.shape[1]):
        for axis in range(3):
            start[b, i, axis] = next_robots[b, i, axis]
        pos[b, i, 0], pos[b, i, 1], theta[b, i] = next_robots[b, i, 0], next_robots[b, i, 1], next_robots[b, i, 2]
        goal[b, i, 0], goal[b, i, 1] = next_robots[b, i, 3], next_robots[b, i, 4]
        vel[b, i, 0] = vel[b, i, 1] = _ZERO
        heading[0, i], heading[1, i] = cosine_sine(theta[b, i])


# ---- env.py: step ----


@compiled
def advance(
    first,
    last,
    c,
    actions,
    step,
    goal,
    map_data,
    pos,
    theta,
    vel,
    goal_reached,
    crashed,
    done,
    cursor,
    next_map,
    next_robots,
    placed,
    rounds,
    beams,
    reward,
    terminated,
    events,
):
    """One step of environments `first` to `last - 1`.

    Args:
        actions, step, goal, map_data: float32 [B, N, 2], and of the State.
        pos, theta, vel, goal_reached, crashed, done: of the State, change.
        cursor, next_map, next_robots, placed, rounds: the level of the next episode, changes.
        beams, reward, terminated: uint8 [B, N, V], float32 [B, N], bool [B], the result.
        events: int64 [5, B], the result: robots by EVENTS; whether all have arrived and none has crashed.
    """
    N = pos.shape[1]
    lidar, heading, candidates = room(map_data.shape[1]), np.empty((2, N), F), np.empty((CANDIDATES, 4), F)
    had_arrived, had_crashed, was_left = np.empty(N, np.bool_), np.empty(N, np.bool_), np.empty(N, F)
    for b in range(first, last):
        was_done, is_time_up = done[b], step[b] + 1 >= c.max_steps
        for i in range(N):
            was_left[i] = distance(pos[b, i, 0], pos[b, i, 1], goal[b, i, 0], goal[b, i, 1])
            had_arrived[i], had_crashed[i] = goal_reached[b, i], crashed[b, i]
        _drive(c, actions, pos, theta, vel, crashed, done, b)
        for i in range(N):
            heading[0, i], heading[1, i] = cosine_sine(theta[b, i])
        arrivals = wall_hits = robot_hits = num_ended = num_good = 0
        for i in range(N):
            hits_wall, hits_robot = _hits_wall(pos, heading, map_data, b, i), _hits_robot(pos, heading, b, i)
            is_in_goal = distance(pos[b, i, 0], pos[b, i, 1], goal[b, i, 0], goal[b, i, 1]) <= c.goal_radius
            if not was_done:
                goal_reached[b, i] |= is_in_goal
                crashed[b, i] |= hits_wall or hits_robot
                arrivals += goal_reached[b, i] and not had_arrived[i]
                wall_hits += hits_wall and not had_crashed[i]
                robot_hits += hits_robot and not had_crashed[i]
            num_ended += goal_reached[b, i] or crashed[b, i]
            num_good += goal_reached[b, i] and not crashed[b, i]
        late = N - num_ended if is_time_up else 0
        events[0, b], events[1, b], events[2, b], events[3, b] = arrivals, wall_hits, robot_hits, late
        events[4, b] = num_good == N
        terminated[b] = num_ended == N
        done[b] = terminated[b] or is_time_up
        read(lidar, pos, heading, map_data, beams, b)
        next_round(c, candidates, cursor, next_map, next_robots, placed, rounds, b)
        before = was_done, was_left, had_arrived, had_crashed
        _reward(c, before, pos, goal, goal_reached, crashed, beams, reward, b)


@compiled
def _drive(c, actions, pos, theta, vel, crashed, done, b):
    """Accelerate, move along the old heading, then turn. Crashed robots, and all after the end, stand still."""
    for i in range(pos.shape[1]):
        if crashed[b, i] or done[b]:
            vel[b, i, 0] = vel[b, i, 1] = _ZERO
            continue
        v, w = vel[b, i, 0], vel[b, i, 1]
        v = v + min(max((actions[b, i, 0] - v) / _DT, -c.max_v_acc), c.max_v_acc) * _DT
        w = w + min(max((actions[b, i, 1] - w) / _DT, -c.max_w_acc), c.max_w_acc) * _DT
        v, w = min(max(v, _ZERO), c.max_v), min(max(w, -c.max_w), c.max_w)
        cos, sin = cosine_sine(theta[b, i])
        pos[b, i, 0] += v * _DT * cos
        pos[b, i, 1] += v * _DT * sin
        theta[b, i] = _wrap(theta[b, i] + w * _DT)
        vel[b, i, 0], vel[b, i, 1] = v, w


@compiled
def _hits_wall(pos, heading, map_data, b, i):
    """The robot's square meets a wall cell: neither the cell's axes nor the robot's part them."""
    cos, sin = heading[0, i], heading[1, i]
    extent = abs(cos) + abs(sin)  # of a square of half side 1, turned
    column, row = int(np.floor(pos[b, i, 0])), int(np.floor(pos[b, i, 1]))
    for cell_x in range(max(column - 1, 0), min(column + 2, map_data.shape[1])):
        for cell_y in range(max(row - 1, 0), min(row + 2, map_data.shape[1])):
            if map_data[b, cell_y, cell_x]:
                x, y = F(cell_x) + _HALF - pos[b, i, 0], F(cell_y) + _HALF - pos[b, i, 1]
                by_cell = max(abs(x), abs(y)) <= _HALF + _HALF_SIDE * extent
                by_robot = max(abs(x * cos + y * sin), abs(y * cos - x * sin)) <= _HALF_SIDE + _HALF * extent
                if by_cell and by_robot:
                    return True
    return False


@compiled
def _hits_robot(pos, heading, b, i):
    """The square of robot i and another's meet: no axis of either parts them."""
    cos, sin = heading[0], heading[1]
    for j in range(len(cos)):
        if j == i:
            continue
        x, y = pos[b, j, 0] - pos[b, i, 0], pos[b, j, 1] - pos[b, i, 1]
        turn_cos, turn_sin = cos[i] * cos[j] + sin[i] * sin[j], cos[i] * sin[j] - sin[i] * cos[j]
        reach = _HALF_SIDE * (_ONE + abs(turn_cos) + abs(turn_sin))
        by_own = max(abs(x * cos[i] + y * sin[i]), abs(y * cos[i] - x * sin[i])) <= reach
        if by_own and max(abs(x * cos[j] + y * sin[j]), abs(y * cos[j] - x * sin[j])) <= reach:
            return True
    return False


@compiled
def _reward(c, before, pos, goal, goal_reached, crashed, beams, reward, b):
    """Paid for the step, of which `before` holds done, and [N] each: way to the goal, goal_reached, crashed."""
    was_done, was_left, had_arrived, had_crashed = before
    N = len(was_left)
    total = 0.0  # double: as in the tensors
    for i in range(N):
        own = _ZERO
        if not had_arrived[i]:
            left = distance(pos[b, i, 0], pos[b, i, 1], goal[b, i, 0], goal[b, i, 1])
            own = c.goal_rew if goal_reached[b, i] else c.weight_g * (was_left[i] - left)
        nearest = np.uint8(LAST)
        for v in range(NUM_BEAMS):
            nearest = min(nearest, beams[b, i, v])
        own = own + c.coll_rew * F(crashed[b, i] and not had_crashed[i])
        own = own + c.dt_rew * F(not (had_arrived[i] or had_crashed[i]))
        own = own + c.lidar_rew * F(nearest <= c.closest)
        reward[b, i] = _ZERO if was_done else own
        total += reward[b, i]
    mean = F(total / N)
    for i in range(N):
        reward[b, i] = c.rew_lambda * reward[b, i] + c.team_share * mean


# ---- env.py: what is seen ----


@compiled
def perceive(first, last, c, step, pos, theta, vel, goal, map_data, goal_reached, crashed, beams, obs, state):
    """What environments `first` to `last - 1` show.

    Args:
        step, pos, theta, vel, goal, map_data, goal_reached, crashed, beams: of the State.
        obs, state: float32 [B, N, O], [B, S], the result.
    """
    for b in range(first, last):
        observation(c, pos, theta, vel, goal, beams, obs, b)
        global_state(c, step, pos, theta, vel, goal, map_data, goal_reached, crashed, state, b)


@compiled
def observation(c, pos, theta, vel, goal, beams, obs, b):
    for i in range(pos.shape[1]):
        for v in range(NUM_BEAMS):
            obs[b, i, v] = F(beams[b, i, v]) * _RANGE_STEP - _HALF
        x, y = goal[b, i, 0] - pos[b, i, 0], goal[b, i, 1] - pos[b, i, 1]
        obs[b, i, NUM_BEAMS] = vel[b, i, 0] / c.max_v - _HALF
        obs[b, i, NUM_BEAMS + 1] = vel[b, i, 1] / c.max_w
        obs[b, i, NUM_BEAMS + 2] = min(np.sqrt(x * x + y * y), _MAX_RANGE) / _MAX_RANGE - _HALF
        obs[b, i, NUM_BEAMS + 3] = _wrap(angle_of(y, x) - theta[b, i]) / _PI
        obs[b, i, NUM_BEAMS + 4] = c.seen_share


@compiled
def global_state(c, step, pos, theta, vel, goal, map_data, goal_reached, crashed, state, b):
    N, inner = pos.shape[1], map_data.shape[1] - 2
    place = inner * inner
    for y in range(inner):
        for x in range(inner):
            state[b, y * inner + x] = map_data[b, y + 1, x + 1]
    for i in range(N):
        for axis in range(2):
            state[b, place + 2 * i + axis] = pos[b, i, axis] / c.map_size - _HALF
            state[b, place + 3 * N + 2 * i + axis] = goal[b, i, axis] / c.map_size - _HALF
        state[b, place + 2 * N + i] = theta[b, i] / _PI - _HALF
        state[b, place + 5 * N + 2 * i] = vel[b, i, 0] / c.max_v - _HALF
        state[b, place + 5 * N + 2 * i + 1] = vel[b, i, 1] / c.max_w - _HALF
        state[b, place + 7 * N + 1 + i] = goal_reached[b, i]
        state[b, place + 8 * N + 1 + i] = crashed[b, i]
    state[b, place + 7 * N] = F(step[b]) / F(c.max_steps) - _HALF


@compiled
def _wrap(angle):
    """An angle of less than three half turns either way, in [-pi, pi)."""
    angle = angle - _FULL_TURN if angle >= _PI else angle
    return angle + _FULL_TURN if angle < -_PI else angle


# ---- one environment ----


class JaxNavLoops(LoopEngine):
    """The loops above on one environment, as a batch of one."""

    def start(self) -> None:
        rng, *draft = self.of_batch("rng", *DRAFT)
        new_draft(rng, *draft, 0)
        if not next_episode(0, 1, self.rules.numbers, rng, *draft, *self.of_batch(*STARTED)):
            raise no_places(self.rules.num_agents, self.rules.options.map_size)

    def transition(self, actions: np.ndarray):
        num_agents = self.rules.num_agents
        reward, terminated = np.empty((1, num_agents), F), np.empty(1, np.bool_)
        events = np.empty((len(EVENTS) + 1, 1), np.int64)
        fields = self.of_batch("step", "goal", "map_data", *CHANGED, "beams")
        advance(0, 1, self.rules.numbers, actions[None], *fields, reward, terminated, events)
        *counts, success = events[:, 0].tolist()
        rates = [F(count) / F(num_agents) for count in counts]
        metrics = dict(zip(EVENTS, counts)) | dict(zip(self.rules.metrics, [*rates, F(success)]))
        return reward[0], bool(terminated[0]), metrics

    def perceive(self):
        rules = self.rules
        obs = np.empty((1, rules.num_agents, NUM_BEAMS + len(OWN)), F)
        state = np.empty((1, rules.state_size), F)
        perceive(0, 1, rules.numbers, *self.of_batch(*SEEN), obs, state)
        return obs[0], state[0], None
