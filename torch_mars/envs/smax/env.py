"""SMAX: a team of simple combat units against a scripted one on a 32 x 32 field. Shared reward.

Source: JaxMARL 0.2.0, `HeuristicEnemySMAX` with the settings of Mava, matched step for step. The learners are the N
allies (units 0 to N - 1), the E enemies follow (`opponents.py`); U = N + E. Units, scenarios: `scenarios.py`.

| | shape | values |
|---|---|---|
| observation | [N, 13 (U - 1) + 10] | every other unit in sight (13 each, 0 if not), then oneself (10); 0 if dead |
| global state | [12 U] | 10 per unit, 0 if dead; then team (0 or 1) of every unit; then type of every unit |
| action | [N] in 0..4 + E | 0 up, 1 right, 2 down, 3 left, 4 stop, 5 + k attack enemy k |
| or | [N, 4] in 0..1 | `action_type="continuous"`: nearest, move, distance, turn; below |
| mask | [N, 5 + E] | 0 to 4 if alive; 5 + k if enemy k is alive and in reach; the dead may only stop |
| active | [N] | who is alive |
| reward | [N] | the team's: mean over the enemies of the share of health lost, and 1 for a won battle |
| start | | allies about (8, 16), enemies about (24, 16); in smacv2 mirrored teams, or one around the other |
| end | | a team is wiped out; or the time limit, which is step max_steps + 1 = 101 |
| tasks | | `smax_<scenario>`: allies, `_vs_` enemies where they differ; `smacv2_<N>_units`: types drawn anew |

Another unit in an observation, 13 numbers, in the order of the units:

| health | / maximum |
| way_x, way_y | the way to it / own sight range |
| move_x, move_y | the direction of its latest orders |
| attack | its latest attack action / the largest; 0 for none |
| cooldown | / full cooldown, within 0..1 |
| is_marine, is_marauder, is_stalker, is_zealot, is_zergling, is_hydralisk | its type |

Oneself, 10 numbers: health / maximum; x / 32; y / 32; cooldown, likewise; the six types. A unit in the global state, 10
numbers: health / maximum; x; y; cooldown in s; the six types.

| type | in names | speed | damage | reach | sight | health | cooldown |
|---|---|---|---|---|---|---|---|
| marine | m | 3.15 | 9 | 5 | 9 | 45 | 0.61 s |
| marauder | | 2.25 | 10 | 6 | 10 | 125 | 1.07 s |
| stalker | s | 4.13 | 13 | 6 | 10 | 160 | 1.87 s |
| zealot | z | 3.15 | 8 | 2 | 9 | 150 | 0.86 s |
| zergling | | 4.13 | 5 | 2 | 8 | 35 | 0.5 s |
| hydralisk | h | 3.15 | 12 | 5 | 9 | 80 | 0.59 s |

A continuous action names a point at `distance` (0 to 1), at the angle 2 pi `turn` from the unit. With probability
`move` the unit walks to it, at that share of its speed. Else it attacks: with probability `nearest` the enemy nearest
to the point, be it dead or out of reach, else whomever it attacked in the step before. There is no mask.

One step is half a second: 8 sub-steps under the same orders. In each, all at once: units with a target in reach and a
weapon ready fire; units walk; the border kills; overlapping units push each other apart.

Metrics at an episode's end: `won`, `lost`, `draw` (both teams died in one step), `timeout`, `allies_alive`,
`enemies_alive`. `info["won_episode"]` is `won` as a bool.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.constants import scalar
from torch_mars.envs.core import FURTHEST, BatchedEnv, arrays, check_index, own_copies, runs_in_loops
from torch_mars.envs.engine import Engine
from torch_mars.envs.given import check_values
from torch_mars.envs.pool import in_blocks
from torch_mars.envs.rng import bits, uniform
from torch_mars.envs.smax import loops, opponents
from torch_mars.envs.smax.opponents import NOBODY
from torch_mars.envs.smax.scenarios import (
    FIELD_SIZE,
    NUM_TYPES,
    SCENARIOS,
    UNIT_TYPES,
    drawn_types,
    facing_places,
    facing_positions,
    scattered_positions,
    scattered_words,
)
from torch_mars.envs.smax.task import (
    DIRECTIONS,
    DT,
    FIRST_ATTACK,
    FULL_TURN,
    OTHER,
    OWN,
    SHOT_JITTER,
    STOP,
    SUBSTEPS,
    TOUCHING,
    Options,
    SMAXState,
)

_WAY = slice(OTHER.index("way_x"), OTHER.index("way_y") + 1)


@dataclass
class Units:
    """The units inside a step. With B last, work on pairs of units runs along it."""

    position: Tensor  # [2, U, B]: x and y
    place: Tensor  # [2, U, B]: likewise, but the dead are far from everybody
    health: Tensor  # [U, B]
    cooldown: Tensor  # [U, B], s
    is_alive: Tensor  # bool [U, B]


class Kinds(NamedTuple):
    """What the types say: tensors [types], or [U, B] of units."""

    speed: Tensor
    damage: Tensor
    attack_range: Tensor
    sight_range: Tensor
    radius: Tensor
    max_health: Tensor
    cooldown: Tensor  # s, of a shot


@dataclass
class Orders:
    """What every unit does for the whole step."""

    direction: Tensor  # [2, U, B]; its length, at most 1, scales the speed
    attack: Tensor  # int64 [U, B]: attack action, 0 for none


class SMAX(BatchedEnv):
    Options = Options
    metrics = dict.fromkeys(("won", "lost", "draw", "timeout", "allies_alive", "enemies_alive"), "last")
    headline = "won"

    def setup(self) -> None:
        self.scenario = SCENARIOS[self.options.scenario]
        self.num_agents, self.num_enemies = N, E = self.scenario.num_allies, self.scenario.num_enemies
        self.num_units = U = N + E
        self.max_steps = self.options.max_steps + 1
        self.is_continuous = self.options.action_type == "continuous"
        if self.is_continuous:
            self.action_space = gymnasium.spaces.Box(0.0, 1.0, (4,), np.float32)
        else:
            self.action_space = gymnasium.spaces.Discrete(FIRST_ATTACK + E)
        self.mask_shape = (N, FIRST_ATTACK + E)
        # how many random numbers decide what in a step, in the order in which they are drawn
        self.draws = {"shot": U, "walk": E}
        if self.options.attack_mode == "random":
            self.draws["attack"] = E
        if self.is_continuous:
            self.draws |= {"moves": N, "nearest": N}
        self.for_loops = loops.rules(self.options, self.scenario)
        self._block = max(8, 640 // U)  # environments that are worth a thread's while

        size = len(OTHER) * (U - 1) + len(OWN)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.state_space = gymnasium.spaces.Box(-np.inf, np.inf, ((len(OWN) + 2) * U,), np.float32)

        def constant(values, dtype=torch.float32):
            return torch.tensor(values, dtype=dtype, device=self.device)

        self._table = constant([[getattr(kind, name) for kind in UNIT_TYPES] for name in Kinds._fields])  # [7, types]
        self._of_type = of_type = Kinds(*self._table)
        shown = (of_type.max_health, of_type.cooldown, of_type.sight_range, of_type.attack_range)
        one_hot = torch.eye(NUM_TYPES, dtype=torch.float32, device=self.device)
        self._seen_of_type = torch.cat([one_hot, torch.stack(shown, 1)], 1)  # [types, 10]
        self._nowhere = constant([[(2.0 + i) * FURTHEST, 0.0] for i in range(U)])  # of unit i when dead: [U, 2]
        attacks = max(N, E)
        self._directions = constant(DIRECTIONS + ((0.0, 0.0),) * attacks).T  # of every action: [2, A]
        self._team = constant([0] * N + [1] * E)
        self._largest_action = constant([FIRST_ATTACK + E - 1] * N + [FIRST_ATTACK + N - 1] * E)
        # the unit that every unit's attack actions mean, [U, A]; unit 0 where an action is no attack
        self._target_of = torch.zeros(U, FIRST_ATTACK + attacks, dtype=torch.int64, device=self.device)
        self._target_of[:N, FIRST_ATTACK : FIRST_ATTACK + E] = constant(range(N, U), torch.int64)
        self._target_of[N:, FIRST_ATTACK : FIRST_ATTACK + N] = constant(range(N - 1, -1, -1), torch.int64)
        others = [j for i in range(N) for j in range(U) if j != i]
        self._others = constant(others, torch.int64)  # of ally 0, of ally 1, ...: [N (U - 1)]
        self._nobody = constant(U, torch.int64)
        self._only_stop = constant([move == STOP for move in range(FIRST_ATTACK)], torch.bool)
        self._minus_one, self._minus_half = constant(-1.0), constant(-0.5)
        if self.scenario.types is not None:
            self._types = constant(self.scenario.types, torch.int64)
            self._places = constant(facing_places(N, E))

    def admitted(self, state: SMAXState, given: Collection[str]) -> SMAXState:
        places = (-FURTHEST, FURTHEST)
        bounds = {"enemy_last_attacked": (NOBODY, self.num_agents - 1)}
        check_values(state, given, unit_positions=places, enemy_default_target=places, **bounds)
        types, attacks = state.unit_types, state.prev_attack_actions
        known = (types >= 0) & (types < NUM_TYPES)
        if not known.all():
            raise ValueError(f"unit_types holds {int(types[~known][0])}; allowed are 0 to {NUM_TYPES - 1}")
        possible = (attacks >= 0) & (attacks <= self._largest_action)
        if not possible.all():
            raise ValueError(f"prev_attack_actions holds {int(attacks[~possible][0])}, an attack on no unit")
        return state

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> SMAXState:
        B, N, U, E = rng.shape[0], self.num_agents, self.num_units, self.num_enemies
        if runs_in_loops(rng):
            return self._initial_state_in_loops(rng)
        if self.scenario.types is None:
            words, rng = bits(rng, sum(scattered_words(N).values()))
            positions, types = scattered_positions(words, N), drawn_types(words[:, -N:])
        else:
            positions, rng = facing_positions(rng, self._places)
            types = self._types.repeat(B, 1)
        pushed = self.push(_planes(positions), self._room(self._of_type.radius[types.T]))
        return SMAXState(
            **self.episode_start(rng),
            unit_positions=_pairs(pushed).contiguous(),
            unit_alive=torch.ones(B, U, dtype=torch.bool, device=rng.device),
            unit_health=self._of_type.max_health[types],
            unit_types=types,
            unit_weapon_cooldowns=torch.zeros(B, U, dtype=torch.float32, device=rng.device),
            prev_movement_actions=torch.zeros(B, U, 2, dtype=torch.float32, device=rng.device),
            prev_attack_actions=torch.zeros(B, U, dtype=torch.int64, device=rng.device),
            enemy_default_target=torch.zeros(B, E, 2, dtype=torch.float32, device=rng.device),
            enemy_last_attacked=torch.full((B, E), NOBODY, dtype=torch.int64, device=rng.device),
        )

    def _initial_state_in_loops(self, rng: Tensor) -> SMAXState:
        """The same faster, on CPU."""
        B, U, E = rng.shape[0], self.num_units, self.num_enemies
        rng = rng.clone()
        shapes = {
            "unit_positions": ((B, U, 2), torch.float32),
            "unit_alive": ((B, U), torch.bool),
            "unit_health": ((B, U), torch.float32),
            "unit_types": ((B, U), torch.int64),
            "unit_weapon_cooldowns": ((B, U), torch.float32),
            "prev_movement_actions": ((B, U, 2), torch.float32),
            "prev_attack_actions": ((B, U), torch.int64),
            "enemy_default_target": ((B, E, 2), torch.float32),
            "enemy_last_attacked": ((B, E), torch.int64),
        }
        fields = {name: torch.empty(shape, dtype=dtype, device=rng.device) for name, (shape, dtype) in shapes.items()}
        situation = loops.Situation(**{name: tensor.numpy() for name, tensor in fields.items()})
        in_blocks(loops.initial_state, B, self._block, self.for_loops, rng.numpy(), situation)
        return SMAXState(**self.episode_start(rng), **fields)

    # ---- step ----

    def transition(self, state: SMAXState, actions: Tensor):
        N = self.num_agents
        draws, rng = self.draw_numbers(state.rng)
        advance = self._advance_in_loops if runs_in_loops(actions) else self.advance
        state, reward = advance(dataclasses.replace(state, rng=rng), actions, draws)
        allies, enemies = (state.unit_alive[:, team].sum(1) for team in (slice(N), slice(N, None)))
        ally_lives, enemy_lives = allies > 0, enemies > 0
        goes_on = ally_lives & enemy_lives
        terminated = ~goes_on
        won, lost = ally_lives & terminated, enemy_lives & terminated
        is_draw = ~(ally_lives | enemy_lives)
        is_timeout = (state.step >= self.max_steps - 1) & goes_on
        outcomes = torch.stack([won, lost, is_draw, is_timeout]).float()
        metrics = {
            **dict(zip(("won", "lost", "draw", "timeout"), outcomes)),
            "allies_alive": allies,
            "enemies_alive": enemies,
            "won_episode": won,
        }
        return state, reward, terminated, metrics

    def _advance_in_loops(self, state: SMAXState, actions: Tensor, draws: Tensor) -> tuple[SMAXState, Tensor]:
        """What `advance` does, faster on CPU."""
        names = loops.Situation._fields
        new = own_copies(state, names)
        reward = torch.empty(len(actions), self.num_agents, dtype=torch.float32, device=self.device)
        situation = loops.Situation(*arrays(*new.values()))
        in_blocks(loops.advance, len(actions), self._block, self.for_loops, situation, *arrays(draws, actions, reward))
        return dataclasses.replace(state, **new), reward

    def advance(self, state: SMAXState, actions: Tensor, draws: Tensor) -> tuple[SMAXState, Tensor]:
        """The State after a step, not yet counted, and the reward [B, N]. Fields are views of tensors with B last.

        Args:
            draws: float32 [B, D], as `draw_numbers` gives them.
        """
        before, kinds = self._line_up(state)
        by_purpose = dict(zip(self.draws, draws.T.contiguous().split(list(self.draws.values()))))
        enemy_actions, memory = self._command_enemies(state, before, kinds, by_purpose)
        orders = self._decode(state, before, actions, enemy_actions, by_purpose)
        units = self.fight(before, kinds, orders, by_purpose["shot"])
        state = dataclasses.replace(
            state,
            unit_positions=_pairs(units.position),
            unit_alive=units.is_alive.T,
            unit_health=units.health.T,
            unit_weapon_cooldowns=units.cooldown.T,
            prev_movement_actions=_pairs(orders.direction),
            prev_attack_actions=orders.attack.T,
            enemy_default_target=_pairs(memory.default_target),
            enemy_last_attacked=memory.last_attacked.T,
        )
        return state, self._reward(before, units, kinds)[:, None].repeat(1, self.num_agents)

    def _line_up(self, state: SMAXState) -> tuple[Units, Kinds]:
        """The State's units, and what their types say."""
        is_alive = state.unit_alive.T.contiguous()
        numbers = (*state.unit_positions.unbind(2), state.unit_health, state.unit_weapon_cooldowns)
        position, (health, cooldown) = torch.stack([number.T for number in numbers]).split(2)
        units = Units(position, self._out_of_the_way(position, is_alive), health, cooldown, is_alive)
        return units, Kinds(*self._table[:, state.unit_types.T])

    def draw_numbers(self, rng: Tensor) -> tuple[Tensor, Tensor]:
        """All chance of a step, for the purposes in `self.draws`: float32 [B, D] in [0, 1), and the keys moved on."""
        count = sum(self.draws.values())
        if not runs_in_loops(rng):
            return uniform(rng, count)
        rng, draws = rng.clone(), torch.empty(len(rng), count, dtype=torch.float32, device=rng.device)
        loops.draw_numbers(rng.numpy(), draws.numpy())
        return draws, rng

    def _command_enemies(self, state: SMAXState, units: Units, kinds: Kinds, draws: dict[str, Tensor]):
        """The script's actions, int64 [E, B], and its new memory."""
        N = self.num_agents
        memory = opponents.Memory(_planes(state.enemy_default_target), state.enemy_last_attacked.T.contiguous())
        allies, enemies = units.place.split((N, self.num_enemies), 1)
        ranges = (kinds.sight_range[N:], kinds.attack_range[N:])
        draws = (draws["walk"], draws.get("attack"))
        return opponents.choose(enemies, allies, units.is_alive[N:], *ranges, memory, *draws, self.options.enemy_shoots)

    def _decode(self, state: SMAXState, units: Units, actions: Tensor, enemy_actions: Tensor, draws) -> Orders:
        """Directions and attack actions of all units. Who attacks does not walk."""
        if not self.is_continuous:
            return self._decode_discrete(torch.cat([actions.T, enemy_actions]))
        allies, enemies = self._decode_continuous(state, units, actions, draws), self._decode_discrete(enemy_actions)
        direction = torch.cat([allies.direction, enemies.direction], 1)
        return Orders(direction, torch.cat([allies.attack, enemies.attack]))

    def _decode_discrete(self, actions: Tensor) -> Orders:
        return Orders(self._directions[:, actions], torch.nn.functional.threshold(actions, STOP, 0))

    def _decode_continuous(self, state: SMAXState, units: Units, actions: Tensor, draws) -> Orders:
        """(c0, c1, r, w) [B, N, 4]: a point at distance r, at angle 2 pi w; walk to it with probability c1.

        Otherwise attack: with probability c0 the enemy nearest to the point (be it dead or out of reach), else
        whatever the unit attacked in the step before.
        """
        N = self.num_agents
        nearest_chance, move_chance, distance, turn = actions.clamp(0, 1).permute(2, 1, 0)
        angle = FULL_TURN * turn.double()  # rounded to single precision, every library's cosine is the same
        way = torch.stack([distance * angle.cos().float(), distance * angle.sin().float()])
        point = units.position[:, :N] + way
        nearest = FIRST_ATTACK + opponents.length(units.position[:, None, N:] - point[:, :, None]).min(1).indices
        attack = torch.where(draws["nearest"] < nearest_chance, nearest, state.prev_attack_actions.T[:N])
        moves = draws["moves"] < move_chance
        return Orders(way * moves, attack * ~moves)

    def fight(self, units: Units, kinds: Kinds, orders: Orders, shot_draw: Tensor) -> Units:
        """The units after eight sub-steps under the same orders."""
        target = self.targets(orders.attack)
        reach = torch.where(orders.attack > STOP, kinds.attack_range, self._minus_one)  # who has no target, nobody
        shot_cooldown = kinds.cooldown + (SHOT_JITTER[0] + (SHOT_JITTER[1] - SHOT_JITTER[0]) * shot_draw)
        way = orders.direction * kinds.speed * DT
        room = self._room(kinds.radius)
        loss = -kinds.damage
        for _ in range(SUBSTEPS):
            health, cooldown = self._fire(units, target, reach, loss, shot_cooldown)
            position = self._walk(units, way)
            if self.options.walls_cause_death:
                health = self._die_at_the_border(position, health)
            is_alive = health > 0
            place = self.push(self._out_of_the_way(position, is_alive), room)
            units = Units(position, place, health, cooldown, is_alive)
        return dataclasses.replace(units, position=torch.where(units.is_alive, units.place, units.position))

    def targets(self, attack: Tensor) -> Tensor:
        """The unit that an attack action means, int64 [U, B]; any unit where it is 0."""
        return self._target_of.gather(1, attack)

    def _fire(
        self, units: Units, target: Tensor, reach: Tensor, loss: Tensor, shot_cooldown: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Health and cooldowns after the shots of a sub-step. Who dies in it still fires."""
        distance = opponents.length(units.place - units.place.gather(1, target.expand(2, -1, -1)))
        fires = (distance < reach) & (units.cooldown <= 0)  # neither the dead nor at the dead: they are out of reach
        health = units.health.scatter_add(0, target, loss * fires).clamp_(min=0)
        return health, torch.where(fires, shot_cooldown, units.cooldown - DT)

    def _walk(self, units: Units, way: Tensor) -> Tensor:
        """The living walk, and are kept within the border, which is deadly itself."""
        return torch.where(units.is_alive, (units.place + way).clamp_(0, FIELD_SIZE), units.position)

    def _die_at_the_border(self, position: Tensor, health: Tensor) -> Tensor:
        room = position * (FIELD_SIZE - position)  # positive inside
        return health * (room > 0).all(0)

    def _out_of_the_way(self, position: Tensor, is_alive: Tensor) -> Tensor:
        """The positions, but the dead are so far from everybody that they meet and see nobody."""
        return torch.where(is_alive, position, self._nowhere.T[..., None])

    def _room(self, radius: Tensor) -> Tensor:
        """Half the distance at which two units touch, [U, U, B]."""
        return (radius[:, None] + radius) / 2

    def push(self, place: Tensor, room: Tensor) -> Tensor:
        """Overlapping units move apart, by half of what would part them; possibly over the border."""
        way = place[:, None] - place[:, :, None]  # [2, U, U, B]: to every unit (second U) from every other
        distance = opponents.length(way).add_(TOUCHING)
        share = torch.addcdiv(self._minus_half, room, distance).relu_()
        return place + way.mul_(share).sum(1)

    def _reward(self, before: Units, after: Units, kinds: Kinds) -> Tensor:
        """Of the team, [B]."""
        c, N = self.options, self.num_agents
        ally_lives, enemy_lives = after.is_alive[:N].any(0), after.is_alive[N:].any(0)
        bonus = c.won_battle_bonus * (ally_lives & ~enemy_lives).float()
        if c.use_self_play_reward:
            return bonus - c.won_battle_bonus * (enemy_lives & ~ally_lives).float()
        lost = (after.health[N:] - before.health[N:]) / kinds.max_health[N:]
        return lost.sum(0).abs() / self.num_enemies + bonus

    # ---- what is seen ----

    def perceive(self, state: SMAXState) -> tuple[Tensor, Tensor, Tensor | None]:
        """Observation, global state and mask; on CPU by `loops.perceive`, the same faster."""
        B, N, U = len(state.step), self.num_agents, self.num_units
        if runs_in_loops(state.step):
            obs = torch.empty(B, N, self.observation_size, dtype=torch.float32, device=self.device)
            global_state = torch.empty(B, self.state_size, dtype=torch.float32, device=self.device)
            mask = torch.empty(B, *self.mask_shape, dtype=torch.bool, device=self.device)
            situation = loops.Situation(*arrays(*(getattr(state, name) for name in loops.Situation._fields)))
            views = arrays(obs, global_state, mask)
            in_blocks(loops.perceive, B, self._block, self.for_loops, situation, *views)
            return obs, global_state, None if self.is_continuous else mask

        share, kind, sight_range, attack_range = self._shares(state)
        # the dead see nobody and are seen by nobody: for distances, they are far from everybody
        place = torch.where(state.unit_alive[..., None], state.unit_positions, self._nowhere).permute(2, 0, 1)
        way = place.index_select(2, self._others).view(2, B, N, U - 1) - place[:, :, :N, None]
        distance = opponents.length(way)
        mask = None
        if not self.is_continuous:
            moves = state.unit_alive[:, :N, None] | self._only_stop
            mask = torch.cat([moves, distance[..., N - 1 :] < attack_range[..., None]], 2)

        is_seen = distance < sight_range[..., None]
        seen = torch.where(is_seen, self._others.view(N, U - 1), self._nobody).flatten(1)  # [B, N (U - 1)]
        features = self._features_of_others(state, share, kind)
        others = features.gather(1, seen[..., None].expand(-1, -1, len(OTHER))).view(B, N, U - 1, len(OTHER))
        others[..., _WAY] = way.div_(sight_range[..., None]).mul_(is_seen).permute(1, 2, 3, 0)
        obs = torch.cat([others.flatten(2), self._own_features(state, share, kind)[:, :N]], 2)
        return obs, self._state_features(state, share, kind), mask

    def observation(self, state: SMAXState) -> Tensor:
        return self.perceive(state)[0]

    def global_state(self, state: SMAXState) -> Tensor:
        return self.perceive(state)[1]

    def action_mask(self, state: SMAXState) -> Tensor | None:
        return self.perceive(state)[2]

    def is_active(self, state: SMAXState) -> Tensor:
        """The living allies."""
        return state.unit_alive[:, : self.num_agents]

    def _shares(self, state: SMAXState) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Health and cooldown as shares of the type's [B, U, 2], type one-hot [B, U, 6], the allies' ranges [B, N]."""
        looked_up = self._seen_of_type.index_select(0, state.unit_types.flatten())
        looked_up = looked_up.view(*state.unit_types.shape, -1)
        kind, full, ranges = looked_up.split((NUM_TYPES, 2, 2), 2)
        share = torch.stack([state.unit_health, state.unit_weapon_cooldowns], 2) / full
        share[..., 1].clamp_(0, 1)
        return share, kind, *ranges[:, : self.num_agents].unbind(2)

    def _own_features(self, state: SMAXState, share: Tensor, kind: Tensor) -> Tensor:
        """[B, U, 10], 0 for the dead."""
        place = state.unit_positions / FIELD_SIZE
        return torch.cat([share[..., :1], place, share[..., 1:], kind], 2) * state.unit_alive[..., None]

    def _features_of_others(self, state: SMAXState, share: Tensor, kind: Tensor) -> Tensor:
        """[B, U + 1, 13] of what does not depend on the observer; a row of zeros comes last."""
        attack = state.prev_attack_actions / self._largest_action
        move = state.prev_movement_actions
        if not self.options.see_enemy_actions:
            is_ally = self._team == 0
            attack, move = attack * is_ally, move * is_ally[:, None]
        way = scalar(0.0, like=move).expand_as(move)  # the observer's to say
        features = [share[..., :1], way, move, attack[..., None], share[..., 1:], kind]
        return torch.nn.functional.pad(torch.cat(features, 2), (0, 0, 0, 1))

    def _state_features(self, state: SMAXState, share: Tensor, kind: Tensor) -> Tensor:
        """The global state [B, 12 U]."""
        cooldown = state.unit_weapon_cooldowns[..., None]
        units = torch.cat([share[..., :1], state.unit_positions, cooldown, kind], 2) * state.unit_alive[..., None]
        return torch.cat([units.flatten(1), self._team.expand(len(units), -1), state.unit_types.float()], 1)

    def compile(self, by: Callable[[Callable], Callable] | None = None) -> None:
        """As every environment's; refused where PyTorch's code would be wrong (2.13, for a CPU).

        Raises:
            ValueError: attack_mode is "random".
        """
        if self.options.attack_mode == "random":
            raise ValueError('attack_mode is "random", which PyTorch compiles wrongly; "closest" can be compiled')
        super().compile(by)

    def engine(self) -> Engine:
        return loops.SMAXLoops(self)

    def draw(
        self, state: SMAXState, index: int = 0, trail: Sequence[SMAXState] = (), show_ranges: bool = False
    ) -> np.ndarray:
        """The field, with reach and sight of the allies if `show_ranges`; nothing is shown of `trail`."""
        from torch_mars.envs.smax.draw import draw

        check_index(state, index)
        return draw(self, state, index, show_ranges)


def _planes(pairs: Tensor) -> Tensor:
    """[2, K, B] of [B, K, 2]."""
    return pairs.permute(2, 1, 0).contiguous()


def _pairs(planes: Tensor) -> Tensor:
    """[B, K, 2] of [2, K, B]: a view."""
    return planes.permute(2, 1, 0)


ENVIRONMENT = SMAX
