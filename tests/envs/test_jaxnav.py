"""JaxNav against recorded and fresh episodes of the original, its starts, and its rules in hand-placed situations."""

import contextlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from wild_states import as_tensors

import torch_mars.envs as envs
from torch_mars.envs.angles import cosine_sine
from torch_mars.envs.jaxnav import maps
from torch_mars.envs.jaxnav.task import LAST, SPACING

FIXTURES = Path(__file__).parents[1] / "fixtures"
TASKS = ("jaxnav_7x7x2a", "jaxnav_9x9x3a", "jaxnav_11x11x4a", "jaxnav_13x13x5a")
FORMS = (contextlib.nullcontext, as_tensors)  # in loops, as tensors
COUNTS = {"arrives": "goal_reached", "hits_wall": "map_collision", "hits_robot": "agent_collision"}


# ---- whole episodes of the original ----


def situations(record, times):
    """The State fields [len(times) * E, ...] of the recorded situations."""
    episodes = record["goal"].shape[0]
    fields = {name: record[name][times] for name in ("pos", "theta", "vel", "goal_reached", "crashed", "done")}
    fields |= {name: np.broadcast_to(record[name], (len(times), *record[name].shape)) for name in ("goal", "map_data")}
    fields["step"] = np.repeat(times[:, None], episodes, 1)
    return {name: np.array(values).reshape(-1, *values.shape[2:]) for name, values in fields.items()}


def loaded(task, record, times, max_steps):
    env = envs.make(task, num_envs=len(times) * record["goal"].shape[0], auto_reset=False, max_steps=max_steps)
    env.load_state(situations(record, times))
    return env


def samples(obs):
    return np.round((obs[..., :200] + 0.5) * LAST).astype(int)


def compare_steps(task, record, max_steps):
    """Every step of all episodes, each from the recorded situation."""
    steps, episodes, num_agents = record["reward"].shape
    env = loaded(task, record, np.arange(steps), max_steps)
    ts = env.step(torch.as_tensor(record["action"]).float().flatten(0, 1))

    def theirs(name, times=slice(0, steps)):
        return record[name][times].reshape(-1, *record[name].shape[2:])

    after = slice(1, steps + 1)
    for name in ("pos", "theta", "vel"):
        np.testing.assert_allclose(getattr(env.state, name), theirs(name, after), atol=2e-6, err_msg=name)
    for name in ("goal_reached", "crashed", "done"):
        np.testing.assert_array_equal(getattr(env.state, name), theirs(name, after), err_msg=name)
    np.testing.assert_array_equal(ts.terminated | ts.truncated, theirs("done", after))
    np.testing.assert_allclose(ts.reward, theirs("reward"), atol=2e-6)
    for name, ours in {**COUNTS, "times_out": "timeout"}.items():
        np.testing.assert_array_equal(ts.info[ours], theirs(name).sum(1), err_msg=name)
        assert theirs(name).sum() >= 4, f"the record holds too few {name} to say anything"
    is_standing = theirs("crashed") | theirs("done")[:, None]
    assert (is_standing & ~theirs("crashed", after)).any(), "no robot stands after an end without having crashed"


def march(pos, theta, map_data, others):
    """The readings of one robot as the rules say it: 120 samples along every beam, then the sides of the others."""
    angles = np.float32(np.linspace(-np.pi, np.pi, 200)) + np.float32(theta)
    beams = np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float64)
    points = pos + SPACING * np.arange(120)[:, None, None] * beams  # [120, 200, 2]
    column, row = np.clip(np.floor(points).astype(int), 0, len(map_data) - 1).transpose(2, 0, 1)
    is_wall = map_data[row, column]
    found = np.where(is_wall.any(0), is_wall.argmax(0), 119)
    for (x, y), heading in others:
        turned = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
        corners = (x, y) + 0.25 * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) @ turned.T
        for a, b in zip(corners, np.roll(corners, 1, 0)):
            side = b - a
            determinant = beams[:, 1] * side[0] - beams[:, 0] * side[1]
            along = ((a - pos)[1] * side[0] - (a - pos)[0] * side[1]) / determinant
            across = ((a - pos)[1] * beams[:, 0] - (a - pos)[0] * beams[:, 1]) / determinant
            is_hit = (along >= 0) & (along <= 6) & (across >= 0) & (across <= 1)
            found = np.where(is_hit, np.minimum(found, np.floor(along / 0.05)), found)
    return found


def is_edge(state, b, i, v, reading):
    """Whether robot i of environment b, moved or turned by less than 1e-5, has this reading of beam v."""
    pos, theta = state.pos[b].numpy().astype(float), state.theta[b].numpy()
    others = [(pos[j], theta[j]) for j in range(len(pos)) if j != i]
    shifts = 1e-5 * np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    return any(
        march(pos[i] + (x, y), theta[i] + turn, state.map_data[b].numpy(), others)[v] == reading
        for x, y, turn in shifts
    )


def compare_views(task, record, max_steps, every=1):
    """Observation and global state of the recorded situations; a reading may differ where it hangs on a last bit."""
    env = loaded(task, record, every * np.arange(len(record["samples"])), max_steps)
    obs, state = env.observe().obs.numpy(), env.observe().state
    ours, theirs = samples(obs), record["samples"].reshape(-1, *record["samples"].shape[2:])
    differs = np.argwhere(ours != theirs)
    episodes = record["goal"].shape[0]
    apart = {(b % episodes, i, v): b for b, i, v in differs}  # robots that stand repeat the same beam at every step
    assert len(apart) < 5 + 2e-5 * ours.size
    for (_, i, v), b in apart.items():
        assert is_edge(env.state, b, i, v, theirs[b, i, v]), f"situation {b}, robot {i}, beam {v}"
    assert ((theirs < LAST) & (theirs > 0)).mean() > 0.3
    extra = record["extra_obs"].reshape(-1, *record["extra_obs"].shape[2:])
    bearing = (obs[..., 203] - extra[..., 3] + 1) % 2 - 1  # +-1 are the same direction
    np.testing.assert_allclose(bearing, 0, atol=2e-6)
    np.testing.assert_allclose(np.delete(obs[..., 200:], 3, -1), np.delete(extra, 3, -1), atol=2e-6)
    flags = torch.cat([env.state.goal_reached, env.state.crashed], 1).float()
    world = record["world"].reshape(len(state), -1)
    np.testing.assert_allclose(state, np.concatenate([world, flags], 1), atol=2e-6)


def compare_episodes(task, record, max_steps, share):
    """Whole episodes from the same start with the same actions; single robots may part at the edge of a comparison."""
    env = loaded(task, record, np.zeros(1, dtype=int), max_steps)
    total = torch.zeros(env.num_envs, env.num_agents)
    for action in record["action"]:
        total += env.step(torch.as_tensor(action).float()).reward
    agrees = np.isclose(env.state.pos, record["pos"][-1], atol=1e-3).all((1, 2))
    agrees &= np.isclose(total, record["reward"].sum(0), atol=2e-3).all(1)
    assert agrees.mean() >= share, agrees.mean()


@pytest.mark.parametrize("task", ["jaxnav_7x7x2a", "jaxnav_11x11x4a"])
def test_episodes_equal_the_recorded_ones(task):
    record = np.load(FIXTURES / f"{task}.npz")
    for form in FORMS:
        with form():
            compare_steps(task, record, max_steps=90)
            compare_views(task, record, max_steps=90, every=5)
            compare_episodes(task, record, max_steps=90, share=0.9)


@pytest.mark.parity
@pytest.mark.parametrize("task", TASKS)
def test_episodes_equal_the_original(task):
    pytest.importorskip("jaxmarl", reason="the original needs the extra [parity]")
    from record_jaxnav import record

    for seed, max_steps, episodes in ((100, 60, 48), (101, 500, 6)):
        fresh = record(task, episodes, seed, max_steps)
        for form in FORMS:
            with form():
                if seed == 100:
                    compare_steps(task, fresh, max_steps)
                compare_views(task, fresh, max_steps)
                compare_episodes(task, fresh, max_steps, share=0.8)


# ---- starts ----


def start_numbers(pos, theta, goal, map_data):
    """What to compare of starts, by name: [count, ...] each."""
    inner = map_data[:, 1:-1, 1:-1]
    high = pos.dtype.type(map_data.shape[1] - 1.3)
    return {
        "walls": inner.sum((1, 2)),
        "wall at a border cell": inner[:, 0].mean(1),
        "start": pos,
        "heading": theta,
        "goal": goal,
        "goal at the upper bound": goal == high,
        "goal in the corner": (goal == high).all(2),
        "distance": np.linalg.norm(goal - pos, axis=2),
        "first two starts": np.linalg.norm(pos[:, 0] - pos[:, 1], axis=1),
        "first two goals": np.linalg.norm(goal[:, 0] - goal[:, 1], axis=1),
        "start of the last": pos[:, -1],
        "distance of the last": np.linalg.norm(goal[:, -1] - pos[:, -1], axis=1),
    }


def our_starts(env):
    return start_numbers(*(getattr(env.state, name).numpy() for name in ("pos", "theta", "goal", "map_data")))


EXPECTED_STARTS = {  # of 4,096 starts of the original
    "jaxnav_7x7x2a": (3.0, 3.68, 4.21, 2.35, 0.345, 0.095),
    "jaxnav_9x9x3a": (6.5, 4.76, 5.39, 3.10, 0.293, 0.072),
    "jaxnav_11x11x4a": (11.5, 5.86, 6.58, 3.82, 0.268, 0.061),
    "jaxnav_13x13x5a": (17.5, 6.95, 7.75, 4.56, 0.249, 0.053),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", ["reset", "auto_reset"])
def test_starts_are_distributed_as_in_the_original(task, way):
    count = 2048
    env = envs.make(task, num_envs=count, seed=3)
    env.reset()
    if way == "auto_reset":
        env.load_state({"step": torch.full((count,), env.max_steps - 1)})
        ts = env.step(torch.zeros(count, env.num_agents, 2))
        assert ts.truncated.all() and (env.state.step == 0).all()
    numbers = our_starts(env)
    names = ("walls", "start", "goal", "distance", "goal at the upper bound", "goal in the corner")
    for name, expected in zip(names, EXPECTED_STARTS[task]):
        sample = numbers[name].astype(float).reshape(count, -1).mean(1)
        error = 4.5 * sample.std() * math.sqrt(1 / count + 1 / 4096) + 0.006  # and the rounding of the table
        assert sample.mean() == pytest.approx(expected, abs=error), name
    pos, goal, W = env.state.pos, env.state.goal, env.options.map_size
    assert pos.min() > 1.45 and pos.max() < W - 1.45
    assert goal.min() > 1.3 and goal.max() == np.float32(W - 1.3), "a goal on the lower bound touches the wall"
    walls = numbers["walls"]
    most = {7: 6, 9: 13, 11: 23, 13: 35}[W]
    assert walls.min() == 0 and walls.max() == most
    assert np.bincount(walls).std() < 4 * math.sqrt(count / (most + 1))
    heading = cosine_sine(env.state.theta)
    assert not env._hits_wall(pos, *heading, env.state.map_data).any()
    assert not env._hits_robot(pos, *heading).any()


@pytest.mark.parity
@pytest.mark.parametrize("task", TASKS)
def test_starts_are_distributed_as_fresh_ones_of_the_original(task):
    pytest.importorskip("jaxmarl", reason="the original needs the extra [parity]")
    stats = pytest.importorskip("scipy.stats")
    from record_jaxnav import starts

    theirs = start_numbers(**starts(task, 1024, seed=7))
    env = envs.make(task, num_envs=4096, seed=7)
    env.reset()
    for name, ours in our_starts(env).items():
        ours, other = (x.astype(float).reshape(len(x), -1)[:, 0] for x in (ours, theirs[name]))
        assert stats.ks_2samp(ours, other).pvalue > 1e-4, name


def test_no_goal_is_nearer_to_its_start_than_0_6_m():
    """Goals are drawn 1.3 m away and more, but moved into the map where they lie outside."""
    env = envs.make("jaxnav_7x7x2a", num_envs=4000, seed=5)
    env.reset()
    far = (env.state.pos - env.state.goal).norm(dim=2)
    assert 0.6 < far.min() < 0.65


def test_a_level_depends_on_its_key_alone():
    """However many rounds it took, whenever they were spent, whoever else was drawn beside it."""
    keys = torch.arange(300) * 977
    whole = maps.finish(maps.new_draft(keys, 4, 11), maps.most_walls(11, 0.3))
    alone = maps.finish(maps.new_draft(keys[17:18], 4, 11), maps.most_walls(11, 0.3))
    assert torch.equal(alone.robots[0], whole.robots[17]) and torch.equal(alone.map_data[0], whole.map_data[17])
    draft = maps.new_draft(keys, 4, 11)
    for _ in range(int(whole.rounds.max()) + 3):
        draft = maps.next_round(draft, maps.most_walls(11, 0.3))
    assert torch.equal(draft.robots, whole.robots) and torch.equal(draft.cursor, whole.cursor)
    assert whole.rounds.max() > 1 and len(set(maps.following(keys).tolist()) | set(keys.tolist())) == 600


def test_the_next_level_is_ready_before_the_shortest_episode_ends():
    """Where nobody can look, an episode shorter than the rounds of a level would be played again."""
    for task in TASKS:
        options = envs.task_options(task)
        draft = maps.new_draft(torch.arange(10_000) * 977, options["num_agents"], options["map_size"])
        for _ in range(8):
            draft = maps.next_round(draft, maps.most_walls(options["map_size"], 0.3))
        assert maps.is_complete(draft).all(), task


@pytest.mark.parametrize("cells, fill, walls", [(7, 0.3, 7), (12, 0.29, 29), (22, 0.57, 228), (5, 0.0, 1)])
def test_the_number_of_walls_is_rounded_as_in_jaxmarl(cells, fill, walls):
    """In float32, where 100 x 0.29 is 29."""
    assert maps.most_walls(cells, fill) == walls


def test_a_crowded_map_is_given_up_and_drawn_again(monkeypatch):
    monkeypatch.setattr(maps, "MOST_ROUNDS", 1)
    draft = maps.finish(maps.new_draft(torch.arange(200) * 977, 5, 7), maps.most_walls(7, 0.3))
    apart = torch.cdist(draft.robots[..., :2], draft.robots[..., :2]) + 9 * torch.eye(5)
    assert maps.is_complete(draft).all() and apart.min() > 0.9
    monkeypatch.setattr(maps, "MOST_MAPS", 3)
    with pytest.raises(RuntimeError, match="found no starts and goals for 40 robots on a map of 7 x 7 cells"):
        maps.finish(maps.new_draft(torch.arange(2), 40, 7), maps.most_walls(7, 0.3))


def test_where_nobody_can_look_an_unprepared_level_repeats_the_last(monkeypatch):
    env = envs.make("jaxnav_7x7x2a", num_envs=3, max_steps=1)
    first = env.reset()
    monkeypatch.setattr("torch_mars.envs.core.may_look", lambda tensor: False)
    for name in ("may_look", "runs_in_loops"):
        monkeypatch.setattr(f"torch_mars.envs.jaxnav.env.{name}", lambda tensor: False)
    monkeypatch.setattr("torch_mars.envs.jaxnav.env.next_round", lambda draft, fill: draft)
    ts = env.step(torch.ones(3, 2, 2))
    assert torch.equal(ts.obs, first.obs) and torch.equal(ts.state, first.state)
    assert not torch.equal(ts.final_obs, first.obs)


# ---- rules ----


def placed(pos, theta, task="jaxnav_7x7x2a", **fields):
    """One environment on a map without inner walls."""
    env = envs.make(task, auto_reset=False, fill=0)
    env.reset()
    env.load_state({"pos": [pos], "theta": [theta], **{name: [value] for name, value in fields.items()}})
    return env


def test_a_robot_moves_along_its_old_heading_with_its_new_speed():
    env = placed([[2, 2], [4, 4]], [0, math.pi / 2], vel=[[0.95, 0.0], [0.5, 0.58]], goal=[[5, 2], [5, 5]])
    ts = env.step(torch.tensor([[[9.0, 0.3], [-9.0, 9.0]]]))  # beyond every limit of speed and acceleration
    assert env.state.vel[0].flatten().tolist() == pytest.approx([1.0, 0.1, 0.4, 0.6])
    assert env.state.pos[0].flatten().tolist() == pytest.approx([2.1, 2, 4, 4.04])
    assert env.state.theta[0].tolist() == pytest.approx([0.01, math.pi / 2 + 0.06])
    progress = [0.25 * 0.1, 0.25 * (math.hypot(1, 1) - math.hypot(1, 0.96))]
    own = [p - 0.01 for p in progress]
    team = sum(own) / 2
    assert ts.reward[0].tolist() == pytest.approx([0.5 * x + 0.5 * team for x in own], abs=1e-6)


def test_arriving_pays_once_and_an_arrived_robot_can_still_crash():
    env = placed([[5.5, 2], [2, 4]], [0, 0], vel=[[1, 0], [0, 0]], goal=[[5.65, 2], [5, 5]])
    forward = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    ts = env.step(forward)
    assert ts.info["goal_reached"] == 1 and env.state.goal_reached.tolist() == [[True, False]]
    assert (ts.reward[0, 0] - ts.reward[0, 1]).item() == pytest.approx(0.5 * (4 - 0.01 + 0.01))
    rewards = []
    for _ in range(5):
        ts = env.step(forward)
        rewards.append((ts.reward[0, 0] - ts.reward[0, 1]).item())
        if env.state.crashed[0, 0]:
            break
    assert env.state.pos[0, 0, 0].item() == pytest.approx(5.8, abs=1e-5) and ts.info["map_collision"] == 1
    assert rewards[0] == pytest.approx(0.5 * 0.01)  # arrived: neither progress nor the price of time
    assert rewards[-1] == pytest.approx(0.5 * (-4 - 0.1 + 0.01))  # crashed, 0.2 m from the wall
    ts = env.step(forward)
    assert (env.state.vel[0, 0] == 0).all() and env.state.pos[0, 0, 0].item() == pytest.approx(5.8, abs=1e-5)
    assert (ts.reward[0, 0] - ts.reward[0, 1]).item() == pytest.approx(0.5 * (-0.1 + 0.01))
    assert not ts.terminated


def test_robots_that_meet_crash_both_and_end_the_episode():
    env = placed([[3.0, 3.0], [3.52, 3.0]], [0, math.pi], vel=[[0.5, 0], [0.5, 0]], goal=[[5, 5], [1.5, 1.5]])
    ts = env.step(torch.ones(1, 2, 2) * torch.tensor([0.5, 0.0]))
    assert ts.info["agent_collision"] == 2 and ts.info["map_collision"] == 0 and ts.terminated and env.state.done
    before = env.state.pos
    ts = env.step(torch.ones(1, 2, 2))
    assert torch.equal(env.state.pos, before) and (ts.reward == 0).all() and env.state.done and ts.terminated


@pytest.mark.parametrize(
    "angle, gap, meets", [(0, 0.2505, False), (0, 0.2495, True), (45, 0.354, False), (45, 0.353, True)]
)
def test_a_square_meets_a_wall_with_its_corners(angle, gap, meets):
    env = placed([[3, 3], [1 + gap, 5]], [0, math.radians(angle)])
    assert env._hits_wall(env.state.pos, *cosine_sine(env.state.theta), env.state.map_data).tolist() == [[False, meets]]


def test_a_done_without_a_cause_costs_one_step_as_in_the_original():
    """It can only be loaded: nothing moves or pays, and the step's own outcome decides what `done` is then."""
    env = placed([[3.0, 3.0], [2.0, 4.0]], [0, 0], vel=[[0.5, 0], [0.5, 0]], goal=[[5, 5], [1.5, 1.5]])
    before = env.state.pos
    env.load_state({"done": [True]})
    ts = env.step(torch.ones(1, 2, 2))
    assert torch.equal(env.state.pos, before) and (ts.reward == 0).all() and (env.state.vel == 0).all()
    assert not ts.terminated and not ts.truncated and not env.state.done
    env.step(torch.ones(1, 2, 2))
    assert (env.state.pos != before).any()


def test_time_runs_out():
    env = placed([[2, 2], [4, 4]], [0, 0], goal=[[5, 5], [2, 5]], goal_reached=[False, True], step=499)
    ts = env.step(torch.zeros(1, 2, 2))
    assert ts.truncated and not ts.terminated and ts.info["timeout"] == 1
    assert ts.info["timeout_rate"].item() == 0.5 and ts.info["success"] == 0


def test_success_is_all_arrived_and_none_crashed():
    for crashed, success in (([False, False], 1), ([False, True], 0)):
        env = placed([[2, 2], [4, 4]], [0, 0], goal=[[2, 2], [4, 4]], crashed=crashed)
        ts = env.step(torch.zeros(1, 2, 2))
        assert ts.terminated and ts.info["success"] == success and ts.info["goal_rate"] == 1


def anywhere(task):
    """Robots in the open, inside walls and inside each other, where only `load_state` puts them."""
    env = envs.make(task, num_envs=40, fill=0.5)
    env.reset(seed=2)
    W = env.options.map_size
    generator = torch.Generator().manual_seed(0)
    env.load_state({"pos": 0.5 + (W - 1) * torch.rand(40, env.num_agents, 2, generator=generator)})
    return env


@pytest.mark.parametrize("task", ["jaxnav_9x9x3a", "jaxnav_13x13x5a", "jaxnav_5x5x1a"])
def test_lidar_reads_what_marching_along_the_beams_does(task):
    env = anywhere(task)
    ours = samples(env.observe().obs.numpy())
    pos, theta = env.state.pos.numpy().astype(float), env.state.theta.numpy()
    wrong = 0
    for b in range(40):
        for i in range(env.num_agents):
            others = [(pos[b, j], theta[b, j]) for j in range(env.num_agents) if j != i]
            wrong += (ours[b, i] != march(pos[b, i], theta[b, i], env.state.map_data[b].numpy(), others)).sum()
    assert wrong <= 2, f"{wrong} of {ours.size} readings"
    assert (ours == 0).any() and len(np.unique(ours)) > 50


RANDOM_PLAY = {  # length and its deviation, return and its, goal, wall, robot: 1,024 episodes and more of the original
    "jaxnav_7x7x2a": (43.95, 22.4, -4.337, 1.22, 0.0283, 0.885, 0.098),
    "jaxnav_9x9x3a": (63.22, 32.1, -4.912, 1.31, 0.0239, 0.878, 0.110),
    "jaxnav_11x11x4a": (82.93, 41.3, -5.292, 1.55, 0.0199, 0.874, 0.119),
    "jaxnav_13x13x5a": (102.9, 52.4, -5.761, 1.74, 0.0164, 0.873, 0.121),
}


@pytest.mark.parametrize(
    "task, count", [("jaxnav_7x7x2a", 512)] + [pytest.param(task, 1024, marks=pytest.mark.slow) for task in TASKS]
)
def test_random_play_ends_as_in_the_original(task, count):
    length, length_sd, expected, spread, *rates = RANDOM_PLAY[task]
    env = envs.make(task, num_envs=count, seed=0)
    env.reset()
    generator = torch.Generator().manual_seed(0)
    low, high = torch.as_tensor(env.action_space.low), torch.as_tensor(env.action_space.high)
    names = ("episode_length", "episode_return", "goal_rate", "map_crash_rate", "agent_crash_rate", "timeout_rate")
    result, is_over = torch.zeros(len(names), count), torch.zeros(count, dtype=torch.bool)
    while not is_over.all():
        ts = env.step(low + (high - low) * torch.rand(count, env.num_agents, 2, generator=generator))
        ends = (ts.terminated | ts.truncated) & ~is_over
        result = torch.where(ends, torch.stack([ts.info[name].float() for name in names]), result)
        is_over |= ends
    mean = result.mean(1).tolist()
    error = 4.5 * math.sqrt(1 / count + 1 / 1024)
    assert mean[0] == pytest.approx(length, abs=error * length_sd)
    assert mean[1] == pytest.approx(expected, abs=error * spread)
    for name, ours, theirs in zip(names[2:], mean[2:], [*rates, 0.0]):
        assert ours == pytest.approx(theirs, abs=error * math.sqrt(theirs * (1 - theirs)) + 1e-9), name


# ---- State, options ----


def test_the_fields_of_the_specification_are_a_whole_situation():
    """Loaded into another environment, they play on alike to the end of the episode and into the next."""
    spec = ("pos", "theta", "vel", "goal", "map_data", "goal_reached", "crashed", "step", "done", "rng", "totals")
    env, other = envs.make("jaxnav_7x7x2a", num_envs=16, seed=1), envs.make("jaxnav_7x7x2a", num_envs=16, seed=2)
    env.reset(), other.reset()
    generator = torch.Generator().manual_seed(0)
    actions = torch.rand(250, 16, 2, 2, generator=generator) * torch.tensor([1.0, 0.5])
    for action in actions[:20]:
        env.step(action)
    other.load_state({name: tensor for name, tensor in env.state_dict().items() if name in spec})
    ended = torch.zeros(16, dtype=torch.bool)
    for action in actions[20:]:
        left, right = env.step(action), other.step(action)
        assert torch.equal(left.obs, right.obs) and torch.equal(left.state, right.state)
        ended |= left.terminated
    assert ended.all()


def test_a_penalty_of_another_reach():
    """The range is compared with the nominal radius of 0.3 plus lidar_thresh: samples 5, 7 and 11."""
    for thresh, last in ((0.0, 5), (0.1, 7), (0.3, 11)):
        assert envs.make("jaxnav_7x7x2a", lidar_thresh=thresh)._closest == last


def test_a_picture_of_any_state():
    env = envs.make("jaxnav_11x11x4a", num_envs=2, seed=5)
    env.reset()
    trail = []
    for _ in range(30):
        trail.append(env.state)
        env.step(torch.ones(2, 4, 2) * torch.tensor([1.0, 0.2]))
    picture = env.draw(env.state, 1)
    assert picture.dtype == np.uint8 and picture.shape == (540, 512, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert not np.array_equal(picture, env.draw(env.state, 0))
    assert not np.array_equal(picture, env.draw(env.state, 1, trail=trail))


def test_maps_of_any_size_and_team_can_be_named():
    env = envs.make("jaxnav_31x31x7a")
    assert env.reset().state.shape == (1, 29 * 29 + 9 * 7 + 1) and env.num_agents == 7
    with pytest.raises(ValueError, match="unknown task 'jaxnav_7x9x2a'; did you mean jaxnav_7x7x2a"):
        envs.make("jaxnav_7x9x2a")
    with pytest.raises(ValueError, match="map_size is 32; it must be between 5 and 31"):
        envs.make("jaxnav_32x32x2a")


@pytest.mark.parametrize(
    "option, message",
    [
        ({"map_size": 4}, "map_size is 4; it must be between 5 and 31"),
        ({"fill": 1.5}, "fill is 1.5; it must be between 0 and 1"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"goal_radius": 0.0}, "goal_radius is 0.0; it must be more than 0"),
    ],
)
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        envs.make("jaxnav_7x7x2a", **option)
