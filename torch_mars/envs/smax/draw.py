"""Pictures of SMAX: units by team and type, health bars, shots, on demand reach and sight of the allies."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from torch_mars.envs.smax.scenarios import FIELD_SIZE, UNIT_TYPES
from torch_mars.envs.smax.task import FIRST_ATTACK

SIZE = 512  # pixels of the field's side
MARGIN = 8  # around it
HEADER = 26  # above it, for the text
SCALE = 3  # drawn this much larger, then reduced: smooth edges
GROUND, BORDER, INK = (247, 246, 242), (190, 30, 45), (52, 54, 62)
# blue and green as in the original, of Okabe and Ito's colours, which colour-blind people can tell apart
TEAMS = ((0, 114, 178), (0, 158, 115))
UNDER_FIRE = ((110, 185, 232), (122, 214, 184))
HEALTH, LOST_HEALTH, FALLEN = (213, 94, 0), (60, 60, 66), (176, 174, 168)
BAR_HEIGHT = 0.17  # in units of the field


def draw(env, state, index: int, show_ranges: bool) -> np.ndarray:
    """uint8 [H, W, 3]: environment `index` of an SMAXState. Shots are those that the latest orders still allow."""
    positions = state.unit_positions[index].tolist()
    is_alive = state.unit_alive[index].tolist()
    kinds = [UNIT_TYPES[kind] for kind in state.unit_types[index].tolist()]
    health = [h / kind.max_health for h, kind in zip(state.unit_health[index].tolist(), kinds)]
    shots = _shots(env, state, index, kinds)
    under_fire = {target for _, target in shots}
    team = [int(i >= env.num_agents) for i in range(env.num_units)]
    units = [i for i in range(env.num_units) if is_alive[i]]

    image = Image.new("RGB", ((SIZE + 2 * MARGIN) * SCALE, (SIZE + MARGIN + HEADER) * SCALE), (255, 255, 255))
    canvas = _Canvas(ImageDraw.Draw(image, "RGBA"))
    canvas.field()
    for i in set(range(env.num_units)) - set(units):
        canvas.cross(positions[i], 0.22)
    if show_ranges:
        for i in units[: sum(is_alive[: env.num_agents])]:
            canvas.disc(positions[i], kinds[i].sight_range, (*TEAMS[0], 8), (*TEAMS[0], 70))
            canvas.disc(positions[i], kinds[i].attack_range, (*TEAMS[0], 14), (*TEAMS[0], 150))
    for i in units:
        colour = (UNDER_FIRE if i in under_fire else TEAMS)[team[i]]
        canvas.disc(positions[i], kinds[i].radius, colour, (255, 255, 255))
    for shooter, target in shots:
        canvas.shot(positions[shooter], positions[target], TEAMS[team[shooter]])
    for i in units:
        canvas.letter(positions[i], kinds[i].letter, kinds[i].radius)
        canvas.bar(positions[i], kinds[i].radius, health[i])

    allies = sum(is_alive[: env.num_agents])
    text = f"step {int(state.step[index])}   return {float(state.totals[index, 0]):+.2f}   allies {allies} / "
    text += f"{env.num_agents}   enemies {len(units) - allies} / {env.num_enemies}"
    canvas.pen.text((MARGIN * SCALE, 5 * SCALE), text, fill=INK, font=ImageFont.load_default(13 * SCALE))
    return np.asarray(image.resize((image.width // SCALE, image.height // SCALE), Image.LANCZOS))


def _shots(env, state, index: int, kinds) -> list[tuple[int, int]]:
    """(shooter, target) of living units whose target is in reach."""
    attack = state.prev_attack_actions[index]
    target = env.targets(attack[:, None])[:, 0]
    position, is_alive = state.unit_positions[index], state.unit_alive[index]
    distance = (position - position[target]).norm(dim=1).tolist()
    is_shot = (attack >= FIRST_ATTACK) & is_alive & is_alive[target]
    return [(i, int(target[i])) for i, kind in enumerate(kinds) if is_shot[i] and distance[i] < kind.attack_range]


class _Canvas:
    """Draws in units of the field, y up."""

    def __init__(self, pen: ImageDraw.ImageDraw):
        self.pen = pen
        self.pixels = SIZE * SCALE / FIELD_SIZE  # of one unit of length

    def point(self, position) -> tuple[float, float]:
        return MARGIN * SCALE + position[0] * self.pixels, HEADER * SCALE + (FIELD_SIZE - position[1]) * self.pixels

    def field(self) -> None:
        """The field and its deadly border."""
        corners = (*self.point((0, FIELD_SIZE)), *self.point((FIELD_SIZE, 0)))
        self.pen.rectangle(corners, fill=GROUND, outline=BORDER, width=2 * SCALE)

    def disc(self, position, radius: float, colour, outline) -> None:
        x, y = self.point(position)
        r = radius * self.pixels
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=outline, width=SCALE)

    def letter(self, position, letter: str, radius: float) -> None:
        font = ImageFont.load_default(round(1.35 * radius * self.pixels))
        self.pen.text(self.point(position), letter, fill=(255, 255, 255), font=font, anchor="mm")

    def bar(self, position, radius: float, share: float) -> None:
        """The health left, on the upper edge of a unit and as wide as it, so that it hides no neighbour."""
        x, y = self.point(position)
        r, height = radius * self.pixels, BAR_HEIGHT * self.pixels
        self.pen.rectangle((x - r, y - r - height, x + r, y - r), fill=LOST_HEALTH)
        self.pen.rectangle((x - r, y - r - height, x - r + share * 2 * r, y - r), fill=HEALTH)

    def shot(self, start, end, colour) -> None:
        self.pen.line((*self.point(start), *self.point(end)), fill=(*colour, 190), width=round(1.4 * SCALE))

    def cross(self, position, size: float) -> None:
        x, y = self.point(position)
        r = size * self.pixels
        for turn in (-1, 1):
            self.pen.line((x - r, y - turn * r, x + r, y + turn * r), fill=FALLEN, width=SCALE)
