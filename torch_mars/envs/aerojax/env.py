"""AeroJAX: two teams of aircraft, learners (allies) against scripted pilots (enemies). Sparse shared reward.

Designed after the paper's appendix C.1 on the base of Gigastep (Lechner et al. 2023), with real flight dynamics. A is
the number of all aircraft: N allies first, then E enemies. "ego" is the observing aircraft.

| | shape | values |
|---|---|---|
| observation | [N, 18 + 12 (min(E,8) + min(N-1,7))] | ego; enemies it knows of; allies: nearest first; 0 if dead |
| global state | [15 A + 1] | every aircraft's position, velocity, attitude, health; time left |
| action | [N, 3] in [-1, 1] | aileron (+ rolls right), elevator (+ raises alpha), throttle (-1 idle, +1 full) |
| reward | [N] | the team's: 1.0 x enemies lost / E - 0.25 x allies lost / N + 1.0 if won |
| end | | one team is gone; or the time limit, 500 steps of 0.2 s |

Won: at an end, more allies than enemies are alive. Aircraft are lost by being shot down, at the ground, by leaving the
arena, or in a collision.

`info` of every step: `won`, `lost`, `draw` (only at an end), `allies_alive`, `enemies_alive`, and the losses of this
step: `kills` (enemies shot), `losses` (allies shot), `ally_ground`, `ally_bounds`, `ally_collided`, and the same of
enemies. Sums over the episode: `episode_kills`, `episode_losses`, ..., and `episode_hits`, the damage dealt to enemies.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.aerojax import opponents, physics, vectors
from torch_mars.envs.aerojax.physics import GRAVITY, Motion, body_axes, dynamic_pressure, lift_coefficient
from torch_mars.envs.aerojax.vectors import Vector
from torch_mars.envs.core import BatchedEnv, State
from torch_mars.envs.engine import Engine
from torch_mars.envs.rng import uniform

FLYING, SHOT, GROUND, LEFT, COLLIDED = range(5)  # status

# thrust factor, max health, factor on the square of the view range; Gigastep's types
TYPES = {
    0: (1.0, 1.0, 1.0),  # default
    1: (1.0, 3.0, 1.0),  # more health
    2: (1.0, 0.5, 2.0),  # more range
    3: (2.0, 1.0, 1.0),  # faster
    4: (0.8, 3.0, 1.0),  # super
}
EGO_FEATURES, ENTITY_FEATURES, STATE_FEATURES = 18, 12, 15
UNKNOWN, OWN = 1e9, 2e9  # sorting keys behind every distance


@dataclass(frozen=True)
class Options:
    """What `make` may override; SI units, angles in degrees."""

    n_allies: int = 8
    n_enemies: int = 8
    ally_types: tuple[int, ...] | None = None  # None: all 0
    enemy_types: tuple[int, ...] | None = None
    opponent: str = "heuristic"  # or "passive": never has a target
    opponent_skill: float = 0.8
    max_steps: int = 500
    # arena and time
    dt: float = 0.2
    substeps: int = 4
    half_size: float = 2000.0
    ceiling: float = 3000.0
    # aircraft
    rho: float = 1.0  # kg/m^3, constant with height on purpose
    mass: float = 4000.0
    wing_area: float = 26.0
    cl_alpha: float = 4.0  # 1/rad
    cd0: float = 0.04
    k_ind: float = 0.10
    max_thrust: float = 24000.0
    alpha_min: float = -8.0
    alpha_max: float = 24.0
    alpha_stall: float = 16.0
    n_min: float = -3.0
    n_max: float = 6.0
    alpha_rate: float = 30.0  # deg/s
    roll_rate: float = 120.0  # deg/s
    throttle_tau: float = 1.0
    v_floor: float = 20.0
    v0: float = 120.0
    # sensors and weapons; cone angles are totals
    view_range: float = 1200.0
    view_h: float = 135.0
    view_v: float = 90.0
    close_range: float = 400.0
    weapon_range: float = 600.0
    weapon_h: float = 60.0
    weapon_v: float = 40.0
    comm_range: float = 2000.0
    collision_range: float = 15.0
    lock_min: int = 3
    lock_max: int = 10
    damage_rate: float = 0.2  # 1/s per step of lock above lock_min
    heal_rate: float = 0.01  # 1/s
    # reward
    reward_kill: float = 1.0
    reward_death: float = 0.25
    reward_win: float = 1.0
    # observation
    max_enemy_slots: int = 8
    max_ally_slots: int = 7
    # the scripted pilot
    gain_turn: float = 2.0  # 1/s
    gain_roll: float = 0.6
    alpha_frac: float = 0.95
    v_cruise: float = 110.0
    v_min: float = 80.0
    v_max: float = 170.0
    ata_weight: float = 0.5
    threat_range: float = 1.3
    threat_cos: float = math.cos(math.radians(30))
    threat_bonus: float = 1e5
    wall_g: float = 3.0
    wall_react: float = 1.5
    wall_margin: float = 200.0
    floor_soft: float = 300.0
    floor_hard: float = 120.0
    pull_g: float = 3.0
    pull_react: float = 1.0
    roof: float = 250.0
    v_slow: float = 80.0
    dive_max: float = 0.7
    avoid_time: float = 2.0
    avoid_miss: float = 50.0
    avoid_bias: float = 20.0
    avoid_max: float = 1.0

    def __post_init__(self):
        for name in ("n_allies", "n_enemies", "max_steps", "substeps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be 1 or more")
        for name in "dt half_size ceiling rho mass wing_area v0 view_range throttle_tau lock_max".split():
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be more than 0")
        for name in ("weapon_range", "comm_range", "max_enemy_slots", "max_ally_slots"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be 0 or more")
        for name, count in (("ally_types", self.n_allies), ("enemy_types", self.n_enemies)):
            types = getattr(self, name)
            if types is not None and (len(types) != count or any(kind not in TYPES for kind in types)):
                raise ValueError(f"{name} is {types!r}; it must be {count} numbers from 0 to {len(TYPES) - 1}")
        if self.opponent not in ("heuristic", "passive"):
            raise ValueError(f"opponent is {self.opponent!r}; allowed are 'heuristic' and 'passive'")
        if not 0 <= self.opponent_skill <= 1:
            raise ValueError(f"opponent_skill is {self.opponent_skill!r}; it must be between 0 and 1")
        for name in ("view_h", "view_v", "weapon_h", "weapon_v"):
            if not 0 < getattr(self, name) < 180:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be between 0 and 180 degrees")


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


@dataclass
class Geometry:
    """Every aircraft j as seen from the observers i: [B, I, A]."""

    distance: Tensor  # m
    ahead: Tensor  # m along i's nose
    right: Tensor  # m along i's right
    up: Tensor  # m along i's up


class AeroJAX(BatchedEnv):
    Options = Options
    LOSSES = ("kills", "losses", "ally_ground", "ally_bounds", "ally_collided",
              "enemy_ground", "enemy_bounds", "enemy_collided")  # fmt: skip
    metrics = {
        **dict.fromkeys(("won", "lost", "draw", "allies_alive", "enemies_alive"), "last"),
        **{f"episode_{name}": "sum" for name in (*LOSSES, "hits")},
    }

    def setup(self) -> None:
        c = self.options
        self.num_agents, self.num_enemies = c.n_allies, c.n_enemies
        self.num_aircraft = A = c.n_allies + c.n_enemies
        self.max_steps = c.max_steps
        self.enemy_slots, self.ally_slots = min(c.n_enemies, c.max_enemy_slots), min(c.n_allies - 1, c.max_ally_slots)
        size = EGO_FEATURES + ENTITY_FEATURES * (self.enemy_slots + self.ally_slots)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.state_space = gymnasium.spaces.Box(-np.inf, np.inf, (STATE_FEATURES * A + 1,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

        def constant(values):
            return torch.tensor(values, dtype=torch.float32, device=self.device)

        types = [*(c.ally_types or [0] * c.n_allies), *(c.enemy_types or [0] * c.n_enemies)]
        trims = [physics.trim(TYPES[kind][0], c) for kind in types]
        self._types = constant(types)
        self._max_thrust = constant([TYPES[kind][0] * c.max_thrust for kind in types])
        self._max_health = constant([TYPES[kind][1] for kind in types])
        self._view_range2 = constant([TYPES[kind][2] * c.view_range**2 for kind in types])
        self._trim_alpha, self._trim_throttle = constant([a for a, _ in trims]), constant([t for _, t in trims])
        self._allies, self._enemies = slice(0, c.n_allies), slice(c.n_allies, A)
        is_ally = torch.arange(A, device=self.device) < c.n_allies
        self._is_hostile = is_ally[:, None] != is_ally
        self._is_other = ~torch.eye(A, dtype=torch.bool, device=self.device)
        lanes = [*range(c.n_allies), *range(c.n_enemies)]
        sizes = [c.n_allies] * c.n_allies + [c.n_enemies] * c.n_enemies
        self._lane, self._team_size = constant(lanes), constant(sizes)
        self._side = constant([-1.0] * c.n_allies + [1.0] * c.n_enemies)

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> AeroState:
        """Allies in the west flying east, enemies in the east flying west, each in a lane of its own."""
        c, A = self.options, self.num_aircraft
        count = rng.shape[0]
        draws, rng = uniform(rng, 4 * A)
        u1, u2, u3, u4 = draws.view(count, 4, A).unbind(1)
        scale = c.half_size / 2000
        x = self._side * (400 + 1200 * u1) * scale
        y = (-1600 + 3200 * (self._lane + 0.1 + 0.8 * u2) / self._team_size) * scale
        z = 1000 + 1000 * u3
        course = math.pi / 6 * (2 * u4 - 1)
        level = torch.zeros_like(x)
        pairs = torch.zeros(count, A, A, dtype=torch.int64, device=rng.device)
        state = AeroState(
            **self.episode_start(rng),
            position=vectors.join((x, y, z)),
            velocity=vectors.join((c.v0 * -self._side * course.cos(), c.v0 * course.sin(), level)),
            lift_dir=vectors.join((level, level, level + 1)),
            alpha=self._trim_alpha + level,
            throttle=self._trim_throttle + level,
            health=self._max_health + level,
            status=torch.zeros_like(level, dtype=torch.int64),
            lock_steps=pairs,
            detected=pairs > 0,
            under_fire=level > 0,
        )
        detected, _, rng = self._sense(rng, self._geometry(motion_of(state)), state.status == FLYING)
        return dataclasses.replace(state, rng=rng, detected=detected)

    # ---- step ----

    def transition(self, state: AeroState, actions: Tensor):
        c = self.options
        was_alive = state.status == FLYING
        before = motion_of(state)

        # opponents decide before anybody moves, then all fly; the dead keep every field
        enemies = self._pilot(before, was_alive, self._enemies, self._allies, c.opponent_skill, c.opponent == "passive")
        actions = torch.cat([actions.nan_to_num(0.0, 1.0, -1.0).clamp(-1, 1), enemies], 1)
        moved, is_grounded = physics.fly(before, actions, self._max_thrust, c)
        after = self._keep_dead(was_alive, before, moved)

        # losses: ground, then leaving the arena, then collisions among those still alive
        status = torch.where(was_alive & is_grounded, GROUND, state.status)
        status = torch.where((status == FLYING) & self._is_outside(after.position), LEFT, status)
        status = torch.where(self._collides(before.position, after.position, status == FLYING), COLLIDED, status)

        # sense, lock, damage at the new positions
        is_alive = status == FLYING
        geometry = self._geometry(after)
        detected, in_weapon, rng = self._sense(state.rng, geometry, is_alive)
        lock_steps = torch.where(detected & in_weapon, state.lock_steps + 1, 0)
        damage = (lock_steps.clamp(c.lock_min, c.lock_max) - c.lock_min).float() * (c.damage_rate * c.dt)
        taken = damage.sum(1)
        health = (state.health - taken + c.heal_rate * c.dt).minimum(self._max_health).clamp(min=0)
        status = torch.where(is_alive & (health <= 0), SHOT, status)
        is_alive = status == FLYING
        both_alive = is_alive[:, :, None] & is_alive[:, None]

        state = dataclasses.replace(
            state,
            rng=rng,
            position=vectors.join(after.position),
            velocity=torch.where(was_alive[..., None], vectors.join(velocity_of(after)), state.velocity),
            lift_dir=vectors.join(after.lift_dir),
            alpha=after.alpha,
            throttle=after.throttle,
            health=torch.where(is_alive, health, 0.0),
            status=status,
            lock_steps=torch.where(both_alive, lock_steps, 0),
            detected=detected & both_alive,
            under_fire=(taken > 0) & is_alive,
        )
        reward, terminated, metrics = self._outcome(state, was_alive)
        metrics["episode_hits"] = damage[:, self._allies].sum((1, 2))
        return state, reward, terminated, metrics

    def _keep_dead(self, was_alive: Tensor, before: Motion, after: Motion) -> Motion:
        return Motion(
            vectors.where(was_alive, after.position, before.position),
            vectors.where(was_alive, after.direction, before.direction),
            torch.where(was_alive, after.speed, before.speed),
            vectors.where(was_alive, after.lift_dir, before.lift_dir),
            torch.where(was_alive, after.alpha, before.alpha),
            torch.where(was_alive, after.throttle, before.throttle),
        )

    def _is_outside(self, position: Vector) -> Tensor:
        x, y, z = position
        half = self.options.half_size
        return (x.abs() > half) | (y.abs() > half) | (z > self.options.ceiling)

    def _collides(self, before: Vector, after: Vector, is_alive: Tensor) -> Tensor:
        """bool [B, A]: passed another living aircraft too closely on the straight lines of this step."""
        r0, r1 = _pairs(before), _pairs(after)
        dr = vectors.subtract(r1, r0)
        tau = (-vectors.dot(r0, dr) / vectors.dot(dr, dr).clamp(min=1e-9)).clamp(0, 1)
        nearest = vectors.add(r0, vectors.scale(tau, dr))
        is_close = vectors.dot(nearest, nearest) < self.options.collision_range**2
        return (is_close & self._is_other & is_alive[:, :, None] & is_alive[:, None]).any(2)

    def _geometry(self, motion: Motion, observers: slice = slice(None)) -> Geometry:
        r = _pairs(motion.position, observers)
        nose, right, up = (tuple(x[:, observers, None] for x in axis) for axis in body_axes(motion))
        return Geometry(vectors.length(r), vectors.dot(r, nose), vectors.dot(r, right), vectors.dot(r, up))

    def _in_cone(self, g: Geometry, horizontal_deg: float, vertical_deg: float) -> Tensor:
        """bool [B, A, A]: j lies in i's cone of these total angles; the azimuth is that of the level part."""
        across = math.tan(math.radians(horizontal_deg / 2))
        above = math.tan(math.radians(vertical_deg / 2))
        level = (g.ahead.square() + g.right.square()).sqrt()
        return (g.ahead > 0) & (g.right.abs() <= g.ahead * across) & (g.up.abs() <= level * above)

    def _sense(self, rng: Tensor, g: Geometry, is_alive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Who detects whom, who has whom in its weapon cone [B, A, A], and the keys moved on."""
        c, A = self.options, self.num_aircraft
        draws, rng = uniform(rng, A * A)
        in_weapon = self._in_cone(g, c.weapon_h, c.weapon_v) & (g.distance <= c.weapon_range)
        share2 = g.distance.square() / self._view_range2[:, None]
        in_view = self._in_cone(g, c.view_h, c.view_v) & (share2 <= 1) & (draws.view(-1, A, A) < 1 - share2)
        sees = (g.distance < c.close_range) | in_view | (in_weapon & (share2 <= 1))
        return sees & self._is_hostile & is_alive[:, :, None] & is_alive[:, None], in_weapon, rng

    def _outcome(self, state: AeroState, was_alive: Tensor):
        """Reward [B, N], terminated [B], and what happened in this step."""
        c = self.options
        is_alive = state.status == FLYING
        allies_alive = is_alive[:, self._allies].sum(1)
        enemies_alive = is_alive[:, self._enemies].sum(1)
        lost_allies = was_alive[:, self._allies].sum(1) - allies_alive
        lost_enemies = was_alive[:, self._enemies].sum(1) - enemies_alive
        terminated = (allies_alive == 0) | (enemies_alive == 0)
        is_over = terminated | (state.step + 1 >= self.max_steps)
        won = is_over & (allies_alive > enemies_alive)
        team_reward = (
            c.reward_kill * lost_enemies.float() / c.n_enemies
            - c.reward_death * lost_allies.float() / c.n_allies
            + c.reward_win * won.float()
        )
        now_lost = torch.where(was_alive, state.status, FLYING)
        causes = ((SHOT, "kills", "losses"), (GROUND, "enemy_ground", "ally_ground"),
                  (LEFT, "enemy_bounds", "ally_bounds"), (COLLIDED, "enemy_collided", "ally_collided"))  # fmt: skip
        losses = {}
        for cause, of_enemies, of_allies in causes:
            losses[of_enemies] = (now_lost[:, self._enemies] == cause).sum(1)
            losses[of_allies] = (now_lost[:, self._allies] == cause).sum(1)
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

    def _pilot(self, motion: Motion, is_alive: Tensor, own: slice, foes: slice, skill: float, passive: bool) -> Tensor:
        return opponents.fly_team(motion, is_alive, own, foes, skill, passive, self.options)

    def heuristic_actions(self, skill: float | None = None) -> Tensor:
        """What the scripted pilot would do now for the allies: float32 [B, N, 3]. `skill`: None is the opponents'."""
        if self.state is None:
            raise RuntimeError("heuristic_actions() before reset(): call reset() first")
        skill = self.options.opponent_skill if skill is None else skill
        is_alive = self.state.status == FLYING
        return self._pilot(motion_of(self.state), is_alive, self._allies, self._enemies, skill, False)

    # ---- what is seen ----

    def perceive(self, state: AeroState) -> tuple[Tensor, Tensor, None]:
        motion = motion_of(state)
        return self._observation(state, motion), self._global_state(state, motion), None

    def observation(self, state: AeroState) -> Tensor:
        return self._observation(state, motion_of(state))

    def global_state(self, state: AeroState) -> Tensor:
        return self._global_state(state, motion_of(state))

    def _time_left(self, state: AeroState) -> Tensor:
        return 1 - state.step.float() / self.max_steps

    def _observation(self, state: AeroState, motion: Motion) -> Tensor:
        """[B, N, O]: ego, enemies known, allies known; zeros for a dead ally."""
        own, foes = self._allies, self._enemies
        g = self._geometry(motion, own)
        is_alive = state.status == FLYING
        linked = (g.distance[:, :, own] <= self.options.comm_range) & self._is_other[own, own]
        linked = linked & is_alive[:, own, None] & is_alive[:, None, own]
        detected = state.detected[:, own, foes]
        told = (linked.float() @ detected.float()) > 0  # by an ally in range, one hop
        knows = (detected | told) & is_alive[:, own, None] & is_alive[:, None, foes]

        known = torch.cat([linked, knows], 2)  # [B, N, A]
        features = self._entity_features(state, motion, g, known.float())
        key = torch.where(known, g.distance, UNKNOWN)
        ally_key = torch.where(self._is_other[own, own], key[:, :, own], OWN)
        blocks = [
            self._ego(state, motion) * is_alive[:, own, None].float(),
            _nearest(key[:, :, foes], features[:, :, foes], self.enemy_slots),
            _nearest(ally_key, features[:, :, own], self.ally_slots),
        ]
        return torch.cat(blocks, 2)

    def _ego(self, state: AeroState, motion: Motion) -> Tensor:
        """[B, N, 18]"""
        c, own = self.options, self._allies
        nose, right, up = body_axes(motion)
        t = motion.direction
        load = dynamic_pressure(motion.speed, c) * c.wing_area * lift_coefficient(motion.alpha, c)
        features = [
            torch.ones_like(motion.speed),
            state.health / self._max_health,
            motion.position[2] / c.ceiling,
            motion.speed / 100,
            nose[2],
            -right[2],
            up[2],
            motion.alpha / math.radians(c.alpha_max),
            t[2],
            motion.throttle,
            load / (c.mass * GRAVITY * c.n_max),
            *self._walls(motion),
            self._time_left(state)[:, None].expand_as(motion.speed),
            state.under_fire.float(),
            (self._types / 4).expand_as(motion.speed),
        ]
        return torch.stack([feature[:, own] for feature in features], 2)

    def _walls(self, motion: Motion) -> list[Tensor]:
        """Distance to the side walls ahead, right, behind, left along the level heading, in half sizes, at most 2."""
        half = self.options.half_size
        x, y, _ = motion.position
        tx, ty, _ = motion.direction
        level = (tx * tx + ty * ty).sqrt()
        has_heading = level > 1e-6
        hx = torch.where(has_heading, tx / level.clamp(min=1e-6), 1.0)
        hy = torch.where(has_heading, ty / level.clamp(min=1e-6), 0.0)

        def ray(dx: Tensor, dy: Tensor) -> Tensor:
            to_x = (half - x * dx.sign()) / dx.abs().clamp(min=1e-6)
            to_y = (half - y * dy.sign()) / dy.abs().clamp(min=1e-6)
            return (torch.minimum(to_x, to_y) / half).clamp(0, 2)

        return [ray(hx, hy), ray(hy, -hx), ray(-hx, -hy), ray(-hy, hx)]

    def _entity_features(self, state: AeroState, motion: Motion, g: Geometry, known: Tensor) -> Tensor:
        """Every aircraft as each ally sees it, zeros where not `known`: [B, N, A, 12]."""
        c, own = self.options, self._allies
        axes = [tuple(x[:, own, None] for x in axis) for axis in body_axes(motion)]
        t = tuple(x[:, None] for x in motion.direction)
        features = [
            -self._side,  # team: +1 allies, -1 enemies
            g.ahead / c.view_range,
            g.right / c.view_range,
            g.up / c.view_range,
            g.distance / c.view_range,
            *(vectors.dot(t, axis) for axis in axes),
            (motion.speed[:, None] - motion.speed[:, own, None]) / 100,
            (state.health / self._max_health)[:, None],
            self._types / 4,
            (state.lock_steps[:, own].float() / c.lock_max).clamp(max=1),
        ]
        return torch.stack([feature * known for feature in features], 3)

    def _global_state(self, state: AeroState, motion: Motion) -> Tensor:
        """[B, S]: 15 numbers for every aircraft, zeros for a dead one; then the time left."""
        c = self.options
        is_alive = (state.status == FLYING).float()
        x, y, z = motion.position
        features = [
            torch.ones_like(x),
            x / c.half_size,
            y / c.half_size,
            z / c.ceiling,
            *(state.velocity / 100).unbind(2),
            *motion.lift_dir,
            motion.alpha / math.radians(c.alpha_max),
            motion.throttle,
            state.health / self._max_health,
            (state.lock_steps.amax(2).float() / c.lock_max).clamp(max=1),
            (self._types / 4).expand_as(x),
        ]
        aircraft = (torch.stack(features, 2) * is_alive[..., None]).flatten(1)
        return torch.cat([aircraft, self._time_left(state)[:, None]], 1)

    def engine(self) -> Engine:
        from torch_mars.envs.aerojax.loops import ScalarAeroJAX

        return ScalarAeroJAX(self)

    def draw(self, state: AeroState, index: int = 0, trail: Sequence[AeroState] = ()) -> np.ndarray:
        """`trail`: earlier states of the episode, oldest first, to draw the paths flown."""
        from torch_mars.envs.aerojax.draw import draw

        return draw(self, state, index, trail)

    def draw_observation(self, obs: Tensor, agent: int) -> np.ndarray:
        from torch_mars.envs.aerojax.draw import draw_scope

        return draw_scope(self, obs)


def _pairs(a: Vector, observers: slice = slice(None)) -> Vector:
    """a_j - a_i: [B, I, A]."""
    return tuple(x[:, None, :] - x[:, observers, None] for x in a)


def _nearest(key: Tensor, features: Tensor, slots: int) -> Tensor:
    """The `slots` entities with the least key [B, N, J], of features [B, N, J, F], flattened: [B, N, slots * F]."""
    count, observers, entities, size = features.shape
    order = key.sort(stable=True, dim=2).indices[:, :, :slots].flatten(0, 1)
    first = torch.arange(count * observers, device=key.device)[:, None] * entities
    chosen = features.flatten(0, 2).index_select(0, (first + order).flatten())  # whole rows: faster than a gather
    return chosen.view(count, observers, slots * size)


def motion_of(state: AeroState) -> Motion:
    velocity = vectors.split(state.velocity)
    speed = vectors.length(velocity)
    direction = vectors.scale(1 / speed, velocity)
    lift_dir, position = vectors.split(state.lift_dir), vectors.split(state.position)
    return Motion(position, direction, speed, lift_dir, state.alpha, state.throttle)


def velocity_of(motion: Motion) -> Vector:
    return vectors.scale(motion.speed, motion.direction)


ENVIRONMENT = AeroJAX
