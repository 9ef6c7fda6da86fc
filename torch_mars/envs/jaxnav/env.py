"""JaxNav: N square robots drive to goals of their own on a walled map, by LiDAR and the direction of the goal.

Source: `JaxNav` (Rutherford et al. 2024) of the `jaxmarl` package 0.2.0 (JAX) with map `Grid-Rand-Poly`, matched step
for step. The map has W x W cells of 1 m, x to the right, y up.

| | shape | values |
|---|---|---|
| observation | [N, 205] | 200 ranges, from straight back counterclockwise; then 5 numbers, below |
| global state | [(W-2)^2 + 9N + 1] | inner cells of the map; positions, headings, goals, velocities of the robots; |
| | | step; who has arrived, who has crashed |
| action | [N, 2] | wanted v in [0, 1] m/s and w in [-pi/6, pi/6] rad/s; not clipped to that |
| active | [N] | who has not crashed: the arrived drive on; after the end nobody |
| reward | [N] | rew_lambda x own + (1 - rew_lambda) x team's mean of: 4 on arriving, before it 0.25 per m of |
| | | progress; -4 on crashing; -0.01 a step till then; -0.1 while something is closer than 0.3 m |
| start | | a random map, walls around and inside fewer than fill x (W-2)^2; robots 0.9 m apart and 0.45 m from |
| | | walls, any heading, at rest; goals 0.9 m apart, 0.3 m from walls, 0.6 m from their robots |
| end | | every robot has arrived or crashed; or the time limit, 500 steps of 0.1 s |
| tasks | | `jaxnav_<W>x<W>x<N>a`: N robots on a map of W x W cells; any W from 5, any N that finds room |

What a robot sees, by place:

| 0 to 199 | the ranges / 6 m - 0.5, beam k at the angle -pi + 2 pi k / 199 to its heading |
| 200 speed | v / max_v - 0.5 |
| 201 turn | w / max_w |
| 202 goal_distance | at most 6 m, / 6 m - 0.5 |
| 203 goal_bearing | from its heading, counterclockwise, / pi |
| 204 reward_share | rew_lambda - 0.5 |

The global state, in this order:

| (W-2)^2 cells | inner cells row by row from y = 1: 1 wall, 0 free |
| 2N positions | of every robot x / W - 0.5, y / W - 0.5 |
| N headings | / pi - 0.5 |
| 2N goals | like positions |
| 2N velocities | of every robot v / max_v - 0.5, w / max_w - 0.5 |
| 1 time | step / max_steps - 0.5 |
| N arrived, N crashed | 1 if the robot has |

A robot that crashes, into a wall or another robot, stands still for the rest of the episode, an obstacle to others. One
that arrives drives on under its actions and may still crash.

`info` of every step, counts of robots int64 [B]: `goal_reached`, `map_collision`, `agent_collision` (a robot can be in
both at once), `timeout`. Metrics of the episode so far, per robot: `goal_rate`, `map_crash_rate`, `agent_crash_rate`,
`timeout_rate`; at its end `success` (all arrived, none crashed).
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_mars.envs.angles import angle_of, cosine_sine, root
from torch_mars.envs.constants import scalar
from torch_mars.envs.core import (
    FURTHEST,
    BatchedEnv,
    arrays,
    check_index,
    may_look,
    own_copies,
    runs_in_loops,
    tree_map,
)
from torch_mars.envs.engine import Engine
from torch_mars.envs.given import check_values
from torch_mars.envs.jaxnav import loops
from torch_mars.envs.jaxnav.lidar import Lidar
from torch_mars.envs.jaxnav.maps import (
    MOST_ROUNDS,
    NO_MAP,
    Draft,
    distance,
    finish,
    following,
    is_complete,
    most_walls,
    neighbourhood,
    new_draft,
    next_round,
    no_places,
)
from torch_mars.envs.jaxnav.task import (
    CHANGED,
    DRAFT,
    DT,
    EVENTS,
    HALF_SIDE,
    LARGEST_TURN,
    LAST,
    MAX_RANGE,
    NUM_BEAMS,
    OWN,
    ROBOT_RADIUS,
    SEEN,
    SPACING,
    NavState,
    Options,
    global_features,
)
from torch_mars.envs.pool import in_blocks

# robots in a block of environments that are moved together, and that look together: tenths of a millisecond
MOVED, SHOWN = 96, 2048


class JaxNav(BatchedEnv):
    Options = Options
    metrics = {
        "goal_rate": "sum",
        "map_crash_rate": "sum",
        "agent_crash_rate": "sum",
        "timeout_rate": "sum",
        "success": "last",
    }
    headline = "goal_rate"
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
        self._walls = most_walls(c.map_size, c.fill)
        self.lidar = Lidar(self.num_agents, c.map_size, self.device)
        self._most_events = torch.tensor([[self.num_agents]] * len(EVENTS) + [[1]], device=self.device)
        self._is_other = ~torch.eye(self.num_agents, dtype=torch.bool, device=self.device)
        around = torch.arange(-1, 2, device=self.device)
        self._around = torch.cartesian_prod(around, around)  # (x, y) of 3 x 3 cells
        reach = torch.linspace(0, MAX_RANGE, LAST + 1, dtype=torch.float32, device="cpu")  # of every sample
        is_close = reach <= ROBOT_RADIUS + c.lidar_thresh
        self._closest = int(is_close.nonzero().amax())  # the last sample that counts as too close
        self.numbers = loops.numbers(c, self._closest)

    # ---- reset ----

    def initial_state(self, rng: Tensor) -> NavState:
        draft = self._new_draft(rng)
        if runs_in_loops(rng):
            return self._episode_in_loops(draft, rng)
        state = self._episode(finish(draft, self._walls), following(rng))
        # laid out as States after a step are, or a compiled step would be compiled for both
        return tree_map(lambda field: field.clone(memory_format=torch.contiguous_format), state)

    def next_episode(self, state: NavState) -> NavState:
        """The level behind rng, of which most or all is prepared."""
        draft = _draft(state)
        if runs_in_loops(state.rng):
            return self._episode_in_loops(draft, state.rng)
        level = finish(draft, self._walls) if may_look(draft.placed) else self._if_complete(draft, state)
        return self._episode(level, following(state.rng))

    def _episode_in_loops(self, draft: Draft, rng: Tensor) -> NavState:
        """The start of an episode on the level behind rng, faster on CPU.

        Raises:
            RuntimeError: the robots do not fit on the maps.
        """
        count, N, V = len(rng), self.num_agents, NUM_BEAMS
        level = {"rng": rng, **_draft_fields(draft)}
        level = {name: field.clone(memory_format=torch.contiguous_format) for name, field in level.items()}
        floats, bools = draft.robots.new_empty, draft.map_data.new_empty
        started = {
            "pos": floats(count, N, 2),
            "theta": floats(count, N),
            "vel": floats(count, N, 2),
            "goal": floats(count, N, 2),
            "map_data": bools(draft.map_data.shape),
            "goal_reached": bools(count, N),
            "crashed": bools(count, N),
            "done": bools(count),
            "beams": bools(count, N, V, dtype=torch.uint8),
            "start": floats(count, N, 3),
        }
        if not all(self._in_blocks(loops.next_episode, MOVED, *level.values(), *started.values())):
            raise no_places(N, self.options.map_size)
        return NavState(**self.episode_start(level.pop("rng")), **level, **started)

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
            beams=self.lidar.read(pos, *cosine_sine(theta), level.map_data),
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
            beams=self.lidar.read(state.pos, *cosine_sine(state.theta), state.map_data),
            **_draft_fields(finish(draft, self._walls)),
        )

    # ---- step ----

    def transition(self, state: NavState, actions: Tensor):
        advance = self._advance_in_loops if runs_in_loops(actions) else self.advance
        state, reward, terminated, events = advance(state, actions)
        rates = events.float() / self._most_events
        metrics = dict(zip(EVENTS, events)) | dict(zip(self.metrics, rates))
        return state, reward, terminated, metrics

    def _advance_in_loops(self, state: NavState, actions: Tensor):
        """What `advance` does, faster on CPU."""
        count, N = actions.shape[:2]
        changed = own_copies(state, CHANGED)
        beams = state.beams.new_empty(state.beams.shape)
        reward, terminated = actions.new_empty(count, N), state.done.new_empty(count)
        events = state.step.new_empty(len(EVENTS) + 1, count)
        fields = (state.step, state.goal, state.map_data, *changed.values(), beams)
        self._in_blocks(loops.advance, MOVED, actions, *fields, reward, terminated, events)
        return dataclasses.replace(state, **changed, beams=beams), reward, terminated, events

    def _in_blocks(self, loop: Callable, num_robots: int, *tensors: Tensor) -> list:
        """`loop` over all environments, in blocks of about so many robots."""
        size = max(num_robots // self.num_agents, 1)
        return in_blocks(loop, len(tensors[0]), size, self.numbers, *arrays(*tensors))

    def advance(self, state: NavState, actions: Tensor) -> tuple[NavState, Tensor, Tensor, Tensor]:
        """A step but for counting it.

        Returns:
            the State, the reward [B, N], terminated [B], and events int64 [5, B]: robots by `EVENTS`; whether all have
            arrived and none has crashed.
        """
        old = state
        pos, theta, vel, (cos, sin) = self._drive(old, actions)
        is_time_up = (old.step + 1 >= self.max_steps)[:, None]
        hits_wall, hits_robot = self._hits_wall(pos, cos, sin, old.map_data), self._hits_robot(pos, cos, sin)
        is_playing = ~old.done[:, None]
        was_far, is_far = distance(torch.stack([old.pos, pos]), old.goal).unbind()
        in_goal = is_far <= self.options.goal_radius
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
            beams=self.lidar.read(pos, cos, sin, old.map_data),
            **_draft_fields(next_round(_draft(old), self._walls)),
        )
        events = (
            goal_reached & ~old.goal_reached,
            hits_wall & ~old.crashed & is_playing,
            hits_robot & ~old.crashed & is_playing,
            is_time_up & ~(crashed | goal_reached),
        )
        is_success = (goal_reached & ~crashed).all(1)
        events = torch.cat([torch.stack(events).sum(2), is_success[None].long()])
        return state, self._reward(old, state, was_far - is_far), terminated, events

    def _drive(self, state: NavState, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Accelerate, move along the old heading, then turn. Crashed robots, and all after the end, stand still.

        Returns:
            pos, theta and vel, and the cosine and sine of theta.
        """
        c = self.options
        v, w = state.vel.unbind(-1)
        wanted_v, wanted_w = actions.unbind(-1)
        v = (v + ((wanted_v - v) / DT).clamp(-c.max_v_acc, c.max_v_acc) * DT).clamp(0, c.max_v)
        w = (w + ((wanted_w - w) / DT).clamp(-c.max_w_acc, c.max_w_acc) * DT).clamp(-c.max_w, c.max_w)
        stands = self._stands(state)
        theta = torch.where(stands, state.theta, _wrap(state.theta + w * DT))
        cos, sin = cosine_sine(torch.stack([state.theta, theta]))
        way = (v * DT)[..., None] * torch.stack([cos[0], sin[0]], -1)
        pos = torch.where(stands[..., None], state.pos, state.pos + way)
        vel = torch.where(stands[..., None], scalar(0.0, like=v), torch.stack([v, w], -1))
        return pos, theta, vel, (cos[1], sin[1])

    def _stands(self, state: NavState) -> Tensor:
        """Who does not move any more, bool [B, N]."""
        return state.crashed | state.done[:, None]

    def _hits_wall(self, pos: Tensor, cos: Tensor, sin: Tensor, map_data: Tensor) -> Tensor:
        """bool [B, N]: the robot's square meets a wall cell: neither the cell's axes nor the robot's part them."""
        is_wall, centre = neighbourhood(map_data, pos, self._around)
        cos, sin = cos[..., None], sin[..., None]
        x, y = (centre - pos[:, :, None]).unbind(-1)  # [B, N, 9]
        extent = cos.abs() + sin.abs()  # of a square of half side 1, turned
        by_cell = torch.maximum(x.abs(), y.abs()) <= 0.5 + HALF_SIDE * extent
        by_robot = torch.maximum((x * cos + y * sin).abs(), (y * cos - x * sin).abs()) <= HALF_SIDE + 0.5 * extent
        return (is_wall & by_cell & by_robot).any(2)

    def _hits_robot(self, pos: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """bool [B, N]: the squares of robots i and j meet: no axis of either parts them."""
        x, y = (pos[:, None] - pos[:, :, None]).unbind(-1)  # [B, N, N]: from i to j
        of_i, of_j = (cos[:, :, None], sin[:, :, None]), (cos[:, None], sin[:, None])
        turn_cos, turn_sin = of_i[0] * of_j[0] + of_i[1] * of_j[1], of_i[0] * of_j[1] - of_i[1] * of_j[0]
        reach = HALF_SIDE * (1 + turn_cos.abs() + turn_sin.abs())
        cos, sin = of_i
        meets = torch.maximum((x * cos + y * sin).abs(), (y * cos - x * sin).abs()) <= reach  # by the axes of i
        return (meets & meets.transpose(1, 2) & self._is_other).any(2)

    def _reward(self, old: NavState, new: NavState, progress: Tensor) -> Tensor:
        """[B, N], paid at `new` for the step from `old`, which led so many m [B, N] closer to the goal."""
        c = self.options
        progress = c.weight_g * progress
        nothing = scalar(0.0, like=progress)
        own = torch.where(new.goal_reached, scalar(c.goal_rew, like=progress), progress)
        own = torch.where(old.goal_reached, nothing, own)
        own = own + c.coll_rew * (new.crashed & ~old.crashed).float()
        own = own + c.dt_rew * (~(old.goal_reached | old.crashed)).float()
        own = own + c.lidar_rew * (new.beams <= self._closest).any(2).float()
        own = torch.where(old.done[:, None], nothing, own)
        mean = own.double().mean(1, keepdim=True).float()  # double: the order of the sum does not show
        return c.rew_lambda * own + (1 - c.rew_lambda) * mean

    # ---- what is seen ----

    def perceive(self, state: NavState) -> tuple[Tensor, Tensor, None]:
        """On CPU by `loops.perceive`, faster."""
        if not runs_in_loops(state.pos):
            return self.observation(state), self.global_state(state), None
        obs = state.pos.new_empty(*state.theta.shape, self.observation_size)
        global_state = state.pos.new_empty(len(obs), self.state_size)
        self._in_blocks(loops.perceive, SHOWN, *(getattr(state, name) for name in SEEN), obs, global_state)
        return obs, global_state, None

    def observation(self, state: NavState) -> Tensor:
        c = self.options
        ranges = state.beams.float() * (SPACING / MAX_RANGE) - 0.5
        v, w = state.vel.unbind(-1)
        x, y = (state.goal - state.pos).unbind(-1)
        far = root(x * x + y * y).clamp(max=MAX_RANGE) / MAX_RANGE - 0.5
        bearing = _wrap(angle_of(y, x) - state.theta) / math.pi
        share = torch.full_like(v, c.rew_lambda - 0.5)
        return torch.cat([ranges, torch.stack([v / c.max_v - 0.5, w / c.max_w, far, bearing, share], 2)], 2)

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

    def is_active(self, state: NavState) -> Tensor:
        """Who has not crashed, arrived or not; after the end of the episode nobody."""
        return ~self._stands(state)

    def engine(self) -> Engine:
        return loops.JaxNavLoops(self)

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
    return Draft(*(getattr(state, name) for name in DRAFT))


def _draft_fields(draft: Draft) -> dict[str, Tensor]:
    return {name: getattr(draft, field.name) for name, field in zip(DRAFT, dataclasses.fields(draft))}


ENVIRONMENT = JaxNav
