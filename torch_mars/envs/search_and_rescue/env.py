"""Search & Rescue: N searchers that cannot stop look for T drifting targets on a torus.

Source: `SearchAndRescue` of the `jumanji` package 1.1.2 (JAX), matched step for step. The arena is a square of width 1
whose opposite edges are joined: distances go the short way round, and what leaves on one side enters on the other.

| | shape | values |
|---|---|---|
| observation | [N, 3 V + 2] | V = 128 rays for each of three channels, then the two numbers below |
| global state | [N (3 V + 2)] | the observations of searcher 0, 1, ... |
| action | [N, 2] in [-1, 1] | turn, times 45 degrees, + to the left; acceleration, times 0.005; clipped to that |
| reward | [N] | for every target found 1 / (number of its finders), times (max_steps - step) / max_steps |
| start | | everybody and everything anywhere, any heading, speed in [0.005, 0.02), targets at rest |
| end | | all targets are found; or the time limit, 400 steps |
| tasks | | `search_and_rescue_<N>x<T>`: N searchers, T targets, of any number |

                -72   ray 0        A searcher (s) flies ahead, to the right here, at 0.005 to 0.02 a step. It sees other
              .                    searchers within 0.4 and targets within 0.1 whose discs of radius 0.02 reach into
          .     (o)                its cone, and finds the targets whose centres are in its cone and within 0.02.
       s> - - - - - - 0
          .           (o)
              .
                +72   ray V - 1

What a searcher sees, by place:

| 0 to V - 1 | the rays that meet other searchers, from the left edge of the cone to the right |
| V to 2V - 1 | those that meet targets already found |
| 2V to 3V - 1 | those that meet targets still missing |
| 3V targets_remaining | the share of targets still missing |
| 3V + 1 time | step / max_steps |

A ray reads the distance to the
centre of the nearest of the channel whose disc it meets, in ranges of sight, 0 to 1; -1 if it meets none. Channels do
not hide one another. Nobody sees where it is, where it heads, or how fast.

In a step, searchers turn, accelerate and fly; targets, found ones too, drift at random; then finds are made, all at
once: several searchers may find one target together. The first step of an episode pays 1 a target, the last 1 / 400.
With `shared_reward` every searcher is paid the sum.

Metrics, at any time: `targets_found`, `found_fraction`.
"""

import dataclasses
import math
from collections.abc import Collection, Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.angles import angle_of, cosine_sine, root
from torch_mars.envs.constants import scalar
from torch_mars.envs.core import BatchedEnv, arrays, check_index, own_copies, runs_in_loops
from torch_mars.envs.engine import Engine
from torch_mars.envs.given import check_values
from torch_mars.envs.pool import in_blocks
from torch_mars.envs.rng import normal, uniform
from torch_mars.envs.search_and_rescue import loops
from torch_mars.envs.search_and_rescue.task import CHANNELS, MOVING, NOTHING, SEEN, SHARED, Options, SearchState

FULL_TURN = 2 * math.pi
FAR = int(np.float32(2.0).view(np.int32))  # the bits of a reading farther than all


class SearchAndRescue(BatchedEnv):
    Options = Options
    metrics = {"targets_found": "last", "found_fraction": "last"}
    headline = "found_fraction"
    has_shared_reward = False  # unless an option says so
    state_is_obs = True

    def setup(self) -> None:
        c = self.options
        self.num_agents, self.num_targets, self.max_steps = c.num_searchers, c.num_targets, c.max_steps
        self.has_shared_reward = c.shared_reward
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        size = len(CHANNELS) * c.num_vision + len(SHARED)
        self.observation_space = gymnasium.spaces.Box(NOTHING, 1.0, (size,), np.float32)
        self.state_space = gymnasium.spaces.Box(NOTHING, 1.0, (self.num_agents * size,), np.float32)
        self.numbers = loops.numbers(c)
        self._block = max(1, loops.AGENTS // self.num_agents)
        self._rays = torch.from_numpy(self.numbers.rays).to(self.device)
        self._contact = torch.tensor(c.target_contact_range, dtype=torch.float32, device=self.device)
        # of sight, for every searcher and target
        ranges = [c.searcher_vision_range] * self.num_agents + [c.target_vision_range] * self.num_targets
        self._is_other = ~torch.eye(self.num_agents, len(ranges), dtype=torch.bool, device=self.device)
        self._range = torch.tensor(ranges, dtype=torch.float32, device=self.device)
        self._range2 = torch.tensor([r**2 for r in ranges], dtype=torch.float32, device=self.device)

    def admitted(self, state: SearchState, given: Collection[str]) -> SearchState:
        """As it is: nothing follows from other fields."""
        turn = float(np.float32(FULL_TURN))
        bounds = {"searcher_pos": (0, 1), "searcher_heading": (0, turn), "target_pos": (0, 1), "step": (0, math.inf)}
        check_values(state, given, **bounds)
        return state

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> SearchState:
        c, count = self.options, rng.shape[0]
        N, T = self.num_agents, self.num_targets
        draws, rng = uniform(rng, 4 * N + 2 * T)
        searcher_pos, heading, speed, target_pos = draws.split((2 * N, N, N, 2 * T), 1)
        return SearchState(
            **self.episode_start(rng),
            searcher_pos=searcher_pos.contiguous().view(count, N, 2),
            searcher_heading=heading * FULL_TURN,
            searcher_speed=c.searcher_min_speed + (c.searcher_max_speed - c.searcher_min_speed) * speed,
            target_pos=target_pos.contiguous().view(count, T, 2),
            target_vel=torch.zeros(count, T, 2, dtype=torch.float32, device=rng.device),
            target_found=torch.zeros(count, T, dtype=torch.bool, device=rng.device),
        )

    # ---- step ----

    def transition(self, state: SearchState, actions: Tensor):
        advance = self._advance_in_loops if runs_in_loops(actions) else self.advance
        state, reward = advance(state, actions)
        targets_found = state.target_found.sum(1)
        metrics = {"targets_found": targets_found, "found_fraction": targets_found.float() / self.num_targets}
        return state, reward, targets_found == self.num_targets, metrics

    def _advance_in_loops(self, state: SearchState, actions: Tensor) -> tuple[SearchState, Tensor]:
        """What `advance` does, faster on CPU."""
        moving = own_copies(state, MOVING)
        rng, reward = state.rng.clone(), actions.new_empty(actions.shape[:2])
        fields = arrays(rng, actions, state.step, *moving.values(), reward)
        in_blocks(loops.advance, len(actions), self._block, self.numbers, *fields)
        return dataclasses.replace(state, rng=rng, **moving), reward

    def advance(self, state: SearchState, actions: Tensor) -> tuple[SearchState, Tensor]:
        """Searchers fly, targets drift, finds are made: the State after it, and the reward [B, N]."""
        noise, rng = normal(state.rng, 2 * self.num_targets)
        position, heading, speed, ahead = self._fly(state, actions.nan_to_num(0.0).clamp(-1, 1))
        target_pos, target_vel = self._drift(state, noise.view_as(state.target_vel))
        finds = self._find(position, ahead, target_pos) & ~state.target_found[:, None]  # [B, N, T]
        state = dataclasses.replace(
            state,
            rng=rng,
            searcher_pos=position,
            searcher_heading=heading,
            searcher_speed=speed,
            target_pos=target_pos,
            target_vel=target_vel,
            target_found=state.target_found | finds.any(1),
        )
        return state, self._reward(finds, state.step)

    def _fly(self, state: SearchState, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Searchers turn, accelerate, then move by the new heading and speed.

        Returns:
            their place, heading and speed, and the direction [B, N, 2] of the heading.
        """
        c = self.options
        turn, acceleration = actions.unbind(-1)
        heading = (state.searcher_heading + turn * c.searcher_max_rotate * math.pi).remainder(FULL_TURN)
        speed = state.searcher_speed + acceleration * c.searcher_max_accelerate
        speed = speed.clamp(c.searcher_min_speed, c.searcher_max_speed)
        ahead = torch.stack(cosine_sine(heading), -1)
        return (state.searcher_pos + speed[..., None] * ahead).remainder(1.0), heading, speed, ahead

    def _drift(self, state: SearchState, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Place and velocity of the targets; too fast a velocity keeps its direction."""
        c = self.options
        velocity = state.target_vel + c.target_acc_std * noise
        x, y = velocity.unbind(-1)
        size = root(x * x + y * y)[..., None]
        velocity = torch.where(size > c.target_vel_max, c.target_vel_max * velocity / size, velocity)
        return (state.target_pos + velocity).remainder(1.0), velocity

    def _find(self, position: Tensor, ahead: Tensor, target_pos: Tensor) -> Tensor:
        """bool [B, N, T]: the target's centre is in contact, and in the cone."""
        distance2, *of_bearing = self._pairs(position, ahead, target_pos)
        is_ahead = angle_of(*of_bearing).abs_() <= self.options.view_angle * math.pi
        return (distance2 <= self.options.target_contact_range**2) & is_ahead

    def _reward(self, finds: Tensor, step: Tensor) -> Tensor:
        """[B, N]: a target pays 1, shared by its finders, less the later it is found.

        Args:
            finds: bool [B, N, T].
            step: int64 [B], before this step.
        """
        finders = finds.sum(1)
        if self.options.shared_reward:
            share = (finders > 0).sum(1, keepdim=True).float().expand(-1, self.num_agents)
        else:
            # in double precision the order in which thirds and sixths are summed does not show
            share = (finds.double() / finders.clamp(min=1)[:, None]).sum(2).float()
        return share * ((self.max_steps - step).float() / self.max_steps)[:, None]

    # ---- what is seen ----

    def perceive(self, state: SearchState) -> tuple[Tensor, Tensor, None]:
        """The global state is a view of the observations. On CPU by `loops.perceive`, the same faster."""
        if runs_in_loops(state.step):
            obs = state.searcher_heading.new_empty(*state.searcher_heading.shape, self.observation_size)
            seen = arrays(*(getattr(state, name) for name in SEEN), obs)
            in_blocks(loops.perceive, len(obs), self._block, self.numbers, *seen)
            return obs, obs.flatten(1), None
        ahead = torch.stack(cosine_sine(state.searcher_heading), -1)
        entities = torch.cat([state.searcher_pos, state.target_pos], 1)
        distance2, *of_bearing = self._pairs(state.searcher_pos, ahead, entities)
        distance = root(distance2)
        of_width = self._contact.expand_as(distance), distance
        bearing, half_width = angle_of(*(torch.stack(both) for both in zip(of_bearing, of_width)))
        is_seen = (distance2 <= self._range2).logical_and_(self._is_other)
        channels = self._view(bearing, half_width, distance.div_(self._range), is_seen, state.target_found)
        remaining = 1 - state.target_found.sum(1).float() / self.num_targets
        shared = torch.stack([remaining, state.step.float() / self.max_steps], 1)  # [B, 2]
        obs = torch.cat([channels, shared[:, None].expand(-1, self.num_agents, -1)], 2)
        return obs, obs.flatten(1), None

    def observation(self, state: SearchState) -> Tensor:
        return self.perceive(state)[0]

    def global_state(self, state: SearchState) -> Tensor:
        return self.perceive(state)[1]

    def _view(self, bearing: Tensor, half_width: Tensor, reading: Tensor, is_seen: Tensor, is_found: Tensor) -> Tensor:
        """[B, N, 3 V]: what the rays read.

        Most of the work is to go through all entities for every ray. So that targets, found and missing, are gone
        through once, the least of one kind and the greatest of the other are looked for. That takes readings as
        integers, as floats that are not negative are in the order of their bits; less `FAR` they are below 0.

        Args:
            bearing, half_width, reading, is_seen: [B, N, N + T] of the searchers and targets.
            is_found: bool [B, T].
        """
        N = self.num_agents
        left, right = (bearing - half_width)[..., None], (bearing + half_width)[..., None]
        meets = (left < self._rays).logical_and_(self._rays < right)  # [B, N, N + T, V]
        code = (reading.clamp(max=1).view(torch.int32) - FAR).mul_(is_seen)
        code[:, :, N:].mul_(1 - 2 * is_found[:, None].int())
        code = code[..., None] * meets  # 0 where a ray does not meet the entity
        missing, found = code[:, :, N:].aminmax(dim=2)
        nearest = torch.cat([code[:, :, :N].amin(2), -found, missing], 2).clamp_(max=0)  # 0 if of the other kind
        nearest = nearest.add_(FAR).view(torch.float32)
        return torch.where(nearest <= 1, nearest, scalar(NOTHING, like=nearest))

    def _pairs(self, position: Tensor, ahead: Tensor, entities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of entities [B, K, 2] for searchers at position [B, N, 2] that head `ahead` [B, N, 2]: [B, N, K] each.

        Returns:
            the squared distance, and the bearing as `_bearing` has it.
        """
        way = _short_way(entities[:, None] - position[:, :, None])
        x, y = way.unbind(-1)
        return x * x + y * y, *_bearing(way, *ahead[:, :, None].unbind(-1))

    def engine(self) -> Engine:
        return loops.SearchAndRescueLoops(self)

    def draw(
        self,
        state: SearchState,
        index: int = 0,
        trail: Sequence[SearchState] = (),
        show_rays: bool = False,
        show_contact: bool = False,
    ) -> np.ndarray:
        """The arena with the searchers' cones; their rays and circles of contact on demand; nothing of `trail`."""
        from torch_mars.envs.search_and_rescue.draw import draw

        check_index(state, index)
        obs = self.observation(state)[index] if show_rays else None
        return draw(self.options, state, index, obs, show_contact)

    def draw_observation(self, obs: Tensor, agent: int) -> np.ndarray:
        from torch_mars.envs.search_and_rescue.draw import draw_rays

        return draw_rays(self.options.num_vision, obs)


def _bearing(way: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Of an entity, `way` [..., 2] from a searcher: the heading less its direction, more than 0 to the right.

    As the y and x of which it is the `angle_of`. What is exactly at the searcher's place counts as in direction pi: the
    shortest vector of Jumanji's library esquilax is -0 there, of which it takes the angle.
    """
    x, y = way.unbind(-1)
    x = torch.where(way.any(-1), x, scalar(-1.0, like=x))
    return x * sin - y * cos, x * cos + y * sin


def _short_way(way: Tensor) -> Tensor:
    """A way of at most 1 along each axis, or the other way round the torus where that is not longer."""
    return way - (2 * way).clamp_(-1, 1).trunc_()


ENVIRONMENT = SearchAndRescue
