"""What AeroJAX is: its tasks, options, State, constants, and the names of the numbers that are seen.

A is the number of all aircraft: N allies first, then E enemies. Rules: `env.py`.
"""

from collections import namedtuple
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from torch_mars.envs.core import State
from torch_mars.envs.options import at_least, between, more_than, one_of, shown, within_reason

TITLE = "AeroJAX"
TASKS = {f"aerojax_{n}v{n}": {"n_allies": n, "n_enemies": n} for n in (2, 3, 5, 8)}
_MIXED = (1, 2, 3, 4, 0)  # Gigastep's special 5 against 5
EXTENSIONS = {
    "aerojax_5v5_mixed": {"n_allies": 5, "n_enemies": 5, "ally_types": _MIXED, "enemy_types": _MIXED},
    "aerojax_16v16": {"n_allies": 16, "n_enemies": 16, "half_size": 3000.0},
}
MOST_OF_A_TEAM = 128  # aircraft: each observes all others, 1.5 MB of numbers in every environment
MOST_SUBSTEPS = 1000
BUDGET = 3  # the paper trains three times as long here as elsewhere

FLYING, SHOT, GROUND, LEFT, COLLIDED = range(5)  # status
CAUSES = (SHOT, GROUND, LEFT, COLLIDED)  # of a loss; its count in `info`, by team:
ALLY_LOSSES = ("losses", "ally_ground", "ally_bounds", "ally_collided")
ENEMY_LOSSES = ("kills", "enemy_ground", "enemy_bounds", "enemy_collided")


class Type(NamedTuple):
    """What distinguishes a type of aircraft."""

    thrust: float  # factor
    max_health: float
    view_range2: float  # factor on the square of the view range


TYPES = {  # Gigastep's
    0: Type(1.0, 1.0, 1.0),  # default
    1: Type(1.0, 3.0, 1.0),  # more health
    2: Type(1.0, 0.5, 2.0),  # more range
    3: Type(2.0, 1.0, 1.0),  # faster
    4: Type(0.8, 3.0, 1.0),  # super
}

# ---- what is seen: explained in env.py ----

EGO = (
    "alive", "health", "height", "speed", "nose_up", "right_wing_down", "upright", "alpha", "climb", "throttle", "load",
    "wall_ahead", "wall_right", "wall_behind", "wall_left", "time_left", "under_fire", "type",
)  # fmt: skip
ENTITY = (
    "team", "ahead", "right", "up", "distance", "flies_ahead", "flies_right", "flies_up", "faster", "health", "type",
    "lock",
)  # fmt: skip
AIRCRAFT = (
    "alive", "x", "y", "z", "velocity_x", "velocity_y", "velocity_z", "lift_x", "lift_y", "lift_z", "alpha", "throttle",
    "health", "lock", "type",
)  # fmt: skip
EGO_FEATURES, ENTITY_FEATURES, AIRCRAFT_FEATURES = len(EGO), len(ENTITY), len(AIRCRAFT)
Ego, Entity, Aircraft = namedtuple("Ego", EGO), namedtuple("Entity", ENTITY), namedtuple("Aircraft", AIRCRAFT)
SPEED_UNIT = 100  # m/s: speeds are seen in it
TYPE_UNIT = len(TYPES) - 1


@dataclass(frozen=True)
class Options:
    """What `make` may override; SI units, angles in degrees."""

    n_allies: int = 8  # N
    n_enemies: int = 8  # E
    ally_types: tuple[int, ...] | None = None  # one of each ally, 0 to 4; None: all 0
    enemy_types: tuple[int, ...] | None = None  # likewise
    opponent: str = "heuristic"  # or "passive": never has a target
    opponent_skill: float = 0.8  # of the scripted pilots, 0 to 1
    max_steps: int = 500
    # arena and time
    dt: float = 0.2  # s, of a step
    substeps: int = 4  # of flight in a step
    half_size: float = 2000.0  # m, from the middle to a side
    ceiling: float = 3000.0  # m
    # aircraft
    rho: float = 1.0  # kg/m^3, constant with height on purpose
    mass: float = 4000.0  # kg
    wing_area: float = 26.0  # m^2
    cl_alpha: float = 4.0  # 1/rad, slope of lift
    cd0: float = 0.04  # drag without lift
    k_ind: float = 0.10  # induced drag, by the square of lift
    max_thrust: float = 24000.0  # N
    alpha_min: float = -8.0  # angle of attack
    alpha_max: float = 24.0
    alpha_stall: float = 16.0  # where lift is largest
    n_min: float = -3.0  # load: lift in weights
    n_max: float = 6.0
    alpha_rate: float = 30.0  # deg/s
    roll_rate: float = 120.0  # deg/s
    throttle_tau: float = 1.0  # s, the engine's lag
    v_floor: float = 20.0  # m/s, the lowest speed
    v0: float = 120.0  # m/s, at the start
    # sensors and weapons; cone angles are totals
    view_range: float = 1200.0  # m
    view_h: float = 135.0  # width of the cone of view
    view_v: float = 90.0  # its height
    close_range: float = 400.0  # m, within which everything is detected
    weapon_range: float = 600.0  # m
    weapon_h: float = 60.0
    weapon_v: float = 40.0
    comm_range: float = 2000.0  # m, of the radio
    collision_range: float = 15.0  # m
    lock_min: int = 3  # steps of lock without damage
    lock_max: int = 10  # steps, the longest lock that counts
    damage_rate: float = 0.2  # 1/s per step of lock above lock_min
    heal_rate: float = 0.01  # 1/s
    # reward
    reward_kill: float = 1.0  # of all enemies
    reward_death: float = 0.25  # of all allies, taken away
    reward_win: float = 1.0
    # observation
    max_enemy_slots: int = 8  # enemies that are seen at most
    max_ally_slots: int = 7

    def __post_init__(self):
        within_reason(self)
        at_least(self, 1, "n_allies", "n_enemies", "max_steps", "substeps")
        between(self, 1, MOST_OF_A_TEAM, "n_allies", "n_enemies")
        between(self, 1, MOST_SUBSTEPS, "substeps")
        at_least(self, 0.01, "v_floor")
        more_than(self, 0, "dt", "half_size", "ceiling", "rho", "mass", "wing_area", "v0", "view_range")
        more_than(self, 0, "throttle_tau", "lock_max", "cl_alpha", "max_thrust", "n_max", "alpha_max")
        at_least(self, 0, "weapon_range", "comm_range", "max_enemy_slots", "max_ally_slots")
        one_of(self, ("opponent",), "heuristic", "passive")
        between(self, 0, 1, "opponent_skill")
        for name, count in (("ally_types", self.n_allies), ("enemy_types", self.n_enemies)):
            types = getattr(self, name)
            if types is not None and (len(types) != count or any(kind not in TYPES for kind in types)):
                raise ValueError(f"{name} is {shown(types)}; it must be {count} numbers from 0 to {len(TYPES) - 1}")
        for name in ("view_h", "view_v", "weapon_h", "weapon_v"):
            if not 0 < getattr(self, name) < 180:  # their tangents: not even the ends
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be more than 0 and less than 180 degrees")
        if self.alpha_min > self.alpha_max:
            raise ValueError(f"alpha_min is {self.alpha_min}; it must be at most alpha_max, which is {self.alpha_max}")


@dataclass
class AeroState(State):
    """World axes x, y horizontal, z up, origin on the ground at the centre. Pairs [i, j]: i observes or shoots j."""

    position: Tensor  # float32 [B, A, 3], m
    velocity: Tensor  # float32 [B, A, 3], m/s
    lift_dir: Tensor  # float32 [B, A, 3], unit vector across the velocity
    alpha: Tensor  # float32 [B, A], angle of attack, rad
    throttle: Tensor  # float32 [B, A], after the engine's lag
    health: Tensor  # float32 [B, A], 0 when lost
    status: Tensor  # int64 [B, A]: 0 flying, 1 shot, 2 ground, 3 left, 4 collided
    lock_steps: Tensor  # int64 [B, A, A]: consecutive steps that j has been in i's weapon cone
    detected: Tensor  # bool [B, A, A]: i's own sensors have j
    under_fire: Tensor  # bool [B, A]: took damage in the latest step


class Geometry(NamedTuple):
    """Every aircraft j as seen from the observers i: [B, I, A]."""

    distance: Tensor  # m
    ahead: Tensor  # m along i's nose
    right: Tensor  # m along i's right
    up: Tensor  # m along i's up
