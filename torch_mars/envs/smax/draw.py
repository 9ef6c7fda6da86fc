"""Pictures of SMAX: units by team and type, health bars, shots, on demand reach and sight of the allies."""

import numpy as np

from torch_mars.envs.canvas import ALARM, BLUE, GREEN, INK, LOST, PAPER, VERMILION, WHITE, Canvas, summary
from torch_mars.envs.smax.scenarios import FIELD_SIZE, UNIT_TYPES
from torch_mars.envs.smax.task import FIRST_ATTACK

SIZE = 512  # pixels of the field's side
MARGIN = 8  # around it
HEADER = 26  # above it, for the text
TEAMS = (BLUE, GREEN)  # as in the original
UNDER_FIRE = ((110, 185, 232), (122, 214, 184))
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

    canvas = Canvas(SIZE + 2 * MARGIN, SIZE + MARGIN + HEADER, WHITE)
    field = canvas.world((MARGIN, HEADER + SIZE), SIZE / FIELD_SIZE)
    field.box((0, 0), (FIELD_SIZE, FIELD_SIZE), PAPER, ALARM, 2)  # whose border is deadly
    for i in set(range(env.num_units)) - set(units):
        field.cross(positions[i], 0.22, LOST)
    if show_ranges:
        for i in units[: sum(is_alive[: env.num_agents])]:
            field.disc(positions[i], kinds[i].sight_range, (*TEAMS[0], 8), (*TEAMS[0], 70))
            field.disc(positions[i], kinds[i].attack_range, (*TEAMS[0], 14), (*TEAMS[0], 150))
    for i in units:
        field.disc(positions[i], kinds[i].radius, (UNDER_FIRE if i in under_fire else TEAMS)[team[i]], WHITE)
    for shooter, target in shots:
        field.line([positions[shooter], positions[target]], (*TEAMS[team[shooter]], 190), 1.4)
    for i in units:
        field.text(positions[i], kinds[i].letter, WHITE, 1.35 * kinds[i].radius * field.unit, "mm")
        _bar(field, positions[i], kinds[i].radius, health[i])

    allies = sum(is_alive[: env.num_agents])
    living = f"allies {allies} / {env.num_agents}", f"enemies {len(units) - allies} / {env.num_enemies}"
    canvas.header(summary(state, index, *living), HEADER, size=13)
    return canvas.finished()


def _bar(field: Canvas, position, radius: float, share: float) -> None:
    """The health left, on the upper edge of a unit and as wide as it, so that it hides no neighbour."""
    x, y = position
    left, bottom, top = x - radius, y + radius, y + radius + BAR_HEIGHT
    field.box((left, bottom), (x + radius, top), INK)
    field.box((left, bottom), (left + share * 2 * radius, top), VERMILION)


def _shots(env, state, index: int, kinds) -> list[tuple[int, int]]:
    """(shooter, target) of living units whose target is in reach."""
    attack = state.prev_attack_actions[index]
    target = env.targets(attack[:, None])[:, 0]
    position, is_alive = state.unit_positions[index], state.unit_alive[index]
    distance = (position - position[target]).norm(dim=1).tolist()
    is_shot = (attack >= FIRST_ATTACK) & is_alive & is_alive[target]
    return [(i, int(target[i])) for i, kind in enumerate(kinds) if is_shot[i] and distance[i] < kind.attack_range]
