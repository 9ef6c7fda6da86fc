"""Pictures of AeroJAX: left the fight seen from the south, aslant; right the map from above with cones and locks."""

import math
from collections.abc import Sequence

import numpy as np

from torch_mars.envs.aerojax.physics import body_axes, motion_of
from torch_mars.envs.aerojax.task import (
    EGO_FEATURES,
    ENTITY_FEATURES,
    FLYING,
    SPEED_UNIT,
    TYPE_UNIT,
    TYPES,
    Ego,
    Entity,
)
from torch_mars.envs.canvas import ALARM, BLUE, GRID, INK, LOST, VERMILION, Canvas

PANEL = 512  # pixels: width and height of each of the two panels
HEADER = 30  # pixels above them for the text
SCOPE = 140  # pixels: width and height of one ally's observation
SCALE = 2  # drawn this much larger, then reduced
TRAIL_STEPS = 50  # 10 s
GROUND, KNOWN, UNKNOWN = (232, 236, 226), (238, 237, 231), (226, 225, 221)  # KNOWN: within reach of the radio
TEAMS = (BLUE, VERMILION)  # allies, enemies
SLANT = 0.42  # how much of north-south distance the left panel shows as height on the paper
SHEAR = 0.35 * SLANT  # and how much of it to the right


def draw(env, state, index: int, trail: Sequence) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of an AeroState; `trail` holds earlier states, oldest first."""
    c = env.options
    motion = motion_of(state)
    nose = np.stack([component[index].cpu().numpy() for component in body_axes(motion)[0]], 1)
    position = state.position[index].cpu().numpy()
    health = (state.health[index].cpu() / env._max_health.cpu()).numpy()
    is_alive = (state.status[index] == FLYING).cpu().numpy()
    lock_steps = state.lock_steps[index].cpu().numpy()
    view_ranges = env._view_range2.sqrt().tolist()
    colours = [TEAMS[0]] * env.num_agents + [TEAMS[1]] * env.num_enemies
    paths = np.stack([s.position[index].cpu().numpy() for s in [*trail[-TRAIL_STEPS:], state]])  # [T, A, 3]

    canvas = Canvas(2 * PANEL, PANEL + HEADER, scale=SCALE)
    side, top = _side_panel(canvas, c.half_size, c.ceiling), _map_panel(canvas, c.half_size)
    for i in np.flatnonzero(is_alive):  # a cone's level section, along the nose's level direction
        for angle_deg, reach_m, strength in ((c.view_h, view_ranges[i], 16), (c.weapon_h, c.weapon_range, 44)):
            top.pie(position[i], nose[i], math.radians(angle_deg), reach_m, (*colours[i], strength))
    for panel in (side, top):
        for i, colour in enumerate(colours):
            _path(panel, paths[:, i], colour if is_alive[i] else LOST)
        for i in np.argsort(-position[:, 1]):  # the nearest last
            if panel is side:
                _plumb_line(panel, position[i])
            if is_alive[i]:
                _aircraft(panel, position[i], nose[i], colours[i], health[i])
            else:
                panel.cross(position[i], 6 / panel.unit, LOST, 3)
    for i, j in zip(*np.nonzero(lock_steps)):
        top.line(position[[i, j]], (*ALARM, 190), 1 + 3 * min(lock_steps[i, j] / c.lock_max, 1))

    n = env.num_agents
    so_far = {name: float(values[index]) for name, values in env.episode_info(state.step, state.totals).items()}
    text = [
        f"{so_far['episode_length'] * c.dt:.1f} s",
        f"allies {is_alive[:n].sum()} / {n}",
        f"enemies {is_alive[n:].sum()} / {env.num_enemies}",
        f"kills {so_far['episode_kills']:.0f}",
        f"shot down {so_far['episode_losses']:.0f}",
        f"return {so_far['episode_return']:+.2f}",
    ]
    canvas.header("    ".join(text), HEADER, size=15)
    return canvas.finished()


def draw_scope(env, obs) -> np.ndarray:
    """uint8 [140, 140, 3]: one ally's observation as a scope, its nose up, as far as the radio reaches.

    Enemies and allies that it knows of; lines to those that it locks; a red rim while under fire; grey when lost.
    """
    c = env.options
    ego = Ego(*obs[:EGO_FEATURES].tolist())
    entities = [Entity(*row) for row in obs[EGO_FEATURES:].view(-1, ENTITY_FEATURES).tolist()]
    is_alive, is_under_fire = ego.alive > 0, ego.under_fire > 0
    canvas = Canvas(SCOPE, SCOPE, scale=SCALE)
    rim_m, pixels = max(c.comm_range, c.view_range), SCOPE / 2 - 3
    scope = canvas.world((SCOPE / 2, SCOPE / 2), pixels / rim_m)  # right, ahead
    arrow_m = 7 / scope.unit

    scope.disc((0, 0), c.comm_range, KNOWN if is_alive else UNKNOWN)
    if is_alive:
        view_range = c.view_range * TYPES[round(TYPE_UNIT * ego.type)].view_range2 ** 0.5
        for reach_m, angle_deg, strength in ((view_range, c.view_h, 30), (c.weapon_range, c.weapon_h, 60)):
            scope.pie((0, 0), (0, 1), math.radians(angle_deg), reach_m, (*TEAMS[0], strength))
        for other in entities:
            if other.team == 0:  # an empty slot
                continue
            point = c.view_range * np.array([other.right, other.ahead])
            point *= min(1.0, 0.97 * rim_m / max(np.hypot(*point), 1e-9))  # at the rim if further
            if other.lock > 0:
                scope.line([(0, 0), point], (*ALARM, 190), 1 + 2 * other.lock)
            course = (other.flies_right, other.flies_ahead)
            scope.arrowhead(point, course, arrow_m, TEAMS[0] if other.team > 0 else TEAMS[1])
        scope.arrowhead((0, 0), (0, 1), arrow_m, INK)
        height, speed = ego.height * c.ceiling, ego.speed * SPEED_UNIT
        canvas.text((SCOPE / 2, SCOPE - 20), f"{height:.0f} m   {speed:.0f} m/s", INK, 11, "mm")
    else:
        scope.cross((0, 0), 6 / scope.unit, LOST, 3)
    rim = (ALARM, 3) if is_under_fire else (INK if is_alive else LOST, 1)
    scope.disc((0, 0), c.comm_range, None, *rim)
    return canvas.finished()


def _map_panel(canvas: Canvas, half: float) -> Canvas:
    """The right panel with its frame: from above, north up."""
    panel = canvas.world((1.5 * PANEL, HEADER + PANEL / 2), PANEL * 0.92 / (2 * half), [(1, 0), (0, -1), (0, 0)])
    panel.grid((-half, -half), (half, half), half / 4)
    panel.box((-half, -half), (half, half), None, INK, 2)
    return panel


def _side_panel(canvas: Canvas, half: float, ceiling: float) -> Canvas:
    """The left panel with its frame: from the south and above, the far north higher on the paper and further right."""
    width, height = 2 * half * (1 + SHEAR), ceiling + 2 * half * SLANT
    unit = PANEL * 0.92 / max(width, height)
    middle_of_floor = (PANEL / 2, HEADER + (PANEL + height * unit) / 2 - half * SLANT * unit)
    panel = canvas.world(middle_of_floor, unit, [(1, 0), (SHEAR, -SLANT), (0, -1)])
    floor = np.array([(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0), (-half, -half, 0)])
    panel.polygon(floor, GROUND)
    panel.grid((-half, -half), (half, half), half / 4)
    for corner in floor:
        panel.line([corner, corner + (0, 0, ceiling)], GRID)
    panel.line(floor + (0, 0, ceiling), GRID)
    panel.line(floor, INK)
    return panel


def _plumb_line(panel: Canvas, position: np.ndarray) -> None:
    """From an aircraft down to the ground below it."""
    panel.line([position, position * (1, 1, 0)], (*INK, 70))
    panel.disc(position[:2], 1.5 / panel.unit, (*INK, 90))


def _path(panel: Canvas, points: np.ndarray, colour) -> None:
    """Fading towards the past."""
    for k in range(1, len(points)):
        panel.line(points[k - 1 : k + 1], (*colour, round(30 + 170 * k / len(points))), 2)


def _aircraft(panel: Canvas, position, nose, colour, health: float) -> None:
    """Its nose, and above it the health left."""
    panel.arrowhead(position, nose, 10 / panel.unit, colour)
    paper = panel.world(panel.point(position), 1)  # pixels, from the aircraft
    paper.box((-9, 12), (9, 15), (*INK, 60))
    paper.box((-9, 12), (-9 + 18 * health, 15), colour)
