"""What SMAX is made of: its tasks and their options, the State, the numbers of the rules that `env.py` explains.

Source of the numbers: JaxMARL 0.2.0 (`jaxmarl.environments.smax`). Units and scenarios are in `scenarios.py`.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from torch_mars.envs.core import State
from torch_mars.envs.options import at_least, one_of, within_reason
from torch_mars.envs.smax.scenarios import SCENARIOS, UNIT_TYPES

TITLE = "SMAX"
TASKS = {f"smax_{scenario}": {"scenario": scenario} for scenario in SCENARIOS}
EXTENSIONS: dict[str, dict] = {}

STOP = 4  # action; 0 to 3 are up, right, down, left
FIRST_ATTACK = 5  # action FIRST_ATTACK + m attacks enemy m; enemies count the allies backwards
# (x, y) of up, right, down, left, stop: float32, as the original turns its diagonals by an eighth of a turn. The little
# sideways component is what keeps a unit alive that was put on the very edge, where one dies, and walks along it.
_AHEAD, _ASIDE = 1 - 2**-24, 1.26880515e-08
DIRECTIONS = ((-_ASIDE, _AHEAD), (_AHEAD, -_ASIDE), (_ASIDE, -_AHEAD), (-_AHEAD, _ASIDE), (0.0, 0.0))
SUBSTEPS = 8  # of a step
DT = 1 / 16  # seconds of a sub-step
SHOT_JITTER = (-DT, 2 * DT)  # a shot's cooldown is the type's and a uniform number of this range
TOUCHING = 1e-6  # added to distances between units in a push
NO_RADIUS = -1e6  # of the dead in a push: overlaps nobody
FULL_TURN = 2 * math.pi  # rad, of continuous actions

# The features of a unit: as seen by another one; and by itself, or in the global state. One-hot types come last.
_IS_TYPE = tuple(f"is_{kind.name}" for kind in UNIT_TYPES)
OTHER = ("health", "way_x", "way_y", "move_x", "move_y", "attack", "cooldown", *_IS_TYPE)
OWN = ("health", "x", "y", "cooldown", *_IS_TYPE)


@dataclass(frozen=True)
class Options:
    """What `make` may override. Defaults: Mava's settings, then JaxMARL's."""

    scenario: str = "2s3z"  # one of `scenarios.py`: units of both teams
    max_steps: int = 100  # the original's count, which lets an episode last max_steps + 1 steps
    see_enemy_actions: bool = True  # move and attack of enemies, which are 0 otherwise
    walls_cause_death: bool = True  # whoever leaves the field dies
    attack_mode: str = "closest"  # or "random": whom an enemy attacks
    enemy_shoots: bool = True  # False: enemies only walk
    won_battle_bonus: float = 1.0  # reward of a won battle
    use_self_play_reward: bool = False  # only the bonus, and its negative for a lost battle
    action_type: str = "discrete"  # or "continuous"

    def __post_init__(self):
        within_reason(self)
        one_of(self, ("scenario",), *SCENARIOS)
        at_least(self, 1, "max_steps")
        one_of(self, ("attack_mode",), "closest", "random")
        one_of(self, ("action_type",), "discrete", "continuous")


@dataclass
class SMAXState(State):
    """U units, allies first. Attack actions of enemies count the allies backwards: 5 + m attacks ally N - 1 - m."""

    unit_positions: Tensor  # float32 [B, U, 2]: x, y of the centres
    unit_alive: Tensor  # bool [B, U]
    unit_health: Tensor  # float32 [B, U], 0 when dead
    unit_types: Tensor  # int64 [B, U]: index into UNIT_TYPES
    unit_weapon_cooldowns: Tensor  # float32 [B, U]: seconds until the unit may fire; falls below 0 without bound
    prev_movement_actions: Tensor  # float32 [B, U, 2]: direction ordered in the latest step
    prev_attack_actions: Tensor  # int64 [B, U]: attack action (>= 5) of the latest step, else 0
    enemy_default_target: Tensor  # float32 [B, E, 2]: where the script walks with nobody in sight; (0, 0): not set yet
    enemy_last_attacked: Tensor  # int64 [B, E]: m of the script's latest target, -1 for none
