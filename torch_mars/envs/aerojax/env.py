"""AeroJAX: two teams of aircraft, learners (allies) against scripted pilots (enemies). Sparse shared reward.

Designed after the paper's appendix C.1 on the base of Gigastep (Lechner et al. 2023), with real flight dynamics. A is
the number of all aircraft: N allies first, then E enemies. "ego" is the observing aircraft.

| | shape | values |
|---|---|---|
| observation | [N, 18 + 12 (min(E,8) + min(N-1,7))] | ego; enemies it knows of; allies: nearest first; 0 if dead |
| global state | [15 A + 1] | every aircraft's position, velocity, attitude, health; time left |
| action | [N, 3] in [-1, 1] | aileron (+ rolls right), elevator (+ raises alpha), throttle (-1 idle, +1 full) |
| mask | | none |
| active | [N] | who flies: neither shot down, nor at the ground, nor out of the arena, nor collided |
| reward | [N] | the team's: 1.0 x enemies lost / E - 0.25 x allies lost / N + 1.0 if won |
| end | | one team is gone; or the time limit, 500 steps of 0.2 s |
| start | | level in trim at 120 m/s, 1000 to 2000 m high, up to 30 degrees off course; full health; one lane each |
| tasks | | `aerojax_<N>v<N>`: N against N, all of type 0; `_mixed`: of types 1, 2, 3, 4, 0; `_16v16`: a larger arena |

        +---------------------------+
        |             |             |    The arena from above, north at the top: 4000 m square, 3000 m high. Allies (a)
        |       a>    |      <e     |    start in the west flying east, enemies (e) in the east flying west, each 400 to
        |  a>         |   <e        |    1600 m from the middle line.
        |             |             |
        +---------------------------+

Won: at an end, more allies than enemies are alive. Aircraft are lost by being shot down, at the ground, by leaving the
arena, or in a collision.

Nobody pulls a trigger. An aircraft detects an enemy that is closer than 400 m, or in its weapon cone (60 x 40 degrees,
600 m), or by chance in its cone of view (135 x 90 degrees, 1200 m; more probably the nearer). The lock on it counts the
steps in a row in which it is detected in the weapon cone. A lock of L steps takes 0.04 (min(L, 10) - 3) of the enemy's
health in a step, if that is above 0: one aircraft shoots down another of health 1 in 10 unbroken steps. Everybody heals
by 0.002 a step.

Types: 0 the usual one, health 1; 1 health 3; 2 health 0.5, sees 1.4 times as far; 3 twice the thrust; 4 health 3, 0.8
of the thrust.

What an agent sees of itself (`EGO`); angles enter as components of unit vectors:

| `alive` | 1 |
| `health` | of the type's most |
| `height` | of the ceiling (3000 m) |
| `speed` | in 100 m/s |
| `nose_up` | sine of the pitch |
| `right_wing_down` | cosine of the pitch x sine of the roll |
| `upright` | cosine of the pitch x cosine of the roll |
| `alpha` | angle of attack, of the largest (24 degrees) |
| `climb` | sine of the flight-path angle |
| `throttle` | 0 to 1, after the engine's lag |
| `load` | lift, in the largest allowed (6 weights) |
| `wall_ahead`, `wall_right`, `wall_behind`, `wall_left` | along the level heading, in half sizes (2000 m), at most 2 |
| `time_left` | 1 at the start, 0 at the time limit |
| `under_fire` | 1: took damage in the latest step |
| `type` | its number / 4 |

Of each aircraft that it knows of (`ENTITY`): enemies that it or an ally in radio range detects, allies in radio range.
Empty slots are 0.

| `team` | 1 ally, -1 enemy, 0 empty |
| `ahead`, `right`, `up` | position along the ego's own axes, in 1200 m (the view range) |
| `distance` | in 1200 m |
| `flies_ahead`, `flies_right`, `flies_up` | its flight direction along the ego's own axes, a unit vector |
| `faster` | its speed less the ego's, in 100 m/s |
| `health` | of its type's most |
| `type` | its number / 4 |
| `lock` | the ego's lock on it, of the longest that counts (10 steps), at most 1 |

The global state, of each aircraft in turn (`AIRCRAFT`), 0 if dead; at its end the time left:

| `alive` | 1 |
| `x`, `y` | east, north of the middle, in half sizes (2000 m) |
| `z` | height, of the ceiling (3000 m) |
| `velocity_x`, `velocity_y`, `velocity_z` | in 100 m/s |
| `lift_x`, `lift_y`, `lift_z` | where lift pulls, a unit vector |
| `alpha` | angle of attack, of the largest (24 degrees) |
| `throttle` | 0 to 1, after the engine's lag |
| `health` | of the type's most |
| `lock` | its longest lock on anybody, of the longest that counts (10 steps), at most 1 |
| `type` | its number / 4 |

`info` of every step: `won`, `lost`, `draw` (only at an end), `allies_alive`, `enemies_alive`, and the losses of this
step: `kills` (enemies shot), `losses` (allies shot), `ally_ground`, `ally_bounds`, `ally_collided`, and the same of
enemies. Sums over the episode: `episode_kills`, `episode_losses`, ..., and `episode_hits`, the damage dealt to enemies.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.aerojax import loops, opponents, physics, vectors
from torch_mars.envs.aerojax.physics import (
    GRAVITY,
    Motion,
    acceleration_of_one,
    body_axes,
    lift_coefficient,
    motion_of,
    velocity_of,
)
from torch_mars.envs.aerojax.task import (
    AIRCRAFT_FEATURES,
    ALLY_LOSSES,
    CAUSES,
    COLLIDED,
    EGO_FEATURES,
    ENEMY_LOSSES,
    ENTITY_FEATURES,
    FLYING,
    GROUND,
    LEFT,
    SHOT,
    SPEED_UNIT,
    TYPE_UNIT,
    TYPES,
    AeroState,
    Aircraft,
    Ego,
    Entity,
    Geometry,
    Options,
)
from torch_mars.envs.aerojax.vectors import Vector
from torch_mars.envs.constants import scalar
from torch_mars.envs.core import FURTHEST, BatchedEnv, arrays, check_index, own_copies, runs_in_loops
from torch_mars.envs.engine import Engine
from torch_mars.envs.given import check_values
from torch_mars.envs.options import LARGEST, shown
from torch_mars.envs.pool import in_blocks
from torch_mars.envs.rng import uniform

MOVED = tuple(name for name in loops.Situation._fields if name != "step")  # the fields that a step changes
SLOWEST = 1e-3  # m/s, in a State: below it there is no direction


class Sight(NamedTuple):
    """What is worked out once for the observations and the global state."""

    motion: Motion
    is_alive: Tensor  # bool [B, A]
    position: Tensor  # [3, B, A], in half sizes, height of the ceiling
    pace: Tensor  # [B, A], speed in 100 m/s
    alpha: Tensor  # [B, A], of the largest
    health: Tensor  # [B, A], of the type's most
    lock: Tensor  # [B, A, A], of the longest that counts, at most 1
    time_left: Tensor  # [B, 1]


class AeroJAX(BatchedEnv):
    Options = Options
    metrics = {
        **dict.fromkeys(("won", "lost", "draw", "allies_alive", "enemies_alive"), "last"),
        **{f"episode_{name}": "sum" for name in ("kills", *ALLY_LOSSES, *ENEMY_LOSSES[1:], "hits")},
    }
    headline = "won"
    takes_any_action = True  # nan is 0, infinite ones are the largest

    def setup(self) -> None:
        c = self.options
        self.num_agents, self.num_enemies = c.n_allies, c.n_enemies
        self.num_aircraft = c.n_allies + c.n_enemies
        self.max_steps = c.max_steps
        self.enemy_slots, self.ally_slots = min(c.n_enemies, c.max_enemy_slots), min(c.n_allies - 1, c.max_ally_slots)
        size = EGO_FEATURES + ENTITY_FEATURES * (self.enemy_slots + self.ally_slots)
        state_size = AIRCRAFT_FEATURES * self.num_aircraft + 1
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.state_space = gymnasium.spaces.Box(-np.inf, np.inf, (state_size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self._set_teams()
        self._set_space()
        self._set_starts()
        of_types = self._numbers_of([*(c.ally_types or [0] * c.n_allies), *(c.enemy_types or [0] * c.n_enemies)])
        for name, values in of_types.items():
            setattr(self, f"_{name}", self._constant(values))
        self._kind, self._ones = self._types / TYPE_UNIT, torch.ones_like(self._types)
        self.numbers = loops.constants(c, self.enemy_slots, self.ally_slots), loops.fleet_of(**of_types)
        self._block = loops.environments_at_once(self.num_aircraft)

    def _set_teams(self) -> None:
        """Which aircraft are of which side."""
        n, e, A = self.num_agents, self.num_enemies, self.num_aircraft
        self._allies, self._enemies = slice(0, n), slice(n, A)
        is_ally = torch.arange(A, device=self.device) < n
        self._is_hostile = is_ally[:, None] != is_ally
        self._is_other = ~torch.eye(A, dtype=torch.bool, device=self.device)
        self._statuses = torch.arange(1 + len(CAUSES), device=self.device)
        self._lanes = [(-1, i, n) for i in range(n)] + [(1, i, e) for i in range(e)]  # side, lane, how many
        self._team = self._constant([1.0] * n + [-1.0] * e)

    def _set_space(self) -> None:
        """The arena and the sensors' cones."""
        c = self.options
        self._extent = self._constant([c.half_size, c.half_size, c.ceiling]).view(3, 1, 1)
        self._least = self._constant([-c.half_size, -c.half_size, -math.inf]).view(3, 1, 1)
        self._east = self._constant([1.0, 0.0]).view(2, 1, 1)
        # tangents of half the total angles: of the weapon's cone, then of the view's
        across, above = (
            [math.tan(math.radians(angle / 2)) for angle in angles]
            for angles in ((c.weapon_h, c.view_h), (c.weapon_v, c.view_v))
        )
        self._across, self._above = (self._constant(tangents).view(2, 1, 1, 1) for tangents in (across, above))

    def _set_starts(self) -> None:
        """What numbers in [0, 1) mean at a start: x, y, z in m and the course in rad, least and range [4, A] each."""
        c, scale = self.options, self.options.half_size / 2000
        least = [
            (side * 400 * scale, (-1600 + 3200 * (lane + 0.1) / size) * scale, 1000.0, -math.pi / 6)
            for side, lane, size in self._lanes
        ]
        span = [(side * 1200 * scale, 3200 * 0.8 / size * scale, 1000.0, math.pi / 3) for side, _, size in self._lanes]
        self._start_least, self._start_range = self._constant(least).T, self._constant(span).T
        self._start_speed = self._constant([(-side * c.v0, c.v0, 0.0) for side, _, _ in self._lanes])
        self._up = self._constant([0.0, 0.0, 1.0])

    def _numbers_of(self, types: list[int]) -> dict[str, list[float]]:
        """What differs between the aircraft by their types, [A] each."""
        c = self.options
        kinds = [TYPES[kind] for kind in types]
        trims = [physics.trim(kind.thrust, c) for kind in kinds]
        return {
            "types": types,
            "max_thrust": [kind.thrust * c.max_thrust for kind in kinds],
            "max_health": [kind.max_health for kind in kinds],
            "view_range2": [kind.view_range2 * c.view_range**2 for kind in kinds],
            "trim_alpha": [alpha for alpha, _ in trims],
            "trim_throttle": [throttle for _, throttle in trims],
        }

    def _constant(self, values: Sequence) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    def admitted(self, state: AeroState, given: Collection[str]) -> AeroState:
        """Within what float32 can compute with; those who fly without moving have no direction."""
        places, others, parts = (-FURTHEST, FURTHEST), (-LARGEST, LARGEST), (-2, 2)
        check_values(
            state, given, position=places, velocity=others, lift_dir=parts, alpha=others, throttle=others, health=others
        )
        if (is_still := vectors.length(vectors.split(state.velocity)) < SLOWEST).any():
            b, i = is_still.nonzero()[0].tolist()
            velocity = state.velocity[b, i].tolist()
            raise ValueError(f"velocity holds {velocity}, which has no direction; it must be {SLOWEST} m/s or more")
        return state

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> AeroState:
        """Allies in the west flying east, enemies in the east flying west, each in a lane of its own."""
        if runs_in_loops(rng):
            return self._initial_state_in_loops(rng)
        A, count = self.num_aircraft, rng.shape[0]
        draws, rng = uniform(rng, 4 * A)
        starts = torch.addcmul(self._start_least, draws.view(count, 4, A), self._start_range)
        course = starts[:, 3]
        status = torch.zeros(count, A, dtype=torch.int64, device=rng.device)
        pairs = torch.zeros(count, A, A, dtype=torch.int64, device=rng.device)
        state = AeroState(
            **self.episode_start(rng),
            position=starts[:, :3].mT.contiguous(),
            velocity=torch.stack([course.cos(), course.sin(), course], -1) * self._start_speed,
            lift_dir=self._up.repeat(count, A, 1),
            alpha=self._trim_alpha.repeat(count, 1),
            throttle=self._trim_throttle.repeat(count, 1),
            health=self._max_health.repeat(count, 1),
            status=status,
            lock_steps=pairs,
            detected=pairs > 0,
            under_fire=status > 0,
        )
        detected, _, rng = self._sense(rng, self._geometry(motion_of(state)), state.status == FLYING)
        return dataclasses.replace(state, rng=rng, detected=detected)

    def _initial_state_in_loops(self, rng: Tensor) -> AeroState:
        """The same, faster on CPU."""
        count, A = rng.shape[0], self.num_aircraft

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(count, *shape, dtype=dtype, device=rng.device)

        state = AeroState(
            **self.episode_start(rng.clone()),
            position=empty(A, 3),
            velocity=empty(A, 3),
            lift_dir=empty(A, 3),
            alpha=empty(A),
            throttle=empty(A),
            health=empty(A),
            status=empty(A, dtype=torch.int64),
            lock_steps=empty(A, A, dtype=torch.int64),
            detected=empty(A, A, dtype=torch.bool),
            under_fire=empty(A, dtype=torch.bool),
        )
        self._in_loops(loops.initial_state, state)
        return state

    # ---- step ----

    def transition(self, state: AeroState, actions: Tensor):
        if runs_in_loops(actions):
            return self._transition_in_loops(state, actions)
        was_alive = state.status == FLYING
        before = motion_of(state)
        controls = self._decide(before, was_alive, actions)
        after, is_grounded = self._fly(before, was_alive, controls)
        status = self._lose(state.status, was_alive, before, after, is_grounded)

        # sense, lock, damage at the new positions
        is_alive = status == FLYING
        detected, in_weapon, rng = self._sense(state.rng, self._geometry(after), is_alive)
        lock_steps = (state.lock_steps + 1) * (detected & in_weapon)
        damage = self._damage(lock_steps)
        taken = damage.sum(1)
        health = self._health(state.health, taken)
        status = torch.where(is_alive & (health <= 0), scalar(SHOT, status), status)

        # those lost in this step are out of every lock and every sensor
        is_alive = status == FLYING
        both_alive = is_alive[:, :, None] & is_alive[:, None]
        velocity = torch.where(was_alive, velocity_of(after), vectors.split(state.velocity))
        state = dataclasses.replace(
            state,
            rng=rng,
            position=vectors.join(after.position),
            velocity=vectors.join(velocity),
            lift_dir=vectors.join(after.lift_dir),
            alpha=after.alpha,
            throttle=after.throttle,
            health=health * is_alive,
            status=status,
            lock_steps=lock_steps * both_alive,
            detected=detected & both_alive,
            under_fire=(taken > 0) & is_alive,
        )
        reward, terminated, metrics = self._outcome(state, was_alive)
        metrics["episode_hits"] = damage[:, self._allies].sum((1, 2))
        return state, reward, terminated, metrics

    def _transition_in_loops(self, state: AeroState, actions: Tensor):
        """The same, faster on CPU."""
        state = dataclasses.replace(state, **own_copies(state, MOVED))
        results = loops.new_results(len(state.step), self.num_agents)
        self._in_loops(loops.transition, state, *arrays(actions), results)
        reward, terminated, ends, counts, hits = map(torch.from_numpy, results)
        return state, reward, terminated, loops.metrics(ends, counts, hits)

    def _in_loops(self, loop: Callable, state: AeroState, *arguments: Any) -> None:
        """Run over all environments of a State, in blocks side by side."""
        fields = loops.Situation(*arrays(*(getattr(state, name) for name in loops.Situation._fields)))
        in_blocks(loop, len(state.step), self._block, *self.numbers, fields, *arguments)

    def _decide(self, motion: Motion, is_alive: Tensor, actions: Tensor) -> Tensor:
        """The controls of all [B, A, 3]: the opponents decide before anybody moves."""
        c = self.options
        enemies = opponents.fly_team(
            motion, is_alive, self._enemies, self._allies, c.opponent_skill, c.opponent == "passive", c
        )
        return torch.cat([actions.nan_to_num(0.0, 1.0, -1.0).clamp(-1, 1), enemies], 1)

    def _fly(self, before: Motion, was_alive: Tensor, controls: Tensor) -> tuple[Motion, Tensor]:
        """How all move after the step, and who touched the ground; the dead keep every field."""
        moved, is_grounded = physics.fly(before, controls, self._max_thrust, self.options)
        return Motion(*(torch.where(was_alive, new, old) for new, old in zip(moved, before))), is_grounded

    def _lose(self, status: Tensor, was_alive: Tensor, before: Motion, after: Motion, is_grounded: Tensor) -> Tensor:
        """Status after losses at the ground, then by leaving the arena, then by collisions of those still alive."""
        fate = torch.where(self._is_outside(after.position), scalar(LEFT, status), status)
        fate = torch.where(is_grounded, scalar(GROUND, status), fate)
        status = torch.where(was_alive, fate, status)
        is_struck = self._collides(before.position, after.position, status == FLYING)
        return torch.where(is_struck, scalar(COLLIDED, status), status)

    def _is_outside(self, position: Vector) -> Tensor:
        return (position.clamp(self._least, self._extent) != position).any(0)

    def _collides(self, before: Vector, after: Vector, is_alive: Tensor) -> Tensor:
        """bool [B, A]: passed another living aircraft too closely on the straight lines of this step."""
        r0 = _pairs(before)
        dr = _pairs(after) - r0
        tau = (-vectors.dot(r0, dr) / vectors.dot(dr, dr).clamp(min=1e-9)).clamp(0, 1)
        is_close = vectors.length(torch.addcmul(r0, tau, dr)) < self.options.collision_range
        return (is_close & self._is_other & is_alive[:, :, None] & is_alive[:, None]).any(2)

    def _geometry(self, motion: Motion, observers: slice = slice(None)) -> Geometry:
        return self._seen_along(body_axes(motion)[..., observers], motion, observers)

    def _seen_along(self, axes: Tensor, motion: Motion, observers: slice) -> Geometry:
        """`axes`: the observers' own, [3, 3, B, I]."""
        r = _pairs(motion.position, observers)
        return Geometry(vectors.length(r), *vectors.along(r, axes))

    def _in_cone(self, g: Geometry) -> Tensor:
        """bool [2, B, A, A]: j lies in i's cone of the weapon, of the view; the azimuth is that of the level part."""
        level = torch.hypot(g.ahead, g.right)
        is_across = g.right.abs() <= g.ahead * self._across
        return (g.ahead > 0) & is_across & (g.up.abs() <= level * self._above)

    def _sense(self, rng: Tensor, g: Geometry, is_alive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Who detects whom, who has whom in its weapon cone [B, A, A], and the keys moved on."""
        c, A = self.options, self.num_aircraft
        draws, rng = uniform(rng, A * A)
        in_weapon, in_view = self._in_cone(g)
        in_weapon = in_weapon & (g.distance <= c.weapon_range)
        share2 = g.distance.square() / self._view_range2[:, None]
        in_view = in_view & (draws.view(-1, A, A) < 1 - share2)
        sees = (g.distance < c.close_range) | in_view | (in_weapon & (share2 <= 1))
        return sees & self._is_hostile & is_alive[:, :, None] & is_alive[:, None], in_weapon, rng

    def _damage(self, lock_steps: Tensor) -> Tensor:
        """What i's lock does to j's health in this step: [B, A, A]."""
        c = self.options
        return (lock_steps.clamp(c.lock_min, c.lock_max) - c.lock_min).float() * (c.damage_rate * c.dt)

    def _health(self, health: Tensor, taken: Tensor) -> Tensor:
        """Less what was taken, a little healed."""
        c = self.options
        return (health - taken + c.heal_rate * c.dt).minimum(self._max_health).clamp(min=0)

    def _outcome(self, state: AeroState, was_alive: Tensor):
        """Reward [B, N], terminated [B], and what happened in this step."""
        c = self.options
        # those lost before this step count nowhere
        status = torch.where(was_alive, state.status, scalar(-1, state.status))
        is_of = status[:, None] == self._statuses[:, None]  # [B, statuses, A]
        allies, enemies = (is_of[..., team].sum(2) for team in (self._allies, self._enemies))
        allies_alive, enemies_alive = allies[:, FLYING], enemies[:, FLYING]
        lost_allies, lost_enemies = allies[:, 1:].sum(1), enemies[:, 1:].sum(1)
        terminated = (allies_alive == 0) | (enemies_alive == 0)
        is_over = terminated | (state.step + 1 >= self.max_steps)
        won = is_over & (allies_alive > enemies_alive)
        team_reward = (
            c.reward_kill / c.n_enemies * lost_enemies.float()
            - c.reward_death / c.n_allies * lost_allies.float()
            + c.reward_win * won.float()
        )
        losses = {}
        for cause, of_enemies, of_allies in zip(CAUSES, ENEMY_LOSSES, ALLY_LOSSES):
            losses[of_enemies], losses[of_allies] = enemies[:, cause], allies[:, cause]
        metrics = {
            "won": won,
            "lost": is_over & (allies_alive < enemies_alive),
            "draw": is_over & (allies_alive == enemies_alive),
            "allies_alive": allies_alive,
            "enemies_alive": enemies_alive,
            **losses,
            **{f"episode_{name}": value for name, value in losses.items()},
        }
        return team_reward[:, None].repeat(1, self.num_agents), terminated, metrics

    def heuristic_actions(self, skill: float | None = None) -> Tensor:
        """What the scripted pilot would do now for the allies: float32 [B, N, 3]. `skill`: None is the opponents'.

        Raises:
            RuntimeError: before the first `reset`. ValueError: the skill is no number from 0 to 1.
        """
        if self.state is None:
            raise RuntimeError("heuristic_actions() before reset(): call reset() first")
        skill = self.options.opponent_skill if skill is None else skill
        if isinstance(skill, bool) or not isinstance(skill, numbers.Real) or not 0 <= skill <= 1:
            raise ValueError(f"skill is {shown(skill)}; it must be a number from 0 to 1")
        motion, is_alive = motion_of(self.state), self.state.status == FLYING
        return opponents.fly_team(motion, is_alive, self._allies, self._enemies, skill, False, self.options)

    # ---- what is seen ----

    def perceive(self, state: AeroState) -> tuple[Tensor, Tensor, None]:
        if runs_in_loops(state.step):
            count = len(state.step)
            obs = state.alpha.new_empty(count, self.num_agents, self.observation_size)
            global_state = state.alpha.new_empty(count, self.state_size)
            self._in_loops(loops.perceive, state, *arrays(obs, global_state))
            return obs, global_state, None
        sight = self._sight(state)
        return self._observation(state, sight), self._global_state(state, sight), None

    def _sight(self, state: AeroState) -> Sight:
        c, motion = self.options, motion_of(state)
        return Sight(
            motion=motion,
            is_alive=state.status == FLYING,
            position=motion.position / self._extent,
            pace=motion.speed / SPEED_UNIT,
            alpha=motion.alpha / math.radians(c.alpha_max),
            health=state.health / self._max_health,
            lock=(state.lock_steps.float() / c.lock_max).clamp(max=1),
            time_left=self._time_left(state)[:, None],
        )

    def observation(self, state: AeroState) -> Tensor:
        return self.perceive(state)[0]

    def global_state(self, state: AeroState) -> Tensor:
        return self.perceive(state)[1]

    def is_active(self, state: AeroState) -> Tensor:
        """The allies that fly; the lost of every cause do not act."""
        return state.status[:, self._allies] == FLYING

    def _time_left(self, state: AeroState) -> Tensor:
        return 1 - state.step.float() / self.max_steps

    def _observation(self, state: AeroState, sight: Sight) -> Tensor:
        """[B, N, O]: ego, enemies known, allies known; zeros for a dead ally."""
        own, foes = self._allies, self._enemies
        axes = body_axes(sight.motion)[..., own]
        g = self._seen_along(axes, sight.motion, own)
        # the unknown are behind all others
        key = torch.where(self._knows(state, sight, g), g.distance, scalar(math.inf, g.distance))
        enemy_key, enemies = _nearest(key[..., foes], self.enemy_slots)
        ally_key, allies = _nearest(key[..., own], self.ally_slots)
        order = torch.cat([enemies + self.num_agents, allies], 2)[..., None].expand(-1, -1, -1, ENTITY_FEATURES)
        is_known = torch.cat([enemy_key, ally_key], 2) < math.inf
        entities = self._entities(axes, sight, g).gather(2, order) * is_known[..., None]
        return torch.cat([self._ego(state, axes, sight), entities.flatten(2)], 2)

    def _knows(self, state: AeroState, sight: Sight, g: Geometry) -> Tensor:
        """bool [B, N, A]: allies in radio range, and the enemies that one of them or the ego itself detects."""
        own, foes = self._allies, self._enemies
        linked = (g.distance[..., own] <= self.options.comm_range) & self._is_other[own, own]
        linked = linked & sight.is_alive[:, None, own]
        detected = state.detected[:, own, foes]
        told = (linked.float() @ detected.float()) > 0  # by an ally in range, one hop
        knows = (detected | told) & sight.is_alive[:, None, foes]
        return torch.cat([linked, knows], 2) & sight.is_alive[:, own, None]

    def _ego(self, state: AeroState, axes: Tensor, sight: Sight) -> Tensor:
        """Every ally's own numbers, zeros for a dead one: [B, N, 18]."""
        c, own, motion = self.options, self._allies, sight.motion
        load = acceleration_of_one(motion.speed, c) * lift_coefficient(motion.alpha, c)
        nose, right, up = axes
        wall_ahead, wall_right, wall_behind, wall_left = self._walls(sight)
        features = Ego(
            alive=self._ones[own],
            health=sight.health[:, own],
            height=sight.position[2, :, own],
            speed=sight.pace[:, own],
            nose_up=nose[2],
            right_wing_down=-right[2],
            upright=up[2],
            alpha=sight.alpha[:, own],
            climb=motion.direction[2, :, own],
            throttle=motion.throttle[:, own],
            load=load[:, own] / (GRAVITY * c.n_max),
            wall_ahead=wall_ahead,
            wall_right=wall_right,
            wall_behind=wall_behind,
            wall_left=wall_left,
            time_left=sight.time_left,
            under_fire=state.under_fire[:, own].float(),
            type=self._kind[own],
        )
        return _stacked(features, nose[2]) * sight.is_alive[:, own, None]

    def _walls(self, sight: Sight) -> Tensor:
        """Distance to the side walls ahead, right, behind, left along the level heading, in half sizes, at most 2.

        [4, B, N]
        """
        level = sight.motion.direction[:2, :, self._allies]
        size = vectors.length(level)
        heading = torch.where(size > 1e-6, level / size.clamp(min=1e-6), self._east)
        (x, y), (minus_x, minus_y) = heading, -heading
        directions = torch.stack([x, y, y, minus_x, minus_x, minus_y, minus_y, x]).unflatten(0, (4, 2))
        return self._ray(sight.motion.position[:2, :, self._allies], directions)

    def _ray(self, position: Tensor, direction: Tensor) -> Tensor:
        """From level positions in m along level unit directions to the first wall; lengths in half sizes.

        Components x, y are the third axis from the end: [2, B, N], [4, 2, B, N] -> [4, B, N].
        """
        half = self.options.half_size  # metres until the end: beside a wall, few digits of 1 - x / half are left
        to_walls = (half - position * direction.sign()) / direction.abs().clamp(min=1e-6)
        return (to_walls.amin(1) / half).clamp(0, 2)

    def _entities(self, axes: Tensor, sight: Sight, g: Geometry) -> Tensor:
        """Every aircraft as each ally sees it: [B, N, A, 12]."""
        own, motion = self._allies, sight.motion
        distance, ahead, right, up = torch.stack(g) / self.options.view_range
        flies_ahead, flies_right, flies_up = vectors.along(motion.direction[:, :, None], axes)
        features = Entity(
            team=self._team,
            ahead=ahead,
            right=right,
            up=up,
            distance=distance,
            flies_ahead=flies_ahead,
            flies_right=flies_right,
            flies_up=flies_up,
            faster=sight.pace[:, None] - sight.pace[:, own, None],
            health=sight.health[:, None],
            type=self._kind,
            lock=sight.lock[:, own],
        )
        return _stacked(features, ahead)

    def _global_state(self, state: AeroState, sight: Sight) -> Tensor:
        """[B, S]: 15 numbers for every aircraft, zeros for a dead one; then the time left."""
        aircraft = self._aircraft(state, sight) * sight.is_alive[..., None]
        return torch.cat([aircraft.flatten(1), sight.time_left], 1)

    def _aircraft(self, state: AeroState, sight: Sight) -> Tensor:
        """[B, A, 15]"""
        motion = sight.motion
        x, y, z = sight.position
        velocity_x, velocity_y, velocity_z = (state.velocity / SPEED_UNIT).unbind(2)
        lift_x, lift_y, lift_z = motion.lift_dir
        features = Aircraft(
            alive=self._ones,
            x=x,
            y=y,
            z=z,
            velocity_x=velocity_x,
            velocity_y=velocity_y,
            velocity_z=velocity_z,
            lift_x=lift_x,
            lift_y=lift_y,
            lift_z=lift_z,
            alpha=sight.alpha,
            throttle=motion.throttle,
            health=sight.health,
            lock=sight.lock.amax(2),
            type=self._kind,
        )
        return _stacked(features, x)

    # ---- the rules as loops, pictures ----

    def engine(self) -> Engine:
        return loops.AeroJAXLoops(self)

    def draw(self, state: AeroState, index: int = 0, trail: Sequence[AeroState] = ()) -> np.ndarray:
        """With the paths flown in the `trail`."""
        from torch_mars.envs.aerojax.draw import draw

        check_index(state, index)
        return draw(self, state, index, trail)

    def draw_observation(self, obs: Tensor, agent: int) -> np.ndarray:
        from torch_mars.envs.aerojax.draw import draw_scope

        return draw_scope(self, obs)


def _pairs(a: Vector, observers: slice = slice(None)) -> Vector:
    """a_j - a_i: [3, B, I, A]."""
    return a[..., None, :] - a[..., observers, None]


def _stacked(features: Sequence[Tensor], like: Tensor) -> Tensor:
    """Features [...] or less as the last axis, [..., F], of the shape of one of them."""
    return torch.stack([feature.expand_as(like) for feature in features], -1)


def _nearest(key: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """The least keys [B, N, J] and whose they are: [B, N, slots]."""
    keys, order = key.sort(stable=True, dim=2)
    return keys[..., :slots], order[..., :slots]


ENVIRONMENT = AeroJAX
