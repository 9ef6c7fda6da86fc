"""Pictures of AeroJAX: left the fight seen from the south, aslant; right the map from above with cones and locks."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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

PANEL = 512  # pixels: width and height of each of the two panels
HEADER = 30  # pixels above them for the text
SCOPE = 140  # pixels: width and height of one ally's observation
SCALE = 2  # drawn this much larger, then reduced: smooth edges
TRAIL_STEPS = 50  # 10 s
PAPER, GRID, INK, LOST = (247, 246, 242), (214, 212, 205), (52, 54, 62), (150, 150, 150)
TEAMS = ((0, 114, 178), (213, 94, 0))  # allies blue, enemies vermilion
LOCK = (190, 30, 45)
SLANT = 0.42  # how much of north-south distance the left panel shows as height on the paper


def draw(env, state, index: int, trail: Sequence) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of an AeroState; `trail` holds earlier states, oldest first."""
    image = Image.new("RGB", (2 * PANEL * SCALE, (PANEL + HEADER) * SCALE), PAPER)
    pen = ImageDraw.Draw(image, "RGBA")
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

    side, top = _SidePanel(c.half_size, c.ceiling), _MapPanel(c.half_size)
    side.frame(pen)
    top.frame(pen)
    for i, colour in enumerate(colours):
        if is_alive[i]:
            top.cone(pen, position[i], nose[i], c.view_h, view_ranges[i], (*colour, 16))
            top.cone(pen, position[i], nose[i], c.weapon_h, c.weapon_range, (*colour, 44))
    for panel in (side, top):
        for i in range(len(colours)):
            _path(pen, [panel.point(p) for p in paths[:, i]], colours[i] if is_alive[i] else LOST)
        for i in np.argsort(-position[:, 1]):  # the nearest last
            panel.ground_line(pen, position[i])
            if is_alive[i]:
                _aircraft(pen, panel.point(position[i]), panel.along(position[i], nose[i]), colours[i], health[i])
            else:
                _cross(pen, panel.point(position[i]))
    for i, j in zip(*np.nonzero(lock_steps)):
        width = (1 + 3 * min(lock_steps[i, j] / c.lock_max, 1)) * SCALE
        pen.line((*top.point(position[i]), *top.point(position[j])), fill=(*LOCK, 190), width=round(width))

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
    pen.text((10 * SCALE, 6 * SCALE), "    ".join(text), fill=INK, font=ImageFont.load_default(15 * SCALE))
    return np.asarray(image.resize((2 * PANEL, PANEL + HEADER), Image.LANCZOS))


def draw_scope(env, obs) -> np.ndarray:
    """uint8 [140, 140, 3]: one ally's observation as a scope, its nose up, as far as the radio reaches.

    Enemies and allies that it knows of; lines to those that it locks; a red rim while under fire; grey when lost.
    """
    c, size = env.options, SCOPE * SCALE
    image = Image.new("RGB", (size, size), PAPER)
    pen = ImageDraw.Draw(image, "RGBA")
    ego = Ego(*obs[:EGO_FEATURES].tolist())
    entities = [Entity(*row) for row in obs[EGO_FEATURES:].view(-1, ENTITY_FEATURES).tolist()]
    is_alive, is_under_fire = ego.alive > 0, ego.under_fire > 0
    middle, radius = size / 2, size / 2 - 3 * SCALE
    pixels_per_m = radius / max(c.comm_range, c.view_range)
    rim = LOCK if is_under_fire else INK if is_alive else LOST

    def circle(reach_m, **style):
        r = reach_m * pixels_per_m
        pen.ellipse((middle - r, middle - r, middle + r, middle + r), **style)

    circle(c.comm_range, fill=(238, 237, 231) if is_alive else (226, 225, 221))
    if is_alive:
        view_range = c.view_range * TYPES[round(TYPE_UNIT * ego.type)].view_range2 ** 0.5
        for reach_m, angle_deg, strength in ((view_range, c.view_h, 30), (c.weapon_range, c.weapon_h, 60)):
            r = reach_m * pixels_per_m
            box = (middle - r, middle - r, middle + r, middle + r)
            pen.pieslice(box, -90 - angle_deg / 2, -90 + angle_deg / 2, fill=(*TEAMS[0], strength))
        for other in entities:
            if other.team == 0:  # an empty slot
                continue
            x, y = (metres * c.view_range * pixels_per_m for metres in (other.right, -other.ahead))
            inside = min(1.0, 0.97 * radius / max(math.hypot(x, y), 1e-9))  # at the rim if further
            point = (middle + x * inside, middle + y * inside)
            if other.lock > 0:
                pen.line((middle, middle, *point), fill=(*LOCK, 190), width=round((1 + 2 * other.lock) * SCALE))
            course = math.atan2(-other.flies_ahead, other.flies_right)
            _arrowhead(pen, point, course, TEAMS[0] if other.team > 0 else TEAMS[1], 7 * SCALE)
        _arrowhead(pen, (middle, middle), -math.pi / 2, INK, 7 * SCALE)
        height, speed = ego.height * c.ceiling, ego.speed * SPEED_UNIT
        text, font = f"{height:.0f} m   {speed:.0f} m/s", ImageFont.load_default(11 * SCALE)
        pen.text((middle, size - 20 * SCALE), text, fill=INK, font=font, anchor="mm")
    else:
        _cross(pen, (middle, middle))
    circle(c.comm_range, outline=rim, width=(3 if is_under_fire else 1) * SCALE)
    return np.asarray(image.resize((SCOPE, SCOPE), Image.LANCZOS))


class _MapPanel:
    """From above, north up."""

    def __init__(self, half_size: float):
        self.half = half_size
        self.pixels_per_m = PANEL * SCALE * 0.92 / (2 * half_size)
        self.centre = (1.5 * PANEL * SCALE, (HEADER + PANEL / 2) * SCALE)

    def point(self, p) -> tuple[float, float]:
        return self.centre[0] + p[0] * self.pixels_per_m, self.centre[1] - p[1] * self.pixels_per_m

    def along(self, p, nose) -> float:
        """Angle of the nose on the paper, rad."""
        return math.atan2(-nose[1], nose[0])

    def frame(self, pen) -> None:
        for k in range(-4, 5):
            at = k * self.half / 4
            pen.line((*self.point((at, -self.half)), *self.point((at, self.half))), fill=GRID, width=SCALE)
            pen.line((*self.point((-self.half, at)), *self.point((self.half, at))), fill=GRID, width=SCALE)
        corners = (*self.point((-self.half, self.half)), *self.point((self.half, -self.half)))
        pen.rectangle(corners, outline=INK, width=2 * SCALE)

    def cone(self, pen, p, nose, angle_deg: float, reach_m: float, colour) -> None:
        """The cone's level section, along the nose's level direction."""
        x, y = self.point(p)
        radius, middle = reach_m * self.pixels_per_m, math.degrees(self.along(p, nose))
        box = (x - radius, y - radius, x + radius, y + radius)
        pen.pieslice(box, middle - angle_deg / 2, middle + angle_deg / 2, fill=colour)

    def ground_line(self, pen, p) -> None:
        pass


class _SidePanel:
    """From the south and above: east to the right, height up, the far north a little higher on the paper."""

    def __init__(self, half_size: float, ceiling: float):
        self.half, self.ceiling = half_size, ceiling
        depth = 2 * half_size * SLANT
        self.pixels_per_m = PANEL * SCALE * 0.92 / max(2 * half_size + depth * 0.35, ceiling + depth)
        self.shear = 0.35 * SLANT
        height = (ceiling + depth) * self.pixels_per_m
        self.left = (PANEL * SCALE - (2 * half_size * (1 + self.shear)) * self.pixels_per_m) / 2
        self.bottom = HEADER * SCALE + (PANEL * SCALE + height) / 2

    def point(self, p) -> tuple[float, float]:
        east, north = p[0] + self.half, p[1] + self.half
        x = self.left + (east + self.shear * north) * self.pixels_per_m
        return x, self.bottom - (p[2] + SLANT * north) * self.pixels_per_m

    def along(self, p, nose) -> float:
        here, there = self.point(p), self.point(p + 100 * nose)
        return math.atan2(there[1] - here[1], there[0] - here[0])

    def frame(self, pen) -> None:
        half, ceiling = self.half, self.ceiling
        floor = [(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)]
        pen.polygon([self.point(p) for p in floor], fill=(232, 236, 226), outline=GRID)
        for k in range(-3, 4):
            at = k * half / 4
            pen.line((*self.point((at, -half, 0)), *self.point((at, half, 0))), fill=GRID, width=SCALE)
            pen.line((*self.point((-half, at, 0)), *self.point((half, at, 0))), fill=GRID, width=SCALE)
        roof = [(x, y, ceiling) for x, y, _ in floor]
        for corners in (floor, roof):
            for p, q in zip(corners, corners[1:] + corners[:1]):
                pen.line((*self.point(p), *self.point(q)), fill=INK if corners is floor else GRID, width=SCALE)
        for p, q in zip(floor, roof):
            pen.line((*self.point(p), *self.point(q)), fill=GRID, width=SCALE)

    def ground_line(self, pen, p) -> None:
        foot = self.point((p[0], p[1], 0))
        pen.line((*self.point(p), *foot), fill=(*INK, 70), width=SCALE)
        r = 2 * SCALE
        pen.ellipse((foot[0] - r, foot[1] - r / 2, foot[0] + r, foot[1] + r / 2), fill=(*INK, 90))


def _path(pen, points: list, colour) -> None:
    """Fading towards the past."""
    for k, (p, q) in enumerate(zip(points, points[1:])):
        pen.line((*p, *q), fill=(*colour, round(30 + 170 * (k + 1) / len(points))), width=2 * SCALE)


def _arrowhead(pen, point, angle_rad: float, colour, size: float) -> None:
    x, y = point
    shape = ((1.0, 0.0), (-0.8, 0.62), (-0.4, 0.0), (-0.8, -0.62))
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    outline = [(x + size * (a * cos - b * sin), y + size * (a * sin + b * cos)) for a, b in shape]
    pen.polygon(outline, fill=colour, outline=(255, 255, 255))


def _aircraft(pen, point, angle_rad: float, colour, health: float) -> None:
    x, y = point
    _arrowhead(pen, point, angle_rad, colour, 10 * SCALE)
    width, above = 9 * SCALE, 15 * SCALE
    pen.rectangle((x - width, y - above, x + width, y - above + 3 * SCALE), fill=(*INK, 60))
    pen.rectangle((x - width, y - above, x - width + 2 * width * health, y - above + 3 * SCALE), fill=(*colour, 255))


def _cross(pen, point) -> None:
    x, y = point
    r = 6 * SCALE
    for sign in (1, -1):
        pen.line((x - r, y - sign * r, x + r, y + sign * r), fill=LOST, width=3 * SCALE)
