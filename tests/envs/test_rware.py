"""RWARE against the recorded original, the specification's examples, its other form; live beside jumanji 1.1.2 with
the extra [parity]."""

from pathlib import Path

import numpy as np
import pytest
import torch
from record_rware import FIELDS, RECORDED, Original, busy_actions, options_of, situations

import torch_mars.envs as envs
from torch_mars.envs import rng
from torch_mars.envs.core import fields_of
from torch_mars.envs.rware.layouts import layout
from torch_mars.envs.rware.task import FORWARD, TASKS, Options

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIZES = {"tiny": (11, 10, 32), "small": (20, 10, 80), "medium": (20, 16, 144), "large": (29, 16, 224)}
SIZES["xlarge"] = (38, 16, 304)
GOALS = {"tiny": (10, 4), "small": (19, 4), "medium": (19, 7), "large": (28, 7), "xlarge": (37, 7)}
STAY = 0


@pytest.fixture(params=["loops", "tensors"])
def form(request, monkeypatch):
    """Both forms of the rules, on CPU."""
    if request.param == "tensors":
        as_tensors(monkeypatch)
    return request.param


def as_tensors(monkeypatch):
    monkeypatch.setattr("torch_mars.envs.rware.env.runs_in_loops", lambda tensor: False)


def make(task="rware_tiny_2ag", num_envs=1, **options):
    env = envs.make(task, num_envs, auto_reset=False, **options)
    env.reset()
    return env


def at_home(env):
    """shelf_grid [1, R, C] with every shelf at its own place."""
    return torch.from_numpy(env.layout.shelf_grid.copy()).view(1, env.layout.rows, env.layout.columns)


def seen_by(obs):
    """The places of what is not zero; position apart."""
    return obs.tolist()[:2], [place for place in obs.nonzero().flatten().tolist() if place > 1]


# ---- tasks ----


def test_tasks_have_the_sizes_of_the_specification():
    assert len(TASKS) == 15
    for task, given in TASKS.items():
        size, team, *hard = task.removeprefix("rware_").split("_")
        robots = int(team.removesuffix("ag"))
        options, (rows, columns, shelves) = Options(**given), SIZES[size]
        plan, env = layout(options), envs.make(task)
        assert (plan.rows, plan.columns, plan.num_shelves) == (rows, columns, shelves)
        row, column = GOALS[size]
        assert plan.goals.tolist() == [row * columns + column, row * columns + column + 1]
        assert options.request_queue_size == (robots // 2 if hard else robots)
        assert (env.num_agents, env.observation_size, env.state_size, env.max_steps) == (robots, 66, 66 * robots, 500)


def test_the_tiny_floor_plan():
    plan = layout(Options())
    rows = ["".join(".S"[not cell] for cell in row) for row in plan.is_highway.reshape(11, 10)]
    assert rows == [".........."] + [".SS....SS."] * 8 + [".........."] * 2
    grid = plan.shelf_grid.reshape(11, 10)
    assert grid[1].tolist() == [0, 1, 2, 0, 0, 0, 0, 3, 4, 0] and grid[2, 1] == 5 and grid[8, 8] == 32


# ---- the specification's examples ----


def test_the_worked_example(form):
    env = make()
    grid = at_home(env)
    grid[0, 2, 2], grid[0, 9, 4] = 0, 6
    fields = {"agent_pos": [[[9, 4], [2, 1]]], "agent_dir": [[2, 1]], "is_carrying": [[True, False]]}
    env.load_state({**fields, "shelf_grid": grid, "request_queue": [[5, 9]], "step": [10]})
    obs = env.observe().obs[0]
    assert seen_by(obs[0]) == ([9, 4], [2, 5, 7, 56, 57]) and seen_by(obs[1]) == ([2, 1], [4, 50, 52, 56, 62, 64, 65])

    ts = env.step(torch.tensor([[1, 4]]))
    assert ts.reward.tolist() == [[1, 1]] and ts.info["deliveries"].item() == 1 and not ts.terminated
    assert env.state.agent_pos[0, 0].tolist() == [10, 4] and env.state.is_carrying.tolist() == [[True, True]]
    new, second = env.state.request_queue[0].tolist()
    assert second == 9 and 0 <= new < 32 and new not in (5, 9)
    env.load_state({"request_queue": [[20, 9]]})
    obs = env.observe().obs[0]
    assert seen_by(obs[0]) == ([10, 4], [2, 5, 7, 56])
    assert seen_by(obs[1]) == ([2, 1], [2, 4, 50, 52, 56, 62, 64, 65])

    ts = env.step(torch.tensor([[0, 1]]))
    assert env.state.is_carrying.tolist() == [[True, True]] and env.state.shelf_grid[0, 2, 1:3].tolist() == [0, 5]
    assert seen_by(ts.obs[0, 1]) == ([2, 2], [2, 4, 48, 50, 56, 60, 62, 63])
    ts = env.step(torch.tensor([[0, 0]]))
    assert ts.reward.sum() == 0 and env.state.is_carrying.tolist() == [[True, False]]
    assert env.state.shelf_grid[0, 2, 2] == 5 and env.state.step.item() == 13


@pytest.mark.parametrize(
    "first, second, ends",
    [
        (((5, 3), 1), ((5, 4), 1), True),  # the lower number follows
        (((5, 4), 1), ((5, 3), 1), False),  # the higher one does
        (((5, 3), 1), ((5, 4), 3), True),  # swap
        (((5, 3), 1), ((5, 5), 3), True),  # both to one cell
        (((5, 3), 1), ((5, 4), 0), True),
        (((5, 3), 1), ((4, 4), 2), True),
    ],
)
def test_who_collides(form, first, second, ends):
    env = make()
    pos, heading = zip(first, second)
    env.load_state({"agent_pos": [pos], "agent_dir": [heading], "step": [7]})
    ts = env.step(torch.full((1, 2), FORWARD))
    assert ts.terminated.item() == ends and ts.info["collisions"].item() == ends and not ts.truncated
    if first == ((5, 3), 1) and second == ((5, 4), 1):
        obs = ts.final_obs[0]
        assert seen_by(obs[0]) == ([5, 4], [4, 7, 28, 30]) and seen_by(obs[1]) == ([5, 5], [4, 7, 23, 25])
    if not ends:
        assert env.state.agent_pos.tolist() == [[[5, 5], [5, 4]]]


def test_of_two_robots_on_one_cell_the_higher_number_is_seen(form):
    """As after a collision: robots 1 and 2 stand to the right of robot 0, and face right and down."""
    env = make("rware_tiny_4ag")
    pos, heading = [[(5, 3), (5, 4), (5, 4), (0, 0)]], [[0, 1, 2, 0]]
    env.load_state({"agent_pos": pos, "agent_dir": heading, "request_queue": [[0, 1, 2, 3]]})
    assert seen_by(env.observe().obs[0, 0]) == ([5, 3], [3, 7, 28, 31, 48, 54, 60])


def test_a_ring_of_robots_collides(form):
    env = make("rware_tiny_4ag")
    ring = [[(5, 3), (5, 4), (6, 4), (6, 3)]]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        pos, heading = torch.tensor(ring)[:, order], torch.tensor([[1, 2, 3, 0]])[:, order]
        env.load_state({"agent_pos": pos, "agent_dir": heading, "step": [0]})
        assert env.step(torch.full((1, 4), FORWARD)).terminated.item()


def test_of_two_carriers_that_meet_the_later_one_s_shelf_stays_and_pays(form):
    """Both go to the first goal, and both shelves are asked for: it pays once, for the higher number's."""
    env = make()
    grid = at_home(env)
    grid[0, 2, 2], grid[0, 3, 1], grid[0, 10, 3], grid[0, 9, 4] = 0, 0, 6, 9
    fields = {"agent_pos": [[[10, 3], [9, 4]]], "agent_dir": [[1, 2]], "is_carrying": [[True, True]]}
    env.load_state({**fields, "shelf_grid": grid, "request_queue": [[5, 8]], "step": [0]})
    ts = env.step(torch.full((1, 2), FORWARD))
    assert ts.terminated and ts.reward[0, 0] == 1 and env.state.shelf_grid[0, 10, 4] == 9
    assert env.state.request_queue[0, 0] == 5 and env.state.request_queue[0, 1] not in (5, 8)
    assert (env.state.shelf_grid == 6).sum() == 0
    env.load_state(env.state_dict())  # a State that play leaves can be put back
    env.draw(env.state), env.observe()


def test_a_shelf_brought_in_the_same_step_can_be_loaded_by_a_higher_number_only(form):
    for carrier, loader in ((0, 1), (1, 0)):
        env = make()
        grid = at_home(env)
        grid[0, 2, 2], grid[0, 9, 4] = 0, 6
        pos, heading, carries = [[0, 0], [0, 0]], [0, 0], [False, False]
        pos[carrier], heading[carrier], carries[carrier] = [9, 4], 1, True
        pos[loader] = [9, 5]
        fields = {"agent_pos": [pos], "agent_dir": [heading], "is_carrying": [carries]}
        env.load_state({**fields, "shelf_grid": grid})
        actions = torch.full((1, 2), FORWARD)
        actions[0, loader] = 4
        assert env.step(actions).terminated.item()
        assert env.state.is_carrying[0, loader].item() == (loader > carrier)


def test_the_second_goal_sees_the_queue_of_the_first(form):
    """With one shelf that is not asked for, it is the next request: it waits on the second goal, and pays at once."""
    env = make(request_queue_size=31)
    grid = at_home(env)
    grid[0, 1, 1], grid[0, 1, 2], grid[0, 10, 4], grid[0, 10, 5] = 0, 0, 1, 2
    queue = [0, *range(2, 32)]  # all but shelf 1
    state = {"agent_pos": [[[0, 0], [0, 9]]], "agent_dir": [[0, 0]], "shelf_grid": grid, "request_queue": [queue]}
    env.load_state(state)
    ts = env.step(torch.zeros(1, 2, dtype=torch.int64))
    assert ts.reward[0, 0] == 2 and env.state.request_queue[0, 0] == 0  # 0 is asked for again, and pays a step later
    assert env.step(torch.zeros(1, 2, dtype=torch.int64)).reward[0, 0] == 2


def test_a_forbidden_step_drops_the_load_and_a_wall_does_not(form):
    env = make()
    grid = at_home(env)
    fields = {"agent_pos": [[[2, 1], [0, 5]]], "agent_dir": [[1, 0]], "is_carrying": [[True, False]]}
    env.load_state({**fields, "shelf_grid": grid})
    assert env.observe().action_mask[0].tolist() == [[True, False, True, True, True], [True] * 5]
    env.step(torch.tensor([[FORWARD, FORWARD]]))
    assert env.state.agent_pos.tolist() == [[[2, 1], [0, 5]]] and not env.state.is_carrying[0, 0]
    grid[0, 2, 1], grid[0, 0, 5] = 0, 5
    env.load_state({"agent_pos": [[[8, 8], [0, 5]]], "is_carrying": [[False, True]], "shelf_grid": grid})
    assert env.observe().action_mask.all()  # facing a wall, its own cell is no obstacle
    env.step(torch.tensor([[STAY, FORWARD]]))
    assert env.state.agent_pos[0, 1].tolist() == [0, 5] and env.state.is_carrying[0, 1]


def test_time_and_collisions_end_episodes(form):
    env = make(num_envs=2)
    far = {"agent_pos": [[[5, 3], [5, 4]], [[0, 0], [9, 9]]], "agent_dir": [[1, 3], [0, 0]], "step": [499, 499]}
    env.load_state(far)
    ts = env.step(torch.full((2, 2), FORWARD))
    assert ts.terminated.tolist() == [True, False] and ts.truncated.tolist() == [False, True]
    assert ts.info["collisions"].tolist() == [1, 0] and ts.info["episode_length"].tolist() == [500, 500]


# ---- beside the original ----


def compare_steps(env, before, actions, after, reward, done, obs, mask, where):
    """A step from the original's situation to the original's. Requests are drawn: any other shelf will do."""
    env.load_state({name: before[name].astype(np.int64) for name in FIELDS})
    ts = env.step(torch.from_numpy(actions.astype(np.int64)))
    state, goals = env.state, env.layout.goals
    for name in ("agent_pos", "agent_dir", "is_carrying", "shelf_grid", "step"):
        np.testing.assert_array_equal(getattr(state, name), after[name], err_msg=f"{name}, {where}")
    old, queue, theirs = before["request_queue"], state.request_queue.numpy(), after["request_queue"]
    on_goals = after["shelf_grid"].reshape(len(done), -1)[:, goals] - 1
    is_wanted = (old[:, None] == on_goals[..., None]).any(2)
    is_chance = is_wanted[:, 0] & ~is_wanted[:, 1] & (on_goals[:, 1] >= 0)  # the new request may lie on the other goal
    np.testing.assert_array_equal(ts.reward[~is_chance, 0], reward[~is_chance], err_msg=where)
    kept = ((old == theirs) | (old == queue)) & ~is_chance[:, None]
    np.testing.assert_array_equal(queue[kept], theirs[kept], err_msg=where)
    for new, was in zip(queue, old):
        assert len(set(new)) == len(new) and ((0 <= new) & (new < env.layout.num_shelves)).all(), where
        assert not set(new[new != was]) & set(was) or ts.reward.max() > 1, where
    np.testing.assert_array_equal((ts.terminated | ts.truncated), done, err_msg=where)
    is_out_of_time = (before["step"] + 1 >= env.max_steps) & ~ts.terminated.numpy()
    np.testing.assert_array_equal(ts.truncated, is_out_of_time, err_msg=where)
    env.load_state({"request_queue": theirs})
    seen, goes_on = env.observe(), ~ts.terminated.numpy()
    np.testing.assert_array_equal(seen.obs[goes_on], obs[goes_on], err_msg=where)
    np.testing.assert_array_equal(seen.action_mask[goes_on], mask[goes_on], err_msg=where)
    assert torch.equal(seen.state, seen.obs.flatten(1))
    return ts


@pytest.mark.parametrize("task", RECORDED)
def test_episodes_equal_the_recorded_ones(task, form):
    record = dict(np.load(FIXTURES / f"{task}.npz"))
    is_over = np.zeros(record["done"].shape[1], bool)
    env, steps, ended = make(task, len(is_over)), 0, 0
    for t in range(len(record["done"])):
        alive = np.flatnonzero(~is_over)
        if len(alive) == 0:
            break
        if len(alive) < env.num_envs:
            env = make(task, len(alive))
        before, after = ({name: record[name][k, alive] for name in FIELDS} for k in (t, t + 1))
        outcome = [record[name][t, alive] for name in ("reward", "done")]
        seen = [record[name][t + 1, alive] for name in ("obs", "mask")]
        ts = compare_steps(env, before, record["action"][t, alive], after, *outcome, *seen, f"{task}, step {t}")
        steps, ended = steps + len(alive), ended + int(ts.terminated.sum())
        is_over |= record["done"][t]
    assert steps > 400 and ended >= 5


@pytest.mark.parametrize("task", RECORDED)
def test_steps_from_crowded_situations_equal_the_recorded_ones(task, form):
    record = {
        name.removeprefix("one_"): value for name, value in np.load(FIXTURES / f"{task}.npz").items() if "one_" in name
    }
    env = make(task, len(record["done"]))
    after = {name: record[f"after_{name}"] for name in FIELDS}
    outcome = [record[name] for name in ("reward", "done", "obs", "mask")]
    ts = compare_steps(env, record, record["action"], after, *outcome, task)
    assert ts.reward.sum() > 0 and ts.terminated.any()


# ---- both forms ----


def both_forms(task, count, monkeypatch, **options):
    """A step function for each form, from fields to (State, TimeStep)."""
    env = make(task, count, **options)

    def step(fields, actions, is_in_loops):
        with monkeypatch.context() as elsewhere:
            if not is_in_loops:
                as_tensors(elsewhere)
            env.reset()
            env.load_state(fields)
            seen = env.observe()
            ts = env.step(torch.from_numpy(actions))
            return env.state, ts, seen

    return step


@pytest.mark.parametrize("task", ["rware_tiny_2ag", "rware_tiny_4ag_hard", "rware_large_8ag"])
def test_loops_equal_tensors_from_crowded_situations(task, monkeypatch):
    options, count = options_of(task), 400
    fields = situations(options, count, seed=5) | {"rng": rng.keys(9, count).numpy()}
    fields["is_carrying"][::7] = False
    actions = busy_actions(np.random.default_rng(0), options, fields)
    step = both_forms(task, count, monkeypatch)
    found, expected = step(fields, actions, True), step(fields, actions, False)
    assert_same(found, expected)
    assert found[1].reward.sum() > 5 and found[1].terminated.sum() > 10


def assert_same(found, expected):
    for name, value in fields_of(found[0]).items():
        assert torch.equal(value, fields_of(expected[0])[name]), name
        assert value.dtype == fields_of(expected[0])[name].dtype, name
    for left, right in zip(found[1:], expected[1:]):
        for name in ("obs", "state", "action_mask", "reward", "terminated", "truncated", "final_obs"):
            assert torch.equal(getattr(left, name), getattr(right, name)), name
        for name, value in left.info.items():
            assert torch.equal(value, right.info[name]), name


def test_loops_equal_tensors_after_collisions_too(monkeypatch):
    """Robots on one cell, carriers without a shelf: what a colliding step leaves, and `load_state` takes."""
    count = 300
    fields = situations(options_of("rware_tiny_4ag"), count, seed=6) | {"rng": rng.keys(3, count).numpy()}
    step = both_forms("rware_tiny_4ag", count, monkeypatch)
    actions = np.full((count, 4), FORWARD)
    state, ts, _ = step(fields, actions, True)
    hit = ts.terminated
    fields = {name: getattr(state, name).numpy() for name in (*FIELDS, "rng")}
    actions = np.random.default_rng(1).integers(5, size=(count, 4))
    assert hit.sum() > 50
    assert_same(step(fields, actions, True), step(fields, actions, False))


@pytest.mark.parametrize("task, steps", [("rware_tiny_4ag", 400), ("rware_large_8ag", 150)])
def test_whole_episodes_equal_in_both_forms_and_in_the_engine(task, steps, monkeypatch):
    """With auto-reset on one side and unseeded resets on the other."""
    count = 6
    env, other = envs.make(task, count, seed=5), envs.make(task, count, seed=5)
    env.reset()
    with monkeypatch.context() as elsewhere:
        as_tensors(elsewhere)
        other.reset()
    engines = [envs.make(task, auto_reset=False).engine() for _ in range(count)]
    for i, engine in enumerate(engines):
        engine.load_state({"rng": rng.keys(5, count)[i].item()})
        engine.reset()
    generator, ended = np.random.default_rng(0), 0
    for _ in range(steps):
        actions = busy_actions(generator, env.options, {name: getattr(env.state, name).numpy() for name in FIELDS})
        ts = env.step(torch.from_numpy(actions))
        with monkeypatch.context() as elsewhere:
            as_tensors(elsewhere)
            again = other.step(torch.from_numpy(actions))
        assert_same((env.state, ts), (other.state, again))
        for i, engine in enumerate(engines):
            outcome = engine.step(actions[i])
            np.testing.assert_array_equal(outcome.obs, ts.final_obs[i])
            np.testing.assert_array_equal(outcome.state, ts.final_state[i])
            np.testing.assert_array_equal(outcome.reward, ts.reward[i])
            assert (outcome.terminated, outcome.truncated) == (ts.terminated[i], ts.truncated[i])
            for name, value in engine.info().items():
                assert value == ts.info[name][i], name
            if outcome.terminated or outcome.truncated:
                ended += 1
                outcome = engine.reset()
            np.testing.assert_array_equal(outcome.action_mask, ts.action_mask[i])
            for name, value in engine.fields.items():
                np.testing.assert_array_equal(value, fields_of(env.state)[name][i], err_msg=name)
    assert ended > 5


# ---- chance ----


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum().item()


def is_uniform(numbers, high):
    counts = torch.bincount(numbers.flatten(), minlength=high).float()
    return len(counts) == high and chi_square(counts) < (high - 1) + 5 * (2 * (high - 1)) ** 0.5


def test_starts_are_uniform():
    env = envs.make("rware_tiny_4ag", 20_000, seed=2)
    env.reset()
    state = env.state
    cell = state.agent_pos[..., 0] * 10 + state.agent_pos[..., 1]
    assert all(is_uniform(cell[:, agent], 110) for agent in range(4)), "storage, highways and goals alike"
    apart = (cell[:, 1] - cell[:, 0]) % 110
    assert is_uniform(apart - 1, 109) and (cell.sort(1).values.diff(dim=1) > 0).all()
    codes = (state.agent_dir * torch.tensor([64, 16, 4, 1])).sum(1)
    assert is_uniform(codes, 256)
    queue = state.request_queue
    assert all(is_uniform(queue[:, slot], 32) for slot in range(4)) and (queue.sort(1).values.diff(dim=1) > 0).all()
    assert is_uniform((queue[:, 3] - queue[:, 0]) % 32 - 1, 31)
    assert not state.is_carrying.any() and (state.shelf_grid == at_home(env)).all() and (state.step == 0).all()


def test_new_requests_are_uniform_over_those_not_asked_for(form):
    count = 20_000
    env = make("rware_tiny_4ag", count)
    grid = at_home(env).repeat(count, 1, 1)
    grid[:, 2, 2], grid[:, 9, 4] = 0, 6
    pos = torch.tensor([[9, 4], [0, 0], [0, 2], [0, 4]]).repeat(count, 1, 1)
    fields = {"agent_pos": pos, "agent_dir": torch.full((count, 4), 2), "shelf_grid": grid}
    fields["is_carrying"] = torch.tensor([True, False, False, False]).repeat(count, 1)
    env.load_state({**fields, "request_queue": torch.tensor([31, 0, 5, 9]).repeat(count, 1)})
    ts = env.step(torch.tensor([FORWARD, 2, 2, 2]).repeat(count, 1))
    queue = env.state.request_queue
    assert (ts.reward == 1).all() and (queue[:, [0, 1, 3]] == torch.tensor([31, 0, 9])).all()
    free = [shelf for shelf in range(32) if shelf not in (31, 0, 5, 9)]
    place = torch.full((32,), -1)
    place[free] = torch.arange(28)
    assert is_uniform(place[queue[:, 2]], 28)


def test_random_play_ends_as_the_original_s_does():
    """Of 1,024 and 512 episodes of the original: length 354.6 +- 5.7 in tiny_2ag, 93.2 +- 4.9 in tiny_4ag."""
    for task, length, error in (("rware_tiny_2ag", 354.6, 5.7), ("rware_tiny_4ag", 93.2, 4.9)):
        env = envs.make(task, 512, seed=1, auto_reset=False)
        env.reset()
        generator, lengths = torch.Generator().manual_seed(0), torch.zeros(512)
        is_running = torch.ones(512, dtype=torch.bool)
        for _ in range(500):
            ts = env.step(torch.randint(0, 5, (512, env.num_agents), generator=generator))
            lengths += is_running
            is_running &= ~(ts.terminated | ts.truncated)
        ours = (lengths.std() / 512**0.5).item()
        assert abs(lengths.mean() - length) < 4 * (ours**2 + error**2) ** 0.5, task


# ---- what cannot be ----


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shelf_columns": 4}, "shelf_columns is 4; it must be odd"),
        ({"shelf_rows": 0}, "shelf_rows is 0; it must be 1 or more"),
        ({"column_height": 0}, "column_height is 0; it must be 1 or more"),
        ({"shelf_columns": 1}, "make 0 shelves; allowed are 2 to 32766"),
        ({"shelf_rows": 10**9}, "allowed are 2 to 32766"),
        ({"request_queue_size": 32}, "request_queue_size is 32; of 32 shelves at most 31 can be asked for"),
        ({"request_queue_size": 0}, "request_queue_size is 0"),
        ({"num_agents": 111}, "num_agents is 111; the warehouse has 110 cells"),
        ({"num_agents": 0}, "num_agents is 0"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"sensor_range": 2}, "unknown option 'sensor_range'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        envs.make("rware_tiny_2ag", **options)


def test_the_largest_and_the_smallest_warehouse():
    for options in ({"num_agents": 110, "request_queue_size": 31}, {"column_height": 1, "request_queue_size": 1}):
        env = envs.make("rware_tiny_2ag", 2, **options)
        env.reset()
        for _ in range(3):
            env.step(torch.full((2, env.num_agents), FORWARD))
        assert env.draw(env.state).dtype == np.uint8


def test_states_that_cannot_be_are_refused_and_change_nothing():
    env = make(num_envs=2)
    before, grid = env.state_dict(), env.state.shelf_grid.clone()
    grid[1, 0, 0] = 5  # a second time
    beyond, none = grid.clone(), grid.clone()
    beyond[1, 0, 0], none[1, 0, 0] = 33, -1
    pos, load = torch.tensor([[[0, 0], [0, 1]]] * 2), torch.tensor([[False, False], [True, False]])
    for fields, message in (
        ({"agent_pos": [[[0, 0], [0, 1]], [[11, 0], [0, 0]]]}, "'agent_pos' has 11; allowed are the 11 x 10 cells"),
        ({"agent_pos": [[[0, 0], [0, 1]], [[0, -1], [0, 0]]]}, "'agent_pos' has -1"),
        ({"agent_pos": [[[0, 0], [0, 1]], [[0, 10], [0, 0]]]}, "'agent_pos' has 10"),
        ({"agent_dir": [[0, 0], [0, 4]]}, "'agent_dir' has 4; allowed are 0 to 3"),
        ({"shelf_grid": grid}, "'shelf_grid' has 5 twice"),
        ({"shelf_grid": beyond}, "'shelf_grid' has 33; allowed are 0"),
        ({"shelf_grid": none}, "'shelf_grid' has -1"),
        ({"request_queue": [[0, 1], [32, 2]]}, "'request_queue' has 32; allowed are 0 to 31"),
        ({"request_queue": [[0, 1], [7, 7]]}, "'request_queue' has 7 twice"),
        ({"agent_pos": pos, "is_carrying": load}, r"robot 0 with a load at \(0, 0\), where shelf_grid has no shelf"),
    ):
        with pytest.raises(ValueError, match=message):
            env.load_state(fields)
    for name, value in env.state_dict().items():
        assert torch.equal(value, before[name]), name
    pos[1, 1] = 0  # a second robot on its cell: they have collided
    env.load_state({"agent_pos": pos, "is_carrying": load})


# ---- pictures ----


def test_pictures_show_what_is_there():
    env = make()
    grid = at_home(env)
    grid[0, 2, 2], grid[0, 9, 4] = 0, 6
    fields = {"agent_pos": [[[9, 4], [2, 1]]], "agent_dir": [[2, 1]], "is_carrying": [[True, False]]}
    env.load_state({**fields, "shelf_grid": grid, "request_queue": [[5, 9]]})
    lines = env.draw_text(env.state).splitlines()
    assert lines[0].endswith("deliveries 0") and lines[3] == ".  s1>_  .  .  .  .  s  s  ."
    assert lines[4] == ".  s  r  .  .  .  .  s  s  ." and lines[10] == ".  .  .  .  R0v.  .  .  .  ."
    assert lines[11] == ".  .  .  .  G  G  .  .  .  ."
    picture = env.draw(env.state)
    for changed in ({"agent_dir": [[2, 2]]}, {"request_queue": [[5, 8]]}, {"is_carrying": [[False, False]]}):
        env.load_state({**fields, "request_queue": [[5, 9]]} | changed)
        assert (env.draw(env.state) != picture).any(), changed
    ts = env.observe()
    assert (env.draw_observation(ts.obs[0, 0], 0) != env.draw_observation(ts.obs[0, 1], 1)).any()
    env = envs.make("rware_xlarge_4ag")
    env.reset()
    height, width, _ = env.draw(env.state).shape
    assert 512 <= height <= 640 and width >= 256


# ---- live ----


live = pytest.mark.parity


@pytest.fixture(scope="module")
def jumanji():
    return pytest.importorskip("jumanji", reason="the original RWARE is jumanji's: pip install torch_mars[parity]")


@live
@pytest.mark.parametrize("task", TASKS)
def test_whole_episodes_beside_the_original(task, jumanji):
    """From its own starts and from busy situations, and single steps from crowded ones."""
    options, count = options_of(task), 64
    original, generator = Original(options), np.random.default_rng(0)
    starts, busy = original.reset(0, count), situations(options, count, 1, crowded=False)
    fields = {name: np.concatenate([starts[name][::2], busy[name][::2]]) for name in FIELDS}
    env, kinds = make(task, count), np.zeros(3)
    for t in range(500):
        actions = busy_actions(generator, options, fields)
        after, reward, done, obs, mask = original.step(fields, actions, t)
        ts = compare_steps(env, fields, actions, after, reward, done, obs, mask, f"{task}, step {t}")
        kinds += [ts.terminated.sum().item(), ts.truncated.sum().item(), ts.reward[:, 0].sum().item()]
        fresh = situations(options, count, 2 + t, crowded=t % 2 == 0) if done.any() else after
        fields = {
            name: np.where(done.reshape(-1, *[1] * (after[name].ndim - 1)), fresh[name], after[name]) for name in FIELDS
        }
    assert (kinds > 0).all(), kinds


@live
@pytest.mark.parametrize("task", ["rware_tiny_2ag", "rware_small_4ag"])
def test_nothing_is_random_when_all_shelves_but_one_are_asked_for(task, jumanji):
    """The one that is not is the next request: rewards and queues are the original's."""
    options = options_of(task, request_queue_size=layout(options_of(task)).num_shelves - 1)
    original, generator, count, paid = Original(options), np.random.default_rng(0), 256, 0
    env = make(task, count, request_queue_size=options.request_queue_size)
    for seed in range(20):
        fields = situations(options, count, seed)
        actions = busy_actions(generator, options, fields)
        after, reward, *_ = original.step(fields, actions, seed)
        env.load_state({name: fields[name].astype(np.int64) for name in FIELDS})
        ts = env.step(torch.from_numpy(actions))
        np.testing.assert_array_equal(ts.reward[:, 0], reward)
        np.testing.assert_array_equal(env.state.request_queue, after["request_queue"])
        paid += reward.sum()
    assert paid > 300
