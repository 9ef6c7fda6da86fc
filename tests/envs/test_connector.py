"""Connector against the recorded original, the specification's numbers, its other form; live beside jumanji 1.1.2 with
the extra [parity]."""

from pathlib import Path

import numpy as np
import pytest
import torch
from record_connector import (
    FIELDS,
    RECORDED,
    Original,
    greedy,
    mixed_actions,
    scrawled,
    size_of,
    vector_observation,
)

import torch_mars.envs as envs
from torch_mars.envs import rng
from torch_mars.envs.connector import boards
from torch_mars.envs.connector.task import TASKS, Options, other_task
from torch_mars.envs.core import fields_of

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIZES = {"connector_5x5x3a": (25, 7), "connector_7x7x5a": (49, 10)}
SIZES |= {"connector_10x10x10a": (100, 15), "connector_15x15x23a": (225, 22)}  # time limit, walk limit
# of new boards: distance from head to target, of agent 0, of the last agent, share at distance 1
DISTANCES = {
    "connector_5x5x3a": (3.41, 3.17, 3.60, 0.170),
    "connector_7x7x5a": (4.09, 3.94, 4.36, 0.129),
    "connector_10x10x10a": (4.46, 4.27, 4.69, 0.130),
    "connector_15x15x23a": (4.71, 4.49, 4.98, 0.117),
}
# of 2,048 episodes of the original: return, its standard error, length, its error, connected ratio
PLAY = {
    ("connector_5x5x3a", "any"): (-0.623, 0.026, 20.89, 0.12, 0.323),
    ("connector_5x5x3a", "greedy"): (2.348, 0.015, 5.41, 0.04, 0.894),
    ("connector_7x7x5a", "greedy"): (3.438, 0.026, 8.56, 0.08, 0.839),
    ("connector_10x10x10a", "greedy"): (6.111, 0.045, 12.77, 0.12, 0.797),
}


def as_tensors(monkeypatch):
    monkeypatch.setattr("torch_mars.envs.connector.env.runs_in_loops", lambda tensor: False)


@pytest.fixture(params=["loops", "tensors"])
def form(request, monkeypatch):
    """Both forms of the rules, on CPU."""
    if request.param == "tensors":
        as_tensors(monkeypatch)
    return request.param


def make(task="connector_5x5x3a", num_envs=1, **options):
    env = envs.make(task, num_envs, auto_reset=False, **options)
    env.reset()
    return env


def arrays_of(env):
    return {name: getattr(env.state, name).numpy() for name in FIELDS}


# ---- tasks ----


def test_tasks_have_the_sizes_of_the_specification():
    assert list(TASKS) == list(SIZES)
    for task, (limit, walk) in SIZES.items():
        env = envs.make(task)
        N = env.num_agents
        assert (env.max_steps, env.options.walk_length, env.observation_size) == (limit, walk, 54)
        assert env.state_size == 54 * N and env.action_space.n == 5 and env.has_shared_reward


@pytest.mark.parametrize("task", ["connector_3x3x2a", "connector_40x40x400a", "connector_6x6x9a"])
def test_other_sizes_can_be_made(task):
    env = envs.make(task, 2)
    ts = env.reset()
    for _ in range(3):
        ts = env.step(torch.ones(2, env.num_agents, dtype=torch.int64))
    assert ts.obs.isfinite().all() and env.draw(env.state).dtype == np.uint8
    env.load_state(env.state_dict())


@pytest.mark.parametrize(
    "name", ["connector_05x5x3a", "connector_5x6x3a", "connector_5x5x03a", "connector_5x5x0a", "connector_5x5x3a\n"]
)
def test_a_size_has_one_name(name):
    assert other_task(name) is None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_agents": 7}, "num_agents is 7; a board of 5 x 5 holds at most 6"),
        ({"num_agents": 0}, "num_agents is 0; it must be 1 or more"),
        ({"grid_size": 2}, "grid_size is 2; it must be between 3 and 40"),
        ({"grid_size": 41}, "grid_size is 41; it must be between 3 and 40"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"timestep_reward": float("inf")}, "timestep_reward is inf"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        envs.make("connector_5x5x3a", **options)
    with pytest.raises(ValueError, match="num_agents is 9; a board of 5 x 5 holds at most 6"):
        envs.make("connector_5x5x9a")


# ---- the worked example ----


def example(**options):
    env = make(**options)
    grid = torch.zeros(1, 5, 5)
    for code, place in ((2, (0, 0)), (5, (1, 1)), (8, (2, 0)), (3, (0, 2)), (6, (4, 4)), (9, (2, 1))):
        grid[0][place] = code
    heads, targets = [[[0, 0], [1, 1], [2, 0]]], [[[0, 2], [4, 4], [2, 1]]]
    env.load_state({"grid": grid, "agent_pos": heads, "target_pos": targets})
    return env


def test_the_worked_example(form):
    env = example()
    allowed = [[0, 2, 3], [0, 1, 2, 4], [0, 1, 2, 3]]
    assert [row.nonzero().flatten().tolist() for row in env.observe().action_mask[0]] == allowed
    ts = env.step(torch.tensor([[2, 1, 2]]))
    assert ts.reward.tolist() == [[pytest.approx(0.91)] * 3] and not ts.terminated
    rows = [[2, 5, 3, 0, 0], [0, 4, 0, 0, 0], [7, 8, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 6]]
    assert env.state.grid[0].tolist() == rows and ts.info["total_path_length"].item() == 5
    assert ts.info["connected_ratio"].item() == pytest.approx(1 / 3) and ts.info["won_episode"].item() == 0
    for actions in ([2, 2, 3], [3, 3, 4]):
        assert not ts.terminated
        assert [row.nonzero().flatten().tolist() for row in ts.action_mask[0]] == [[0, 3], [0], [0]]
        ts = env.step(torch.tensor([actions]))
        assert ts.reward.tolist() == [[pytest.approx(-0.06)] * 3]
    assert ts.terminated and not ts.truncated and ts.info["total_path_length"].item() == 6
    blockers = [1] * 5 + [1, 1, -1, 1, 0] + [1, 1, 1, -1, 0] + [1, 1, -1, 1, 0] + [1, 1, 0, 0, 0]
    targets = [1] * 5 + [1, 1, 0, 0, 1] + [1, 1, 0, 0, 0] * 3
    assert ts.final_obs[0, 0].tolist() == pytest.approx([0.04, 0, 0, 0.08, *blockers, *targets])
    assert ts.final_obs[0, 2, 2:4].tolist() == [0, 0], "a target that is reached"


def test_rewards_of_one_s_own(form):
    env = example(shared_reward=False, connected_reward=2.0)
    assert not env.has_shared_reward
    ts = env.step(torch.tensor([[2, 1, 2]]))
    assert ts.reward.tolist() == [pytest.approx([-0.03, -0.03, 1.97])]
    assert ts.info["episode_return"].item() == pytest.approx(1.91 / 3)
    assert env.step(torch.tensor([[0, 0, 0]])).reward.tolist() == [pytest.approx([-0.03, -0.03, 0])]


def test_the_time_limit_truncates_what_is_not_over(form):
    env = make(num_envs=2, num_agents=1)
    grid = torch.zeros(2, 5, 5)
    grid[:, 2, 2], grid[:, 2, 3] = 2, 3
    env.load_state({"grid": grid, "agent_pos": [[[2, 2]]] * 2, "target_pos": [[[2, 3]]] * 2, "step": [24, 24]})
    ts = env.step(torch.tensor([[2], [1]]))
    assert ts.terminated.tolist() == [True, False] and ts.truncated.tolist() == [False, True]
    assert ts.info["won_episode"].tolist() == [1, 0]


# ---- beside the original ----


def compare_step(env, before, action, after, reward, terminated, truncated, mask, where):
    env.load_state(before)
    np.testing.assert_array_equal(env.observe().obs, vector_observation(before), err_msg=where)
    ts = env.step(torch.from_numpy(action.astype(np.int64)))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(env.state, name), after[name], err_msg=f"{name}, {where}")
    np.testing.assert_allclose(ts.reward, np.repeat(reward.sum(1)[:, None], env.num_agents, 1), atol=2e-6)
    np.testing.assert_array_equal(ts.terminated, terminated, err_msg=where)
    np.testing.assert_array_equal(ts.truncated, truncated, err_msg=where)
    np.testing.assert_array_equal(ts.action_mask, mask, err_msg=where)
    np.testing.assert_array_equal(ts.obs, vector_observation(after), err_msg=where)
    assert torch.equal(ts.state, ts.obs.flatten(1))
    is_connected = (after["agent_pos"] == after["target_pos"]).all(2)
    np.testing.assert_allclose(ts.info["connected_ratio"], is_connected.mean(1), atol=1e-6)
    np.testing.assert_array_equal(ts.info["won_episode"], is_connected.all(1))
    trails = ((after["grid"] % 3 == 1) & (after["grid"] > 0)).sum((1, 2))
    np.testing.assert_array_equal(ts.info["total_path_length"], trails + env.num_agents)


@pytest.mark.parametrize("task", RECORDED)
def test_steps_equal_the_recorded_ones(task, form):
    """Of whole episodes, all at once: nothing in a step is random."""
    record = dict(np.load(FIXTURES / f"{task}.npz"))
    env = make(task, len(record["step"]))
    before, after = ({name: record[prefix + name] for name in FIELDS} for prefix in ("", "after_"))
    outcome = (record[name] for name in ("reward", "terminated", "truncated", "mask_after"))
    compare_step(env, before, record["action"], after, *outcome, task)
    env.load_state(before)
    np.testing.assert_array_equal(env.observe().action_mask, record["mask"])
    np.testing.assert_allclose(record["reward"].max(), 0.97)
    env = make(task, len(record["step"]), shared_reward=False)
    env.load_state(before)
    ts = env.step(torch.from_numpy(record["action"].astype(np.int64)))
    np.testing.assert_allclose(ts.reward, record["reward"], atol=1e-6)


# ---- both forms ----


def assert_same(found, expected, where=""):
    for name, value in fields_of(found[0]).items():
        assert torch.equal(value, fields_of(expected[0])[name]), f"{name} {where}"
        assert value.dtype == fields_of(expected[0])[name].dtype, name
    for name in ("obs", "state", "action_mask", "reward", "terminated", "truncated", "final_obs"):
        assert torch.equal(getattr(found[1], name), getattr(expected[1], name)), f"{name} {where}"
    for name, value in found[1].info.items():
        assert torch.equal(value, expected[1].info[name]), f"{name} {where}"


@pytest.mark.parametrize("task", [*TASKS, "connector_14x14x49a"])
@pytest.mark.parametrize("options", [{}, {"shared_reward": False, "connected_reward": 0.3, "timestep_reward": 0.1}])
def test_whole_episodes_equal_in_both_forms_and_in_the_engine(task, options, monkeypatch):
    """Auto-reset on one side, unseeded resets on the other: boards too. Every other environment plays well."""
    count = 6
    env, other = (envs.make(task, count, seed=3, **options) for _ in range(2))
    ts = env.reset()
    with monkeypatch.context() as elsewhere:
        as_tensors(elsewhere)
        other.reset()
    engines = [envs.make(task, auto_reset=False, **options).engine() for _ in range(2)]
    for i, engine in enumerate(engines):
        engine.load_state({"rng": rng.keys(3, count)[i].item()})
        engine.reset()
    generator, ended = np.random.default_rng(0), 0
    for t in range(40):
        actions = mixed_actions(generator, arrays_of(env), ts.action_mask.numpy())
        ts = env.step(torch.from_numpy(actions))
        with monkeypatch.context() as elsewhere:
            as_tensors(elsewhere)
            again = other.step(torch.from_numpy(actions))
        assert_same((env.state, ts), (other.state, again), f"step {t}")
        for i, engine in enumerate(engines):
            outcome = engine.step(actions[i])
            np.testing.assert_array_equal(outcome.obs, ts.final_obs[i])
            np.testing.assert_array_equal(outcome.reward, ts.reward[i])
            assert (outcome.terminated, outcome.truncated) == (ts.terminated[i], ts.truncated[i])
            for name, value in engine.info().items():
                np.testing.assert_allclose(value, ts.info[name][i], atol=1e-6, err_msg=name)
            if outcome.terminated or outcome.truncated:
                ended += 1
                outcome = engine.reset()
            np.testing.assert_array_equal(outcome.action_mask, ts.action_mask[i])
            for name, value in engine.fields.items():
                np.testing.assert_allclose(value, fields_of(env.state)[name][i], atol=1e-6, err_msg=name)
    assert ended > 1


@pytest.mark.parametrize("size, agents", [(5, 3), (5, 6), (10, 10)])
def test_loops_equal_tensors_on_scrawled_boards(size, agents, monkeypatch):
    task, count = f"connector_{size}x{size}x{agents}a", 500
    fields = scrawled(count, size, agents, seed=1)
    outcomes = []
    for is_in_loops in (True, False):
        with monkeypatch.context() as elsewhere:
            if not is_in_loops:
                as_tensors(elsewhere)
            env = make(task, count)
            env.load_state(fields)
            actions = torch.from_numpy(np.random.default_rng(0).integers(5, size=(count, agents)))
            outcomes.append((env.observe(), env.step(actions), env.state))
    (seen, ts, state), (seen_again, again, state_again) = outcomes
    assert torch.equal(seen.action_mask, seen_again.action_mask) and torch.equal(seen.obs, seen_again.obs)
    assert_same((state, ts), (state_again, again))


# ---- boards ----


def new_boards(task, count, seed=0, **options):
    env = envs.make(task, count, seed=seed, **options)
    env.reset()
    return env, env.state


@pytest.mark.parametrize("task", TASKS)
def test_boards_are_drawn_as_the_original_s(task):
    count = 4096
    env, state = new_boards(task, count)
    N, W = env.num_agents, env.options.walk_length
    distance = (state.agent_pos - state.target_pos).abs().sum(2)
    assert distance.min() == 1 and distance.max() <= W
    mean, first, last, adjacent = DISTANCES[task]
    found = distance.float()
    errors = [0.03, 0.06, 0.06]
    for value, wanted, error in zip(
        (found.mean(), found[:, 0].mean(), found[:, -1].mean()), (mean, first, last), errors
    ):
        assert abs(value - wanted) < 3 * error, (value, wanted)
    assert abs((distance == 1).float().mean() - adjacent) < 0.012
    codes = state.grid.flatten(1).long()
    ends = torch.cat([3 * torch.arange(N) + 2, 3 * torch.arange(N) + 3])
    assert torch.equal(codes.sort(1).values[:, -2 * N :], ends.sort().values.expand(count, -1))
    assert (codes > 0).sum() == 2 * N * count and (state.step == 0).all()
    assert env.observe().action_mask[..., 1:].any(2).all(), "nobody is blocked at the start"


def test_places_are_uniform_and_walks_drift():
    """Of one agent on 3 x 3 cells (4 moves), by exact enumeration of all starts and walks."""
    size, W = 3, 4
    cells = [(row, column) for row in range(size) for column in range(size)]
    exact = {}

    def walk(start, at, taken, probability, moves):
        ways = [(at[0] + r, at[1] + c) for r, c in ((-1, 0), (0, 1), (1, 0), (0, -1))]
        down, right = at[0] - start[0], at[1] - start[1]
        weights = {way: np.exp(s) for way, s in zip(ways, (-down, right, down, -right)) if way in cells}
        weights = {way: weight for way, weight in weights.items() if way not in taken}
        if moves == 0 or not weights:
            exact[start, at] = exact.get((start, at), 0) + probability
            return
        for way, weight in weights.items():
            walk(start, way, taken | {way}, probability * weight / sum(weights.values()), moves - 1)

    for start in cells:
        firsts = [(start[0] + r, start[1] + c) for r, c in ((-1, 0), (0, 1), (1, 0), (0, -1))]
        firsts = [first for first in firsts if first in cells]
        for first in firsts:
            walk(start, first, {start, first}, 1 / 9 / len(firsts), W - 1)
    count = 40_000
    _, state = new_boards("connector_3x3x1a", count)
    found = {}
    for head, target in zip(state.agent_pos[:, 0].tolist(), state.target_pos[:, 0].tolist()):
        key = tuple(head), tuple(target)
        found[key] = found.get(key, 0) + 1
    assert found.keys() == exact.keys() and sum(exact.values()) == pytest.approx(1)
    chi = sum((found[key] - count * p) ** 2 / (count * p) for key, p in exact.items())
    freedom = len(exact) - 1
    assert chi < freedom + 5 * (2 * freedom) ** 0.5


def test_every_board_is_solved_by_the_walks_that_laid_it():
    """The walks, followed round by round, are disjoint wires of at most W cells from heads to targets."""
    options = Options(grid_size=7, num_agents=5)
    keys, tables, G = rng.keys(1, 300), boards.tables(options, "cpu"), 7
    words, _ = rng.bits(keys, (2 + options.walk_length - 1) * 5)
    start, place, free = boards._place(boards._drawn(words[:, :10], 32).unflatten(1, (5, 2)), tables)
    paths = [start, place[..., 0]]
    for k in range(options.walk_length - 1):
        drawn = boards._drawn(words[:, 10 + 5 * k :][:, :5], 24)
        place, free = boards._walk(drawn, place, free, tables)
        paths.append(place[..., 0])
    ends, _ = boards.draw_boards(keys, options, tables)
    assert torch.equal(ends, tables.on_board[torch.stack([paths[0], paths[-1]])])
    paths = torch.stack(paths, 2)  # [B, N, W + 1]
    step = (paths[..., 1:] - paths[..., :-1]).abs()
    assert set(step.unique().tolist()) == {0, 1, G + 2} and (step[..., 0] > 0).all()
    for board in paths.tolist():
        wires = [set(wire) for wire in board]
        assert len(set.union(*wires)) == sum(map(len, wires)), "wires cross"
        assert all(len(wire) <= options.walk_length + 1 for wire in wires)
        assert all(0 < cell // 9 < 8 and 0 < cell % 9 < 8 for wire in wires for cell in wire)
    covered = np.mean([len(set(sum(board, []))) for board in paths.tolist()])
    assert abs(covered - 39.1) < 0.5


def test_episodes_of_one_step_start_with_fresh_boards():
    env = envs.make("connector_5x5x3a", 1000, seed=1, max_steps=1)
    env.reset()
    seen, distances = [env.state.agent_pos.clone()], []
    for _ in range(8):
        env.step(torch.zeros(1000, 3, dtype=torch.int64))
        seen.append(env.state.agent_pos.clone())
        distances.append((env.state.agent_pos - env.state.target_pos).abs().sum(2).float())
    same = [(left == right).all(2).all(1).float().mean() for left, right in zip(seen, seen[1:])]
    assert max(same) < 0.01
    assert abs(torch.stack(distances).mean() - 3.41) < 0.06


@pytest.mark.parametrize("task, play", PLAY)
def test_play_returns_what_it_does_in_the_original(task, play):
    count = 1024
    env = make(task, count, seed=4)
    generator = torch.Generator().manual_seed(0)
    result, is_over, ts = torch.zeros(3, count), torch.zeros(count, dtype=torch.bool), env.observe()
    for _ in range(env.max_steps):
        if play == "any":
            actions = torch.randint(0, 5, (count, env.num_agents), generator=generator)
        else:
            actions = torch.from_numpy(greedy(arrays_of(env), ts.action_mask.numpy()))
        ts = env.step(actions)
        ends_now = (ts.terminated | ts.truncated) & ~is_over
        numbers = [ts.info[name].float() for name in ("episode_return", "episode_length", "connected_ratio")]
        result = torch.where(ends_now, torch.stack(numbers), result)
        is_over |= ends_now
        if is_over.all():
            break
    returned, return_error, length, length_error, ratio = PLAY[task, play]
    own = result.std(1) / count**0.5
    assert abs(result[0].mean() - returned) < 4 * (own[0] ** 2 + return_error**2) ** 0.5
    assert abs(result[1].mean() - length) < 4 * (own[1] ** 2 + length_error**2) ** 0.5
    assert abs(result[2].mean() - ratio) < 0.03


# ---- what cannot be ----


def test_states_that_cannot_be_are_refused_and_change_nothing():
    env = example()
    before, grid = env.state_dict(), env.state.grid.clone()
    moved, second, large, gone, trail = (grid.clone() for _ in range(5))
    moved[0, 0, 0], moved[0, 0, 1] = 0, 2
    second[0, 3, 3] = 2
    large[0, 3, 3] = 10
    gone[0, 0, 2] = 0
    trail[0, 3, 3] = -1
    for fields, message in (
        ({"agent_pos": [[[5, 0], [1, 1], [2, 0]]]}, "'agent_pos' has 5; allowed are 0 to 4"),
        ({"target_pos": [[[0, 2], [-1, 4], [2, 1]]]}, "'target_pos' has -1"),
        ({"grid": moved}, r"'grid' has 0 at \(0, 0\), where 'agent_pos' has agent 0: it must be 2"),
        ({"grid": second}, "'grid' has heads or targets besides"),
        ({"grid": large}, "'grid' has 10; allowed are 0 to 9"),
        ({"grid": trail}, "'grid' has -1"),
        ({"grid": gone}, r"'grid' has 0 at \(0, 2\), where 'target_pos' has agent 0: it must be 3"),
        ({"agent_pos": [[[0, 0], [0, 0], [2, 0]]]}, r"'grid' has 2 at \(0, 0\), where 'agent_pos' has agent 1"),
    ):
        with pytest.raises(ValueError, match=message):
            env.load_state(fields)
    for name, value in env.state_dict().items():
        assert torch.equal(value, before[name]), name


# ---- pictures ----


def test_pictures_show_what_is_there():
    env = example()
    env.step(torch.tensor([[2, 1, 2]]))
    lines = env.draw_text(env.state).splitlines()
    assert lines[0].endswith("connected 1 of 3") and lines[1:] == [
        "0 1 A . .",
        ". : . . .",
        ": * . . .",
        ". . . . .",
        ". . . . B",
    ]
    first = env.draw(env.state)
    ts = env.step(torch.tensor([[3, 0, 0]]))
    assert (env.draw(env.state) != first).any() and first.shape[0] >= 512
    assert (env.draw_observation(ts.obs[0, 0], 0) != env.draw_observation(ts.obs[0, 1], 1)).any()
    env = make("connector_15x15x23a")
    assert env.draw(env.state).shape[0] >= 512 and "x22" in env.draw_text(env.state)


# ---- live ----


live = pytest.mark.parity


@pytest.fixture(scope="module")
def jumanji():
    return pytest.importorskip("jumanji", reason="the original Connector is jumanji's: pip install torch_mars[parity]")


@live
@pytest.mark.parametrize("task", [*TASKS, "connector_5x5x6a"])
def test_whole_episodes_beside_the_original(task, jumanji):
    """From its own boards and from scrawled ones."""
    size, agents = size_of(task) if task in TASKS else (5, 6)
    original, generator, count = Original(size, agents), np.random.default_rng(0), 96
    starts, odd = original.reset(0, count), scrawled(count, size, agents, 1)
    fields = {name: np.concatenate([starts[name][::2], odd[name][::2]]) for name in FIELDS}
    env, ends = make(task, count), np.zeros(2, int)
    for t in range(60):
        mask = original.mask(fields)
        actions = mixed_actions(generator, fields, mask)
        after, reward, terminated, truncated, mask = original.step(fields, actions)
        compare_step(env, fields, actions, after, reward, terminated, truncated, mask, f"{task}, step {t}")
        ends += [terminated.sum(), truncated.sum()]
        fresh, is_over = scrawled(count, size, agents, 2 + t), terminated | truncated
        fields = {
            name: np.where(is_over.reshape(-1, *[1] * (after[name].ndim - 1)), fresh[name], after[name])
            for name in FIELDS
        }
    assert (ends > 0).all(), ends


@live
@pytest.mark.parametrize("task", TASKS)
def test_boards_beside_the_original(task, jumanji):
    """Where heads and targets lie, and how far apart, agent by agent."""
    count = 4096
    theirs = Original(*size_of(task)).reset(5, count)
    _, state = new_boards(task, count, seed=9)
    for name in ("agent_pos", "target_pos"):
        ours = getattr(state, name).numpy().astype(float)
        error = np.sqrt((ours.var(0) + theirs[name].var(0)) / count)
        assert (np.abs(ours.mean(0) - theirs[name].mean(0)) < 5 * error).all(), name
    distance = [np.abs(x["agent_pos"] - x["target_pos"]).sum(2) for x in (arrays_of_state(state), theirs)]
    error = np.sqrt((distance[0].var(0) + distance[1].var(0)) / count)
    assert (np.abs(distance[0].mean(0) - distance[1].mean(0)) < 5 * error).all()
    histograms = [np.bincount(d.ravel(), minlength=40) / d.size for d in distance]
    assert np.abs(histograms[0] - histograms[1]).max() < 0.01


def arrays_of_state(state):
    return {name: getattr(state, name).numpy() for name in FIELDS}
