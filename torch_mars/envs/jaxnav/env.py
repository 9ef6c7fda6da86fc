"""JaxNav: N square robots drive to goals of their own on a walled map, by LiDAR and the direction of the goal.

Source: `JaxNav` (Rutherford et al. 2024) of the `jaxmarl` package 0.2.0 (JAX) with map `Grid-Rand-Poly`, matched step
for step. The map has W x W cells of 1 m, x to the right, y up.

| | shape | values |
|---|---|---|
| observation | [N, 205] | 200 ranges, from straight back counterclockwise; then 5 numbers, below |
| global state | [(W-2)^2 + 9N + 1] | inner cells of the map; positions, headings, goals, velocities of the robots; |
| | | step; who has arrived, who has crashed |
| action | [N, 2] | wanted v in [0, 1] m/s and w in [-pi/6, pi/6] rad/s; not clipped to that |
| reward | [N] | rew_lambda x own + (1 - rew_lambda) x team's mean of: 4 on arriving, before it 0.25 per m of |
| | | progress; -4 on crashing; -0.01 a step till then; -0.1 while something is closer than 0.3 m |
| start | | a random map, walls around and inside fewer than fill x (W-2)^2; robots 0.9 m apart and 0.45 m from |
| | | walls, any heading, at rest; goals 0.9 m apart, 0.3 m from walls, 0.6 m from their robots |
| end | | every robot has arrived or crashed; or the time limit, 500 steps of 0.1 s |

What a robot sees, by place: 0 to 199 the ranges / 6 m - 0.5, beam k at the angle -pi + 2 pi k / 199 to its heading;
200 speed v / max_v - 0.5; 201 turn w / max_w; 202 goal_distance, at most 6 m, / 6 m - 0.5; 203 goal_bearing, from its
heading, counterclockwise, / pi; 204 reward_share, rew_lambda - 0.5.

The global state: inner cells row by row from y = 1, 1 wall, 0 free; for every robot x / W - 0.5, y / W - 0.5; for every
robot heading / pi - 0.5; for every robot its goal, like its position; for every robot v / max_v - 0.5, w / max_w - 0.5;
step / max_steps - 0.5; for every robot 1 if it has arrived; for every robot 1 if it has crashed.

A robot that crashes, into a wall or another robot, stands still for the rest of the episode, an obstacle to others. One
that arrives drives on under its actions and may still crash.

`info` of every step, counts of robots int64 [B]: `goal_reached`, `map_collision`, `agent_collision` (a robot can be in
both at once), `timeout`. Metrics of the episode so far, per robot: `goal_rate`, `map_crash_rate`, `agent_crash_rate`,
`timeout_rate`; at its end `success` (all arrived, none crashed).
"""

import dataclasses
import math
from collections.abc import Collection, Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.core import FURTHEST, BatchedEnv, check_index, check_values, direction_of, may_look
from torch_mars.envs.jaxnav.lidar import Lidar
from torch_mars.envs.jaxnav.maps import (
    MOST_ROUNDS,
    NO_MAP,
    Draft,
    advance,
    finish,
    following,
    is_complete,
    neighbourhood,
    new_draft,
)
from torch_mars.envs.jaxnav.task import (
    DT,
    HALF_SIDE,
    LARGEST_TURN,
    LAST,
    MAX_RANGE,
    NUM_BEAMS,
    OWN,
    ROBOT_RADIUS,
    SPACING,
    NavState,
    Options,
    global_features,
)


class JaxNav(BatchedEnv):
    Options = Options
    metrics = {
        "goal_rate": "sum",
        "map_crash_rate": "sum",
        "agent_crash_rate": "sum",
        "timeout_rate": "sum",
        "success": "last",
    }
    has_shared_reward = False

    def setup(self) -> None:
        c = self.options
        self.num_agents, self.max_steps = c.num_agents, c.max_steps
        low, high = np.float32([0, -LARGEST_TURN]), np.float32([c.max_v, LARGEST_TURN])
        self.action_space = gymnasium.spaces.Box(low, high)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (NUM_BEAMS + len(OWN),), np.float32)
        state_size = sum(global_features(self.num_agents, c.map_size).values())
        self.state_space = gymnasium.spaces.Box(-np.inf, np.inf, (state_size,), np.float32)

        self._full_speed = torch.tensor([c.max_v, c.max_w], dtype=torch.float32, device=self.device)
        self.lidar = Lidar(self.num_agents, c.map_size, self.device)
        self._is_self = torch.eye(self.num_agents, dtype=torch.bool, device=self.device)
        reach = torch.linspace(0, MAX_RANGE, LAST + 1, dtype=torch.float32, device="cpu")  # of every sample
        is_close = reach <= ROBOT_RADIUS + c.lidar_thresh
        self._closest = is_close.nonzero().amax().to(self.device)  # the last sample that counts as too close

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> NavState:
        return self._episode(finish(self._new_draft(rng), self.options.fill), following(rng))

    def next_episode(self, state: NavState) -> NavState:
        """The level behind rng, of which most or all is prepared."""
        draft = _draft(state)
        level = finish(draft, self.options.fill) if may_look(draft.placed) else self._if_complete(draft, state)
        return self._episode(level, following(state.rng))

    def _if_complete(self, draft: Draft, state: NavState) -> Draft:
        """The prepared level, or where it is not complete and nobody can look (CUDA, compiled), the old one once more.

        That is once in a million episodes: few end within 8 steps, and a level in 10^5 takes more than 8 rounds.
        """
        is_ready = is_complete(draft)[:, None, None]
        again = torch.cat([state.start, state.goal], 2)
        return dataclasses.replace(
            draft,
            map_data=torch.where(is_ready, draft.map_data, state.map_data),
            robots=torch.where(is_ready, draft.robots, again),
        )

    def _episode(self, level: Draft, rng: Tensor) -> NavState:
        """The start of an episode on a complete level; behind rng is the next."""
        pos, theta, goal = level.robots[..., :2], level.robots[..., 2], level.robots[..., 3:]
        nobody = torch.zeros_like(theta, dtype=torch.bool)
        return NavState(
            **self.episode_start(rng),
            pos=pos,
            theta=theta,
            vel=torch.zeros_like(pos),
            goal=goal,
            map_data=level.map_data,
            goal_reached=nobody,
            crashed=nobody,
            done=nobody[:, 0],
            beams=self.lidar(pos, theta, level.map_data),
            start=level.robots[..., :3],
            **_draft_fields(self._new_draft(rng)),
        )

    def _new_draft(self, rng: Tensor) -> Draft:
        return new_draft(rng, self.num_agents, self.options.map_size)

    def admitted(self, state: NavState, given: Collection[str]) -> NavState:
        """With beams and a complete next level, as the episode may end at once."""
        places = (-FURTHEST, FURTHEST)
        level = {"next_placed": (NO_MAP, self.num_agents), "next_rounds": (0, MOST_ROUNDS), "next_robots": places}
        check_values(state, given, pos=places, theta=places, goal=places, start=places, **level)
        is_stale = "rng" in given and "next_cursor" not in given
        draft = self._new_draft(state.rng) if is_stale else _draft(state)
        return dataclasses.replace(
            state,
            beams=self.lidar(state.pos, state.theta, state.map_data),
            **_draft_fields(finish(draft, self.options.fill)),
        )

    # ---- step ----

    def transition(self, state: NavState, actions: Tensor):
        old = state
        pos, theta, vel = self._drive(old, actions)
        is_time_up = (old.step + 1 >= self.max_steps)[:, None]
        hits_wall, hits_robot = self._hits_wall(pos, theta, old.map_data), self._hits_robot(pos, theta)
        is_playing = ~old.done[:, None]
        in_goal = torch.linalg.vector_norm(pos - old.goal, dim=-1) <= self.options.goal_radius
        goal_reached = old.goal_reached | (in_goal & is_playing)
        crashed = old.crashed | ((hits_wall | hits_robot) & is_playing)
        terminated = (goal_reached | crashed).all(1)

        state = dataclasses.replace(
            old,
            pos=pos,
            theta=theta,
            vel=vel,
            goal_reached=goal_reached,
            crashed=crashed,
            done=terminated | is_time_up[:, 0],
            beams=self.lidar(pos, theta, old.map_data),
            **_draft_fields(advance(_draft(old), self.options.fill)),
        )
        events = {
            "goal_reached": goal_reached & ~old.goal_reached,
            "map_collision": hits_wall & ~old.crashed & is_playing,
            "agent_collision": hits_robot & ~old.crashed & is_playing,
            "timeout": is_time_up & ~(crashed | goal_reached),
        }
        counts = {name: event.sum(1) for name, event in events.items()}
        rates = dict(zip(self.metrics, (count.float() / self.num_agents for count in counts.values())))
        success = (goal_reached & ~crashed).all(1).float()
        return state, self._reward(old, state), terminated, {**counts, **rates, "success": success}

    def _drive(self, state: NavState, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Accelerate, move along the old heading, then turn. Crashed robots, and all after the end, stand still."""
        c = self.options
        v, w = state.vel.unbind(-1)
        wanted_v, wanted_w = actions.unbind(-1)
        v = (v + ((wanted_v - v) / DT).clamp(-c.max_v_acc, c.max_v_acc) * DT).clamp(0, c.max_v)
        w = (w + ((wanted_w - w) / DT).clamp(-c.max_w_acc, c.max_w_acc) * DT).clamp(-c.max_w, c.max_w)
        way = (v * DT)[..., None] * torch.stack([state.theta.cos(), state.theta.sin()], -1)
        stands = state.crashed | state.done[:, None]
        theta = torch.where(stands, state.theta, _wrap(state.theta + w * DT))
        pos = torch.where(stands[..., None], state.pos, state.pos + way)
        return pos, theta, torch.where(stands[..., None], 0.0, torch.stack([v, w], -1))

    def _hits_wall(self, pos: Tensor, theta: Tensor, map_data: Tensor) -> Tensor:
        """bool [B, N]: the robot's square meets a wall cell: neither the cell's axes nor the robot's part them."""
        is_wall, centre = neighbourhood(map_data, pos)
        cos, sin = theta.cos()[..., None], theta.sin()[..., None]
        x, y = (centre - pos[:, :, None]).unbind(-1)  # [B, N, 9]
        extent = cos.abs() + sin.abs()  # of a square of half side 1, turned
        by_cell = torch.maximum(x.abs(), y.abs()) <= 0.5 + HALF_SIDE * extent
        by_robot = torch.maximum((x * cos + y * sin).abs(), (y * cos - x * sin).abs()) <= HALF_SIDE + 0.5 * extent
        return (is_wall & by_cell & by_robot).any(2)

    def _hits_robot(self, pos: Tensor, theta: Tensor) -> Tensor:
        """bool [B, N]: the squares of robots i and j meet: no axis of either parts them."""
        x, y = (pos[:, None] - pos[:, :, None]).unbind(-1)  # [B, N, N]: from i to j
        turn = theta[:, None] - theta[:, :, None]
        reach = HALF_SIDE * (1 + turn.cos().abs() + turn.sin().abs())
        cos, sin = theta.cos()[..., None], theta.sin()[..., None]
        meets = torch.maximum((x * cos + y * sin).abs(), (y * cos - x * sin).abs()) <= reach  # by the axes of i
        return (meets & meets.transpose(1, 2) & ~self._is_self).any(2)

    def _reward(self, old: NavState, new: NavState) -> Tensor:
        """[B, N], paid at `new` for the step from `old`."""
        c = self.options
        distance = [torch.linalg.vector_norm(state.pos - old.goal, dim=-1) for state in (old, new)]
        progress = c.weight_g * (distance[0] - distance[1])
        own = torch.where(old.goal_reached, 0.0, torch.where(new.goal_reached, c.goal_rew, progress))
        own = own + c.coll_rew * (new.crashed & ~old.crashed).float()
        own = own + c.dt_rew * (~(old.goal_reached | old.crashed)).float()
        own = own + c.lidar_rew * (new.beams.amin(2) <= self._closest).float()
        own = torch.where(old.done[:, None], 0.0, own)
        return c.rew_lambda * own + (1 - c.rew_lambda) * own.mean(1, keepdim=True)

    # ---- what is seen ----

    def observation(self, state: NavState) -> Tensor:
        c = self.options
        ranges = state.beams.float() * (SPACING / MAX_RANGE) - 0.5
        v, w = state.vel.unbind(-1)
        x, y = (state.goal - state.pos).unbind(-1)
        distance = torch.hypot(x, y).clamp(max=MAX_RANGE) / MAX_RANGE - 0.5
        bearing = _wrap(direction_of(y, x) - state.theta) / math.pi
        share = torch.full_like(v, c.rew_lambda - 0.5)
        return torch.cat([ranges, torch.stack([v / c.max_v - 0.5, w / c.max_w, distance, bearing, share], 2)], 2)

    def global_state(self, state: NavState) -> Tensor:
        c = self.options
        parts = (
            state.map_data[:, 1:-1, 1:-1],
            state.pos / c.map_size - 0.5,
            state.theta / math.pi - 0.5,
            state.goal / c.map_size - 0.5,
            state.vel / self._full_speed - 0.5,
            (state.step.float() / self.max_steps - 0.5)[:, None],
            state.goal_reached,
            state.crashed,
        )
        return torch.cat([part.flatten(1).float() for part in parts], 1)

    def draw(self, state: NavState, index: int = 0, trail: Sequence[NavState] = ()) -> np.ndarray:
        """With the ways driven through the states of `trail`."""
        from torch_mars.envs.jaxnav.draw import draw

        check_index(state, index)
        return draw(self.options.goal_radius, state, index, trail)


def _wrap(angle: Tensor) -> Tensor:
    """An angle of less than three half turns either way, in [-pi, pi)."""
    angle = torch.where(angle >= math.pi, angle - 2 * math.pi, angle)
    return torch.where(angle < -math.pi, angle + 2 * math.pi, angle)


# ---- the level of the next episode, in the State ----


def _draft(state: NavState) -> Draft:
    return Draft(state.next_cursor, state.next_map, state.next_robots, state.next_placed, state.next_rounds)


def _draft_fields(draft: Draft) -> dict[str, Tensor]:
    return {
        "next_cursor": draft.cursor,
        "next_map": draft.map_data,
        "next_robots": draft.robots,
        "next_placed": draft.placed,
        "next_rounds": draft.rounds,
    }


ENVIRONMENT = JaxNav
